//! The graph with QuantizeLinear/DequantizeLinear pairs around the values and on the weights of the chosen layers.
//!
//! The pair says what is stored in 8 bits; engines put the layer in between. Each value has one pair however many read
//! it. Biases stay in fp32: every engine in use fuses them, and TensorRT takes no others.

use std::collections::{BTreeMap, BTreeSet};

use tapetum_runtime::{Error, Result, Tensor};

use super::groups::Groups;
use super::layers::{Form, Target};
use super::range::Scale;
use super::round::Rounded;
use crate::graph::{Attr, Graph, HELPER_PREFIX, Node};

/// A layer's weights as rows, `[C_out][taps]`.
pub(super) fn rows(weights: &Tensor, form: &Form) -> Result<(Vec<f32>, usize)> {
    let values = weights.f32s()?;
    match (form, weights.shape()) {
        (Form::Linear { transposed: false }, &[taps, channels]) => {
            let at = |n: usize| values[n % taps.max(1) * channels + n / taps.max(1)];
            Ok(((0..values.len()).map(at).collect(), channels))
        }
        (_, &[channels, ..]) => Ok((values.to_vec(), channels)),
        _ => Err(Error::internal("weights without a shape")),
    }
}

/// `graph` with `layers` in 8 bits and the values of `groups` quantized by `scales` (by group).
pub(super) fn emit(
    graph: &Graph,
    layers: &[(&Target, &Rounded)],
    groups: &Groups,
    scales: &BTreeMap<String, Scale>,
) -> Result<Graph> {
    let mut out = graph.clone();
    let mut before: BTreeMap<usize, Vec<Node>> = BTreeMap::new();
    for (layer, rounded) in layers {
        let node = weights(&mut out, layer, rounded)?;
        before.entry(layer.at).or_default().push(node);
    }
    let mut behind: BTreeMap<&str, [Node; 2]> = BTreeMap::new();
    for value in groups.values() {
        let scale = groups.group(value).and_then(|g| scales.get(g));
        let scale = scale.ok_or_else(|| Error::internal(format!("no scale for {value:?}")))?;
        behind.insert(value, pair(&mut out, value, *scale));
    }
    let chosen: BTreeSet<usize> = layers.iter().map(|(l, _)| l.at).collect();
    let inputs: BTreeSet<String> = out.inputs.iter().map(|v| v.name.clone()).collect();
    let mut nodes = Vec::with_capacity(out.nodes.len() + 2 * behind.len() + layers.len());
    for name in &inputs {
        nodes.extend(behind.remove(name.as_str()).into_iter().flatten());
    }
    for (at, mut node) in std::mem::take(&mut out.nodes).into_iter().enumerate() {
        nodes.extend(before.remove(&at).into_iter().flatten());
        // What comes from outside is there in fp32 for whoever wants it; everything else only exists in 8 bits then.
        let in_8_bits = chosen.contains(&at) || node.outputs.iter().any(|o| groups.group(o).is_some());
        for input in &mut node.inputs {
            if groups.group(input).is_some() && (in_8_bits || !inputs.contains(input)) {
                *input = dequantized(input);
            }
        }
        let made: Vec<[Node; 2]> = node.outputs.iter().filter_map(|o| behind.remove(o.as_str())).collect();
        nodes.push(node);
        nodes.extend(made.into_iter().flatten());
    }
    out.nodes = nodes;
    out.remove_dead();
    out.check()?;
    Ok(out)
}

fn dequantized(value: &str) -> String {
    format!("{value}/dequantized")
}

fn pair(graph: &mut Graph, value: &str, scale: Scale) -> [Node; 2] {
    let step = graph.add_constant(&format!("{HELPER_PREFIX}{value}/scale"), Tensor::scalar(scale.scale));
    let zero = graph.add_constant(&format!("{HELPER_PREFIX}{value}/zero"), Tensor::scalar(scale.zero));
    let (stored, back) = (format!("{value}/quantized"), dequantized(value));
    [
        Node::new("QuantizeLinear", &stored, &[value, &step, &zero], &[&stored]),
        Node::new("DequantizeLinear", &back, &[&stored, &step, &zero], &[&back]),
    ]
}

/// Replaces a layer's weights and bias; returns the node that widens the weights.
fn weights(graph: &mut Graph, layer: &Target, rounded: &Rounded) -> Result<Node> {
    let gone = || Error::internal(format!("the weights of layer {:?} are gone", layer.name));
    let shape = graph.dense(&layer.weight).ok_or_else(gone)?.shape().to_vec();
    let channels = rounded.scales.len();
    let taps = rounded.levels.len() / channels.max(1);
    let levels: Vec<i8> = match layer.form {
        Form::Linear { transposed: false } => {
            (0..rounded.levels.len()).map(|n| rounded.levels[n % channels * taps + n / channels]).collect()
        }
        _ => rounded.levels.clone(),
    };
    let name = &layer.weight;
    let stored = graph.add_constant(&format!("{name}/int8"), Tensor::new(&shape, levels)?);
    let scale =
        graph.add_constant(&format!("{HELPER_PREFIX}{name}/scale"), Tensor::vector(rounded.scales.clone()));
    let zero =
        graph.add_constant(&format!("{HELPER_PREFIX}{name}/zero"), Tensor::vector(vec![0i8; channels]));
    // Two layers may share their weights; each has its own levels.
    let back = format!("{}/weight", layer.name);
    let widen = Node::new("DequantizeLinear", &back, &[&stored, &scale, &zero], &[&back])
        .with("axis", Attr::Int(layer.form.channel_axis() as i64));
    let bias = shifted_bias(graph, layer, rounded)?;
    let node = graph.nodes.get_mut(layer.at).filter(|n| n.name == layer.name).ok_or_else(gone)?;
    node.inputs[1] = back;
    if let Some(bias) = bias {
        node.inputs.truncate(2);
        node.inputs.push(bias);
    }
    Ok(widen)
}

/// The layer's bias with what rounding took from the mean; a MatMul has no place for one.
fn shifted_bias(graph: &mut Graph, layer: &Target, rounded: &Rounded) -> Result<Option<String>> {
    if layer.op == "MatMul" || rounded.shift.iter().all(|s| *s == 0.0) {
        return Ok(None);
    }
    let mut values = match layer.bias.as_ref().and_then(|b| graph.dense(b)) {
        Some(bias) => bias.f32s()?.to_vec(),
        None => vec![0.0; rounded.shift.len()],
    };
    if values.len() != rounded.shift.len() {
        return Ok(None);
    }
    values.iter_mut().zip(&rounded.shift).for_each(|(b, s)| *b += s);
    Ok(Some(graph.add_constant(&format!("{}/bias", layer.name), Tensor::vector(values))))
}
