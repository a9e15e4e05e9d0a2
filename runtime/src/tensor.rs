//! Dense, row-major arrays of the element types that ONNX and PyTorch checkpoints store.

use half::{bf16, f16};

use crate::{Error, Result};

/// Element type of a [`Tensor`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// 32-bit float.
    F32,
    /// 64-bit float.
    F64,
    /// IEEE half precision.
    F16,
    /// bfloat16: `f32` without its lower 16 bits.
    BF16,
    /// Signed 8-bit.
    I8,
    /// Signed 16-bit.
    I16,
    /// Signed 32-bit.
    I32,
    /// Signed 64-bit.
    I64,
    /// Unsigned 8-bit.
    U8,
    /// Unsigned 16-bit.
    U16,
    /// Unsigned 32-bit.
    U32,
    /// Unsigned 64-bit.
    U64,
    /// Boolean, one byte in files.
    Bool,
}

impl DType {
    /// Bytes of one element as stored in files.
    pub fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 | Self::U64 => 8,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F16 | Self::BF16 | Self::I16 | Self::U16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }

    /// Short name as shown to people: `f32`, `bf16`, `i64`, `bool`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
            Self::I8 => "i8",
            Self::I16 => "i16",
            Self::I32 => "i32",
            Self::I64 => "i64",
            Self::U8 => "u8",
            Self::U16 => "u16",
            Self::U32 => "u32",
            Self::U64 => "u64",
            Self::Bool => "bool",
        }
    }
}

impl DType {
    /// The number that ONNX files have for it (`TensorProto.DataType`).
    pub fn onnx(self) -> i32 {
        match self {
            Self::F32 => 1,
            Self::U8 => 2,
            Self::I8 => 3,
            Self::U16 => 4,
            Self::I16 => 5,
            Self::I32 => 6,
            Self::I64 => 7,
            Self::Bool => 9,
            Self::F16 => 10,
            Self::F64 => 11,
            Self::U32 => 12,
            Self::U64 => 13,
            Self::BF16 => 16,
        }
    }

    /// The type with ONNX's number `code`; `None` for those Tapetum does not compute with.
    pub fn from_onnx(code: i32) -> Option<Self> {
        Some(match code {
            1 => Self::F32,
            2 => Self::U8,
            3 => Self::I8,
            4 => Self::U16,
            5 => Self::I16,
            6 => Self::I32,
            7 => Self::I64,
            9 => Self::Bool,
            10 => Self::F16,
            11 => Self::F64,
            12 => Self::U32,
            13 => Self::U64,
            16 => Self::BF16,
            _ => return None,
        })
    }
}

/// The elements of a [`Tensor`], in row-major order.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // one variant per `DType`, documented there
pub enum Data {
    F32(Vec<f32>),
    F64(Vec<f64>),
    F16(Vec<f16>),
    BF16(Vec<bf16>),
    I8(Vec<i8>),
    I16(Vec<i16>),
    I32(Vec<i32>),
    I64(Vec<i64>),
    U8(Vec<u8>),
    U16(Vec<u16>),
    U32(Vec<u32>),
    U64(Vec<u64>),
    Bool(Vec<bool>),
}

impl Data {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(v) => v.len(),
            Self::F64(v) => v.len(),
            Self::F16(v) => v.len(),
            Self::BF16(v) => v.len(),
            Self::I8(v) => v.len(),
            Self::I16(v) => v.len(),
            Self::I32(v) => v.len(),
            Self::I64(v) => v.len(),
            Self::U8(v) => v.len(),
            Self::U16(v) => v.len(),
            Self::U32(v) => v.len(),
            Self::U64(v) => v.len(),
            Self::Bool(v) => v.len(),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A Rust type that a [`Tensor`] can hold.
pub trait Element: Copy + 'static {
    /// The matching element type.
    const DTYPE: DType;
    /// Wraps a vector of this type.
    fn wrap(values: Vec<Self>) -> Data;
    /// The elements if `data` holds this type.
    fn view(data: &Data) -> Option<&[Self]>;
    /// The elements, mutable, if `data` holds this type.
    fn view_mut(data: &mut Data) -> Option<&mut Vec<Self>>;
}

macro_rules! element {
    ($($t:ty, $v:ident);+ $(;)?) => {$(
        impl Element for $t {
            const DTYPE: DType = DType::$v;
            fn wrap(values: Vec<Self>) -> Data {
                Data::$v(values)
            }
            fn view(data: &Data) -> Option<&[Self]> {
                if let Data::$v(values) = data { Some(values) } else { None }
            }
            fn view_mut(data: &mut Data) -> Option<&mut Vec<Self>> {
                if let Data::$v(values) = data { Some(values) } else { None }
            }
        }
    )+};
}

element!(f32, F32; f64, F64; f16, F16; bf16, BF16; i8, I8; i16, I16; i32, I32; i64, I64;
    u8, U8; u16, U16; u32, U32; u64, U64; bool, Bool);

/// A dense row-major array. Images are `[N, C, H, W]`; convolution weights `[C_out, C_in / groups, kH, kW]`.
///
/// The product of `shape` always equals the number of elements; a rank-0 tensor holds one.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    shape: Vec<usize>,
    data: Data,
}

impl Tensor {
    /// A tensor of `shape` over `values`.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] if the number of values is not the product of `shape`.
    pub fn new<T: Element>(shape: &[usize], values: Vec<T>) -> Result<Self> {
        Self::from_data(shape, T::wrap(values))
    }

    /// As [`Tensor::new`], for elements whose type is known at run time only.
    ///
    /// # Errors
    /// As [`Tensor::new`].
    pub fn from_data(shape: &[usize], data: Data) -> Result<Self> {
        let tensor = Self { shape: shape.to_vec(), data };
        let have = tensor.data.len();
        if shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)) != Some(have) {
            let dtype = tensor.dtype().name();
            return Err(Error::bad_input(format!("shape {shape:?} does not hold {have} {dtype} values")));
        }
        Ok(tensor)
    }

    /// A rank-1 tensor over `values`.
    pub fn vector<T: Element>(values: Vec<T>) -> Self {
        Self { shape: vec![values.len()], data: T::wrap(values) }
    }

    /// A rank-0 tensor.
    pub fn scalar<T: Element>(value: T) -> Self {
        Self { shape: Vec::new(), data: T::wrap(vec![value]) }
    }

    /// A tensor whose every element is `value`.
    pub fn full<T: Element>(shape: &[usize], value: T) -> Self {
        Self { shape: shape.to_vec(), data: T::wrap(vec![value; shape.iter().product()]) }
    }

    /// The extent of each axis.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are no elements (some axis is 0).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements, of whatever type.
    pub fn data(&self) -> &Data {
        &self.data
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        match &self.data {
            Data::F32(_) => DType::F32,
            Data::F64(_) => DType::F64,
            Data::F16(_) => DType::F16,
            Data::BF16(_) => DType::BF16,
            Data::I8(_) => DType::I8,
            Data::I16(_) => DType::I16,
            Data::I32(_) => DType::I32,
            Data::I64(_) => DType::I64,
            Data::U8(_) => DType::U8,
            Data::U16(_) => DType::U16,
            Data::U32(_) => DType::U32,
            Data::U64(_) => DType::U64,
            Data::Bool(_) => DType::Bool,
        }
    }

    /// The elements as `T`.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] if the tensor holds another type.
    pub fn view<T: Element>(&self) -> Result<&[T]> {
        T::view(&self.data).ok_or_else(|| {
            Error::bad_input(format!("the tensor holds {}, not {}", self.dtype().name(), T::DTYPE.name()))
        })
    }

    /// The elements as `f32`; see [`Tensor::view`].
    pub fn f32s(&self) -> Result<&[f32]> {
        self.view()
    }

    /// The elements as `T`, mutable. The length must not be changed.
    ///
    /// # Errors
    /// As [`Tensor::view`].
    pub fn view_mut<T: Element>(&mut self) -> Result<&mut [T]> {
        let dtype = self.dtype();
        T::view_mut(&mut self.data).map(Vec::as_mut_slice).ok_or_else(|| {
            Error::bad_input(format!("the tensor holds {}, not {}", dtype.name(), T::DTYPE.name()))
        })
    }

    /// Makes this a tensor of `shape` over `T` and lends its elements to be overwritten; what they hold before is not
    /// specified. Memory is kept where the element type was `T` before, and only grows.
    pub fn reset<T: Element + Default>(&mut self, shape: &[usize]) -> &mut [T] {
        self.shape.clear();
        self.shape.extend_from_slice(shape);
        let len = shape.iter().product();
        if T::view(&self.data).is_none() {
            self.data = T::wrap(Vec::new());
        }
        match T::view_mut(&mut self.data) {
            Some(values) => {
                values.resize(len, T::default());
                values
            }
            None => unreachable!("the elements were just made to be of this type"),
        }
    }

    /// Makes this a copy of `values` under `shape`, keeping memory as [`Tensor::reset`] does.
    ///
    /// # Errors
    /// As [`Tensor::new`].
    pub fn fill_from<T: Element + Default>(&mut self, shape: &[usize], values: &[T]) -> Result<()> {
        if shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)) != Some(values.len()) {
            let (have, dtype) = (values.len(), T::DTYPE.name());
            return Err(Error::bad_input(format!("shape {shape:?} does not hold {have} {dtype} values")));
        }
        self.reset::<T>(shape).copy_from_slice(values);
        Ok(())
    }

    /// The same elements under another shape.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] if the element counts differ.
    pub fn reshaped(mut self, shape: &[usize]) -> Result<Self> {
        if shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)) != Some(self.len()) {
            return Err(Error::bad_input(format!("cannot view shape {:?} as {shape:?}", self.shape)));
        }
        self.shape = shape.to_vec();
        Ok(self)
    }

    /// Floating-point elements widened to `f64`; `None` for integers and booleans.
    pub fn to_f64(&self) -> Option<Vec<f64>> {
        Some(match &self.data {
            Data::F32(v) => v.iter().map(|&x| f64::from(x)).collect(),
            Data::F64(v) => v.clone(),
            Data::F16(v) => v.iter().map(|x| x.to_f64()).collect(),
            Data::BF16(v) => v.iter().map(|x| x.to_f64()).collect(),
            _ => return None,
        })
    }

    /// Floating-point elements as an `f32` tensor of the same shape, each rounded once; `None` for other types.
    pub fn into_f32(self) -> Option<Self> {
        let values = match self.data {
            Data::F32(v) => v,
            Data::F64(v) => v.into_iter().map(|x| x as f32).collect(),
            Data::F16(v) => v.into_iter().map(f16::to_f32).collect(),
            Data::BF16(v) => v.into_iter().map(bf16::to_f32).collect(),
            _ => return None,
        };
        Some(Self { shape: self.shape, data: Data::F32(values) })
    }
}
