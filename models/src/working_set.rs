//! How much memory the values between the layers need.

use std::collections::BTreeMap;

use tapetum_runtime::DType;

use crate::graph::infer::{Known, Presume, infer_with};
use crate::graph::{Dim, Graph, Node};

/// Bytes of the values of `graph` that are alive at once where it is widest, with its inputs of exactly `inputs` (in
/// order) and everything kept where the network prunes; `None` if the extents of a value cannot be known.
///
/// A value lives from the node that makes it to the last one that reads it; graph outputs live to the end. What only
/// gives a value another shape makes no new one. Weights are not counted, nor what an engine needs inside a node, nor whole
/// numbers: shapes and indices are few.
pub fn working_set(graph: &Graph, inputs: &[Vec<usize>]) -> Option<u64> {
    let mut fixed = graph.inputs.clone();
    for (value, shape) in fixed.iter_mut().zip(inputs) {
        value.dims = shape.iter().map(|&d| Dim::Fixed(d)).collect();
    }
    let shapes = infer_with(graph, &fixed, Presume::AllKept);
    // Views count as the value that they look at.
    let mut holder: BTreeMap<&str, &str> = BTreeMap::new();
    let mut last_use: BTreeMap<&str, usize> = BTreeMap::new();
    for (at, node) in graph.nodes.iter().enumerate() {
        let used = node.inputs.iter().map(|name| held(&holder, name));
        used.for_each(|name| _ = last_use.insert(name, at));
        if let (true, Some(viewed)) = (is_view(node), node.input(0)) {
            holder.insert(node.output(), held(&holder, viewed));
        }
    }
    for output in &graph.outputs {
        last_use.insert(held(&holder, &output.name), usize::MAX);
    }
    let mut ends: BTreeMap<usize, Vec<&str>> = BTreeMap::new();
    last_use.iter().for_each(|(name, at)| ends.entry(*at).or_default().push(name));
    let bytes = |name: &str| bytes(shapes.get(name)?);
    let mut alive = graph.inputs.iter().map(|v| bytes(&v.name)).sum::<Option<u64>>()?;
    let mut most = alive;
    for (at, node) in graph.nodes.iter().enumerate() {
        if !is_view(node) {
            for made in node.outputs.iter().filter(|name| last_use.contains_key(name.as_str())) {
                alive += bytes(made)?;
            }
        }
        most = most.max(alive);
        for gone in ends.get(&at).into_iter().flatten().filter(|name| !graph.constants.contains_key(**name)) {
            alive = alive.saturating_sub(bytes(gone)?);
        }
    }
    Some(most)
}

fn held<'g>(holder: &BTreeMap<&'g str, &'g str>, name: &'g str) -> &'g str {
    holder.get(name).copied().unwrap_or(name)
}

fn is_view(node: &Node) -> bool {
    ["Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"].iter().any(|op| node.is(op))
}

fn bytes(known: &Known) -> Option<u64> {
    if !matches!(known.dtype, DType::F16 | DType::F32 | DType::F64) {
        return Some(0);
    }
    let elements = known.fixed()?.into_iter().try_fold(1u64, |n, d| n.checked_mul(d as u64))?;
    elements.checked_mul(known.dtype.size() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Builder, Conv2d};
    use tapetum_runtime::Tensor;

    #[test]
    fn values_live_until_they_are_last_read() {
        let mut b = Builder::new("t");
        let x = b.input("x", vec![Dim::symbol("batch"), Dim::Fixed(1), Dim::symbol("h"), Dim::symbol("w")]);
        let spec = Conv2d { stride: 1, pad: 1, groups: 1 };
        let wide = b.conv("wide", &x, Tensor::full(&[8, 1, 3, 3], 1f32), None, spec);
        let relu = b.unary("Relu", "relu", &wide);
        let narrow = b.conv("narrow", &relu, Tensor::full(&[1, 8, 3, 3], 1f32), None, spec);
        let flat = b.reshape("flat", &narrow, &[1, 1, -1]);
        let back = b.reshape("back", &flat, &[1, 1, 4, 5]);
        let sum = b.binary("Add", "sum", &back, &x);
        b.output("out", &sum, vec![Dim::Unknown; 4]);
        let graph = b.finish().unwrap();
        // 20 pixels of 4 bytes: the image, 8 channels before and 8 after the Relu.
        assert_eq!(working_set(&graph, &[vec![1, 1, 4, 5]]), Some(80 * 17));
    }

    #[test]
    fn an_unknown_extent_is_no_figure() {
        let mut b = Builder::new("t");
        let x = b.input("x", vec![Dim::Fixed(4)]);
        let y = b.op("Strange", "y", &[&x], &[]);
        b.output("out", &y, vec![Dim::Unknown]);
        assert_eq!(working_set(&b.finish().unwrap(), &[vec![4]]), None);
    }
}
