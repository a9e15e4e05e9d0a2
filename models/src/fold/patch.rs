//! What a rule proposes, and how a batch of proposals is carried out.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use tapetum_runtime::Tensor;

use crate::graph::{Constant, Graph, Index, Node};

/// Why a pattern that is nearly a rule's stays as it is; one line for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal(String);

impl Refusal {
    /// Because of `reason`.
    #[cold]
    pub fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A change of the graph: nodes that go, nodes and constants that come, values that others stand in for.
///
/// New nodes take the place of the last removed one, so everything that the removed nodes read is there for them. A new
/// node that writes the removed nodes' last value keeps that name, and with it graph outputs and sub-graph captures.
#[derive(Debug, Default)]
pub struct Patch {
    pub(super) remove: Vec<usize>,
    pub(super) insert: Vec<Node>,
    pub(super) constants: Vec<NewConstant>,
    pub(super) replace: Vec<(String, String)>,
}

#[derive(Debug)]
pub(super) struct NewConstant {
    wanted: String,
    pub(super) tensor: Tensor,
    widened: bool,
}

impl Patch {
    /// A patch that removes the nodes at these positions.
    pub fn removing(nodes: impl Into<Vec<usize>>) -> Self {
        Self { remove: nodes.into(), ..Self::default() }
    }

    /// Adds a result of `f64` arithmetic, to be rounded to `f32` after the last fold. Returns the name under which
    /// this patch's nodes read it; its final name is `wanted` or a numbered variant.
    ///
    /// # Errors
    /// A [`Refusal`] if a number is not finite in `f32`.
    pub fn widened(&mut self, wanted: &str, shape: &[usize], values: Vec<f64>) -> Result<String, Refusal> {
        if let Some(bad) = values.iter().find(|v| !(**v as f32).is_finite()) {
            return Err(Refusal::new(format!("{wanted} would hold {bad:e}, which f32 cannot")));
        }
        let tensor = Tensor::new(shape, values).map_err(|e| Refusal::new(e.to_string()))?;
        Ok(self.store(wanted, tensor, true))
    }

    /// Adds a constant that is stored as it is; returns its name as [`Patch::widened`] does.
    pub fn constant(&mut self, wanted: &str, tensor: Tensor) -> String {
        self.store(wanted, tensor, false)
    }

    fn store(&mut self, wanted: &str, tensor: Tensor, widened: bool) -> String {
        self.constants.push(NewConstant { wanted: wanted.into(), tensor, widened });
        placeholder(self.constants.len() - 1)
    }

    /// Adds a node; its name is made unique.
    #[must_use]
    pub fn with_node(mut self, node: Node) -> Self {
        self.insert.push(node);
        self
    }

    /// Makes readers of the removed value `from` read `to`. Not where a sub-graph captures `from`, nor where `from` is a
    /// graph output and no node could write `to` under that name.
    #[must_use]
    pub fn with_replacement(mut self, from: &str, to: &str) -> Self {
        self.replace.push((from.into(), to.into()));
        self
    }

    /// The shape of the constant that this patch's nodes or the graph call `name`.
    pub(super) fn constant_shape<'a>(&'a self, graph: &'a Graph, name: &str) -> Option<&'a [usize]> {
        match name.strip_prefix('\0') {
            Some(n) => self.constants.get(n.parse::<usize>().ok()?).map(|c| c.tensor.shape()),
            None => graph.constants.get(name).map(|c| c.shape()),
        }
    }
}

/// Constants of a patch are called this until they are stored; no name in a file begins so (protobuf allows it, but
/// [`crate::graph::Graph::check`] would then find the reader of a missing value).
fn placeholder(n: usize) -> String {
    format!("\0{n}")
}

/// Whether readers of `from` can read `to` instead: no sub-graph captures `from`, and if `from` is a graph output,
/// the node that makes `to` can write `from` directly.
pub(super) fn can_replace(index: &Index<'_>, from: &str, to: &str) -> bool {
    let captured = |v: &str| index.readers(v).iter().any(|&at| index.graph().nodes[at].captures(v));
    if captured(from) {
        return false;
    }
    !index.graph().is_output(from)
        || (index.producer(to).is_some() && !index.graph().is_output(to) && !captured(to))
}

/// Carries out patches whose removed nodes are disjoint.
pub(super) fn apply(graph: &mut Graph, patches: Vec<Patch>) {
    let mut removed = vec![false; graph.nodes.len()];
    patches.iter().flat_map(|p| &p.remove).for_each(|&at| removed[at] = true);
    // Names of constants that nobody will read any more become free for the new ones.
    for name in unread_constants(graph, &patches, &removed) {
        graph.constants.remove(&name);
        graph.widened.remove(&name);
    }
    let mut names: HashSet<String> =
        graph.nodes.iter().zip(&removed).filter(|(_, gone)| !**gone).map(|(n, _)| n.name.clone()).collect();
    let mut renamed: HashMap<String, String> = HashMap::new();
    let mut placed: HashMap<usize, Vec<Node>> = HashMap::new();
    for mut patch in patches {
        let mut stored = Vec::with_capacity(patch.constants.len());
        for (n, constant) in patch.constants.into_iter().enumerate() {
            // A constant that stands in for a value of its own name takes that name: nothing else has to change.
            let instead =
                patch.replace.iter().position(|(from, to)| *to == placeholder(n) && *from == constant.wanted);
            stored.push(match instead {
                Some(at) => put(graph, patch.replace.swap_remove(at).0, constant),
                None => store(graph, constant),
            });
        }
        let real = |name: &mut String| {
            let n = name.strip_prefix('\0').and_then(|n| n.parse::<usize>().ok());
            if let Some(stored) = n.and_then(|n| stored.get(n)) {
                name.clone_from(stored);
            }
        };
        for (from, mut to) in patch.replace {
            real(&mut to);
            // A graph output keeps its name: the node that makes `to` writes `from` directly.
            let (old, new) = if graph.is_output(&from) { (to, from) } else { (from, to) };
            renamed.insert(old, new);
        }
        let Some(&place) = patch.remove.iter().max() else { continue };
        for mut node in patch.insert {
            node.inputs.iter_mut().for_each(real);
            node.name = unique(&names, &node.name);
            names.insert(node.name.clone());
            placed.entry(place).or_default().push(node);
        }
    }
    let resolve = |name: &mut String| {
        while let Some(to) = renamed.get(name) {
            name.clone_from(to);
        }
    };
    let before = std::mem::take(&mut graph.nodes);
    for (at, mut node) in before.into_iter().enumerate() {
        if !removed[at] {
            node.inputs.iter_mut().chain(&mut node.outputs).for_each(resolve);
            graph.nodes.push(node);
        }
        for mut node in placed.remove(&at).unwrap_or_default() {
            node.inputs.iter_mut().chain(&mut node.outputs).for_each(resolve);
            graph.nodes.push(node);
        }
    }
}

fn store(graph: &mut Graph, constant: NewConstant) -> String {
    if constant.widened {
        graph.add_widened(&constant.wanted, constant.tensor)
    } else {
        graph.add_constant(&constant.wanted, constant.tensor)
    }
}

fn put(graph: &mut Graph, name: String, constant: NewConstant) -> String {
    if constant.widened {
        graph.widened.insert(name.clone());
    }
    graph.constants.insert(name.clone(), Constant::Dense(Arc::new(constant.tensor)));
    name
}

fn unique(names: &HashSet<String>, wanted: &str) -> String {
    let numbered = |n: usize| if n == 1 { wanted.to_owned() } else { format!("{wanted}.{n}") };
    let mut n = 1;
    while names.contains(&numbered(n)) {
        n += 1;
    }
    numbered(n)
}

fn unread_constants(graph: &Graph, patches: &[Patch], removed: &[bool]) -> BTreeSet<String> {
    let gone = graph.nodes.iter().zip(removed).filter(|(_, gone)| **gone);
    let mut unread: BTreeSet<String> = gone
        .flat_map(|(n, _)| n.reads())
        .filter(|name| graph.constants.contains_key(*name))
        .map(str::to_owned)
        .collect();
    let stay = graph.nodes.iter().zip(removed).filter(|(_, gone)| !**gone).map(|(n, _)| n);
    for name in stay.chain(patches.iter().flat_map(|p| &p.insert)).flat_map(Node::reads) {
        unread.remove(name);
    }
    patches.iter().flat_map(|p| &p.replace).for_each(|(_, to)| {
        unread.remove(to);
    });
    graph.outputs.iter().for_each(|v| {
        unread.remove(&v.name);
    });
    unread
}
