//! Moves scale between neighbouring layers, so that no channel is much wider than its neighbours.
//!
//! ```text
//! W₂ · relu(W₁ x + b₁) = (W₂ S) · relu(S⁻¹ W₁ x + S⁻¹ b₁)     for a diagonal S > 0
//! ```
//!
//! With `s_c = √(r₁ r₂) / r₂`, where `r₁` is the greatest weight that makes channel `c` and `r₂` the greatest that reads it,
//! both become `√(r₁ r₂)` (Nagel et al., *Data-Free Quantization through Weight Equalization and Bias Correction*, ICCV
//! 2019). With a scale per output channel the weights gain little from it; the values in between, which have one scale
//! for all channels, may gain or lose. So both are measured.

use std::sync::Arc;

use tapetum_runtime::{Result, Tensor};

use super::layers::{Form, Target};
use crate::graph::{Constant, Graph, Index};

/// Rounds over all pairs; a layer in the middle of a chain is part of two.
const ROUNDS: usize = 4;

/// Largest factor by which a channel is moved.
const MOST: f32 = 64.0;

/// `graph` equalised, or `None` where no two layers follow each other directly.
pub(super) fn equalise(graph: &Graph, layers: &[Target]) -> Result<Option<Graph>> {
    let index = graph.index();
    let pairs: Vec<(&Target, &Target)> = layers.iter().filter_map(|a| pair(&index, layers, a)).collect();
    if pairs.is_empty() {
        return Ok(None);
    }
    let mut out = graph.clone();
    for _ in 0..ROUNDS {
        for (first, second) in &pairs {
            balance(&mut out, first, second)?;
        }
    }
    Ok(Some(out))
}

/// The layer that alone reads what `first` makes, if it is a convolution as well and neither shares its constants.
fn pair<'t>(index: &Index<'_>, layers: &'t [Target], first: &'t Target) -> Option<(&'t Target, &'t Target)> {
    let (at, _) = index.only_reader(&first.output)?;
    let second = layers.iter().find(|l| l.at == at && l.input == first.output)?;
    let conv = |l: &Target| matches!(l.form, Form::Conv { .. });
    let alone = |name: &String| index.readers(name).len() == 1;
    let unshared = |l: &Target| alone(&l.weight) && l.bias.as_ref().is_none_or(alone);
    (conv(first) && conv(second) && unshared(first) && unshared(second)).then_some((first, second))
}

fn balance(graph: &mut Graph, first: &Target, second: &Target) -> Result<()> {
    let (Some(a), Some(b)) = (graph.dense(&first.weight).cloned(), graph.dense(&second.weight).cloned())
    else {
        return Ok(());
    };
    let (&[channels, ..], &[outputs, per_group, ..]) = (a.shape(), b.shape()) else { return Ok(()) };
    let (mut wa, mut wb) = (a.f32s()?.to_vec(), b.f32s()?.to_vec());
    let (row, area) = (wa.len() / channels.max(1), wb.len() / (outputs * per_group).max(1));
    let groups = channels / per_group.max(1);
    if groups * per_group != channels || groups == 0 || !outputs.is_multiple_of(groups) {
        return Ok(());
    }
    let mut bias = first.bias.as_ref().and_then(|n| graph.dense(n)).map(|t| t.f32s().map(<[f32]>::to_vec));
    for c in 0..channels {
        let (group, inner) = (c / per_group, c % per_group);
        let made = &mut wa[c * row..(c + 1) * row];
        let readers = group * (outputs / groups)..(group + 1) * (outputs / groups);
        let tap = |o: usize| (o * per_group + inner) * area..(o * per_group + inner + 1) * area;
        let greatest = |values: &[f32]| values.iter().fold(0f32, |m, v| m.max(v.abs()));
        let r1 = greatest(made);
        let r2 = readers.clone().map(|o| greatest(&wb[tap(o)])).fold(0f32, f32::max);
        let s = (r1 / r2).sqrt().clamp(1.0 / MOST, MOST);
        if !(r1 > 0.0 && r2 > 0.0 && s.is_finite()) {
            continue;
        }
        made.iter_mut().for_each(|w| *w /= s);
        if let Some(Ok(bias)) = &mut bias
            && let Some(b) = bias.get_mut(c)
        {
            *b /= s;
        }
        readers.for_each(|o| wb[tap(o)].iter_mut().for_each(|w| *w *= s));
    }
    let mut put = |name: &str, shape: &[usize], values: Vec<f32>| -> Result<()> {
        graph.constants.insert(name.into(), Constant::Dense(Arc::new(Tensor::new(shape, values)?)));
        Ok(())
    };
    put(&first.weight, a.shape(), wa)?;
    put(&second.weight, b.shape(), wb)?;
    if let (Some(name), Some(bias)) = (&first.bias, bias) {
        put(name, &[channels], bias?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Builder, Conv2d, Dim};
    use crate::quantize::layers;
    use crate::quantize::observe::{session, shapes};
    use tapetum_runtime::backend::by_name;
    use tapetum_runtime::seed::Seeded;

    #[test]
    fn the_function_stays_and_the_ranges_meet() {
        let mut random = Seeded::new(3);
        let mut weight = |shape: &[usize], wide: usize| {
            let mut values = random.vec(shape.iter().product(), -1.0, 1.0);
            let row = values.len() / shape[0];
            values[wide * row..(wide + 1) * row].iter_mut().for_each(|v| *v *= 50.0);
            Tensor::new(shape, values).unwrap()
        };
        let mut b = Builder::new("t");
        let extents = vec![Dim::Fixed(1), Dim::Fixed(2), Dim::Fixed(5), Dim::Fixed(5)];
        let x = b.input("x", extents);
        let bias = Tensor::vector(vec![0.3f32, -0.2, 0.1, 0.9]);
        let first = b.conv("first", &x, weight(&[4, 2, 1, 1], 2), Some(bias), Conv2d::default());
        let relu = b.unary("Relu", "relu", &first);
        let depthwise = Conv2d { groups: 4, pad: 1, stride: 1 };
        let second = b.conv("second", &relu, weight(&[4, 1, 3, 3], 0), None, depthwise);
        let last = b.conv("last", &second, weight(&[3, 4, 1, 1], 1), None, Conv2d::default());
        b.output("y", &last, vec![Dim::Fixed(1), Dim::Fixed(3), Dim::Fixed(5), Dim::Fixed(5)]);
        let graph = b.finish().unwrap();
        let input = [Tensor::new(&[1, 2, 5, 5], Seeded::new(9).vec(50, -1.0, 1.0)).unwrap()];
        let (layers, small) = layers::find(&graph, &shapes(&graph, &[vec![1, 2, 5, 5]]));
        assert_eq!((layers.len(), small.len()), (3, 0));
        let equal = equalise(&graph, &layers).unwrap().unwrap();
        let run = |graph: &Graph| {
            let mut session = session(by_name("tract").unwrap(), graph, None, &[&input]).unwrap();
            session.run(&input).unwrap().remove(0)
        };
        let (want, got) = (run(&graph), run(&equal));
        let scale = want.f32s().unwrap().iter().fold(0f32, |m, v| m.max(v.abs()));
        for (w, g) in want.f32s().unwrap().iter().zip(got.f32s().unwrap()) {
            assert!((w - g).abs() < 1e-5 * scale, "{w} {g}");
        }
        let spread = |graph: &Graph| {
            let w = graph.dense("first.weight").unwrap().f32s().unwrap().to_vec();
            let rows = w.chunks(2).map(|r| r[0].abs().max(r[1].abs()));
            rows.clone().fold(0f32, f32::max) / rows.fold(f32::MAX, f32::min)
        };
        assert!(spread(&equal) < spread(&graph) / 2.0, "{} {}", spread(&graph), spread(&equal));
    }
}
