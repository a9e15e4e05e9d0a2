//! Arithmetic on extents that may be symbols.

use crate::graph::Dim;

/// `floor((d + offset) / divisor)` for a size formula such as a strided convolution's.
pub(super) fn scaled_down(d: &Dim, offset: i64, divisor: usize) -> Dim {
    if divisor == 0 {
        return Dim::Unknown;
    }
    match d {
        Dim::Fixed(n) => {
            let sum = i64::try_from(*n).ok().and_then(|n| n.checked_add(offset)).filter(|&s| s >= 0);
            sum.map_or(Dim::Unknown, |s| Dim::Fixed(s as usize / divisor))
        }
        Dim::Symbol(s) if divisor == 1 && offset == 0 => Dim::symbol(s),
        Dim::Symbol(s) if divisor == 1 => {
            // What a border adds, a kernel as large takes away again.
            let undone = s.strip_suffix(&format!("{:+}", -i128::from(offset))).filter(|_| offset < 0);
            undone.map_or_else(|| Dim::symbol(format!("{s}{offset:+}")), Dim::symbol)
        }
        Dim::Symbol(s) if offset == 0 => nested("floor", s, divisor),
        Dim::Symbol(s) if offset == divisor as i64 - 1 => nested("ceil", s, divisor),
        Dim::Symbol(s) => Dim::symbol(format!("floor(({s}{offset:+})/{divisor})")),
        Dim::Unknown => Dim::Unknown,
    }
}

/// `floor(floor(x/a)/b) = floor(x/ab)`, and likewise for ceil.
fn nested(round: &str, inner: &str, divisor: usize) -> Dim {
    let same = inner.strip_prefix(round).and_then(|r| r.strip_prefix('(')).and_then(|r| r.strip_suffix(')'));
    if let Some((of, by)) = same.and_then(|r| r.rsplit_once('/'))
        && let Ok(by) = by.parse::<usize>()
        && let Some(both) = by.checked_mul(divisor)
    {
        return Dim::symbol(format!("{round}({of}/{both})"));
    }
    Dim::symbol(format!("{round}({inner}/{divisor})"))
}

/// `d · factor`.
pub(super) fn times(d: &Dim, factor: usize) -> Dim {
    match d {
        Dim::Fixed(n) => n.checked_mul(factor).map_or(Dim::Unknown, Dim::Fixed),
        Dim::Symbol(s) if factor == 1 => Dim::symbol(s),
        Dim::Symbol(s) => Dim::symbol(format!("{factor}*{s}")),
        Dim::Unknown => Dim::Unknown,
    }
}

/// `a + b`.
pub(super) fn plus(a: &Dim, b: &Dim) -> Dim {
    match (a, b) {
        (Dim::Fixed(a), Dim::Fixed(b)) => a.checked_add(*b).map_or(Dim::Unknown, Dim::Fixed),
        (Dim::Fixed(0), d) | (d, Dim::Fixed(0)) => d.clone(),
        (Dim::Symbol(a), Dim::Symbol(b)) => Dim::symbol(format!("({a}+{b})")),
        (Dim::Symbol(s), Dim::Fixed(n)) | (Dim::Fixed(n), Dim::Symbol(s)) => {
            Dim::symbol(format!("({s}+{n})"))
        }
        _ => Dim::Unknown,
    }
}

/// Product of extents, numbers first.
pub(super) fn product(dims: &[Dim]) -> Dim {
    let (mut number, mut symbols) = (1usize, Vec::new());
    for d in dims {
        match d {
            Dim::Fixed(n) => match number.checked_mul(*n) {
                Some(p) => number = p,
                None => return Dim::Unknown,
            },
            Dim::Symbol(s) => symbols.push(s.as_str()),
            Dim::Unknown => return Dim::Unknown,
        }
    }
    match (number, symbols.is_empty()) {
        (n, true) | (n @ 0, _) => Dim::Fixed(n),
        (1, _) => Dim::symbol(symbols.join("*")),
        (n, _) => Dim::symbol(format!("{n}*{}", symbols.join("*"))),
    }
}

/// The extent of two values combined element by element.
pub(super) fn joined(a: &Dim, b: &Dim) -> Dim {
    match (a, b) {
        (a, b) if a == b => a.clone(),
        (Dim::Fixed(1), d) | (d, Dim::Fixed(1)) => d.clone(),
        (Dim::Fixed(n), _) | (_, Dim::Fixed(n)) => Dim::Fixed(*n),
        // Equal, or one of them is 1.
        (Dim::Symbol(a), Dim::Symbol(b)) => Dim::symbol(format!("max({a},{b})")),
        _ => Dim::Unknown,
    }
}

/// Extents of two values combined element by element, aligned at the last axis.
pub(super) fn broadcast(a: &[Dim], b: &[Dim]) -> Vec<Dim> {
    let rank = a.len().max(b.len());
    let at = |dims: &[Dim], i: usize| {
        (i + dims.len()).checked_sub(rank).map_or(Dim::Fixed(1), |j| dims[j].clone())
    };
    (0..rank).map(|i| joined(&at(a, i), &at(b, i))).collect()
}
