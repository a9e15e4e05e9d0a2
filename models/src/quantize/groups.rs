//! Which values are quantized once the layers are chosen, and which of them share a scale.

use std::collections::{BTreeMap, BTreeSet};

use super::layers::Target;
use crate::graph::{Graph, Index, Node};

/// Operators that only move or choose elements: with one scale for all they touch, they run on the 8-bit values.
const SAME_SCALE: [&str; 9] = [
    "Concat",
    "MaxPool",
    "Reshape",
    "Flatten",
    "Squeeze",
    "Unsqueeze",
    "Transpose",
    "Slice",
    "GlobalMaxPool",
];

/// Operators that engines run on 8-bit inputs of different scales.
const OWN_SCALES: [&str; 3] = ["Add", "GlobalAveragePool", "AveragePool"];

/// The quantized values, each with the first of its group: values of one group share a scale.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Groups {
    leader: BTreeMap<String, String>,
}

impl Groups {
    /// What has to be quantized so that `layers` read and write 8-bit values.
    ///
    /// A layer that no other quantized layer depends on writes fp32: what comes after it (a softmax, boxes) is the
    /// network's answer and gains nothing.
    pub fn of(graph: &Graph, layers: &[&Target]) -> Self {
        let index = graph.index();
        let mut groups = Self::default();
        let mut reached = reaching(graph, layers);
        for layer in layers {
            groups.mark(&index, &layer.input);
            if reached.remove(layer.output.as_str()) {
                groups.mark(&index, &layer.output);
            }
        }
        groups
    }

    /// The quantized values.
    pub fn values(&self) -> impl Iterator<Item = &str> {
        self.leader.keys().map(String::as_str)
    }

    /// The name of the group that `value` is in.
    pub fn group(&self, value: &str) -> Option<&str> {
        let mut at = self.leader.get_key_value(value)?.1.as_str();
        while let Some(next) = self.leader.get(at).filter(|next| *next != at) {
            at = next;
        }
        Some(at)
    }

    fn mark(&mut self, index: &Index<'_>, value: &str) {
        if self.leader.contains_key(value) || index.graph().constants.contains_key(value) {
            return;
        }
        self.leader.insert(value.into(), value.into());
        let Some((_, node)) = index.producer(value) else { return };
        let data = data_inputs(index.graph(), node);
        if SAME_SCALE.iter().any(|op| node.is(op)) {
            for input in data {
                self.mark(index, input);
                self.unite(input, value);
            }
        } else if OWN_SCALES.iter().any(|op| node.is(op)) {
            data.into_iter().for_each(|input| self.mark(index, input));
        }
    }

    fn unite(&mut self, a: &str, b: &str) {
        let (a, b) = (self.group(a).map(str::to_owned), self.group(b).map(str::to_owned));
        if let (Some(a), Some(b)) = (a, b)
            && a != b
        {
            self.leader.insert(a.clone().max(b.clone()), a.min(b));
        }
    }
}

/// Inputs that are images or vectors, not shapes and axes.
fn data_inputs<'n>(graph: &Graph, node: &'n Node) -> Vec<&'n str> {
    let count = if node.is("Concat") || node.is("Add") { node.inputs.len() } else { 1 };
    let inputs = node.inputs.iter().take(count).map(String::as_str);
    inputs.filter(|i| !i.is_empty() && !graph.constants.contains_key(*i)).collect()
}

/// Values that some layer's input depends on.
fn reaching<'g>(graph: &'g Graph, layers: &'g [&Target]) -> BTreeSet<&'g str> {
    let mut wanted: BTreeSet<&str> = layers.iter().map(|l| l.input.as_str()).collect();
    for node in graph.nodes.iter().rev() {
        if node.outputs.iter().any(|o| wanted.contains(o.as_str())) {
            wanted.extend(node.reads());
        }
    }
    wanted
}
