//! Operators that move elements without computing with them.

use super::{Numbers, Value, axis, broadcast, broadcast_steps, count, steps, walk};

pub(super) fn reshape(x: &Value, to: &[i64], allow_zero: bool) -> Option<Value> {
    let mut shape = Vec::new();
    for (i, &d) in to.iter().enumerate() {
        shape.push(match d {
            0 if !allow_zero => *x.shape.get(i)?,
            -1 => 1,
            d => usize::try_from(d).ok()?,
        });
    }
    let mut open = to.iter().enumerate().filter(|(_, d)| **d == -1);
    if let Some((i, _)) = open.next() {
        let rest = count(&shape, usize::MAX).filter(|&r| r > 0)?;
        shape[i] = x.len().is_multiple_of(rest).then(|| x.len() / rest)?;
    }
    if open.next().is_some() || count(&shape, usize::MAX) != Some(x.len()) {
        return None;
    }
    Some(Value { shape, ..x.clone() })
}

pub(super) fn transpose(x: &Value, perm: Option<&[i64]>) -> Option<Value> {
    let rank = x.shape.len();
    let perm: Vec<usize> = match perm {
        None => (0..rank).rev().collect(),
        Some(p) => p.iter().map(|&p| usize::try_from(p).ok()).collect::<Option<_>>()?,
    };
    let mut sorted = perm.clone();
    sorted.sort_unstable();
    if !sorted.into_iter().eq(0..rank) {
        return None;
    }
    let from = steps(&x.shape);
    let shape: Vec<usize> = perm.iter().map(|&p| x.shape[p]).collect();
    let moved: Vec<usize> = perm.iter().map(|&p| from[p]).collect();
    x.pick(shape.clone(), walk(&shape, &moved))
}

pub(super) fn unsqueeze(x: &Value, axes: &[i64]) -> Option<Value> {
    let rank = x.shape.len() + axes.len();
    let mut new: Vec<usize> = axes.iter().map(|&a| axis(a, rank)).collect::<Option<_>>()?;
    new.sort_unstable();
    if new.windows(2).any(|w| w[0] == w[1]) || rank > 64 {
        return None;
    }
    let mut shape = x.shape.clone();
    new.iter().for_each(|&a| shape.insert(a, 1));
    Some(Value { shape, ..x.clone() })
}

pub(super) fn squeeze(x: &Value, axes: Option<&[i64]>) -> Option<Value> {
    let rank = x.shape.len();
    let gone: Vec<usize> = match axes {
        Some(axes) => axes.iter().map(|&a| axis(a, rank)).collect::<Option<_>>()?,
        None => (0..rank).filter(|&i| x.shape[i] == 1).collect(),
    };
    if gone.iter().any(|&i| x.shape[i] != 1) {
        return None;
    }
    let shape = (0..rank).filter(|i| !gone.contains(i)).map(|i| x.shape[i]).collect();
    Some(Value { shape, ..x.clone() })
}

pub(super) fn concat(inputs: &[Option<Value>], along: i64, limit: usize) -> Option<Value> {
    let parts: Vec<&Value> = inputs.iter().map(Option::as_ref).collect::<Option<_>>()?;
    let first = *parts.first()?;
    let along = axis(along, first.shape.len())?;
    let mut shape = first.shape.clone();
    shape[along] = 0;
    for part in &parts {
        let alike = part.shape.len() == shape.len()
            && part.dtype == first.dtype
            && (0..shape.len()).all(|i| i == along || part.shape[i] == first.shape[i]);
        if !alike {
            return None;
        }
        shape[along] = shape[along].checked_add(part.shape[along])?;
    }
    count(&shape, limit)?;
    let before: usize = shape[..along].iter().product();
    let chunk = |p: &Value| p.shape[along..].iter().product::<usize>();
    let rows = (0..before).flat_map(|row| parts.iter().map(move |p| (*p, row * chunk(p), chunk(p))));
    let numbers = match &first.numbers {
        Numbers::Float(_) => {
            let mut all = Vec::new();
            for (p, at, n) in rows {
                if let Numbers::Float(v) = &p.numbers {
                    all.extend_from_slice(v.get(at..at + n)?);
                }
            }
            Numbers::Float(all)
        }
        Numbers::Int(_) => {
            let mut all = Vec::new();
            for (p, at, n) in rows {
                all.extend_from_slice(p.as_ints()?.get(at..at + n)?);
            }
            Numbers::Int(all)
        }
    };
    Some(Value { dtype: first.dtype, shape, numbers })
}

pub(super) fn slice(
    x: &Value,
    starts: &Value,
    ends: &Value,
    (axes, by): (Option<&Value>, Option<&Value>),
    (has_axes, has_steps): (bool, bool),
) -> Option<Value> {
    let (starts, ends, rank) = (starts.as_ints()?, ends.as_ints()?, x.shape.len());
    let axes = match axes {
        Some(a) => a.as_ints()?.to_vec(),
        None if has_axes => return None,
        None => (0..i64::try_from(starts.len()).ok()?).collect(),
    };
    let by = match by {
        Some(s) => s.as_ints()?.to_vec(),
        None if has_steps => return None,
        None => vec![1; starts.len()],
    };
    if ends.len() != starts.len() || axes.len() != starts.len() || by.len() != starts.len() {
        return None;
    }
    let (mut shape, mut from, unit) = (x.shape.clone(), vec![0; rank], steps(&x.shape));
    let mut moved = unit.clone();
    for (i, &a) in axes.iter().enumerate() {
        let a = axis(a, rank)?;
        let n = i64::try_from(x.shape[a]).ok()?;
        // Backwards slices stay where they are.
        let step = usize::try_from(by[i]).ok().filter(|&s| s > 0)?;
        let clamp = |v: i64| (if v < 0 { v.saturating_add(n) } else { v }).clamp(0, n) as usize;
        let (start, end) = (clamp(starts[i]), clamp(ends[i]));
        shape[a] = end.saturating_sub(start).div_ceil(step);
        from[a] = start;
        moved[a] = unit[a].checked_mul(step)?;
    }
    let base: usize = from.iter().zip(&unit).map(|(f, s)| f * s).sum();
    x.pick(shape.clone(), walk(&shape, &moved).map(move |i| base + i))
}

pub(super) fn gather(x: &Value, indices: &Value, along: i64, limit: usize) -> Option<Value> {
    let along = axis(along, x.shape.len())?;
    let n = x.shape[along];
    let picked: Vec<usize> = indices.as_ints()?.iter().map(|&i| axis(i, n)).collect::<Option<_>>()?;
    let (before, after) = (&x.shape[..along], &x.shape[along + 1..]);
    let shape: Vec<usize> = before.iter().chain(&indices.shape).chain(after).copied().collect();
    count(&shape, limit)?;
    let (outer, inner) = (before.iter().product::<usize>(), after.iter().product::<usize>());
    let positions = (0..outer)
        .flat_map(|o| picked.iter().flat_map(move |&p| (0..inner).map(move |i| (o * n + p) * inner + i)));
    x.pick(shape, positions)
}

pub(super) fn expand(x: &Value, to: &[i64], limit: usize) -> Option<Value> {
    let to: Vec<usize> = to.iter().map(|&d| usize::try_from(d).ok()).collect::<Option<_>>()?;
    let shape = broadcast(&x.shape, &to)?;
    count(&shape, limit)?;
    x.pick(shape.clone(), walk(&shape, &broadcast_steps(&x.shape, &shape)))
}
