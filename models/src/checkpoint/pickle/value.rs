//! What a pickle describes, as nodes in an arena.
//!
//! Nodes refer to each other by index. A memo bomb therefore costs one index per mention, a cycle leaks nothing, and
//! dropping any nesting frees one vector instead of recursing.

use tapetum_runtime::{Error, Result};

use super::globals::Global;
use crate::checkpoint::storage::{StorageRef, TensorRef};

/// Index of a [`Node`] in its [`Arena`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::checkpoint) struct Id(u32);

/// One Python object.
#[derive(Debug)]
pub(in crate::checkpoint) enum Node {
    None,
    Bool(bool),
    Int(i64),
    /// An integer wider than 64 bits, as little-endian two's complement.
    BigInt(Box<[u8]>),
    Float(f64),
    Str(Box<str>),
    /// Bytes are never needed, so only their presence is kept.
    Bytes,
    Tuple(Box<[Id]>),
    List(Vec<Id>),
    /// In file order; a key may occur twice.
    Dict(Vec<(Id, Id)>),
    Global(Global),
    Storage(Box<StorageRef>),
    Tensor(Box<TensorRef>),
    /// An object of an allowed type whose content does not matter.
    Opaque(&'static str),
}

impl Node {
    /// What to call the object in a message.
    pub(in crate::checkpoint) fn kind(&self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Bool(_) => "a bool",
            Self::Int(_) | Self::BigInt(_) => "an int",
            Self::Float(_) => "a float",
            Self::Str(_) => "a str",
            Self::Bytes => "bytes",
            Self::Tuple(_) => "a tuple",
            Self::List(_) => "a list",
            Self::Dict(_) => "a dict",
            Self::Global(_) => "a Python name",
            Self::Storage(_) => "a storage",
            Self::Tensor(_) => "a tensor",
            Self::Opaque(name) => name,
        }
    }
}

/// All objects of one pickle.
#[derive(Debug)]
pub(in crate::checkpoint) struct Arena {
    nodes: Vec<Node>,
    /// Nesting below each node, as far as known when it was last changed.
    depths: Vec<u32>,
    max_nodes: usize,
    max_depth: usize,
}

impl Arena {
    pub(super) const NONE: Id = Id(0);
    pub(super) const TRUE: Id = Id(1);
    pub(super) const FALSE: Id = Id(2);

    pub(super) fn new(max_nodes: usize, max_depth: usize) -> Self {
        let nodes = vec![Node::None, Node::Bool(true), Node::Bool(false)];
        let depths = vec![0; nodes.len()];
        Self { nodes, depths, max_nodes: max_nodes.min(u32::MAX as usize), max_depth }
    }

    /// Adds a node that refers to no other.
    pub(super) fn add(&mut self, node: Node) -> Result<Id> {
        self.add_over(node, 0)
    }

    /// Adds a container whose deepest element has nesting `below`.
    pub(super) fn add_over(&mut self, node: Node, below: u32) -> Result<Id> {
        if self.nodes.len() >= self.max_nodes {
            return Err(Error::bad_file(format!("the pickle makes more than {} objects", self.max_nodes)));
        }
        self.check_depth(below)?;
        let id = Id(u32::try_from(self.nodes.len()).map_err(|_| Error::internal("arena is full"))?);
        self.nodes.push(node);
        self.depths.push(below);
        Ok(id)
    }

    /// Nesting that a container over `items` has.
    pub(super) fn depth_over(&self, items: &[Id]) -> u32 {
        items.iter().filter_map(|id| self.depths.get(id.0 as usize)).max().map_or(0, |d| d.saturating_add(1))
    }

    /// Records that `container` now also holds `items`.
    pub(super) fn deepen(&mut self, container: Id, items: &[Id]) -> Result<()> {
        let below = self.depth_over(items);
        self.check_depth(below)?;
        if let Some(depth) = self.depths.get_mut(container.0 as usize) {
            *depth = (*depth).max(below);
        }
        Ok(())
    }

    fn check_depth(&self, below: u32) -> Result<()> {
        if below as usize > self.max_depth {
            return Err(Error::bad_file(format!(
                "the pickle nests more than {} levels deep",
                self.max_depth
            )));
        }
        Ok(())
    }

    /// The node with index `id`.
    pub(in crate::checkpoint) fn get(&self, id: Id) -> &Node {
        self.nodes.get(id.0 as usize).unwrap_or(&Node::None)
    }

    pub(super) fn get_mut(&mut self, id: Id) -> Option<&mut Node> {
        self.nodes.get_mut(id.0 as usize)
    }

    /// The elements of a tuple or list.
    pub(in crate::checkpoint) fn items(&self, id: Id) -> Option<&[Id]> {
        match self.get(id) {
            Node::Tuple(items) => Some(items),
            Node::List(items) => Some(items),
            _ => None,
        }
    }

    pub(in crate::checkpoint) fn str(&self, id: Id) -> Option<&str> {
        if let Node::Str(text) = self.get(id) { Some(text) } else { None }
    }

    pub(in crate::checkpoint) fn dict(&self, id: Id) -> Option<&[(Id, Id)]> {
        if let Node::Dict(entries) = self.get(id) { Some(entries) } else { None }
    }

    /// Every storage that the pickle mentions.
    pub(in crate::checkpoint) fn storages(&self) -> impl Iterator<Item = &StorageRef> {
        self.nodes
            .iter()
            .filter_map(|node| if let Node::Storage(storage) = node { Some(&**storage) } else { None })
    }
}
