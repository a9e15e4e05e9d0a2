//! ONNX files: reading any, writing ours.

mod convert;
pub mod proto;
mod read;
mod write;

pub use read::{read, read_metadata};
pub use write::{append_metadata, write};

/// The element type with ONNX's `TensorProto.DataType` number; `None` for those Tapetum does not compute with.
pub fn dtype_from_code(code: i64) -> Option<tapetum_runtime::DType> {
    convert::from_code(i32::try_from(code).ok()?)
}

/// ONNX's `TensorProto.DataType` number of `dtype`, as attributes such as `Cast`'s `to` hold it.
pub fn type_code(dtype: tapetum_runtime::DType) -> i32 {
    convert::to_code(dtype)
}
