//! ONNX files: reading any, writing ours.

mod convert;
pub mod proto;
mod read;
mod write;

pub use read::{read, read_tensor};
pub use write::{append_metadata, write};
