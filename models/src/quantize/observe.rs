//! Runs the fp32 model on the samples and keeps statistics of the values between its layers.

use std::collections::{BTreeMap, BTreeSet};

use tapetum_runtime::backend::{Backend, LoadOptions, ModelSource, Session};
use tapetum_runtime::{DType, Error, Result, Tensor};

use super::columns::{Looker, Statistics};
use super::layers::Target;
use super::range::{Range, Seen};
use crate::graph::infer::{Known, Presume, infer_with};
use crate::graph::{Dim, Graph, Value};
use crate::onnx;

/// Most bytes of observed values in one run; with more, the samples run several times.
const MOST_BYTES: u64 = 512 << 20;

/// What the model did on the samples.
pub(super) struct Observed {
    /// By value.
    pub seen: BTreeMap<String, Seen>,
    /// By layer.
    pub statistics: BTreeMap<String, Statistics>,
}

/// Extents of every value of `graph` on a sample of `shapes`.
pub(super) fn shapes(graph: &Graph, shapes: &[Vec<usize>]) -> BTreeMap<String, Known> {
    let mut inputs = graph.inputs.clone();
    for (value, shape) in inputs.iter_mut().zip(shapes) {
        value.dims = shape.iter().map(|&d| Dim::Fixed(d)).collect();
    }
    infer_with(graph, &inputs, Presume::AllKept)
}

/// A session of `graph` on `engine`, with `values` as its outputs.
pub(super) fn session(
    engine: &'static dyn Backend,
    graph: &Graph,
    values: Option<Vec<Value>>,
    samples: &[&[Tensor]],
) -> Result<Box<dyn Session>> {
    let mut graph = graph.clone();
    if let Some(values) = values {
        graph.outputs = values;
        graph.remove_dead();
    }
    let mut bytes = Vec::new();
    onnx::write(&graph, &mut bytes)?;
    let first: Option<Vec<Vec<usize>>> =
        samples.first().map(|s| s.iter().map(|t| t.shape().to_vec()).collect());
    let alike = |s: &&[Tensor]| first.as_ref().is_some_and(|f| s.iter().map(Tensor::shape).eq(f));
    let shapes = samples.iter().all(alike).then(|| first.clone()).flatten();
    engine.load(
        ModelSource::Bytes(&bytes),
        &LoadOptions { shapes, min_share: Some(0.0), ..LoadOptions::default() },
    )
}

/// Statistics of `values` and of what each of `layers` sees, over `samples`. `tick` is told (runs done, runs in all).
pub(super) fn observe(
    engine: &'static dyn Backend,
    graph: &Graph,
    layers: &[Target],
    values: &BTreeSet<String>,
    samples: &[&[Tensor]],
    range: Range,
    tick: &mut dyn FnMut(usize, usize),
) -> Result<Observed> {
    let first: Vec<_> = samples.first().map_or(&[][..], |s| s).iter().map(|t| t.shape().to_vec()).collect();
    let known = shapes(graph, &first);
    let wanted: BTreeSet<&str> =
        values.iter().map(String::as_str).chain(layers.iter().map(|l| l.input.as_str())).collect();
    let fed: BTreeMap<&str, usize> =
        graph.inputs.iter().enumerate().map(|(at, v)| (v.name.as_str(), at)).collect();
    let inner: Vec<&str> = wanted.iter().copied().filter(|v| !fed.contains_key(v)).collect();
    let chunks = chunks(&inner, &known);
    let passes = if range == Range::MinMax { 1 } else { 2 };
    let of = chunks.len() * passes * samples.len();
    let mut lookers = BTreeMap::new();
    for (n, layer) in layers.iter().enumerate() {
        let weights =
            graph.dense(&layer.weight).ok_or_else(|| Error::internal("a layer's weights are gone"))?;
        let looker = Looker::new(&layer.form, weights, samples.len(), n as u64 + 1)?;
        lookers.entry(layer.input.as_str()).or_insert_with(Vec::new).push((layer, looker));
    }
    let mut seen: BTreeMap<String, Seen> = wanted.iter().map(|v| ((*v).into(), Seen::default())).collect();
    let mut done = 0;
    let mut look = |name: &str, tensor: &Tensor, pass: usize| -> Result<()> {
        let entry = seen.entry(name.into()).or_default();
        let numbers = tensor.f32s().map_err(|e| e.at(format!("value {name:?}")))?;
        if pass == 0 {
            entry.stretch(numbers);
            let lookers = lookers.get_mut(name).into_iter().flatten();
            for (layer, looker) in lookers {
                looker.add(tensor).map_err(|e| e.at(format!("layer {:?}", layer.name)))?;
            }
        } else {
            entry.count(numbers);
        }
        Ok(())
    };
    for (n, chunk) in chunks.iter().enumerate() {
        let outputs: Vec<Value> = chunk.iter().map(|name| value(name, &known)).collect();
        // A single layer has nothing in between: what it reads is there without a run.
        let mut session = match outputs.is_empty() {
            true => None,
            false => Some(session(engine, graph, Some(outputs), samples)?),
        };
        let mut outputs = Vec::new();
        for pass in 0..passes {
            for sample in samples {
                tick(done, of);
                done += 1;
                if let Some(session) = &mut session {
                    session.run_into(sample, &mut outputs)?;
                }
                for (name, tensor) in chunk.iter().zip(&outputs) {
                    look(name, tensor, pass)?;
                }
                let inputs = fed.iter().filter(|(name, _)| n == 0 && wanted.contains(**name));
                for (name, &at) in inputs {
                    look(name, &sample[at], pass)?;
                }
            }
        }
    }
    tick(of, of);
    let statistics = lookers
        .into_values()
        .flatten()
        .map(|(layer, looker)| (layer.name.clone(), looker.finish()))
        .collect();
    Ok(Observed { seen, statistics })
}

fn value(name: &str, known: &BTreeMap<String, Known>) -> Value {
    let rank = known.get(name).map_or(0, |k| k.dims.len());
    // Open extents: what one sample has, another may not.
    Value { name: name.into(), dtype: DType::F32, dims: vec![Dim::Unknown; rank] }
}

fn chunks<'v>(values: &[&'v str], known: &BTreeMap<String, Known>) -> Vec<Vec<&'v str>> {
    let mut chunks: Vec<Vec<&str>> = vec![Vec::new()];
    let mut bytes = 0;
    for value in values {
        let shape = known.get(*value).and_then(Known::fixed).unwrap_or_default();
        let size = shape.iter().fold(4u64, |n, &d| n.saturating_mul(d as u64));
        bytes += size;
        if bytes > MOST_BYTES
            && let Some(last) = chunks.last()
            && !last.is_empty()
        {
            chunks.push(Vec::new());
            bytes = size;
        }
        if let Some(last) = chunks.last_mut() {
            last.push(value);
        }
    }
    chunks
}
