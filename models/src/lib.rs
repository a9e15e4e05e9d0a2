//! From a training checkpoint to a proven ONNX model.
//!
//! [`checkpoint`] reads what training left behind.

#![forbid(clippy::print_stdout, clippy::print_stderr)]

pub mod checkpoint;

pub use tapetum_runtime::{Error, ErrorKind, Result};
