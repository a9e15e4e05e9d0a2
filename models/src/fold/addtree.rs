//! Sums of several values: a tree of Adds whose inner results nobody else reads.

use crate::graph::{Index, Node};

/// Larger sums are left alone.
const LEAVES: usize = 1024;

/// A maximal tree of Adds.
pub(super) struct Sum<'g> {
    pub(super) root: &'g Node,
    /// Positions of all its Adds.
    pub(super) adds: Vec<usize>,
    /// What is summed, from left to right.
    pub(super) leaves: Vec<&'g str>,
}

impl<'g> Sum<'g> {
    /// The tree that ends in the Add at position `at`; `None` if that Add is inside a larger tree, or none.
    pub(super) fn ending_at(index: &Index<'g>, at: usize) -> Option<Self> {
        let root = plain_add(index.graph().nodes.get(at)?)?;
        let above = index.only_reader(root.output());
        if above.is_some_and(|(_, n)| plain_add(n).is_some()) {
            return None;
        }
        let (mut adds, mut leaves) = (vec![at], Vec::new());
        let mut open: Vec<&str> = root.inputs.iter().rev().map(String::as_str).collect();
        while let Some(value) = open.pop() {
            let inner = index.only_reader(value).and_then(|_| index.producer(value));
            match inner.and_then(|(at, n)| Some((at, plain_add(n)?))) {
                Some((at, add)) => {
                    adds.push(at);
                    open.extend(add.inputs.iter().rev().map(String::as_str));
                }
                None => leaves.push(value),
            }
            if leaves.len() + open.len() > LEAVES {
                return None;
            }
        }
        Some(Self { root, adds, leaves })
    }

    /// The tree in which `value` is summed, if it is read by nothing else.
    pub(super) fn around(index: &Index<'g>, value: &str) -> Option<Self> {
        let (mut at, mut node) = index.only_reader(value)?;
        plain_add(node)?;
        for _ in 0..LEAVES {
            match index.only_reader(node.output()) {
                Some((above, n)) if plain_add(n).is_some() => (at, node) = (above, n),
                _ => return Self::ending_at(index, at),
            }
        }
        None
    }
}

fn plain_add(node: &Node) -> Option<&Node> {
    let binary = node.inputs.len() == 2 && node.inputs.iter().all(|i| !i.is_empty());
    (node.is("Add") && binary && node.outputs.len() == 1).then_some(node)
}
