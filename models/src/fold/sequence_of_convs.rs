//! Two convolutions with nothing between them become one, where that costs less.

use super::example::Example;
use super::names::Names;
use super::view::{Conv, Pads, ints_attr};
use super::{FoldRule, Patch, Refusal};
use crate::graph::{Attr, Conv2d, Graph, Index};

/// More multiplications than this are not spent on one fold.
const LARGEST: u64 = 1 << 34;

/// Conv → Conv becomes one convolution.
///
/// ```text
/// W'[o, i, t] = Σ_m Σ_j W₂[o, m, j] · W₁[m, i, t − j·s₁]     [C_out, C_in / g, k₁ + (k₂ − 1)·s₁]
/// b'[o]       = b₂[o] + Σ_m Σ_j W₂[o, m, j] · b₁[m]           [C_out]
/// strides s₁·s₂, groups g = gcd(g₁, g₂), pads p₁, or p₂ where the first is 1×1
/// ```
///
/// Exact if the second pads nothing, or if the first is 1×1 without step, pads and bias: elsewhere the second's zeros
/// would have to be the first's result over zeros, which they are not.
///
/// Refused: pads as above, `auto_pad`, dilation (unless the other is 1×1), and every case in which the one convolution
/// needs more multiplications than the two, such as OSNet's 1×1 before a depthwise 3×3.
///
/// Source: Ding et al., *Diverse Branch Block*, arXiv:2103.13425, transform III.
pub(super) struct SequenceOfConvs;

impl FoldRule for SequenceOfConvs {
    fn name(&self) -> &'static str {
        "sequence_of_convs"
    }

    fn equation(&self) -> &'static str {
        "W₂*(W₁*x + b₁) + b₂ = (W₂∘W₁)*x + (b₂ + ΣW₂·b₁)"
    }

    fn check(&self, graph: &Index<'_>, at: usize) -> Result<Option<Patch>, Refusal> {
        let Some(second) = Conv::at(graph, at).filter(|c| !c.transposed) else { return Ok(None) };
        let Some(first) = Conv::only_for(graph, second.input()).filter(|c| !c.transposed) else {
            return Ok(None);
        };
        if first.c_out() != second.c_in() || first.shape.len() != second.shape.len() {
            return Err(Refusal::new(format!("weights {:?} and {:?} do not fit", first.shape, second.shape)));
        }
        let place = |e: &str| Refusal::new(format!("after {:?}: {e}", first.node.name));
        let pads = pads(&first, &second).map_err(|e| place(&e))?;
        let dilations = match (first.taps(), second.taps()) {
            (_, 1) => first.dilations.clone(),
            (1, _) => second.dilations.clone(),
            _ if first.unit_dilation() && second.unit_dilation() => first.dilations.clone(),
            _ => return Err(place("both kernels have several taps and one is dilated")),
        };
        let groups = gcd(first.groups, second.groups);
        let kernel: Vec<usize> = (0..first.kernel().len())
            .map(|i| match second.kernel()[i] {
                1 => first.kernel()[i],
                k => first.kernel()[i] + (k - 1) * first.strides[i],
            })
            .collect();
        let shape: Vec<usize> =
            [second.c_out(), first.c_in() / groups].into_iter().chain(kernel.iter().copied()).collect();
        affordable(&first, &second, &shape).map_err(|e| place(&e))?;
        let weight = compose(&first, &second, &shape, groups);
        let bias = carry_bias(&first, &second);
        let names = Names::sequence(graph, &[first.node, second.node]);
        let mut patch = Patch::removing([first.at, at]);
        let weight = patch.widened(&names.weight(), &shape, weight)?;
        let bias = patch.widened(&names.bias(), &[second.c_out()], bias)?;
        let mut node = first.rebuilt(&names.node, &weight, &bias, second.node.output());
        let strides: Vec<usize> = first.strides.iter().zip(&second.strides).map(|(a, b)| a * b).collect();
        node.attrs.remove("auto_pad");
        node.attrs.insert("kernel_shape".into(), ints_attr(&kernel));
        node.attrs.insert("strides".into(), ints_attr(&strides));
        node.attrs.insert("dilations".into(), ints_attr(&dilations));
        node.attrs.insert("pads".into(), pads.attr());
        node.attrs.insert("group".into(), Attr::Int(groups as i64));
        Ok(Some(patch.with_node(node)))
    }

    fn example(&self, seed: u64) -> Graph {
        let mut e = Example::new("sequence_of_convs", seed);
        let (groups, k, stride) = (e.pick(&[1, 2]), e.pick(&[3, 5]), e.pick(&[1, 2]));
        let x = e.image(4);
        let (wide, narrow) = (e.tensor(&[12, 4 / groups, k, k]), e.tensor(&[6, 12 / groups, 1, 1]));
        let (b1, b2) = (e.tensor(&[12]), e.tensor(&[6]));
        let spec = Conv2d { stride, pad: k / 2, groups };
        let wide = e.b.conv("block.wide", &x, wide, Some(b1), spec);
        let y = e.b.conv("block.narrow", &wide, narrow, Some(b2), Conv2d { groups, ..Conv2d::default() });
        e.finish(&y, 4)
    }
}

/// The pads of the composition, or why there are none.
fn pads(first: &Conv<'_>, second: &Conv<'_>) -> Result<Pads, String> {
    let (Some(inner), Some(outer)) = (&first.pads, &second.pads) else {
        return Err("auto_pad decides the pads, so they are not known".into());
    };
    if outer.none() {
        return Ok(inner.clone());
    }
    let point = first.taps() == 1 && inner.none() && first.strides.iter().all(|&s| s == 1);
    if !point {
        return Err("the second pads with zeros what is not zero in the composition".into());
    }
    if first.bias().iter().any(|&b| b != 0.0) {
        return Err("the second pads with zeros where the first's bias would be".into());
    }
    Ok(outer.clone())
}

/// Multiplications per result of the second, and of making the composition.
fn affordable(first: &Conv<'_>, second: &Conv<'_>, shape: &[usize]) -> Result<(), String> {
    let product = |dims: &[usize]| dims.iter().fold(1u64, |n, &d| n.saturating_mul(d as u64));
    let positions = product(&second.strides);
    let apart = product(first.shape).saturating_mul(positions).saturating_add(product(second.shape));
    let together = product(shape);
    if together > apart {
        return Err(format!("one convolution needs {together} multiplications where the two need {apart}"));
    }
    let making = product(&second.shape[..2])
        .saturating_mul(product(&shape[1..2]))
        .saturating_mul(product(&first.shape[2..]))
        .saturating_mul(product(&second.shape[2..]));
    if making > LARGEST {
        return Err(format!("composing them takes {making} multiplications"));
    }
    Ok(())
}

fn compose(first: &Conv<'_>, second: &Conv<'_>, shape: &[usize], groups: usize) -> Vec<f64> {
    let (w1, w2) = (first.weight(), second.weight());
    let (taps1, taps2) = (first.taps(), second.taps());
    let (inputs, taps) = (shape[1], shape[2..].iter().product::<usize>());
    let (per1, per2) = (first.shape[1], second.shape[1]);
    let (outs1, outs2) = (first.shape[0] / first.groups, second.shape[0] / second.groups);
    // Where tap `a` of the first, seen through tap `j` of the second, lies in the composition.
    let place: Vec<usize> = (0..taps2)
        .flat_map(|j| (0..taps1).map(move |a| (j, a)))
        .map(|(mut j, mut a)| {
            let (mut at, mut step) = (0, 1);
            for i in (0..shape.len() - 2).rev() {
                let (k1, k2) = (first.kernel()[i], second.kernel()[i]);
                at += (a % k1 + j % k2 * first.strides[i]) * step;
                (a, j, step) = (a / k1, j / k2, step * shape[2 + i]);
            }
            at
        })
        .collect();
    let mut out = vec![0.0; shape.iter().product()];
    let outs = second.shape[0] / groups;
    for o in 0..second.shape[0] {
        for within in 0..per2 {
            let m = o / outs2 * per2 + within;
            for i in 0..per1 {
                // Input channel within the group of the composition that holds `o`.
                let input = m / outs1 * per1 + i - o / outs * inputs;
                for j in 0..taps2 {
                    let outer = w2[(o * per2 + within) * taps2 + j];
                    for a in 0..taps1 {
                        out[(o * inputs + input) * taps + place[j * taps1 + a]] +=
                            outer * w1[(m * per1 + i) * taps1 + a];
                    }
                }
            }
        }
    }
    out
}

fn carry_bias(first: &Conv<'_>, second: &Conv<'_>) -> Vec<f64> {
    let (inner, mut bias, w2) = (first.bias(), second.bias(), second.weight());
    let (per, taps) = (second.shape[1], second.taps());
    let outs = second.shape[0] / second.groups;
    for (o, b) in bias.iter_mut().enumerate() {
        for within in 0..per {
            let kernel = &w2[(o * per + within) * taps..][..taps];
            *b += kernel.iter().sum::<f64>() * inner[o / outs * per + within];
        }
    }
    bias
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}
