//! ONNX files: reading any, writing ours.

mod convert;
pub mod proto;
mod read;
mod write;

pub use read::read;
pub use write::{append_metadata, write};
