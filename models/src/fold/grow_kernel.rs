//! A small kernel becomes as large as its sum partner's.

use super::addtree::Sum;
use super::example::Example;
use super::names::Names;
use super::view::{Conv, ints_attr};
use super::{FoldRule, Patch, Refusal};
use crate::graph::{Conv2d, Graph, Index};

/// A convolution that is summed with a larger one over the same input gets that one's kernel size, by zeros around its
/// own kernel and as many more zeros of padding.
///
/// ```text
/// a = P_before − p_before,  z = P_after − p_after     per axis, a ≥ 0, z ≥ 0, a + z = K − k
/// W'[o, i, j + a] = W[o, i, j], 0 elsewhere           [C_out, C_in / groups, K...]
/// ```
///
/// That is 1×1, 1×3 and 3×1 centred in a 3×3 with padding 1, and nothing else is assumed about centres.
///
/// Refused: strides, groups or channels that differ, dilation, `auto_pad`, and pads for which the equation has no
/// solution (the outputs would not meet the same inputs).
///
/// Source: Ding et al., *RepVGG*, arXiv:2101.03697; Ding et al., *ACNet*, arXiv:1908.03930.
pub(super) struct GrowKernel;

impl FoldRule for GrowKernel {
    fn name(&self) -> &'static str {
        "grow_kernel"
    }

    fn equation(&self) -> &'static str {
        "W*x = W'*x, W' = W with zeros around it up to the partner's kernel, padding grown alike"
    }

    fn check(&self, graph: &Index<'_>, at: usize) -> Result<Option<Patch>, Refusal> {
        let Some(conv) = Conv::at(graph, at).filter(|c| !c.transposed) else { return Ok(None) };
        let Some(sum) = Sum::around(graph, conv.node.output()) else { return Ok(None) };
        let larger =
            sum.leaves.iter().filter_map(|leaf| Conv::only_for(graph, leaf)).filter(|other| {
                !other.transposed && other.input() == conv.input() && other.taps() > conv.taps()
            });
        let (mut partner, mut why) = (None::<(Conv<'_>, Vec<usize>)>, None);
        for other in larger {
            match offset(&conv, &other) {
                Ok(offset) if partner.as_ref().is_none_or(|(p, _)| p.taps() < other.taps()) => {
                    partner = Some((other, offset));
                }
                Ok(_) => {}
                Err(reason) => why = Some(reason),
            }
        }
        let Some((partner, offset)) = partner else { return why.map_or(Ok(None), Err) };
        let names = Names::of(conv.node);
        let mut patch = Patch::removing([at]);
        let grown = grow(&conv.weight(), conv.kernel(), partner.kernel(), &offset);
        let weight = patch.widened(&names.weight(), partner.shape, grown)?;
        let mut node = conv.node.clone();
        node.inputs[1] = weight;
        node.attrs.insert("kernel_shape".into(), ints_attr(partner.kernel()));
        node.attrs.remove("auto_pad");
        if let Some(pads) = &partner.pads {
            node.attrs.insert("pads".into(), pads.attr());
        }
        Ok(Some(patch.with_node(node)))
    }

    fn example(&self, seed: u64) -> Graph {
        let mut e = Example::new("grow_kernel", seed);
        let (groups, k, stride) = (e.pick(&[1, 2]), e.pick(&[3, 5]), e.pick(&[1, 2]));
        let x = e.image(4);
        let (large, small) = (e.tensor(&[6, 4 / groups, k, k]), e.tensor(&[6, 4 / groups, 1, 1]));
        let bias = e.tensor(&[6]);
        let conv = e.b.conv("block.conv", &x, large, None, Conv2d { stride, pad: k / 2, groups });
        let scale = e.b.conv("block.scale", &x, small, Some(bias), Conv2d { stride, pad: 0, groups });
        let y = e.b.binary("Add", "block.sum", &scale, &conv);
        e.finish(&y, 4)
    }
}

/// Where `small`'s kernel lies in `large`'s so that both meet the same inputs.
pub(super) fn offset(small: &Conv<'_>, large: &Conv<'_>) -> Result<Vec<usize>, Refusal> {
    let refuse = |what: String| Err(Refusal::new(format!("beside {:?}: {what}", large.node.name)));
    if small.shape[..2] != large.shape[..2] || small.groups != large.groups {
        return refuse(format!(
            "weights {:?} in {} groups and {:?} in {}",
            small.shape, small.groups, large.shape, large.groups
        ));
    }
    if small.strides != large.strides {
        return refuse(format!("strides {:?} and {:?}", small.strides, large.strides));
    }
    if !small.unit_dilation() || !large.unit_dilation() {
        return refuse(format!("dilations {:?} and {:?}", small.dilations, large.dilations));
    }
    let (Some(have), Some(want)) = (&small.pads, &large.pads) else {
        return refuse("auto_pad decides the pads, so they are not known".into());
    };
    let fits = |i: usize| {
        let before = want.before[i].checked_sub(have.before[i])?;
        let after = want.after[i].checked_sub(have.after[i])?;
        (small.kernel()[i] + before + after == large.kernel()[i]).then_some(before)
    };
    match (0..small.kernel().len()).map(fits).collect() {
        Some(offset) => Ok(offset),
        None => refuse(format!(
            "kernels {:?} and {:?} with pads {:?}/{:?} and {:?}/{:?} do not meet the same inputs",
            small.kernel(),
            large.kernel(),
            have.before,
            have.after,
            want.before,
            want.after
        )),
    }
}

/// Copies kernels of size `from` into zeros of size `to`, beginning at `offset`.
fn grow(weight: &[f64], from: &[usize], to: &[usize], offset: &[usize]) -> Vec<f64> {
    let (small, large): (usize, usize) = (from.iter().product(), to.iter().product());
    let places: Vec<usize> = (0..small)
        .map(|tap| {
            let (mut rest, mut place, mut step) = (tap, 0, 1);
            for i in (0..from.len()).rev() {
                place += (rest % from[i] + offset[i]) * step;
                rest /= from[i];
                step *= to[i];
            }
            place
        })
        .collect();
    let mut grown = vec![0.0; weight.len() / small * large];
    for (kernel, out) in weight.chunks_exact(small).zip(grown.chunks_exact_mut(large)) {
        for (w, &place) in kernel.iter().zip(&places) {
            out[place] = *w;
        }
    }
    grown
}
