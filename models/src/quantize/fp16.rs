//! From a deployed model to half floats, file to file.
//!
//! Weights and values between the layers become `f16`; inputs and outputs stay `f32`, so nothing around the model
//! changes. Sums over many values (means, norms) stay in fp32: half floats end at 65504. Made for engines that compute
//! half floats (GPUs, NPUs); a CPU widens each layer again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use half::f16;
use tapetum_runtime::backend::Precision;
use tapetum_runtime::contract::Quantization;
use tapetum_runtime::{DType, Error, ErrorKind, Result, Tensor};

use super::judge::Judge;
use super::rung::{Source, Split, measured, write};
use super::{Layer, QuantizeOptions, Quantized, Step};
use crate::fuse::Place;
use crate::graph::infer::infer;
use crate::graph::{Attr, Graph, Node};

/// Operators that sum over many values.
const WIDE: [&str; 7] = [
    "InstanceNormalization",
    "LayerNormalization",
    "ReduceL2",
    "ReduceMean",
    "ReduceSum",
    "ReduceProd",
    "CumSum",
];

/// Inputs that ONNX wants in `f32` (or as it likes) whatever the data is: operator, input.
const ALWAYS_F32: [(&str, usize); 2] = [("Resize", 1), ("Resize", 2)];

/// Converts `model` to half floats, holds it against fp32 on every second of `samples` and writes `output`.
///
/// # Errors
/// [`ErrorKind::ProofFailed`] with the figure below the gate; [`ErrorKind::Unsupported`] for weights beyond ±65504 and
/// operators of which it is not known what they give; else as [`super::quantize`].
pub fn convert_fp16(
    model: &Path,
    output: &Path,
    samples: &[Vec<Tensor>],
    options: &QuantizeOptions,
    tell: &mut dyn FnMut(Step<'_>),
) -> Result<Quantized> {
    let place = Place::beside(output)?;
    let split = Split::of(samples)?;
    let source = Source::read(model, options)?;
    let half = to_half(&source.graph, &options.keep).map_err(|e| e.at(model.display()))?;
    let mut judge =
        Judge::new(source.engine, &source.graph, &source.contract, options.gate, split.judge.clone())?;
    tell(Step::Judging { layer: None, done: 0, of: 1 });
    let figures = judge.figures(&half)?;
    if let Some(bad) = figures.iter().find(|f| !f.passes()) {
        let message = format!(
            "{}: fp16 does not pass: output {:?}: {bad}; {} was not written",
            model.display(),
            bad.output,
            output.display()
        );
        return Err(Error::new(ErrorKind::ProofFailed, message));
    }
    drop(judge);
    let record = Quantization {
        precision: Precision::Fp16,
        from: source.sha256.clone(),
        engine: source.engine.probe()?,
        range: None,
        equalised: false,
        kept: options.keep.clone(),
        calibrated: 0,
        judged: split.judge.len(),
        figures: measured(&figures),
    };
    let kept = |n: &Node| match WIDE.contains(&n.op.as_str()) {
        true => Some("sums over many values".to_owned()),
        false => options.keep.contains(&n.name).then(|| "told to".to_owned()),
    };
    let layer = |n: &Node| Layer { name: n.name.clone(), op: n.op.clone(), macs: 0, kept: kept(n) };
    let layers = source.graph.nodes.iter().map(layer).collect();
    let bytes = write(&source, half, record, &place, output, split.judge[0])?;
    tell(Step::Written(output));
    Ok(Quantized {
        figures,
        layers,
        equalised: false,
        calibrated: 0,
        judged: split.judge.len(),
        engine: source.engine.probe()?,
        bytes_before: source.bytes,
        bytes,
    })
}

/// `graph` in half floats, with the nodes of `keep` and those that sum in fp32.
fn to_half(graph: &Graph, keep: &[String]) -> Result<Graph> {
    let graph = &gemm_as_matmul(graph)?;
    let known = infer(graph);
    let mut out = graph.clone();
    let mut floats: BTreeSet<String> = BTreeSet::new();
    for node in &graph.nodes {
        for output in node.outputs.iter().filter(|o| !o.is_empty()) {
            let known = known.get(output).ok_or_else(|| {
                Error::unsupported(format!(
                    "node {:?}: it is not known what {} gives, so it cannot be said what becomes a half float",
                    node.name, node.op
                ))
            })?;
            if known.dtype == DType::F32 {
                floats.insert(output.clone());
            }
        }
    }
    let inputs: BTreeSet<String> =
        graph.inputs.iter().filter(|v| v.dtype == DType::F32).map(|v| v.name.clone()).collect();
    let wide = |n: &Node| keep.contains(&n.name) || WIDE.iter().any(|op| n.is(op));
    let mut casts = Casts::default();
    let mut nodes = Vec::with_capacity(out.nodes.len());
    for mut node in std::mem::take(&mut out.nodes) {
        let stays_wide = wide(&node);
        for (at, input) in node.inputs.iter_mut().enumerate() {
            let always = ALWAYS_F32.contains(&(node.op.as_str(), at)) || node.op == "Cast";
            if graph.constants.contains_key(input.as_str()) {
                if !stays_wide && !always {
                    half_constant(graph, &mut out, &mut casts.stored, input)?;
                }
                continue;
            }
            // `f32` here: what comes from outside, and what a wide node made.
            let is_wide = inputs.contains(input.as_str()) || casts.wide.contains(input.as_str());
            if node.op == "Cast" || !(is_wide || floats.contains(input.as_str())) {
                continue;
            }
            if is_wide != (stays_wide || always) {
                *input = casts.to(&mut nodes, input, if is_wide { DType::F16 } else { DType::F32 });
            }
        }
        if stays_wide {
            casts.wide.extend(node.outputs.iter().filter(|o| floats.contains(o.as_str())).cloned());
        } else {
            halve_attributes(&mut node)?;
        }
        nodes.push(node);
    }
    // Outputs keep their names and their type.
    for output in out.outputs.iter().filter(|v| v.dtype == DType::F32) {
        if casts.wide.contains(&output.name) || !floats.contains(&output.name) {
            continue;
        }
        let inner = format!("{}/half", output.name);
        let names = nodes.iter_mut().flat_map(|n| n.inputs.iter_mut().chain(&mut n.outputs));
        names.filter(|n| **n == output.name).for_each(|n| n.clone_from(&inner));
        nodes.push(cast(&format!("{}/single", output.name), &inner, &output.name, DType::F32));
    }
    out.nodes = nodes;
    out.remove_dead();
    out.check()?;
    Ok(out)
}

/// `graph` with each plain Gemm as MatMul and Add: tract cannot plan a Gemm of half floats, and they say the same.
fn gemm_as_matmul(graph: &Graph) -> Result<Graph> {
    let mut out = graph.clone();
    let mut nodes = Vec::with_capacity(graph.nodes.len());
    for node in std::mem::take(&mut out.nodes) {
        let weight = node.input(1).and_then(|w| graph.dense(w)).filter(|w| w.rank() == 2);
        let plain = node.is("Gemm")
            && node.float("alpha", 1.0) == 1.0
            && node.float("beta", 1.0) == 1.0
            && node.int("transA", 0) == 0;
        let (Some(weight), true) = (weight, plain) else {
            nodes.push(node);
            continue;
        };
        let mut matrix = node.inputs[1].clone();
        if node.int("transB", 0) == 1 {
            let (rows, columns) = (weight.shape()[0], weight.shape()[1]);
            let values = weight.f32s()?;
            let turned = (0..values.len()).map(|n| values[n % rows * columns + n / rows]).collect();
            matrix =
                out.add_constant(&format!("{matrix}/turned"), Tensor::new::<f32>(&[columns, rows], turned)?);
        }
        let product = format!("{}/product", node.name);
        let made = if node.input(2).is_some() { product.as_str() } else { node.output() };
        nodes.push(Node::new("MatMul", &product, &[&node.inputs[0], &matrix], &[made]));
        if let Some(bias) = node.input(2) {
            nodes.push(Node::new("Add", &node.name, &[&product, bias], &[node.output()]));
        }
    }
    out.nodes = nodes;
    out.remove_dead();
    out.check()?;
    Ok(out)
}

/// What has been cast already.
#[derive(Default)]
struct Casts {
    /// Values that are `f32` although most are half.
    wide: BTreeSet<String>,
    /// Casts by value and type.
    made: BTreeMap<(String, &'static str), String>,
    /// Half constants by the name of the full one.
    stored: BTreeMap<String, String>,
}

impl Casts {
    fn to(&mut self, nodes: &mut Vec<Node>, value: &str, dtype: DType) -> String {
        let key = (value.to_owned(), dtype.name());
        self.made
            .entry(key)
            .or_insert_with(|| {
                let name = format!("{value}/{}", dtype.name());
                nodes.push(cast(&name, value, &name, dtype));
                name
            })
            .clone()
    }
}

fn cast(name: &str, from: &str, to: &str, dtype: DType) -> Node {
    Node::new("Cast", name, &[from], &[to]).with("to", Attr::Int(i64::from(dtype.onnx())))
}

fn half_constant(
    graph: &Graph,
    out: &mut Graph,
    stored: &mut BTreeMap<String, String>,
    input: &mut String,
) -> Result<()> {
    let Some(tensor) = graph.dense(input).filter(|t| t.dtype() == DType::F32) else { return Ok(()) };
    if let Some(name) = stored.get(input) {
        input.clone_from(name);
        return Ok(());
    }
    let half = halve(tensor).map_err(|e| e.at(format!("constant {input:?}")))?;
    let name = out.add_constant(&format!("{input}/half"), half);
    stored.insert(std::mem::replace(input, name.clone()), name);
    Ok(())
}

fn halve(tensor: &Tensor) -> Result<Tensor> {
    let values = tensor.f32s()?;
    if let Some(v) = values.iter().find(|v| v.is_finite() && v.abs() > 65504.0) {
        return Err(Error::unsupported(format!("{v:e} is beyond what a half float can hold (65504)")));
    }
    Tensor::new(tensor.shape(), values.iter().map(|&v| f16::from_f32(v)).collect::<Vec<_>>())
}

/// Types that a node names itself.
fn halve_attributes(node: &mut Node) -> Result<()> {
    let single = i64::from(DType::F32.onnx());
    for attr in node.attrs.values_mut() {
        match attr {
            Attr::Tensor(t) if t.dtype() == DType::F32 => *attr = Attr::Tensor(halve(t)?),
            Attr::Opaque { captures, .. } if !captures.is_empty() => {
                return Err(Error::unsupported(format!("node {:?} holds a graph of its own", node.name)));
            }
            _ => {}
        }
    }
    if node.is("Cast") && node.int("to", 0) == single {
        node.attrs.insert("to".into(), Attr::Int(i64::from(DType::F16.onnx())));
    }
    Ok(())
}
