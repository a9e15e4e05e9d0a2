//! The graph itself and its invariants.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use tapetum_runtime::{DType, Error, Result, Tensor};

use super::{Index, Node};

/// One extent of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dim {
    /// Known.
    Fixed(usize),
    /// Known by name or formula only; equal text means equal extent.
    Symbol(String),
    /// Not known.
    Unknown,
}

/// Longest symbol, in bytes.
const LONGEST: usize = 256;

impl Dim {
    /// A symbolic extent; [`Dim::Unknown`] beyond 256 bytes: a formula that doubles with every node must not fill the memory.
    pub fn symbol(name: impl Into<String>) -> Self {
        let name = name.into();
        if name.len() > LONGEST { Self::Unknown } else { Self::Symbol(name) }
    }

    /// The number, if it is one.
    pub fn fixed(&self) -> Option<usize> {
        if let Self::Fixed(n) = self { Some(*n) } else { None }
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(n) => write!(f, "{n}"),
            Self::Symbol(s) => f.write_str(s),
            Self::Unknown => f.write_str("?"),
        }
    }
}

/// A graph input or output.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// Name in the graph.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Extents.
    pub dims: Vec<Dim>,
}

/// A stored tensor (ONNX initializer).
#[derive(Clone, Debug, PartialEq)]
pub enum Constant {
    /// Numbers that rules may read.
    Dense(Arc<Tensor>),
    /// An element type Tapetum does not compute with (strings, 4- and 8-bit floats): carried through.
    Opaque {
        /// The encoded `TensorProto`.
        raw: Bytes,
        /// Its extents.
        shape: Vec<usize>,
    },
}

impl Constant {
    /// The extents.
    pub fn shape(&self) -> &[usize] {
        match self {
            Self::Dense(t) => t.shape(),
            Self::Opaque { shape, .. } => shape,
        }
    }
}

/// A network: nodes in topological order over named values.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    /// Shown by viewers.
    pub name: String,
    /// Operator-set versions by domain; the empty domain is ONNX's own.
    pub opsets: BTreeMap<String, i64>,
    /// Values fed from outside.
    pub inputs: Vec<Value>,
    /// Values given back.
    pub outputs: Vec<Value>,
    /// Operators in topological order.
    pub nodes: Vec<Node>,
    /// Stored tensors by value name.
    pub constants: BTreeMap<String, Constant>,
    /// Constants that folds hold in `f64` for now; [`Graph::round_widened`] rounds each once.
    pub widened: BTreeSet<String>,
    /// `metadata_props` of the file.
    pub metadata: BTreeMap<String, String>,
}

impl Graph {
    /// The version of ONNX's own operator set.
    pub fn opset(&self) -> i64 {
        self.opsets.get("").copied().unwrap_or(0)
    }

    /// The stored numbers called `name`.
    pub fn dense(&self, name: &str) -> Option<&Arc<Tensor>> {
        match self.constants.get(name) {
            Some(Constant::Dense(t)) => Some(t),
            _ => None,
        }
    }

    /// The floating-point numbers called `name`, widened to `f64`, with their shape.
    pub fn dense_f64(&self, name: &str) -> Option<(Vec<usize>, Vec<f64>)> {
        let tensor = self.dense(name)?;
        Some((tensor.shape().to_vec(), tensor.to_f64()?))
    }

    /// Stores `tensor` under `name`, or under a numbered variant of it if that is taken; returns the name used.
    pub fn add_constant(&mut self, name: &str, tensor: Tensor) -> String {
        let taken = |n: &str| {
            self.constants.contains_key(n)
                || self.inputs.iter().any(|v| v.name == n)
                || self.nodes.iter().any(|node| node.outputs.iter().any(|o| o == n))
        };
        let mut unique = name.to_owned();
        let mut n = 1;
        while taken(&unique) {
            n += 1;
            unique = format!("{name}.{n}");
        }
        self.constants.insert(unique.clone(), Constant::Dense(Arc::new(tensor)));
        unique
    }

    /// Stores the result of a fold in `f64`; it is rounded to `f32` once, after the last fold.
    pub fn add_widened(&mut self, name: &str, tensor: Tensor) -> String {
        let name = self.add_constant(name, tensor);
        self.widened.insert(name.clone());
        name
    }

    /// Rounds every constant that folds left in `f64` to `f32`.
    pub fn round_widened(&mut self) {
        for name in std::mem::take(&mut self.widened) {
            if let Some(Constant::Dense(tensor)) = self.constants.remove(&name) {
                let tensor = Arc::try_unwrap(tensor).unwrap_or_else(|shared| (*shared).clone());
                let rounded = tensor.clone().into_f32().unwrap_or(tensor);
                self.constants.insert(name, Constant::Dense(Arc::new(rounded)));
            }
        }
    }

    /// Whether `value` is one of the graph's outputs.
    pub fn is_output(&self, value: &str) -> bool {
        self.outputs.iter().any(|v| v.name == value)
    }

    /// Makes every reader of `from` read `to` instead. Sub-graph captures and graph outputs are not changed.
    pub fn replace_uses(&mut self, from: &str, to: &str) {
        for input in self.nodes.iter_mut().flat_map(|n| &mut n.inputs) {
            if input == from {
                to.clone_into(input);
            }
        }
    }

    /// Drops nodes whose results nobody reads, and constants that no node reads. Returns how many nodes went.
    pub fn remove_dead(&mut self) -> usize {
        let mut live: BTreeSet<String> = self.outputs.iter().map(|v| v.name.clone()).collect();
        let mut kept = Vec::with_capacity(self.nodes.len());
        let before = self.nodes.len();
        for node in std::mem::take(&mut self.nodes).into_iter().rev() {
            if node.outputs.iter().any(|o| live.contains(o)) {
                live.extend(node.reads().map(str::to_owned));
                kept.push(node);
            }
        }
        kept.reverse();
        self.nodes = kept;
        self.constants.retain(|name, _| live.contains(name));
        self.widened.retain(|name| live.contains(name));
        before - self.nodes.len()
    }

    /// Number of learned values: every stored floating-point element that is not a shape or an index.
    /// BatchNorm's running statistics are not counted (as PyTorch counts parameters).
    pub fn parameters(&self) -> u64 {
        let statistics: BTreeSet<&str> = self
            .nodes
            .iter()
            .filter(|n| n.is("BatchNormalization"))
            .flat_map(|n| [n.input(3), n.input(4)])
            .flatten()
            .collect();
        let float = |t: &Tensor| matches!(t.dtype(), DType::F32 | DType::F64 | DType::F16 | DType::BF16);
        let learned = |name: &str, t: &Tensor| {
            float(t) && !statistics.contains(name) && !name.starts_with(HELPER_PREFIX)
        };
        self.constants
            .iter()
            .filter_map(|(name, c)| match c {
                Constant::Dense(t) if learned(name, t) => Some(t.len() as u64),
                _ => None,
            })
            .sum()
    }

    /// Checks the invariants: unique names, one producer per value, everything read exists and comes first.
    ///
    /// # Errors
    /// [`tapetum_runtime::ErrorKind::Internal`] naming the node and the value.
    pub fn check(&self) -> Result<()> {
        let mut known: BTreeSet<&str> = self.constants.keys().map(String::as_str).collect();
        known.extend(self.inputs.iter().map(|v| v.name.as_str()));
        let mut names = BTreeSet::new();
        for node in &self.nodes {
            if !names.insert(node.name.as_str()) {
                return Err(Error::internal(format!("two nodes are called {:?}", node.name)));
            }
            if let Some(missing) = node.reads().find(|v| !known.contains(v)) {
                let message =
                    format!("node {:?} ({}) reads {missing:?} before anything makes it", node.name, node.op);
                return Err(Error::internal(message));
            }
            for output in node.outputs.iter().filter(|o| !o.is_empty()) {
                if !known.insert(output) {
                    return Err(Error::internal(format!(
                        "{output:?} is made twice, again by node {:?}",
                        node.name
                    )));
                }
            }
        }
        match self.outputs.iter().find(|v| !known.contains(v.name.as_str())) {
            None => Ok(()),
            Some(v) => Err(Error::internal(format!("nothing makes the graph output {:?}", v.name))),
        }
    }

    /// Who makes and who reads each value, for rules.
    pub fn index(&self) -> Index<'_> {
        Index::new(self)
    }
}

/// Prefix of constants that belong to the graph's arithmetic (shapes, masks, matrices) and were not learned.
pub const HELPER_PREFIX: &str = "const/";
