//! A bare BatchNorm beside a convolution becomes a convolution itself.

use super::addtree::Sum;
use super::example::Example;
use super::names::Names;
use super::view::{Conv, Norm, ints_attr};
use super::{FoldRule, Patch, Refusal};
use crate::graph::{Attr, Conv2d, Graph, Index, Node};

/// A BatchNormalization that is summed with a convolution of the same input becomes a convolution of that kind.
///
/// ```text
/// s = γ / √(σ² + ε)                            [C]
/// W[c, c mod (C / groups), pads_before] = s[c]   [C, C / groups, k...], 0 elsewhere
/// b = β − μ · s                                [C]
/// ```
///
/// Groups, kernel and pads are the partner's (the largest kernel if there are several); the one tap that is not 0 is
/// the one that meets the input where the output is, which is the centre where pads are symmetric.
///
/// Refused: no partner in the sum with `C_in = C_out = C`, step 1, dilation 1 and an output as large as its input.
/// Without a partner a BatchNorm is cheaper than a convolution and stays.
///
/// Source: Vasu et al., *MobileOne*, arXiv:2206.04040; Ding et al., *RepVGG*, arXiv:2101.03697.
pub(super) struct BnAsConv;

impl FoldRule for BnAsConv {
    fn name(&self) -> &'static str {
        "bn_as_conv"
    }

    fn equation(&self) -> &'static str {
        "BN(x) = (s·I)*x + (β − μ·s), s = γ/√(σ² + ε), I the identity kernel in the partner's groups"
    }

    fn check(&self, graph: &Index<'_>, at: usize) -> Result<Option<Patch>, Refusal> {
        let Ok(Some(norm)) = Norm::at(graph, at) else { return Ok(None) };
        if Conv::only_for(graph, norm.input()).is_some() {
            return Ok(None);
        }
        let alone = "it is not summed with a convolution of the same input, so it stays";
        let sum = Sum::around(graph, norm.node.output()).ok_or_else(|| Refusal::new(alone))?;
        let convs: Vec<Conv<'_>> = sum
            .leaves
            .iter()
            .filter_map(|leaf| Conv::only_for(graph, leaf))
            .filter(|c| !c.transposed && c.input() == norm.input())
            .collect();
        if convs.is_empty() {
            return Err(Refusal::new(alone));
        }
        let same_map = |c: &&Conv<'_>| {
            let keeps_size = c.pads.as_ref().is_some_and(|p| {
                (0..c.kernel().len()).all(|i| p.before[i] + p.after[i] + 1 == c.kernel()[i])
            });
            let square = c.c_in() == norm.channels && c.c_out() == norm.channels;
            square && keeps_size && c.unit_dilation() && c.strides.iter().all(|&s| s == 1)
        };
        let Some(partner) = convs.iter().filter(same_map).max_by_key(|c| c.taps()) else {
            return Err(Refusal::new(format!(
                "no convolution of the sum maps its {} channels to as many with step 1, dilation 1 and equal size",
                norm.channels
            )));
        };
        let (scale, shift) = norm.scale_shift()?;
        let per_group = norm.channels / partner.groups;
        let taps = partner.taps();
        let pads = partner.pads.as_ref().map_or(&[][..], |p| &p.before);
        let tap = partner.kernel().iter().zip(pads).fold(0, |at, (k, before)| at * k + before);
        let mut weight = vec![0.0; norm.channels * per_group * taps];
        for (c, s) in scale.iter().enumerate() {
            weight[(c * per_group + c % per_group) * taps + tap] = *s;
        }
        let names = Names::of(norm.node);
        let mut patch = Patch::removing([at]);
        let weight = patch.widened(&names.weight(), partner.shape, weight)?;
        let bias = patch.widened(&names.bias(), &[norm.channels], shift)?;
        let mut node = Node::new("Conv", &names.node, &[norm.input(), &weight, &bias], &[norm.node.output()])
            .with("kernel_shape", ints_attr(partner.kernel()))
            .with("group", Attr::Int(partner.groups as i64));
        if let Some(pads) = &partner.pads {
            node = node.with("pads", pads.attr());
        }
        Ok(Some(patch.with_node(node)))
    }

    fn example(&self, seed: u64) -> Graph {
        let mut e = Example::new("bn_as_conv", seed);
        let (groups, k) = (e.pick(&[1, 2, 3, 6]), e.pick(&[1, 3, 5]));
        let x = e.image(6);
        let (weight, norm) = (e.tensor(&[6, 6 / groups, k, k]), e.norm(6));
        let conv = e.b.conv("block.conv", &x, weight, None, Conv2d { stride: 1, pad: k / 2, groups });
        let skip = e.b.batch_norm("block.skip", &x, norm);
        let y = e.b.binary("Add", "block.sum", &conv, &skip);
        e.finish(&y, 4)
    }
}
