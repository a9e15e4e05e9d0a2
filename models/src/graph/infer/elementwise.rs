//! Operators that work element by element, matrix products and reductions.

use tapetum_runtime::DType;

use super::{Facts, Known, axis, dims};
use crate::graph::{Attr, Dim, Node};

pub(super) fn like_first(node: &Node, facts: &mut Facts<'_>) -> Option<Known> {
    if node.is("Identity")
        && let Some(values) = facts.values(node, 0).cloned()
    {
        facts.integers.insert(node.output().into(), values);
    }
    facts.of(node, 0).cloned()
}

/// All inputs broadcast together; the element type is `dtype` or the first input's.
pub(super) fn broadcast(node: &Node, facts: &mut Facts<'_>, dtype: Option<DType>) -> Option<Known> {
    let first = facts.of(node, 0)?.clone();
    let mut joined = first.dims;
    for i in 1..node.inputs.len() {
        joined = dims::broadcast(&joined, &facts.of(node, i)?.dims);
    }
    Some(Known::new(dtype.unwrap_or(first.dtype), joined))
}

/// As [`broadcast`], and follows integer arithmetic on shapes.
pub(super) fn arithmetic(node: &Node, facts: &mut Facts<'_>) -> Option<Known> {
    if let (Some(a), Some(b)) = (facts.values(node, 0), facts.values(node, 1))
        && (a.len() == b.len() || a.len() == 1 || b.len() == 1)
    {
        let n = a.len().max(b.len());
        let at = |v: &Vec<Dim>, i: usize| v[if v.len() == 1 { 0 } else { i }].clone();
        let value = |i| match (node.op.as_str(), at(a, i), at(b, i)) {
            ("Add", a, b) => dims::plus(&a, &b),
            ("Mul", a, Dim::Fixed(b)) => dims::times(&a, b),
            ("Mul", Dim::Fixed(a), b) => dims::times(&b, a),
            ("Div", a, Dim::Fixed(b)) => dims::scaled_down(&a, 0, b),
            ("Sub", a, Dim::Fixed(b)) => {
                i64::try_from(b).map_or(Dim::Unknown, |b| dims::scaled_down(&a, -b, 1))
            }
            _ => Dim::Unknown,
        };
        let values = (0..n).map(value).collect();
        facts.integers.insert(node.output().into(), values);
    }
    broadcast(node, facts, None)
}

pub(super) fn select(node: &Node, facts: &mut Facts<'_>) -> Option<Known> {
    let dtype = facts.of(node, 1)?.dtype;
    broadcast(node, facts, Some(dtype))
}

pub(super) fn cast(node: &Node, facts: &mut Facts<'_>) -> Option<Known> {
    let dtype = DType::from_onnx(i32::try_from(node.int("to", 0)).ok()?)?;
    cast_to(node, facts, dtype)
}

pub(super) fn cast_like(node: &Node, facts: &mut Facts<'_>) -> Option<Known> {
    let dtype = facts.of(node, 1)?.dtype;
    cast_to(node, facts, dtype)
}

fn cast_to(node: &Node, facts: &mut Facts<'_>, dtype: DType) -> Option<Known> {
    let dims = facts.of(node, 0)?.dims.clone();
    if matches!(dtype, DType::I64 | DType::I32)
        && let Some(values) = facts.values(node, 0).cloned()
    {
        facts.integers.insert(node.output().into(), values);
    }
    Some(Known::new(dtype, dims))
}

pub(super) fn matmul(node: &Node, facts: &mut Facts<'_>) -> Option<Known> {
    let (a, b) = (facts.of(node, 0)?, facts.of(node, 1)?);
    let (a_rank, b_rank) = (a.dims.len(), b.dims.len());
    if a_rank < 2 || b_rank < 2 {
        return None;
    }
    let mut out = dims::broadcast(&a.dims[..a_rank - 2], &b.dims[..b_rank - 2]);
    out.push(a.dims[a_rank - 2].clone());
    out.push(b.dims[b_rank - 1].clone());
    Some(Known::new(a.dtype, out))
}

pub(super) fn gemm(node: &Node, facts: &mut Facts<'_>) -> Option<Known> {
    let (a, b) = (facts.of(node, 0)?, facts.of(node, 1)?);
    let rows = a.dims.get(usize::from(node.int("transA", 0) != 0))?;
    let columns = b.dims.get(usize::from(node.int("transB", 0) == 0))?;
    Some(Known::new(a.dtype, vec![rows.clone(), columns.clone()]))
}

pub(super) fn reduce(node: &Node, facts: &mut Facts<'_>) -> Option<Known> {
    let x = facts.of(node, 0)?;
    let rank = x.dims.len();
    let given = node.input(1).is_some() || node.attrs.contains_key("axes");
    let reduced: Vec<usize> = if given {
        facts.axes(node, 1)?.iter().map(|&a| axis(a, rank)).collect::<Option<_>>()?
    } else if matches!(node.attrs.get("noop_with_empty_axes"), Some(Attr::Int(1))) {
        Vec::new()
    } else {
        (0..rank).collect()
    };
    let keep = node.int("keepdims", 1) != 0;
    let dims = x.dims.iter().enumerate().filter_map(|(i, d)| match (reduced.contains(&i), keep) {
        (false, _) => Some(d.clone()),
        (true, true) => Some(Dim::Fixed(1)),
        (true, false) => None,
    });
    Some(Known::new(x.dtype, dims.collect()))
}
