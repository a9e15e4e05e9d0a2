//! From a training checkpoint to a proven ONNX model.
//!
//! [`checkpoint`] reads what training left behind, [`zoo`] recognises the network and builds its [`graph`],
//! [`fold`] turns that into the form that is deployed, and [`onnx`] reads and writes models. [`transform`] works on the
//! tensors of a checkpoint before any of this.

#![forbid(clippy::print_stdout, clippy::print_stderr)]

pub mod checkpoint;
pub mod cost;
pub mod fold;
pub mod graph;
pub mod onnx;
pub mod transform;
pub mod zoo;

pub use tapetum_runtime::{Error, ErrorKind, Result};
