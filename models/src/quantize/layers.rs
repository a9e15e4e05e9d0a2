//! Which nodes can be quantized.

use crate::cost;
use crate::graph::infer::Known;
use crate::graph::{Graph, HELPER_PREFIX, Index, Node};
use std::collections::BTreeMap;

/// Layers with a smaller share of the multiply-accumulates stay in fp32: converting their inputs costs more than it saves.
const LEAST_SHARE: f64 = 0.0005;

/// A node with stored weights that engines run in int8.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Target {
    /// Position in the graph.
    pub at: usize,
    /// The node's name.
    pub name: String,
    /// Its operator.
    pub op: String,
    /// The value it reads.
    pub input: String,
    /// The stored weights.
    pub weight: String,
    /// The stored bias.
    pub bias: Option<String>,
    /// The value that carries its result: behind a ReLU that engines fuse with it.
    pub output: String,
    /// How weights and inputs meet.
    pub form: Form,
    /// On the shapes that the samples have.
    pub macs: u64,
}

/// How a layer's weights lie and what of the input they meet.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Form {
    /// Weights `[C_out, C_in / groups, kH, kW]` over an image `[N, C, H, W]`.
    Conv {
        /// Number of groups.
        groups: usize,
        /// Rows, columns.
        stride: [usize; 2],
        /// Cells added above, left of, below, right of the image.
        pads: [usize; 4],
        /// Rows, columns between taps.
        dilation: [usize; 2],
    },
    /// Weights `[in, out]`, or `[out, in]` where `transposed`, over the last axis.
    Linear {
        /// Output channels first.
        transposed: bool,
    },
}

impl Form {
    /// The axis of the weights that counts output channels.
    pub fn channel_axis(&self) -> usize {
        match self {
            Self::Conv { .. } | Self::Linear { transposed: true } => 0,
            Self::Linear { transposed: false } => 1,
        }
    }
}

/// Every layer of `graph` that can be quantized, in order, with those too small to be worth it split off.
pub(super) fn find(graph: &Graph, shapes: &BTreeMap<String, Known>) -> (Vec<Target>, Vec<Target>) {
    let index = graph.index();
    let all = graph.nodes.iter().enumerate().filter_map(|(at, node)| target(&index, shapes, at, node));
    let all: Vec<Target> = all.collect();
    let total: u64 = all.iter().map(|t| t.macs).sum();
    all.into_iter().partition(|t| t.macs as f64 >= LEAST_SHARE * total as f64)
}

fn target(index: &Index<'_>, shapes: &BTreeMap<String, Known>, at: usize, node: &Node) -> Option<Target> {
    let graph = index.graph();
    let (input, weight, bias) = (node.input(0)?, node.input(1)?, node.input(2));
    let weights = graph.dense(weight)?;
    let learned = weights.f32s().is_ok() && !weight.starts_with(HELPER_PREFIX);
    let fits = bias.is_none_or(|b| graph.dense(b).is_some_and(|t| t.rank() == 1 && t.f32s().is_ok()));
    if !learned || !fits || graph.constants.contains_key(input) {
        return None;
    }
    let form = match node.op.as_str() {
        "Conv" if node.is("Conv") && weights.rank() == 4 => conv(node)?,
        "Gemm" if node.is("Gemm") && weights.rank() == 2 => {
            let plain = node.float("alpha", 1.0) == 1.0 && node.float("beta", 1.0) == 1.0;
            (plain && node.int("transA", 0) == 0).then_some(())?;
            Form::Linear { transposed: node.int("transB", 0) == 1 }
        }
        "MatMul" if node.is("MatMul") && weights.rank() == 2 => Form::Linear { transposed: false },
        _ => return None,
    };
    let output = match index.only_reader(node.output()) {
        Some((_, next)) if next.is("Relu") => next.output(),
        _ => node.output(),
    };
    Some(Target {
        at,
        name: node.name.clone(),
        op: node.op.clone(),
        input: input.into(),
        weight: weight.into(),
        bias: bias.map(str::to_owned),
        output: output.into(),
        form,
        macs: cost::of_node(node, shapes).unwrap_or(0),
    })
}

fn conv(node: &Node) -> Option<Form> {
    // Engines run int8 convolutions with the padding written out; "SAME" is for them to translate first.
    if !matches!(node.str("auto_pad"), None | Some("NOTSET" | "VALID")) {
        return None;
    }
    let pair = |name: &str| -> Option<[usize; 2]> {
        let Some(values) = node.ints(name) else { return Some([1, 1]) };
        let [a, b] = *values else { return None };
        Some([usize::try_from(a).ok()?, usize::try_from(b).ok()?])
    };
    let pads = match node.ints("pads") {
        None => [0; 4],
        Some(&[top, left, bottom, right]) => {
            let [top, left, bottom, right] = [top, left, bottom, right].map(usize::try_from);
            [top.ok()?, left.ok()?, bottom.ok()?, right.ok()?]
        }
        Some(_) => return None,
    };
    let groups = usize::try_from(node.int("group", 1)).ok()?;
    Some(Form::Conv { groups, stride: pair("strides")?, pads, dilation: pair("dilations")? })
}
