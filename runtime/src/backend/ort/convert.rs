//! Our tensors to ONNX Runtime's and back.

use std::fmt::Debug;

use ort::{
    session::SessionInputValue,
    value::{PrimitiveTensorElementType, TensorElementType, TensorRef, ValueRef},
};

use crate::{DType, Data, Element, Error, Tensor};

/// Our name for an element type; `None` for strings, complex numbers and the types of 4 and 8 bits.
pub(super) fn dtype(ty: TensorElementType) -> Option<DType> {
    Some(match ty {
        TensorElementType::Float32 => DType::F32,
        TensorElementType::Float64 => DType::F64,
        TensorElementType::Float16 => DType::F16,
        TensorElementType::Bfloat16 => DType::BF16,
        TensorElementType::Int8 => DType::I8,
        TensorElementType::Int16 => DType::I16,
        TensorElementType::Int32 => DType::I32,
        TensorElementType::Int64 => DType::I64,
        TensorElementType::Uint8 => DType::U8,
        TensorElementType::Uint16 => DType::U16,
        TensorElementType::Uint32 => DType::U32,
        TensorElementType::Uint64 => DType::U64,
        TensorElementType::Bool => DType::Bool,
        _ => return None,
    })
}

/// Lends `tensor`'s memory; nothing is copied.
pub(super) fn lend(tensor: &Tensor) -> ort::Result<SessionInputValue<'_>> {
    match tensor.data() {
        Data::F32(v) => view(tensor, v),
        Data::F64(v) => view(tensor, v),
        Data::F16(v) => view(tensor, v),
        Data::BF16(v) => view(tensor, v),
        Data::I8(v) => view(tensor, v),
        Data::I16(v) => view(tensor, v),
        Data::I32(v) => view(tensor, v),
        Data::I64(v) => view(tensor, v),
        Data::U8(v) => view(tensor, v),
        Data::U16(v) => view(tensor, v),
        Data::U32(v) => view(tensor, v),
        Data::U64(v) => view(tensor, v),
        Data::Bool(v) => view(tensor, v),
    }
}

fn view<'a, T: PrimitiveTensorElementType + Debug + Clone + 'static>(
    tensor: &'a Tensor,
    values: &'a [T],
) -> ort::Result<SessionInputValue<'a>> {
    Ok(TensorRef::from_array_view((tensor.shape(), values))?.into())
}

/// Copies an output out of ONNX Runtime's memory into `out`.
pub(super) fn copy(value: &ValueRef<'_>, out: &mut Tensor) -> ort::Result<()> {
    let ty = value.dtype().tensor_type().and_then(dtype);
    match ty.ok_or_else(|| ort::Error::new("not a tensor of numbers"))? {
        DType::F32 => take::<f32>(value, out),
        DType::F64 => take::<f64>(value, out),
        DType::F16 => take::<half::f16>(value, out),
        DType::BF16 => take::<half::bf16>(value, out),
        DType::I8 => take::<i8>(value, out),
        DType::I16 => take::<i16>(value, out),
        DType::I32 => take::<i32>(value, out),
        DType::I64 => take::<i64>(value, out),
        DType::U8 => take::<u8>(value, out),
        DType::U16 => take::<u16>(value, out),
        DType::U32 => take::<u32>(value, out),
        DType::U64 => take::<u64>(value, out),
        DType::Bool => take::<bool>(value, out),
    }
}

fn take<T>(value: &ValueRef<'_>, out: &mut Tensor) -> ort::Result<()>
where
    T: PrimitiveTensorElementType + Element + Default,
{
    let (shape, values) = value.try_extract_tensor::<T>()?;
    // Ranks beyond 8 do not occur; those below need no memory of their own.
    let mut extents = [0usize; 8];
    let extents = extents.get_mut(..shape.len()).ok_or_else(|| ort::Error::new("more than 8 axes"))?;
    extents.iter_mut().zip(shape.iter()).for_each(|(to, &from)| *to = usize::try_from(from).unwrap_or(0));
    out.fill_from(extents, values).map_err(|e: Error| ort::Error::new(e.to_string()))
}
