//! The network as a graph: a thin layer over ONNX nodes.
//!
//! Any operator may pass through untouched; [`infer`] and the fold rules match on what they know and leave the rest
//! alone. A graph is always in topological order and every value has one producer ([`Graph::check`]).

mod build;
mod index;
pub mod infer;
mod ir;
mod node;

pub use build::{Builder, Conv2d, ConvTranspose2d, Kernel, Norm, Pool2d};
pub use index::Index;
pub use ir::{Constant, Dim, Graph, HELPER_PREFIX, Value};
pub use node::{Attr, Node};
