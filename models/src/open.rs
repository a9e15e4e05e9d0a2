//! Either entrance: a training checkpoint or an ONNX file, opened as a graph with its contract.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use tapetum_runtime::backend::Port;
use tapetum_runtime::contract::{self, Container, Contract, METADATA_KEY, Source};
use tapetum_runtime::{DType, Error, Result};

use crate::checkpoint::{self, Format, Limits, StateDict};
use crate::fuse::{FuseOptions, environment};
use crate::graph::{Dim, Graph, Value};
use crate::zoo::{self, Description, Form, InputSize, Network, SizeRule, Weights};
use crate::{onnx, transform};

/// A network, ready to be folded.
pub struct Opened {
    /// In the form the file holds.
    pub graph: Graph,
    /// What it is.
    pub description: Description,
    /// The default contract, with the source filled in.
    pub contract: Contract,
    /// Shapes of the inputs that a proof runs on.
    pub proof_shapes: Vec<Vec<usize>>,
}

/// Opens `path`, by content and not by name.
///
/// # Errors
/// [`tapetum_runtime::ErrorKind::BadFile`] naming the file and the tensor; `InvalidConfig` for options that do not fit.
pub fn open(path: &Path, options: &FuseOptions) -> Result<Opened> {
    let opened = if checkpoint::is_checkpoint(&first_bytes(path)?) {
        open_checkpoint(path, options)
    } else {
        open_onnx(path, options)
    };
    opened
        .map_err(|e| if e.to_string().contains(&*path.to_string_lossy()) { e } else { e.at(path.display()) })
}

/// The start of a file, enough to tell formats apart.
pub(crate) fn first_bytes(path: &Path) -> Result<Vec<u8>> {
    let mut first = Vec::new();
    let file = std::fs::File::open(path).map_err(|e| environment(path, &e))?;
    file.take(64).read_to_end(&mut first).map_err(|e| environment(path, &e))?;
    Ok(first)
}

fn open_checkpoint(path: &Path, options: &FuseOptions) -> Result<Opened> {
    let (state, origin) = checkpoint::open(path, &Limits::default())?;
    let (state, transforms) = transformed(state, options)?;
    let network = recognise(&state, options.arch.as_deref())?;
    let (description, rule) = (network.description(), network.size_rule());
    let size = options.size.unwrap_or_else(|| network.default_size());
    let mut weights = Weights::Checkpoint(state);
    let mut graph = network.build(&mut weights, size)?;
    weights.finish()?;
    graph.name = format!("{} {}", description.network, description.variant);
    let ports = network.contract(size);
    let container = match origin.format {
        Format::TorchZip => Container::PytorchZip,
        Format::TorchLegacy => Container::PytorchLegacy,
        Format::Safetensors => Container::Safetensors,
    };
    let contract = Contract {
        version: contract::VERSION,
        network: contract::Network {
            name: description.network.to_owned(),
            variant: Some(description.variant.clone()).filter(|v| !v.is_empty()),
            form: contract::Form::Deployment,
        },
        input: ports.input,
        outputs: ports.outputs,
        source: Some(source(path, origin.sha256, container, description.form)),
        folds: transforms,
        proof: None,
        working_set: None,
        quantization: None,
        golden: None,
    };
    Ok(Opened { graph, description, contract, proof_shapes: vec![proof_shape(size, &rule)] })
}

/// The tensors after the transforms that the user asked for, and how often each was applied.
fn transformed(state: StateDict, options: &FuseOptions) -> Result<(StateDict, BTreeMap<String, usize>)> {
    let mut done = BTreeMap::new();
    if options.lora.is_none() && !options.average_experts {
        return Ok((state, done));
    }
    let mut tensors = state.into_tensors();
    if let Some(adapter) = &options.lora {
        let (deltas, origin) = checkpoint::open(adapter, &Limits::default())?;
        let alpha = transform::lora::alpha_of(&origin.metadata)?.or(options.lora_alpha);
        let merged = transform::lora::merge(&mut tensors, &deltas.into_tensors(), alpha)
            .map_err(|e| e.at(adapter.display()))?;
        done.insert("lora_merge".to_owned(), merged.len());
    }
    if options.average_experts {
        let averaged = transform::ewa::average_experts(&mut tensors)?;
        if averaged.is_empty() {
            let message = "--average-experts: the checkpoint has no experts (no names like x.experts.0.y)";
            return Err(Error::config(message));
        }
        done.insert("expert_averaging".to_owned(), averaged.len());
    }
    Ok((StateDict::new(tensors), done))
}

/// The network whose names and shapes these are.
///
/// # Errors
/// `BadFile` if no family knows the names, `InvalidConfig` for an unknown `arch`.
pub fn recognise(state: &StateDict, arch: Option<&str>) -> Result<Box<dyn Network>> {
    let known = || zoo::FAMILIES.iter().map(|f| f.name()).collect::<Vec<_>>().join(", ");
    if let Some(arch) = arch
        && !zoo::FAMILIES.iter().any(|f| f.name() == arch)
    {
        return Err(Error::config(format!("unknown architecture {arch:?}; known are {}", known())));
    }
    for family in zoo::FAMILIES.iter().filter(|f| arch.is_none_or(|a| a == f.name())) {
        if let Some(network) = family.recognise(state)? {
            return Ok(network);
        }
    }
    let some: Vec<&str> = state.names().take(4).collect();
    Err(Error::bad_file(format!(
        "no known network has these {} tensors (the first are {some:?}); known are {}",
        state.names().count(),
        known()
    )))
}

/// A small input that every network of this rule takes: not square, so that swapped axes are seen.
pub(crate) fn proof_shape(size: InputSize, rule: &SizeRule) -> Vec<usize> {
    let (height, width) = match size {
        InputSize::Fixed { height, width } => (height, width),
        InputSize::Dynamic => {
            let m = rule.dynamic_multiple.max(1);
            let height = rule.min.max(64).next_multiple_of(m);
            (height, height + m.max(32).next_multiple_of(m))
        }
    };
    vec![1, 3, height, width]
}

fn open_onnx(path: &Path, options: &FuseOptions) -> Result<Opened> {
    let for_checkpoints = [
        ("--arch", options.arch.is_some()),
        ("--lora", options.lora.is_some()),
        ("--average-experts", options.average_experts),
    ];
    if let Some((flag, _)) = for_checkpoints.iter().find(|(_, given)| *given) {
        return Err(Error::config(format!("{flag} is for checkpoints; an ONNX file already is a graph")));
    }
    let bytes = std::fs::read(path).map_err(|e| environment(path, &e))?;
    let sha256 = sha256_hex(&bytes);
    let mut graph = onnx::read(bytes.into())?;
    let proof_shapes =
        graph.inputs.iter().map(|v| onnx_shape(v, options.size)).collect::<Result<Vec<_>>>()?;
    if proof_shapes.is_empty() {
        return Err(Error::unsupported("the model has no inputs, so there is nothing to prove"));
    }
    if let Some(InputSize::Fixed { height, width }) = options.size {
        for value in graph.inputs.iter_mut().filter(|v| v.dims.len() == 4) {
            value.dims[2] = Dim::Fixed(height);
            value.dims[3] = Dim::Fixed(width);
        }
    }
    let form = if graph.nodes.iter().any(|n| n.is("BatchNormalization")) {
        Form::Training
    } else {
        Form::Deployment
    };
    let producer = if graph.name.is_empty() { "onnx".to_owned() } else { graph.name.clone() };
    let details = vec![("opset", graph.opset().to_string()), ("nodes", graph.nodes.len().to_string())];
    let description = Description { network: "onnx", variant: producer, form, details };
    let mut contract = match graph.metadata.get(METADATA_KEY) {
        Some(json) => Contract::from_json(json)?,
        None => Contract::of_ports(&ports(&graph.inputs), &ports(&graph.outputs))?,
    };
    contract.source = Some(source(path, sha256, Container::Onnx, form));
    Ok(Opened { graph, description, contract, proof_shapes })
}

/// The record of where a model came from.
fn source(path: &Path, sha256: String, container: Container, form: Form) -> Source {
    let form = match form {
        Form::Training => contract::Form::Training,
        Form::Deployment => contract::Form::Deployment,
    };
    let file = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    Source { file, sha256, container, form }
}

pub(crate) fn ports(values: &[Value]) -> Vec<Port> {
    let port = |v: &Value| Port {
        name: v.name.clone(),
        dtype: v.dtype,
        shape: v.dims.iter().map(Dim::fixed).collect(),
    };
    values.iter().map(port).collect()
}

/// What a proof feeds to an input of a foreign model: its own extents, 1 for an open batch, `size` for open extents.
fn onnx_shape(value: &Value, size: Option<InputSize>) -> Result<Vec<usize>> {
    if value.dtype != DType::F32 {
        let message = format!(
            "input {:?} is {}; a proof can only make f32 inputs up, whatever the others mean",
            value.name,
            value.dtype.name()
        );
        return Err(Error::unsupported(message));
    }
    let asked = match size {
        Some(InputSize::Fixed { height, width }) => Some([height, width]),
        _ => None,
    };
    let extent = |(i, d): (usize, &Dim)| match (d, i, asked) {
        (_, 2 | 3, Some(asked)) if value.dims.len() == 4 => Ok(asked[i - 2]),
        (Dim::Fixed(n), ..) => Ok(*n),
        (_, 0, _) => Ok(1),
        _ => Err(Error::config(format!(
            "input {:?} leaves extent {i} open ({d}); choose a size for the proof with --input HxW",
            value.name
        ))),
    };
    value.dims.iter().enumerate().map(extent).collect()
}

pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}
