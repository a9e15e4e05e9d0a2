//! What a file holds, for people.

use std::collections::BTreeMap;
use std::path::Path;

use tapetum_runtime::contract::{Contract, METADATA_KEY};
use tapetum_runtime::{DType, Error, Result};

use crate::checkpoint::{self, Limits, Origin};
use crate::cost::{Cost, cost};
use crate::fuse::environment;
use crate::graph::{Dim, Graph, Value};
use crate::open::recognise;
use crate::zoo::{Description, Weights};
use crate::{fold, onnx};

/// Either kind of file.
pub enum View {
    /// A training checkpoint.
    Checkpoint(Box<CheckpointView>),
    /// An ONNX model.
    Model(Box<ModelView>),
}

/// What a checkpoint holds.
pub struct CheckpointView {
    /// Container, wrapper, digest.
    pub origin: Origin,
    /// Every tensor: name, element type, shape.
    pub tensors: Vec<(String, DType, Vec<usize>)>,
    /// The network, or why it was not recognised.
    pub network: std::result::Result<NetworkView, Error>,
}

/// A recognised network before and after its folds.
pub struct NetworkView {
    /// What it is.
    pub description: Description,
    /// Learned values (as read, deployed).
    pub parameters: [u64; 2],
    /// Multiply-accumulates (as read, deployed) at `input_shape`.
    pub costs: [Cost; 2],
    /// The network's default input.
    pub input_shape: Vec<usize>,
    /// Folds by rule.
    pub folds: BTreeMap<&'static str, usize>,
}

/// What a model holds.
pub struct ModelView {
    /// The graph.
    pub graph: Graph,
    /// The contract in its metadata: none, or unreadable with the reason.
    pub contract: Option<std::result::Result<Contract, Error>>,
    /// Number of nodes by operator.
    pub operators: BTreeMap<String, usize>,
    /// Multiply-accumulates at `input_shapes`.
    pub cost: Cost,
    /// The inputs' extents, open ones taken as the contract's proof or as 1.
    pub input_shapes: Vec<Vec<usize>>,
    /// Bytes of the file.
    pub bytes: u64,
}

/// Looks into `path`.
///
/// # Errors
/// [`tapetum_runtime::ErrorKind::BadFile`] if it is neither; a checkpoint of an unknown network is shown all the same.
pub fn inspect(path: &Path) -> Result<View> {
    let first = crate::open::first_bytes(path)?;
    if checkpoint::is_checkpoint(&first) {
        return Ok(View::Checkpoint(Box::new(checkpoint_view(path)?)));
    }
    let bytes = std::fs::read(path).map_err(|e| environment(path, &e))?;
    let size = bytes.len() as u64;
    let graph = onnx::read(bytes.into()).map_err(|e| e.at(path.display()))?;
    let contract = graph.metadata.get(METADATA_KEY).map(|json| Contract::from_json(json));
    let mut operators = BTreeMap::new();
    for node in &graph.nodes {
        *operators.entry(node.op.clone()).or_insert(0) += 1;
    }
    let proof = contract.as_ref().and_then(|c| c.as_ref().ok()?.proof.as_ref());
    let input_shapes: Vec<_> =
        graph.inputs.iter().map(|v| closed(v, proof.map(|p| p.input_shape.as_slice()))).collect();
    let cost = cost(&graph, &input_shapes);
    Ok(View::Model(Box::new(ModelView { graph, contract, operators, cost, input_shapes, bytes: size })))
}

fn closed(value: &Value, proof: Option<&[usize]>) -> Vec<usize> {
    let at = |(i, d): (usize, &Dim)| d.fixed().or_else(|| proof?.get(i).copied()).unwrap_or(1);
    value.dims.iter().enumerate().map(at).collect()
}

fn checkpoint_view(path: &Path) -> Result<CheckpointView> {
    let (state, origin) = checkpoint::open(path, &Limits::default())?;
    let tensors = state
        .names()
        .filter_map(|n| state.get(n).map(|t| (n.to_owned(), t.dtype(), t.shape().to_vec())))
        .collect();
    let network = recognise(&state, None).and_then(|network| {
        let mut weights = Weights::Checkpoint(state);
        let mut graph = network.build(&mut weights, network.default_size())?;
        weights.finish()?;
        let rule = network.size_rule();
        let shape = crate::open::proof_shape(network.default_size(), &rule);
        let before = (graph.parameters(), cost(&graph, std::slice::from_ref(&shape)));
        let report = fold::fold_all(&mut graph)?;
        Ok(NetworkView {
            description: network.description(),
            parameters: [before.0, graph.parameters()],
            costs: [before.1, cost(&graph, std::slice::from_ref(&shape))],
            input_shape: shape,
            folds: report.counts(),
        })
    });
    Ok(CheckpointView { origin, tensors, network })
}
