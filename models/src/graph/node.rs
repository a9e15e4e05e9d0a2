//! One operator and its attributes.

use std::collections::BTreeMap;

use bytes::Bytes;
use tapetum_runtime::Tensor;

/// An attribute of a [`Node`].
#[derive(Clone, Debug, PartialEq)]
pub enum Attr {
    /// ONNX `INT`.
    Int(i64),
    /// ONNX `FLOAT`.
    Float(f32),
    /// ONNX `STRING`.
    Str(String),
    /// ONNX `INTS`.
    Ints(Vec<i64>),
    /// ONNX `FLOATS`.
    Floats(Vec<f32>),
    /// ONNX `STRINGS`.
    Strings(Vec<String>),
    /// ONNX `TENSOR`.
    Tensor(Tensor),
    /// Anything else (sub-graphs, sparse tensors, opaque element types), carried through as it came.
    Opaque {
        /// The encoded `AttributeProto`.
        raw: Bytes,
        /// Values of this graph that a sub-graph inside reads.
        captures: Vec<String>,
    },
}

/// One operator: reads `inputs`, writes `outputs`. An empty input name means that an optional input is left out.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Unique within the graph; shown by viewers and in reports.
    pub name: String,
    /// ONNX operator, for example `Conv`.
    pub op: String,
    /// Operator-set domain; empty for ONNX's own.
    pub domain: String,
    /// Values read.
    pub inputs: Vec<String>,
    /// Values written.
    pub outputs: Vec<String>,
    /// Attributes by name.
    pub attrs: BTreeMap<String, Attr>,
}

impl Node {
    /// A node of ONNX's own domain without attributes.
    pub fn new(op: &str, name: &str, inputs: &[&str], outputs: &[&str]) -> Self {
        Self {
            name: name.into(),
            op: op.into(),
            domain: String::new(),
            inputs: inputs.iter().map(|s| (*s).into()).collect(),
            outputs: outputs.iter().map(|s| (*s).into()).collect(),
            attrs: BTreeMap::new(),
        }
    }

    /// Adds an attribute.
    #[must_use]
    pub fn with(mut self, name: &str, attr: Attr) -> Self {
        self.attrs.insert(name.into(), attr);
        self
    }

    /// Whether this is ONNX's own operator `op`.
    pub fn is(&self, op: &str) -> bool {
        self.op == op && (self.domain.is_empty() || self.domain == "ai.onnx")
    }

    /// Input `i`, unless it is left out.
    pub fn input(&self, i: usize) -> Option<&str> {
        self.inputs.get(i).map(String::as_str).filter(|s| !s.is_empty())
    }

    /// The first output; every operator has one.
    pub fn output(&self) -> &str {
        self.outputs.first().map_or("", String::as_str)
    }

    /// Integer attribute, or `default` where it is absent.
    pub fn int(&self, name: &str, default: i64) -> i64 {
        if let Some(Attr::Int(v)) = self.attrs.get(name) { *v } else { default }
    }

    /// Float attribute, or `default` where it is absent.
    pub fn float(&self, name: &str, default: f32) -> f32 {
        if let Some(Attr::Float(v)) = self.attrs.get(name) { *v } else { default }
    }

    /// Integer-list attribute, if present.
    pub fn ints(&self, name: &str) -> Option<&[i64]> {
        if let Some(Attr::Ints(v)) = self.attrs.get(name) { Some(v) } else { None }
    }

    /// String attribute, if present.
    pub fn str(&self, name: &str) -> Option<&str> {
        if let Some(Attr::Str(v)) = self.attrs.get(name) { Some(v) } else { None }
    }

    /// Everything this node reads: its inputs and what its sub-graphs capture.
    pub fn reads(&self) -> impl Iterator<Item = &str> {
        let captured = self.attrs.values().flat_map(|a| match a {
            Attr::Opaque { captures, .. } => captures.as_slice(),
            _ => &[],
        });
        self.inputs.iter().chain(captured).map(String::as_str).filter(|s| !s.is_empty())
    }

    /// Whether a sub-graph inside this node reads `value` (such a value cannot be renamed).
    pub fn captures(&self, value: &str) -> bool {
        self.attrs
            .values()
            .any(|a| matches!(a, Attr::Opaque { captures, .. } if captures.iter().any(|c| c == value)))
    }
}
