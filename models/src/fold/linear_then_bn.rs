//! A BatchNorm after a matrix product goes into it.

use super::example::Example;
use super::names::Names;
use super::shapes::{dims, floats, ints, rank, spread};
use super::view::{Linear, Norm};
use super::{FoldRule, Patch, Refusal};
use crate::graph::{Attr, Dim, Graph, Index, Node};

/// Gemm, MatMul or MatMul + Add → BatchNormalization over `[N, C]` becomes one Gemm.
///
/// ```text
/// s  = γ / √(σ² + ε)                 [C]
/// W' = α · W · s                     [K, C], or [C, K] with transB
/// b' = β_bn + (β · b − μ) · s        [C]
/// ```
///
/// Unsqueeze, Reshape or Flatten between the two may stay there where it only appends axes of extent 1 to `[N, C]`.
///
/// Refused: a product that is not known to be of rank 2 (the BatchNorm's axis 1 would not be the product's last), one
/// that is read elsewhere too, and a BatchNorm as [`super::conv_then_bn`] refuses it.
///
/// Source: the equation of [`super::conv_then_bn`] with a 1×1 kernel; Luo et al., *Bag of Tricks*, arXiv:1903.07071.
pub(super) struct LinearThenBn;

impl FoldRule for LinearThenBn {
    fn name(&self) -> &'static str {
        "linear_then_bn"
    }

    fn equation(&self) -> &'static str {
        "BN(x·W + b) = x·(W·s) + (β + (b − μ)·s), s = γ/√(σ² + ε)"
    }

    fn check(&self, graph: &Index<'_>, at: usize) -> Result<Option<Patch>, Refusal> {
        let Ok(Some(norm)) = Norm::at(graph, at) else { return Ok(None) };
        let Some((product, between)) = through_appended_axes(graph, norm.input(), norm.channels) else {
            return Ok(None);
        };
        let Some(affine) = Affine::making(graph, product) else { return Ok(None) };
        let linear = &affine.linear;
        if linear.n != norm.channels {
            let (have, makes) = (norm.channels, linear.n);
            return Err(Refusal::new(format!("it has {have} channels, the product makes {makes}")));
        }
        if !linear.gemm && linear.node.input(0).and_then(|x| rank(graph, x)) != Some(2) {
            return Err(Refusal::new("the product is not known to be of rank 2"));
        }
        let (scale, shift) = norm.scale_shift()?;
        let (mut weight, mut bias) = (linear.weight(), affine.bias);
        linear.scale_outputs(&mut weight, &scale);
        for ((b, s), t) in bias.iter_mut().zip(&scale).zip(&shift) {
            *b = *b * s + t;
        }
        let names = Names::sequence(graph, &[linear.node, norm.node]);
        let mut patch = Patch::removing(affine.nodes);
        patch.remove.push(at);
        patch.remove.extend(between.map(|(at, _)| at));
        let weight = patch.widened(&names.weight(), &linear.shape(), weight)?;
        let bias = patch.widened(&names.bias(), &[linear.n], bias)?;
        let output = norm.node.output();
        let gemm = |output: &str| linear.as_gemm(&names.node, &weight, &bias, output);
        Ok(Some(match between {
            None => patch.with_node(gemm(output)),
            Some((_, reshape)) => {
                let mut reshape = reshape.clone();
                reshape.outputs = vec![output.into()];
                patch.with_node(gemm(product)).with_node(reshape)
            }
        }))
    }

    fn example(&self, seed: u64) -> Graph {
        let mut e = Example::new("linear_then_bn", seed);
        let x = e.rows(5);
        let (weight, bias, norm) = (e.tensor(&[7, 5]), e.tensor(&[7]), e.norm(7));
        let (weight, bias) = (e.b.param("head.fc.weight", weight), e.b.param("head.fc.bias", bias));
        let attrs = [("transB", Attr::Int(1)), ("alpha", Attr::Float(0.5)), ("beta", Attr::Float(-2.0))];
        let product = e.b.op("Gemm", "head.fc", &[&x, &weight, &bias], &attrs);
        let y = e.b.batch_norm("head.bn", &product, norm);
        e.finish(&y, 2)
    }
}

/// A product with its addend: Gemm, MatMul, or MatMul and the Add of a constant after it.
pub(super) struct Affine<'g> {
    pub(super) linear: Linear<'g>,
    /// The Add, if there is one.
    pub(super) add: Option<&'g Node>,
    /// Positions of its nodes.
    pub(super) nodes: Vec<usize>,
    /// `[N]`
    pub(super) bias: Vec<f64>,
}

impl<'g> Affine<'g> {
    /// The one that makes `value`, if `value` and what is inside are read once only.
    pub(super) fn making(index: &Index<'g>, value: &str) -> Option<Self> {
        if let Some(linear) = Linear::only_for(index, value) {
            let (nodes, bias) = (vec![linear.at], linear.bias());
            return Some(Self { linear, add: None, nodes, bias });
        }
        index.only_reader(value)?;
        let (at, add) = index.producer(value).filter(|(_, n)| n.is("Add") && n.inputs.len() == 2)?;
        let (left, right) = (add.input(0)?, add.input(1)?);
        let graph = index.graph();
        let (inner, addend) = if graph.dense(right).is_some() { (left, right) } else { (right, left) };
        let linear = Linear::only_for(index, inner).filter(|l| !l.gemm)?;
        // A row, or one number: more axes could make the result larger.
        let row = |s: &[usize]| s.len() < 2 || (s.len() == 2 && s[0] == 1 && rank(index, inner) >= Some(2));
        graph.dense(addend).filter(|t| row(t.shape()))?;
        let bias = spread(floats(graph, addend)?, linear.n)?;
        Some(Self { nodes: vec![linear.at, at], linear, add: Some(add), bias })
    }
}

/// The value that becomes `value` by appending axes of extent 1 to `[N, channels]`, and the node that does it.
fn through_appended_axes<'g>(
    index: &Index<'g>,
    value: &'g str,
    channels: usize,
) -> Option<(&'g str, Option<(usize, &'g Node)>)> {
    index.only_reader(value)?;
    let (at, node) = index.producer(value)?;
    let from = node.input(0)?;
    let plain = || (value, None);
    let rank_two = || {
        let gemm = index.producer(from).is_some_and(|(_, n)| n.is("Gemm"));
        gemm || rank(index, from) == Some(2)
    };
    if node.is("Unsqueeze") && rank_two() {
        let given = node.input(1).and_then(|a| ints(index.graph(), a));
        let axes = given.or_else(|| node.ints("axes").map(<[i64]>::to_vec))?;
        return axes.iter().all(|&a| a >= 2).then_some((from, Some((at, node))));
    }
    if node.is("Reshape") && rank_two() && node.int("allowzero", 0) == 0 {
        let shape = ints(index.graph(), node.input(1)?)?;
        let batch = dims(index, from).and_then(|d| d.first().and_then(Dim::fixed));
        let keeps = |&n: &i64| n == 0 || n == -1 || batch.is_some_and(|b| i64::try_from(b) == Ok(n));
        let appended = shape.first().is_some_and(keeps)
            && shape.get(1).is_some_and(|&c| usize::try_from(c) == Ok(channels))
            && shape[2..].iter().all(|&d| d == 1);
        return appended.then_some((from, Some((at, node))));
    }
    if node.is("Flatten") && rank_two() && node.int("axis", 1) == 1 {
        return Some((from, Some((at, node))));
    }
    Some(plain())
}
