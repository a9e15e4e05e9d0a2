//! Our tensors to tract's and back: one copy each way.

use tract_onnx::prelude::{DatumType, Tensor as TractTensor};

use crate::{DType, Data, Element, Error, Result, Tensor, backend::Port};

/// tract's name for an element type; `None` for bfloat16, which tract does not have.
pub(super) fn datum_type(dtype: DType) -> Option<DatumType> {
    Some(match dtype {
        DType::F32 => DatumType::F32,
        DType::F64 => DatumType::F64,
        DType::F16 => DatumType::F16,
        DType::BF16 => return None,
        DType::I8 => DatumType::I8,
        DType::I16 => DatumType::I16,
        DType::I32 => DatumType::I32,
        DType::I64 => DatumType::I64,
        DType::U8 => DatumType::U8,
        DType::U16 => DatumType::U16,
        DType::U32 => DatumType::U32,
        DType::U64 => DatumType::U64,
        DType::Bool => DatumType::Bool,
    })
}

/// A copy of `tensor` for tract.
pub(super) fn to_tract(tensor: &Tensor) -> Result<TractTensor> {
    let shape = tensor.shape();
    match tensor.data() {
        Data::F32(v) => TractTensor::from_shape(shape, v),
        Data::F64(v) => TractTensor::from_shape(shape, v),
        Data::F16(v) => TractTensor::from_shape(shape, v),
        Data::I8(v) => TractTensor::from_shape(shape, v),
        Data::I16(v) => TractTensor::from_shape(shape, v),
        Data::I32(v) => TractTensor::from_shape(shape, v),
        Data::I64(v) => TractTensor::from_shape(shape, v),
        Data::U8(v) => TractTensor::from_shape(shape, v),
        Data::U16(v) => TractTensor::from_shape(shape, v),
        Data::U32(v) => TractTensor::from_shape(shape, v),
        Data::U64(v) => TractTensor::from_shape(shape, v),
        Data::Bool(v) => TractTensor::from_shape(shape, v),
        Data::BF16(_) => return Err(Error::unsupported("tract has no bfloat16")),
    }
    .map_err(|e| Error::internal(format!("tract: {e:#}")))
}

/// Copies `value` into `out`, in the element type that `port` declares (tract computes shapes in a type of its own).
pub(super) fn from_tract(value: &TractTensor, port: &Port, out: &mut Tensor) -> Result<()> {
    let place = |e: Error| e.at(format!("output {:?}", port.name));
    let datum_type =
        datum_type(port.dtype).ok_or_else(|| place(Error::unsupported("tract has no bfloat16")))?;
    let cast = value.cast_to_dt(datum_type).map_err(|e| place(Error::internal(format!("tract: {e:#}"))))?;
    match port.dtype {
        DType::F32 => copy::<f32>(&cast, out),
        DType::F64 => copy::<f64>(&cast, out),
        DType::F16 => copy::<half::f16>(&cast, out),
        DType::BF16 => Err(Error::unsupported("tract has no bfloat16")),
        DType::I8 => copy::<i8>(&cast, out),
        DType::I16 => copy::<i16>(&cast, out),
        DType::I32 => copy::<i32>(&cast, out),
        DType::I64 => copy::<i64>(&cast, out),
        DType::U8 => copy::<u8>(&cast, out),
        DType::U16 => copy::<u16>(&cast, out),
        DType::U32 => copy::<u32>(&cast, out),
        DType::U64 => copy::<u64>(&cast, out),
        DType::Bool => copy::<bool>(&cast, out),
    }
    .map_err(place)
}

fn copy<T>(value: &TractTensor, out: &mut Tensor) -> Result<()>
where
    T: Element + Default + tract_onnx::prelude::Datum,
{
    let plain = value.try_as_plain_ram().map_err(|e| Error::internal(format!("tract: {e:#}")))?;
    let values = plain.as_slice::<T>().map_err(|e| Error::internal(format!("tract: {e:#}")))?;
    out.fill_from(value.shape(), values)
}
