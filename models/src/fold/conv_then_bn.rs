//! A BatchNorm goes into the convolution before it.

use super::example::Example;
use super::names::Names;
use super::view::{Conv, Norm};
use super::{FoldRule, Patch, Refusal};
use crate::graph::{Conv2d, Graph, Index};

/// Conv or ConvTranspose → BatchNormalization becomes one convolution.
///
/// ```text
/// s  = γ / √(σ² + ε)              [C_out]
/// W' = W · s[c_out]               Conv [C_out, C_in / groups, k...], ConvTranspose [C_in, C_out / groups, k...]
/// b' = β + (b − μ) · s            [C_out]
/// ```
///
/// Strides, pads, dilations and `auto_pad` play no part and stay. ε is the node's own.
///
/// Refused: a BatchNorm in training mode, `σ² + ε ≤ 0` (with the channel), a convolution that is read elsewhere too,
/// channel counts that differ.
///
/// Source: Vasu et al., *MobileOne*, arXiv:2206.04040, section 3.2.
pub(super) struct ConvThenBn;

impl FoldRule for ConvThenBn {
    fn name(&self) -> &'static str {
        "conv_then_bn"
    }

    fn equation(&self) -> &'static str {
        "BN(W*x + b) = (s·W)*x + (β + (b − μ)·s), s = γ/√(σ² + ε)"
    }

    fn check(&self, graph: &Index<'_>, at: usize) -> Result<Option<Patch>, Refusal> {
        let Some(norm) = Norm::at(graph, at)? else { return Ok(None) };
        let Some((before, producer)) = graph.producer(norm.input()) else { return Ok(None) };
        let Some(conv) = Conv::at(graph, before) else {
            let computed = producer.is("Conv") || producer.is("ConvTranspose");
            return match computed {
                true => Err(Refusal::new(format!("the weight of {:?} is not a constant", producer.name))),
                false => Ok(None),
            };
        };
        if graph.only_reader(norm.input()).is_none() {
            return Err(Refusal::new(format!("the result of {:?} is also read elsewhere", conv.node.name)));
        }
        if norm.channels != conv.c_out() {
            let (have, makes) = (norm.channels, conv.c_out());
            return Err(Refusal::new(format!("it has {have} channels, the convolution makes {makes}")));
        }
        let (scale, shift) = norm.scale_shift()?;
        let (mut weight, mut bias) = (conv.weight(), conv.bias());
        conv.scale_outputs(&mut weight, &scale);
        for ((b, s), t) in bias.iter_mut().zip(&scale).zip(&shift) {
            *b = *b * s + t;
        }
        let names = Names::sequence(graph, &[conv.node, norm.node]);
        let mut patch = Patch::removing([conv.at, at]);
        let weight = patch.widened(&names.weight(), conv.shape, weight)?;
        let bias = patch.widened(&names.bias(), &[conv.c_out()], bias)?;
        Ok(Some(patch.with_node(conv.rebuilt(&names.node, &weight, &bias, norm.node.output()))))
    }

    fn example(&self, seed: u64) -> Graph {
        let mut e = Example::new("conv_then_bn", seed);
        let (groups, k) = (e.pick(&[1, 2, 4]), e.pick(&[1, 3, 5]));
        let x = e.image(4);
        let (weight, norm) = (e.tensor(&[8, 4 / groups, k, k]), e.norm(8));
        let conv = e.b.conv("block.conv", &x, weight, None, Conv2d { stride: 2, pad: k / 2, groups });
        let y = e.b.batch_norm("block.bn", &conv, norm);
        e.finish(&y, 4)
    }
}
