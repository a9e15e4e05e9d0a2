//! The cases, read from the folder of a release.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use tapetum_models::graph::{Constant, Graph, Node, Value};
use tapetum_models::onnx;
use tapetum_runtime::{DType, Tensor};

/// One case.
pub struct Case {
    /// The folder's name without `test_`, and the opset: `sub_bcast@14`.
    pub name: String,
    /// Operators of its model.
    pub operators: BTreeSet<String>,
    graph: Graph,
    /// As published.
    bytes: Vec<u8>,
    /// Inputs and outputs that were recorded, at least one pair.
    pub data: Vec<(Vec<Tensor>, Vec<Tensor>)>,
}

/// What of a case is a constant in the model.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// Nothing: as published.
    Fed,
    /// All inputs but the first, as weights and target shapes are in our graphs.
    Weights,
    /// The first of two inputs that are alike: `c − x`.
    Left,
    /// As `Weights`, with neighbours that change nothing before and behind: engines treat a node within a graph in
    /// other ways than a lonely one.
    Inside,
}

impl Form {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Fed, Self::Weights, Self::Left, Self::Inside];

    /// As written in the files of deviations.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fed => "fed",
            Self::Weights => "weights",
            Self::Left => "left",
            Self::Inside => "inside",
        }
    }

    fn is_constant(self, at: usize) -> bool {
        match self {
            Self::Fed => false,
            Self::Weights | Self::Inside => at > 0,
            Self::Left => at == 0,
        }
    }
}

/// How many cases were left out, by reason.
pub type Left = BTreeMap<&'static str, usize>;

/// Reads the cases below `folder/<release>` whose models use nothing but `operators`.
///
/// # Panics
/// If there are none, or one is damaged: the suite cannot mean anything then.
pub fn read(folder: &Path, operators: &BTreeSet<String>) -> (Vec<Case>, Left) {
    let (mut cases, mut left, mut seen) = (Vec::new(), Left::new(), BTreeSet::new());
    for path in subfolders(folder).iter().flat_map(|release| subfolders(release)) {
        match case(&path, operators) {
            // The later release repeats what did not change.
            Ok(case) if seen.insert(case.name.clone()) => cases.push(case),
            Ok(_) => {}
            Err(why) => *left.entry(why).or_default() += 1,
        }
    }
    assert!(!cases.is_empty(), "no cases in {}", folder.display());
    (cases, left)
}

fn subfolders(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<PathBuf> =
        entries.map(|e| e.expect("an entry").path()).filter(|p| p.is_dir()).collect();
    paths.sort();
    paths
}

/// Double and half floats are not what our graphs compute in.
fn is_ours(dtype: DType) -> bool {
    !matches!(dtype, DType::F64 | DType::F16 | DType::BF16)
}

fn case(path: &Path, operators: &BTreeSet<String>) -> Result<Case, &'static str> {
    let bytes = std::fs::read(path.join("model.onnx")).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let graph = onnx::read(bytes.clone().into()).map_err(|_| "sequences, maps, strings, functions")?;
    let own: BTreeSet<String> = graph.nodes.iter().map(|n| n.op.clone()).collect();
    if !own.is_subset(operators) || graph.nodes.iter().any(|n| !n.domain.is_empty()) {
        return Err("other operators");
    }
    if !graph.inputs.iter().chain(&graph.outputs).all(|v| is_ours(v.dtype)) {
        return Err("other element types");
    }
    let mut data = Vec::new();
    while let set = path.join(format!("test_data_set_{}", data.len()))
        && set.is_dir()
    {
        data.push((tensors(&set, "input", graph.inputs.len()), tensors(&set, "output", graph.outputs.len())));
    }
    assert!(!data.is_empty(), "{} has no data", path.display());
    let name = path.file_name().expect("a name").to_string_lossy();
    let name = format!("{}@{}", name.trim_start_matches("test_"), graph.opset());
    Ok(Case { name, operators: own, graph, bytes, data })
}

fn tensors(set: &Path, role: &str, count: usize) -> Vec<Tensor> {
    let read = |n: usize| {
        let path = set.join(format!("{role}_{n}.pb"));
        let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        onnx::read_tensor(bytes.into()).unwrap_or_else(|e| panic!("{}: {e}", path.display())).1
    };
    (0..count).map(read).collect()
}

impl Case {
    /// Whether `form` says something that another one does not.
    pub fn has(&self, form: Form) -> bool {
        match form {
            Form::Fed => true,
            Form::Weights => self.graph.inputs.len() > 1,
            Form::Left => match self.graph.inputs.as_slice() {
                [left, right] => left.dtype == right.dtype,
                _ => false,
            },
            // `Neg` as it is since opset 6.
            Form::Inside => self.graph.opset() >= 6 && made_floats(&self.graph).next().is_some(),
        }
    }

    /// The model in `form`, with the constants of data set `set`, and the inputs that are left to be fed.
    ///
    /// # Panics
    /// If our writer fails.
    pub fn model(&self, form: Form, set: usize) -> (Vec<u8>, Vec<Tensor>) {
        if form == Form::Fed {
            return (self.bytes.clone(), self.data[set].0.clone());
        }
        let (mut graph, fed) = self.graph(set, |at| form.is_constant(at));
        if form == Form::Inside {
            surround(&mut graph);
        }
        let mut bytes = Vec::new();
        onnx::write(&graph, &mut bytes).unwrap_or_else(|e| panic!("{}: {e}", self.name));
        (bytes, fed)
    }

    /// The graph with the inputs of data set `set` that `is_constant` picks as constants, and the other inputs.
    fn graph(&self, set: usize, is_constant: impl Fn(usize) -> bool) -> (Graph, Vec<Tensor>) {
        let inputs = &self.data[set].0;
        let mut graph = self.graph.clone();
        let (mut fed, mut ports) = (Vec::new(), Vec::new());
        for (at, (port, value)) in std::mem::take(&mut graph.inputs).into_iter().zip(inputs).enumerate() {
            if is_constant(at) {
                graph.constants.insert(port.name, Constant::Dense(Arc::new(value.clone())));
            } else {
                ports.push(port);
                fed.push(value.clone());
            }
        }
        graph.inputs = ports;
        (graph, fed)
    }

    /// The graph with every input of data set `set` as a constant and neighbours behind, for what folds it.
    pub fn all_constant(&self, set: usize) -> Graph {
        let (mut graph, _) = self.graph(set, |_| true);
        surround(&mut graph);
        graph
    }
}

/// The outputs of floats that a node makes; others are constants.
fn made_floats(graph: &Graph) -> impl Iterator<Item = &Value> {
    let made = |v: &&Value| graph.nodes.iter().any(|n| n.outputs.contains(&v.name));
    graph.outputs.iter().filter(|v| v.dtype == DType::F32).filter(made)
}

/// Puts −(−x) before every input and behind every output of floats; that is exact.
fn surround(graph: &mut Graph) {
    let floats = graph.inputs.iter().filter(|v| v.dtype == DType::F32);
    let inputs: Vec<String> = floats.map(|v| v.name.clone()).collect();
    for name in inputs {
        let inner = format!("{name}/inner");
        for node in &mut graph.nodes {
            node.inputs.iter_mut().filter(|i| **i == name).for_each(|i| i.clone_from(&inner));
        }
        graph.nodes.splice(0..0, twice_negated(&name, &inner));
    }
    let outputs: Vec<String> = made_floats(graph).map(|v| v.name.clone()).collect();
    for name in outputs {
        let inner = format!("{name}/made");
        for node in &mut graph.nodes {
            let names = node.inputs.iter_mut().chain(&mut node.outputs);
            names.filter(|n| **n == name).for_each(|n| n.clone_from(&inner));
        }
        graph.nodes.extend(twice_negated(&inner, &name));
    }
}

fn twice_negated(from: &str, to: &str) -> [Node; 2] {
    let (negative, name) = (format!("{to}/negative"), format!("{to}/negate"));
    let first = Node::new("Neg", &name, &[from], &[&negative]);
    [first, Node::new("Neg", &format!("{name} back"), &[&negative], &[to])]
}
