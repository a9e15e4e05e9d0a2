//! Element types and tensors between ONNX's encoding and ours.

use bytes::Bytes;
use half::{bf16, f16};
use prost::Message;
use tapetum_runtime::{DType, Data, Error, Result, Tensor};

use super::proto;
use crate::graph::Constant;

/// Reads a stored tensor, whichever of the proto's fields holds its numbers.
pub(super) fn to_constant(t: &proto::Tensor) -> Result<Constant> {
    if t.data_location == 1 || !t.external_data.is_empty() {
        return Err(Error::unsupported(format!(
            "tensor {:?} keeps its data outside of the file; save the model with everything inside",
            t.name
        )));
    }
    let shape = shape(t)?;
    let Some(dtype) = DType::from_onnx(t.data_type) else {
        return Ok(Constant::Opaque { raw: t.encode_to_vec().into(), shape });
    };
    let data = match &t.raw_data {
        Some(raw) => from_raw(dtype, raw, &t.name)?,
        None => from_fields(dtype, t),
    };
    let have = data.len();
    if shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)) != Some(have) {
        return Err(Error::bad_file(format!("tensor {:?} says {shape:?} but stores {have} values", t.name)));
    }
    Ok(Constant::Dense(std::sync::Arc::new(Tensor::from_data(&shape, data)?)))
}

fn shape(t: &proto::Tensor) -> Result<Vec<usize>> {
    let dim = |&d: &i64| {
        usize::try_from(d).map_err(|_| Error::bad_file(format!("tensor {:?} has the extent {d}", t.name)))
    };
    t.dims.iter().map(dim).collect()
}

fn from_raw(dtype: DType, raw: &[u8], name: &str) -> Result<Data> {
    if !raw.len().is_multiple_of(dtype.size()) {
        let message =
            format!("tensor {name:?} stores {} bytes, not a multiple of {}", raw.len(), dtype.size());
        return Err(Error::bad_file(message));
    }
    fn split<const N: usize, T>(raw: &[u8], one: impl Fn([u8; N]) -> T) -> Vec<T> {
        raw.as_chunks::<N>().0.iter().map(|c| one(*c)).collect()
    }
    Ok(match dtype {
        DType::F32 => Data::F32(split(raw, f32::from_le_bytes)),
        DType::F64 => Data::F64(split(raw, f64::from_le_bytes)),
        DType::F16 => Data::F16(split(raw, f16::from_le_bytes)),
        DType::BF16 => Data::BF16(split(raw, bf16::from_le_bytes)),
        DType::I8 => Data::I8(split(raw, i8::from_le_bytes)),
        DType::I16 => Data::I16(split(raw, i16::from_le_bytes)),
        DType::I32 => Data::I32(split(raw, i32::from_le_bytes)),
        DType::I64 => Data::I64(split(raw, i64::from_le_bytes)),
        DType::U8 => Data::U8(raw.to_vec()),
        DType::U16 => Data::U16(split(raw, u16::from_le_bytes)),
        DType::U32 => Data::U32(split(raw, u32::from_le_bytes)),
        DType::U64 => Data::U64(split(raw, u64::from_le_bytes)),
        DType::Bool => Data::Bool(raw.iter().map(|&b| b != 0).collect()),
    })
}

/// The typed fields of `TensorProto`; small types share `int32_data`, half floats as their bits.
fn from_fields(dtype: DType, t: &proto::Tensor) -> Data {
    let ints = &t.int32_data;
    match dtype {
        DType::F32 => Data::F32(t.float_data.clone()),
        DType::F64 => Data::F64(t.double_data.clone()),
        DType::F16 => Data::F16(ints.iter().map(|&v| f16::from_bits(v as u16)).collect()),
        DType::BF16 => Data::BF16(ints.iter().map(|&v| bf16::from_bits(v as u16)).collect()),
        DType::I8 => Data::I8(ints.iter().map(|&v| v as i8).collect()),
        DType::I16 => Data::I16(ints.iter().map(|&v| v as i16).collect()),
        DType::I32 => Data::I32(ints.clone()),
        DType::I64 => Data::I64(t.int64_data.clone()),
        DType::U8 => Data::U8(ints.iter().map(|&v| v as u8).collect()),
        DType::U16 => Data::U16(ints.iter().map(|&v| v as u16).collect()),
        DType::U32 => Data::U32(t.uint64_data.iter().map(|&v| v as u32).collect()),
        DType::U64 => Data::U64(t.uint64_data.clone()),
        DType::Bool => Data::Bool(ints.iter().map(|&v| v != 0).collect()),
    }
}

/// A small tensor as a proto message (attributes); weights are streamed instead.
pub(super) fn to_proto(name: &str, tensor: &Tensor) -> proto::Tensor {
    let mut raw = Vec::with_capacity(tensor.len() * tensor.dtype().size());
    for_each_chunk(tensor, &mut |bytes| {
        raw.extend_from_slice(bytes);
        Ok(())
    })
    .unwrap_or_default();
    proto::Tensor { raw_data: Some(Bytes::from(raw)), ..header(name, tensor) }
}

/// `TensorProto` without its numbers.
pub(super) fn header(name: &str, tensor: &Tensor) -> proto::Tensor {
    proto::Tensor {
        name: name.into(),
        dims: tensor.shape().iter().map(|&d| d as i64).collect(),
        data_type: tensor.dtype().onnx(),
        ..proto::Tensor::default()
    }
}

/// Feeds the little-endian bytes of `tensor` to `sink`, some kilobytes at a time.
pub(super) fn for_each_chunk(
    tensor: &Tensor,
    sink: &mut dyn FnMut(&[u8]) -> std::io::Result<()>,
) -> std::io::Result<()> {
    fn pass<const N: usize, T: Copy>(
        values: &[T],
        bytes: impl Fn(T) -> [u8; N],
        sink: &mut dyn FnMut(&[u8]) -> std::io::Result<()>,
    ) -> std::io::Result<()> {
        let mut buffer = Vec::with_capacity(16 * 1024);
        for chunk in values.chunks(16 * 1024 / N) {
            buffer.clear();
            chunk.iter().for_each(|&v| buffer.extend_from_slice(&bytes(v)));
            sink(&buffer)?;
        }
        Ok(())
    }
    match tensor.data() {
        Data::F32(v) => pass(v, f32::to_le_bytes, sink),
        Data::F64(v) => pass(v, f64::to_le_bytes, sink),
        Data::F16(v) => pass(v, f16::to_le_bytes, sink),
        Data::BF16(v) => pass(v, bf16::to_le_bytes, sink),
        Data::I8(v) => pass(v, i8::to_le_bytes, sink),
        Data::I16(v) => pass(v, i16::to_le_bytes, sink),
        Data::I32(v) => pass(v, i32::to_le_bytes, sink),
        Data::I64(v) => pass(v, i64::to_le_bytes, sink),
        Data::U8(v) => sink(v),
        Data::U16(v) => pass(v, u16::to_le_bytes, sink),
        Data::U32(v) => pass(v, u32::to_le_bytes, sink),
        Data::U64(v) => pass(v, u64::to_le_bytes, sink),
        Data::Bool(v) => pass(v, |b| [u8::from(b)], sink),
    }
}
