//! How much a graph computes: multiply-accumulates of its convolutions and matrix products.

use crate::graph::infer::{Known, Presume, infer_with};
use crate::graph::{Dim, Graph, Node};
use std::collections::BTreeMap;

/// Multiply-accumulates of a graph at one input size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Sum over every Conv, ConvTranspose, MatMul and Gemm.
    pub macs: u64,
    /// Names of such nodes whose extents could not be known; they are not in the sum.
    pub unknown: Vec<String>,
}

/// Cost of `graph` when its inputs have exactly `inputs` (in order), with everything kept where the network prunes.
pub fn cost(graph: &Graph, inputs: &[Vec<usize>]) -> Cost {
    let mut fixed = graph.inputs.clone();
    for (value, shape) in fixed.iter_mut().zip(inputs) {
        value.dims = shape.iter().map(|&d| Dim::Fixed(d)).collect();
    }
    let shapes = infer_with(graph, &fixed, Presume::AllKept);
    let mut cost = Cost::default();
    for node in &graph.nodes {
        if !["Conv", "ConvTranspose", "MatMul", "Gemm"].iter().any(|op| node.is(op)) {
            continue;
        }
        match of_node(node, &shapes) {
            Some(macs) => cost.macs = cost.macs.saturating_add(macs),
            None => cost.unknown.push(node.name.clone()),
        }
    }
    cost
}

pub(crate) fn of_node(node: &Node, shapes: &BTreeMap<String, Known>) -> Option<u64> {
    let fixed = |name: &str| shapes.get(name)?.fixed();
    let product = |dims: &[usize]| dims.iter().try_fold(1u64, |n, &d| n.checked_mul(d as u64));
    let (a, b, out) = (fixed(node.input(0)?)?, fixed(node.input(1)?)?, fixed(node.output())?);
    match node.op.as_str() {
        // Each output element sums over C_in / groups · kH · kW taps.
        "Conv" => product(&out)?.checked_mul(product(b.get(1..)?)?),
        // Each input element is spread over C_out / groups · kH · kW places.
        "ConvTranspose" => product(&a)?.checked_mul(product(b.get(1..)?)?),
        "Gemm" => product(&out)?.checked_mul(*a.get(usize::from(node.int("transA", 0) == 0))? as u64),
        _ => product(&out)?.checked_mul(*a.last()? as u64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Builder, Conv2d};
    use tapetum_runtime::Tensor;

    #[test]
    fn a_strided_grouped_convolution_and_a_linear_layer() {
        let mut b = Builder::new("t");
        let x = b.input("x", vec![Dim::symbol("batch"), Dim::Fixed(4), Dim::symbol("h"), Dim::symbol("w")]);
        let spec = Conv2d { stride: 2, pad: 1, groups: 2 };
        let c = b.conv("c", &x, Tensor::full(&[6, 2, 3, 3], 1f32), None, spec);
        let p = b.unary("GlobalAveragePool", "p", &c);
        let f = b.op("Flatten", "f", &[&p], &[]);
        let w = b.param("fc.weight", Tensor::full(&[6, 10], 1f32));
        let y = b.binary("MatMul", "fc", &f, &w);
        b.output("out", &y, vec![Dim::symbol("batch"), Dim::Fixed(10)]);
        let graph = b.finish().unwrap();
        // 6 · 4 · 5 outputs of 2 · 9 taps, and 6 · 10.
        let got = cost(&graph, &[vec![1, 4, 8, 10]]);
        assert_eq!(got, Cost { macs: 6 * 4 * 5 * 18 + 60, unknown: vec![] });
    }
}
