//! From a training checkpoint to a proven ONNX model.
//!
//! [`checkpoint`] reads what training left behind, [`zoo`] recognises the network and builds its [`graph`], [`mod@fold`]
//! turns it into deployment form, [`onnx`] reads and writes models, and [`proof`] shows that both forms compute the
//! same. [`mod@fuse`] is all of it in one call.

#![forbid(clippy::print_stdout, clippy::print_stderr)]

pub mod checkpoint;
pub mod cost;
pub mod fold;
pub mod fuse;
pub mod graph;
pub mod inspect;
pub mod onnx;
pub mod open;
pub mod peak;
pub mod probe;
pub mod proof;
pub mod quantize;
pub mod transform;
pub mod verify;
mod working_set;
pub mod zoo;

pub use tapetum_runtime::{Error, ErrorKind, Result};
