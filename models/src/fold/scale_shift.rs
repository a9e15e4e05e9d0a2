//! A scale and a shift per channel go into the operator before them.

use super::example::Example;
use super::linear_then_bn::Affine;
use super::names::Names;
use super::shapes::{float_shape, floats, rank, spread};
use super::view::{Conv, Norm};
use super::{FoldRule, Patch, Refusal};
use crate::graph::{Conv2d, Graph, Index, Node};

/// Mul, Div, Add or Sub of a constant per channel after an affine operator goes into that operator.
///
/// ```text
/// y · c, y ÷ c            s = c, 1/c     t = 0
/// y + c, y − c, c − y     s = 1, 1, −1   t = c, −c, c
/// Conv, ConvTranspose     W' = s · W, b' = s · b + t      c: one number, [C, 1, ..] or [1, C, 1, ..]
/// Gemm, MatMul (+ Add)    W' = W · s, b' = s · b + t      c: one number, [C] or [1, C]
/// LayerNormalization      γ' = s · γ, β' = s · β + t      c: one number, [C] or [1, .., C]
/// BatchNormalization      γ' = s · γ, β' = s · β + t      c as for Conv
/// ```
///
/// A MatMul without Add takes scales only: its shift is an Add already.
///
/// Refused: `c ÷ y`, which is not linear; a zero divisor; constants that would lie along another axis or enlarge the
/// result; results that are read elsewhere too.
///
/// Source: Lian et al., *Scaling & Shifting Your Features*, arXiv:2210.08823.
pub(super) struct ScaleShift;

impl FoldRule for ScaleShift {
    fn name(&self) -> &'static str {
        "scale_shift"
    }

    fn equation(&self) -> &'static str {
        "s·(W*x + b) + t = (s·W)*x + (s·b + t)"
    }

    fn check(&self, graph: &Index<'_>, at: usize) -> Result<Option<Patch>, Refusal> {
        let node = &graph.graph().nodes[at];
        let Some(op) = Op::of(node) else { return Ok(None) };
        let (Some(left), Some(right)) = (node.input(0), node.input(1)) else { return Ok(None) };
        let flipped = float_shape(graph.graph(), left).is_some();
        let (value, constant) = if flipped { (right, left) } else { (left, right) };
        let Some(shape) = float_shape(graph.graph(), constant) else { return Ok(None) };
        let Some(producer) = Producer::making(graph, value) else { return Ok(None) };
        if producer.keeps_shifts_outside() && matches!(op, Op::Add | Op::Sub) {
            return Ok(None);
        }
        if flipped && op == Op::Div {
            return Err(Refusal::new("a constant divided by the result is not linear in it"));
        }
        if graph.only_reader(value).is_none() {
            return Err(Refusal::new(format!("the result of {:?} is also read elsewhere", producer.name())));
        }
        let channels = producer.channels();
        if !producer.along_channels(graph, value, shape) {
            return Err(Refusal::new(format!("{shape:?} is not one number per channel ({channels})")));
        }
        let spread = floats(graph.graph(), constant).and_then(|c| spread(c, channels));
        let Some(numbers) = spread else { return Ok(None) };
        let (scale, shift) = op.scale_shift(numbers, flipped)?;
        producer.fold(graph, at, &scale, &shift).map(Some)
    }

    fn example(&self, seed: u64) -> Graph {
        let mut e = Example::new("scale_shift", seed);
        let (groups, k, op) = (e.pick(&[1, 2]), e.pick(&[1, 3]), e.pick(&[0, 1, 2]));
        let x = e.image(4);
        let (weight, bias, scale) =
            (e.tensor(&[6, 4 / groups, k, k]), e.tensor(&[6]), e.factors(&[1, 6, 1, 1]));
        let conv = e.b.conv("block.conv", &x, weight, Some(bias), Conv2d { stride: 1, pad: k / 2, groups });
        let scale = e.b.param("block.gamma", scale);
        let y = match op {
            0 => e.b.binary("Mul", "block.scaled", &scale, &conv),
            1 => e.b.binary("Div", "block.scaled", &conv, &scale),
            _ => e.b.binary("Sub", "block.mirrored", &scale, &conv),
        };
        e.finish(&y, 4)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Op {
    Add,
    Sub,
    Mul,
    Div,
}

impl Op {
    fn of(node: &Node) -> Option<Self> {
        let ops = [("Add", Self::Add), ("Sub", Self::Sub), ("Mul", Self::Mul), ("Div", Self::Div)];
        ops.into_iter().find(|(name, _)| node.is(name)).map(|(_, op)| op)
    }

    /// `s` and `t` of `s · y + t`; `flipped` if the constant is the left operand.
    fn scale_shift(self, constant: Vec<f64>, flipped: bool) -> Result<(Vec<f64>, Vec<f64>), Refusal> {
        let n = constant.len();
        Ok(match (self, flipped) {
            (Self::Mul, _) => (constant, vec![0.0; n]),
            (Self::Div, _) => match constant.iter().position(|&c| c == 0.0) {
                Some(c) => return Err(Refusal::new(format!("channel {c} is divided by zero"))),
                None => (constant.into_iter().map(|c| 1.0 / c).collect(), vec![0.0; n]),
            },
            (Self::Add, _) => (vec![1.0; n], constant),
            (Self::Sub, false) => (vec![1.0; n], constant.into_iter().map(|c| -c).collect()),
            (Self::Sub, true) => (vec![-1.0; n], constant),
        })
    }
}

/// An operator that is affine in its parameters.
enum Producer<'g> {
    Conv(Conv<'g>),
    Affine(Affine<'g>),
    BatchNorm { at: usize, norm: Norm<'g> },
    LayerNorm { at: usize, node: &'g Node, channels: usize },
}

impl<'g> Producer<'g> {
    fn making(index: &Index<'g>, value: &str) -> Option<Self> {
        let (at, node) = index.producer(value).filter(|(_, n)| n.output() == value)?;
        if let Some(conv) = Conv::at(index, at) {
            return Some(Self::Conv(conv));
        }
        if let Some(affine) = Affine::making(index, value) {
            return Some(Self::Affine(affine));
        }
        if let Ok(Some(norm)) = Norm::at(index, at) {
            return Some(Self::BatchNorm { at, norm });
        }
        let last = node.is("LayerNormalization") && node.int("axis", -1) == -1 && node.outputs.len() == 1;
        if !last {
            return None;
        }
        let graph = index.graph();
        let &[channels] = float_shape(graph, node.input(1)?)? else { return None };
        let bias_fits = node.input(2).is_none_or(|b| float_shape(graph, b) == Some(&[channels]));
        (bias_fits && channels > 0).then_some(Self::LayerNorm { at, node, channels })
    }

    fn node(&self) -> &'g Node {
        match self {
            Self::Conv(c) => c.node,
            Self::Affine(a) => a.add.unwrap_or(a.linear.node),
            Self::BatchNorm { norm, .. } => norm.node,
            Self::LayerNorm { node, .. } => node,
        }
    }

    fn name(&self) -> &'g str {
        &self.node().name
    }

    fn channels(&self) -> usize {
        match self {
            Self::Conv(c) => c.c_out(),
            Self::Affine(a) => a.linear.n,
            Self::BatchNorm { norm, .. } => norm.channels,
            Self::LayerNorm { channels, .. } => *channels,
        }
    }

    fn keeps_shifts_outside(&self) -> bool {
        matches!(self, Self::Affine(a) if a.add.is_none() && !a.linear.gemm)
    }

    /// Whether a constant of `shape` meets `value` one number per channel, and leaves its shape as it is.
    fn along_channels(&self, index: &Index<'g>, value: &str, shape: &[usize]) -> bool {
        if shape.is_empty() {
            return true;
        }
        let own_rank = match self {
            Self::Conv(c) => Some(c.shape.len()),
            Self::Affine(a) if a.linear.gemm => Some(2),
            Self::Affine(_) | Self::LayerNorm { .. } => rank(index, value).or(Some(1)),
            Self::BatchNorm { .. } => rank(index, value),
        };
        let Some(lead) = own_rank.and_then(|r| r.checked_sub(shape.len())) else { return false };
        let channel_axis = match self {
            Self::Conv(_) | Self::BatchNorm { .. } => 1,
            Self::Affine(_) | Self::LayerNorm { .. } => own_rank.unwrap_or(1) - 1,
        };
        let fits = |(i, &d): (usize, &usize)| d == 1 || (lead + i == channel_axis && d == self.channels());
        shape.iter().enumerate().all(fits)
    }

    fn fold(&self, index: &Index<'g>, at: usize, scale: &[f64], shift: &[f64]) -> Result<Patch, Refusal> {
        let after = &index.graph().nodes[at];
        let moved = |b: Vec<f64>| b.iter().zip(scale).zip(shift).map(|((b, s), t)| b * s + t).collect();
        let names = Names::sequence(index, &[self.node(), after]);
        match self {
            Self::Conv(conv) => {
                let mut weight = conv.weight();
                conv.scale_outputs(&mut weight, scale);
                let names = Names::sequence(index, &[conv.node, after]);
                let mut patch = Patch::removing([conv.at, at]);
                let weight = patch.widened(&names.weight(), conv.shape, weight)?;
                let bias = patch.widened(&names.bias(), &[conv.c_out()], moved(conv.bias()))?;
                Ok(patch.with_node(conv.rebuilt(&names.node, &weight, &bias, after.output())))
            }
            Self::Affine(affine) => fold_affine(affine, &names, at, after, (scale, &moved)),
            Self::BatchNorm { at: before, .. } | Self::LayerNorm { at: before, .. } => {
                let node = self.node();
                let graph = index.graph();
                let part = |i: usize| node.input(i).and_then(|p| floats(graph, p));
                let gamma = part(1).unwrap_or_default();
                let gamma: Vec<f64> = gamma.iter().zip(scale).map(|(g, s)| g * s).collect();
                let beta: Vec<f64> = moved(part(2).unwrap_or_else(|| vec![0.0; gamma.len()]));
                let names = Names::of(node);
                let mut patch = Patch::removing([*before, at]);
                let gamma = patch.widened(&names.weight(), &[gamma.len()], gamma)?;
                let beta = patch.widened(&names.bias(), &[beta.len()], beta)?;
                let mut merged = node.clone();
                merged.inputs.resize(merged.inputs.len().max(3), String::new());
                merged.inputs[1] = gamma;
                merged.inputs[2] = beta;
                merged.outputs = vec![after.output().into()];
                Ok(patch.with_node(merged))
            }
        }
    }
}

fn fold_affine(
    affine: &Affine<'_>,
    names: &Names,
    at: usize,
    after: &Node,
    (scale, moved): (&[f64], &dyn Fn(Vec<f64>) -> Vec<f64>),
) -> Result<Patch, Refusal> {
    let linear = &affine.linear;
    let mut weight = linear.weight();
    linear.scale_outputs(&mut weight, scale);
    let mut patch = Patch::removing(affine.nodes.clone());
    patch.remove.push(at);
    let weight = patch.widened(&names.weight(), &linear.shape(), weight)?;
    let bias = moved(affine.bias.clone());
    if linear.gemm {
        let bias = patch.widened(&names.bias(), &[linear.n], bias)?;
        return Ok(patch.with_node(linear.as_gemm(&names.node, &weight, &bias, after.output())));
    }
    let mut product = linear.node.clone();
    product.inputs[1] = weight;
    if affine.add.is_none() {
        product.outputs = vec![after.output().into()];
        return Ok(patch.with_node(product));
    }
    let bias = patch.widened(&names.bias(), &[linear.n], bias)?;
    let inner = product.output().to_owned();
    let add = Node::new("Add", &format!("{}/bias", names.node), &[&inner, &bias], &[after.output()]);
    Ok(patch.with_node(product).with_node(add))
}
