//! From a training checkpoint to a proven ONNX model.
//!
//! [`checkpoint`] reads what training left behind, [`zoo`] recognises the network and builds its [`graph`], and
//! [`onnx`] reads and writes models.

#![forbid(clippy::print_stdout, clippy::print_stderr)]

pub mod checkpoint;
pub mod cost;
pub mod graph;
pub mod onnx;
pub mod zoo;

pub use tapetum_runtime::{Error, ErrorKind, Result};
