//! Operators that move elements and compute with shapes.

use tapetum_runtime::DType;

use super::{Facts, Known, Presume, axis, dims};
use crate::graph::{Dim, Node};

pub(super) fn shape_of(node: &Node, facts: &mut Facts<'_>) -> Option<Known> {
    let dims = facts.of(node, 0)?.dims.clone();
    let (start, end) = (node.int("start", 0), node.int("end", i64::MAX));
    let (start, end) = (bound(start, dims.len()), bound(end, dims.len()));
    let part = dims.get(start..end.max(start))?.to_vec();
    let known = Known::new(DType::I64, vec![Dim::Fixed(part.len())]);
    facts.integers.insert(node.output().into(), part);
    Some(known)
}

pub(super) fn reshape(node: &Node, facts: &mut Facts<'_>) -> Option<Known> {
    let x = facts.of(node, 0)?.clone();
    let copy_zero = node.int("allowzero", 0) == 0;
    let wanted: Vec<Option<Dim>> = match facts.constant(node, 1) {
        Some(values) => values
            .iter()
            .enumerate()
            .map(|(i, &v)| match v {
                -1 => Some(None),
                0 if copy_zero => x.dims.get(i).cloned().map(Some),
                v => usize::try_from(v).ok().map(|v| Some(Dim::Fixed(v))),
            })
            .collect::<Option<_>>()?,
        None => facts.values(node, 1)?.iter().cloned().map(Some).collect(),
    };
    let known: Vec<Dim> = wanted.iter().flatten().cloned().collect();
    let rest = || divided(&x.dims, &known);
    Some(Known::new(x.dtype, wanted.into_iter().map(|d| d.unwrap_or_else(rest)).collect()))
}

/// Product of `all` divided by the product of `taken`, with equal symbols cancelled.
fn divided(all: &[Dim], taken: &[Dim]) -> Dim {
    let (mut left, mut by) = (all.to_vec(), 1usize);
    for d in taken {
        match d {
            Dim::Fixed(n) => match by.checked_mul(*n) {
                Some(p) => by = p,
                None => return Dim::Unknown,
            },
            other => match left.iter().position(|l| l == other) {
                Some(at) if *other != Dim::Unknown => drop(left.remove(at)),
                _ => return Dim::Unknown,
            },
        }
    }
    let number: Option<usize> = left.iter().filter_map(Dim::fixed).try_fold(1usize, usize::checked_mul);
    match number {
        Some(n) if by > 0 && n.is_multiple_of(by) => {
            left.retain(|d| d.fixed().is_none());
            left.push(Dim::Fixed(n / by));
            dims::product(&left)
        }
        _ => Dim::Unknown,
    }
}

pub(super) fn transpose(node: &Node, facts: &mut Facts<'_>) -> Option<Known> {
    let x = facts.of(node, 0)?;
    let rank = x.dims.len();
    let dims = match node.ints("perm") {
        Some(perm) => perm.iter().map(|&p| Some(x.dims[axis(p, rank)?].clone())).collect::<Option<_>>()?,
        None => x.dims.iter().rev().cloned().collect(),
    };
    Some(Known::new(x.dtype, dims))
}

pub(super) fn concat(node: &Node, facts: &mut Facts<'_>) -> Option<Known> {
    let values: Option<Vec<Vec<Dim>>> =
        (0..node.inputs.len()).map(|i| integer_part(node, facts, i)).collect();
    if let Some(values) = values {
        facts.integers.insert(node.output().into(), values.concat());
    }
    let mut out = facts.of(node, 0)?.clone();
    let at = axis(node.int("axis", 0), out.dims.len())?;
    for i in 1..node.inputs.len() {
        let part = facts.of(node, i)?;
        for (j, d) in part.dims.iter().enumerate().take(out.dims.len()) {
            if j == at {
                out.dims[j] = dims::plus(&out.dims[j], d);
            } else if out.dims[j].fixed().is_none() && *d != Dim::Unknown {
                out.dims[j] = d.clone();
            }
        }
    }
    Some(out)
}

/// Known contents of one part of an integer Concat; negative constants (−1 in a Reshape target) are open.
fn integer_part(node: &Node, facts: &Facts<'_>, input: usize) -> Option<Vec<Dim>> {
    if let Some(values) = facts.values(node, input) {
        return Some(values.clone());
    }
    let constant = facts.constant(node, input)?;
    Some(constant.iter().map(|&v| usize::try_from(v).map_or(Dim::Unknown, Dim::Fixed)).collect())
}

pub(super) fn slice(node: &Node, facts: &mut Facts<'_>) -> Option<Known> {
    let mut x = facts.of(node, 0)?.clone();
    let rank = x.dims.len();
    let (starts, ends) = (facts.constant(node, 1)?, facts.constant(node, 2)?);
    let axes = match node.input(3) {
        Some(_) => facts.constant(node, 3)?,
        None => (0..starts.len() as i64).collect(),
    };
    let steps = match node.input(4) {
        Some(_) => facts.constant(node, 4)?,
        None => vec![1; starts.len()],
    };
    for (((&start, &end), &a), &step) in starts.iter().zip(&ends).zip(&axes).zip(&steps) {
        let at = axis(a, rank)?;
        x.dims[at] = match &x.dims[at] {
            Dim::Fixed(n) if step > 0 => {
                let length = bound(end, *n).saturating_sub(bound(start, *n));
                Dim::Fixed(length.div_ceil(usize::try_from(step).ok()?))
            }
            Dim::Symbol(s) if step == 1 && start == 0 && end >= i64::from(i32::MAX) => Dim::symbol(s),
            // Taken from one end of an open axis that is at least this long, as every writer of such graphs means it.
            Dim::Symbol(s) if step == 1 && start > 0 && end >= i64::from(i32::MAX) => {
                Dim::symbol(format!("{s}-{start}"))
            }
            _ => Dim::Unknown,
        };
        if let ([Dim::Fixed(_)], Some(values)) = (x.dims.as_slice(), facts.values(node, 0).cloned())
            && step == 1
        {
            let (from, to) = (bound(start, values.len()), bound(end, values.len()));
            facts.integers.insert(node.output().into(), values.get(from..to.max(from))?.to_vec());
        }
    }
    Some(x)
}

/// A slice bound: negative counts from the end, both clamped to the axis.
fn bound(at: i64, n: usize) -> usize {
    let at = if at < 0 { at.saturating_add(n as i64).max(0) } else { at };
    usize::try_from(at).map_or(n, |at| at.min(n))
}

pub(super) fn gather(node: &Node, facts: &mut Facts<'_>) -> Option<Known> {
    let (x, index) = (facts.of(node, 0)?.clone(), facts.of(node, 1)?.clone());
    let at = axis(node.int("axis", 0), x.dims.len())?;
    if let (Some(values), Some(picks)) = (facts.values(node, 0), facts.constant(node, 1)) {
        let picked =
            picks.iter().map(|&p| values.get(axis(p, values.len())?).cloned()).collect::<Option<Vec<_>>>();
        if let Some(picked) = picked {
            facts.integers.insert(node.output().into(), picked);
        }
    }
    let mut out = x.dims[..at].to_vec();
    out.extend(index.dims);
    out.extend_from_slice(&x.dims[at + 1..]);
    Some(Known::new(x.dtype, out))
}

pub(super) fn squeeze(node: &Node, facts: &mut Facts<'_>) -> Option<Known> {
    keep_integers(node, facts);
    let x = facts.of(node, 0)?;
    let rank = x.dims.len();
    let given = node.input(1).is_some() || node.attrs.contains_key("axes");
    let gone: Vec<usize> = if given {
        facts.axes(node, 1)?.iter().map(|&a| axis(a, rank)).collect::<Option<_>>()?
    } else {
        (0..rank).filter(|&i| x.dims[i] == Dim::Fixed(1)).collect()
    };
    let dims = x.dims.iter().enumerate().filter(|(i, _)| !gone.contains(i)).map(|(_, d)| d.clone());
    Some(Known::new(x.dtype, dims.collect()))
}

pub(super) fn unsqueeze(node: &Node, facts: &mut Facts<'_>) -> Option<Known> {
    keep_integers(node, facts);
    let x = facts.of(node, 0)?;
    let axes = facts.axes(node, 1)?;
    let rank = x.dims.len() + axes.len();
    let new: Vec<usize> = axes.iter().map(|&a| axis(a, rank)).collect::<Option<_>>()?;
    let mut old = x.dims.iter();
    let dim = |i: usize| if new.contains(&i) { Some(Dim::Fixed(1)) } else { old.next().cloned() };
    Some(Known::new(x.dtype, (0..rank).map(dim).collect::<Option<_>>()?))
}

fn keep_integers(node: &Node, facts: &mut Facts<'_>) {
    if let Some(values) = facts.values(node, 0).cloned() {
        facts.integers.insert(node.output().into(), values);
    }
}

pub(super) fn flatten(node: &Node, facts: &mut Facts<'_>) -> Option<Known> {
    let x = facts.of(node, 0)?;
    let at = node.int("axis", 1);
    let at = if at == x.dims.len() as i64 { x.dims.len() } else { axis(at, x.dims.len())? };
    Some(Known::new(x.dtype, vec![dims::product(&x.dims[..at]), dims::product(&x.dims[at..])]))
}

pub(super) fn expand(node: &Node, facts: &mut Facts<'_>) -> Option<Known> {
    let x = facts.of(node, 0)?.clone();
    let target = facts.values(node, 1)?;
    Some(Known::new(x.dtype, dims::broadcast(&x.dims, target)))
}

pub(super) fn pad(node: &Node, facts: &mut Facts<'_>) -> Option<Known> {
    let x = facts.of(node, 0)?.clone();
    let rank = x.dims.len();
    let pads = match node.input(1) {
        Some(_) => facts.constant(node, 1)?,
        None => node.ints("pads")?.to_vec(),
    };
    let axes: Vec<usize> = match node.input(3) {
        Some(_) => facts.constant(node, 3)?.iter().map(|&a| axis(a, rank)).collect::<Option<_>>()?,
        None => (0..rank).collect(),
    };
    let mut out = x.dims.clone();
    for (i, &at) in axes.iter().enumerate() {
        let both = pads.get(i)?.checked_add(*pads.get(i + axes.len())?)?;
        out[at] = dims::scaled_down(&x.dims[at], both, 1);
    }
    Some(Known::new(x.dtype, out))
}

pub(super) fn range(node: &Node, facts: &mut Facts<'_>) -> Option<Known> {
    let dtype = facts.of(node, 0)?.dtype;
    let from_zero = facts.constant(node, 0).as_deref() == Some(&[0]);
    let by_one = facts.constant(node, 2).as_deref() == Some(&[1]);
    let length = match facts.values(node, 1).map(Vec::as_slice) {
        Some([limit]) if from_zero && by_one => limit.clone(),
        _ => Dim::Unknown,
    };
    Some(Known::new(dtype, vec![length]))
}

pub(super) fn constant_of_shape(node: &Node, facts: &mut Facts<'_>) -> Option<Known> {
    let dtype = match node.attrs.get("value") {
        Some(crate::graph::Attr::Tensor(t)) => t.dtype(),
        _ => DType::F32,
    };
    Some(Known::new(dtype, facts.values(node, 0)?.clone()))
}

pub(super) fn non_zero(node: &Node, facts: &mut Facts<'_>) -> Option<Known> {
    let dims = &facts.of(node, 0)?.dims;
    let count = match facts.presume {
        Presume::Nothing => Dim::symbol(format!("count({})", node.name)),
        Presume::AllKept => dims::product(dims),
    };
    Some(Known::new(DType::I64, vec![Dim::Fixed(dims.len()), count]))
}

pub(super) fn split(node: &Node, facts: &mut Facts<'_>) -> Option<Vec<Known>> {
    let x = facts.of(node, 0)?.clone();
    let at = axis(node.int("axis", 0), x.dims.len())?;
    let n = node.outputs.len();
    let sizes: Vec<usize> = match (facts.constant(node, 1), node.ints("split")) {
        (Some(v), _) => v.iter().map(|&s| usize::try_from(s).ok()).collect::<Option<_>>()?,
        (None, Some(v)) => v.iter().map(|&s| usize::try_from(s).ok()).collect::<Option<_>>()?,
        (None, None) => {
            let whole = x.dims[at].fixed()?;
            let each = whole.div_ceil(n.max(1));
            (0..n).map(|i| each.min(whole.saturating_sub(i * each))).collect()
        }
    };
    let part = |size: usize| {
        let mut dims = x.dims.clone();
        dims[at] = Dim::Fixed(size);
        Known::new(x.dtype, dims)
    };
    Some(sizes.into_iter().map(part).collect())
}
