//! Who makes and who reads each value.

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap};

use super::infer::{self, Known};
use super::{Graph, Node};

/// A read-only index over a [`Graph`]: producers and readers by value name.
pub struct Index<'g> {
    graph: &'g Graph,
    producers: HashMap<&'g str, usize>,
    readers: HashMap<&'g str, Vec<usize>>,
    known: OnceCell<BTreeMap<String, Known>>,
}

impl<'g> Index<'g> {
    pub(super) fn new(graph: &'g Graph) -> Self {
        let (mut producers, mut readers) = (HashMap::new(), HashMap::<_, Vec<usize>>::new());
        for (at, node) in graph.nodes.iter().enumerate() {
            for output in &node.outputs {
                producers.insert(output.as_str(), at);
            }
            for input in node.reads() {
                let at_input = readers.entry(input).or_default();
                if at_input.last() != Some(&at) {
                    at_input.push(at);
                }
            }
        }
        Self { graph, producers, readers, known: OnceCell::new() }
    }

    /// The graph this index speaks of.
    pub fn graph(&self) -> &'g Graph {
        self.graph
    }

    /// The node that makes `value`, with its position; `None` for inputs and constants.
    pub fn producer(&self, value: &str) -> Option<(usize, &'g Node)> {
        self.producers.get(value).map(|&at| (at, &self.graph.nodes[at]))
    }

    /// Positions of the nodes that read `value`, ascending, each once.
    pub fn readers(&self, value: &str) -> &[usize] {
        self.readers.get(value).map_or(&[], Vec::as_slice)
    }

    /// The node `value` goes to, if it goes to exactly one node, is read there once, and is not a graph output.
    pub fn only_reader(&self, value: &str) -> Option<(usize, &'g Node)> {
        let [at] = *self.readers(value) else { return None };
        let node = &self.graph.nodes[at];
        let once = node.reads().filter(|r| *r == value).count() == 1;
        (once && !self.graph.is_output(value) && !node.captures(value)).then_some((at, node))
    }

    /// Element type and extents of `value`, where they can be inferred (once per index, at the first question).
    pub fn known(&self, value: &str) -> Option<&Known> {
        self.known.get_or_init(|| infer::infer(self.graph)).get(value)
    }
}
