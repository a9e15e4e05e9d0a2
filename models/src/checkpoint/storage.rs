//! From a storage's bytes, and a tensor's offset, shape and strides over them, to a [`Tensor`].

use std::{
    collections::{BTreeMap, HashMap},
    io::{ErrorKind as IoKind, Read},
    rc::Rc,
};

use half::{bf16, f16};
use tapetum_runtime::{DType, Data, Element, Error, Result, Tensor};

use super::limits::Limits;

/// A storage as the pickle describes it.
#[derive(Clone, Debug)]
pub(super) struct StorageRef {
    pub(super) key: Rc<str>,
    /// `None` for an untyped storage, whose element is a byte.
    pub(super) dtype: Option<DType>,
    pub(super) elements: u64,
}

impl StorageRef {
    /// Bytes in the file.
    pub(super) fn bytes(&self) -> Option<u64> {
        self.elements.checked_mul(self.dtype.map_or(1, |dtype| dtype.size() as u64))
    }
}

/// A tensor as the pickle describes it: a strided view of a storage.
#[derive(Clone, Debug)]
pub(super) struct TensorRef {
    pub(super) storage: StorageRef,
    pub(super) dtype: DType,
    /// In elements, as are the strides.
    pub(super) offset: u64,
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<usize>,
}

impl TensorRef {
    /// Number of elements.
    fn len(&self) -> Result<usize> {
        elements(&self.shape)
    }

    /// Checks that every element lies inside the storage.
    fn check_extent(&self) -> Result<()> {
        if self.len()? == 0 {
            return Ok(());
        }
        let steps = self.shape.iter().zip(&self.strides);
        let last = steps.into_iter().try_fold(self.offset, |at, (&extent, &stride)| {
            at.checked_add((extent as u64 - 1).checked_mul(stride as u64)?)
        });
        let held = self.storage.bytes().map(|bytes| bytes / self.dtype.size() as u64);
        match (last, held) {
            (Some(last), Some(held)) if last < held => Ok(()),
            _ => Err(Error::bad_file(format!(
                "shape {:?} with strides {:?} at offset {} reaches outside of its storage {:?} of {} elements",
                self.shape,
                self.strides,
                self.offset,
                self.storage.key,
                held.unwrap_or(self.storage.elements)
            ))),
        }
    }

    fn is_contiguous(&self) -> bool {
        let mut step = 1usize;
        for (&extent, &stride) in self.shape.iter().zip(&self.strides).rev() {
            if extent != 1 && stride != step {
                return false;
            }
            step = step.saturating_mul(extent);
        }
        true
    }
}

/// Product of the extents.
///
/// # Errors
/// [`tapetum_runtime::ErrorKind::BadFile`] if it exceeds the address space.
pub(super) fn elements(shape: &[usize]) -> Result<usize> {
    shape
        .iter()
        .try_fold(1usize, |n, &extent| n.checked_mul(extent))
        .ok_or_else(|| Error::bad_file(format!("shape {shape:?} has more elements than can be addressed")))
}

/// The tensors to cut from one storage.
#[derive(Debug)]
pub(super) struct Cuts {
    pub(super) storage: StorageRef,
    pub(super) dtype: DType,
    tensors: Vec<(String, TensorRef)>,
}

/// Which tensors to cut from which storage, checked against the limits before anything is read.
#[derive(Debug, Default)]
pub(super) struct Plan {
    cuts: HashMap<Rc<str>, Cuts>,
}

impl Plan {
    /// # Errors
    /// [`tapetum_runtime::ErrorKind::BadFile`] naming the tensor that does not fit its storage, or the limit that
    /// would be exceeded.
    pub(super) fn new(tensors: Vec<(String, TensorRef)>, limits: &Limits) -> Result<Self> {
        let mut cuts: HashMap<Rc<str>, Cuts> = HashMap::new();
        for (name, tensor) in tensors {
            tensor.check_extent().map_err(|e| e.at(format_args!("tensor {name:?}")))?;
            let (key, dtype) = (Rc::clone(&tensor.storage.key), tensor.dtype);
            let storage = tensor.storage.clone();
            let shared = cuts.entry(key).or_insert_with(|| Cuts { storage, dtype, tensors: Vec::new() });
            if shared.dtype != dtype || shared.storage.bytes() != tensor.storage.bytes() {
                return Err(Error::bad_file(format!(
                    "tensor {name:?} sees storage {:?} as {} x {}, another tensor as {} x {}",
                    tensor.storage.key,
                    tensor.storage.elements,
                    dtype.name(),
                    shared.storage.elements,
                    shared.dtype.name()
                )));
            }
            shared.tensors.push((name, tensor));
        }
        let (mut total, mut beyond) = (0u64, 0u64);
        for cut in cuts.values() {
            let mut views = 0u64;
            for (_, tensor) in &cut.tensors {
                views = views.saturating_add((tensor.len()? as u64).saturating_mul(cut.dtype.size() as u64));
            }
            let held = cut.storage.bytes().unwrap_or(u64::MAX);
            total = total.saturating_add(views.max(held));
            beyond = beyond.saturating_add(views.saturating_sub(held));
        }
        limits.check_total(total)?;
        if beyond > limits.shared_bytes {
            return Err(Error::bad_file(format!(
                "tensors that share storages or repeat elements (stride 0) take {beyond} bytes beyond what the \
                 file holds, the limit is {}",
                limits.shared_bytes
            )));
        }
        Ok(Self { cuts })
    }

    /// The cuts to make from the storage with this key, once.
    pub(super) fn remove(&mut self, key: &str) -> Option<Cuts> {
        self.cuts.remove(key)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.cuts.keys().map(|key| &**key)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.cuts.is_empty()
    }
}

impl Cuts {
    /// Reads the storage and cuts every tensor out of it. A tensor that is the whole storage takes it over.
    pub(super) fn read(
        mut self,
        bytes: &mut dyn Read,
        trust: Trust,
        into: &mut BTreeMap<String, Tensor>,
    ) -> Result<()> {
        let held = self.storage.bytes().unwrap_or(u64::MAX) / self.dtype.size() as u64;
        let count = usize::try_from(held).map_err(|_| {
            Error::bad_file(format!("a storage of {held} elements exceeds the address space"))
        })?;
        let storage = read_elements(self.dtype, count, bytes, trust).map_err(|e| {
            let first = self.tensors.first().map_or("", |(name, _)| name);
            e.at(format_args!("storage {:?} (tensor {first:?})", self.storage.key))
        })?;
        let Some((last_name, last)) = self.tensors.pop() else {
            return Ok(());
        };
        for (name, tensor) in self.tensors {
            into.insert(name, cut(&storage, &tensor)?);
        }
        let whole = last.offset == 0 && last.is_contiguous() && last.len()? == count;
        let tensor = if whole { Tensor::from_data(&last.shape, storage)? } else { cut(&storage, &last)? };
        into.insert(last_name, tensor);
        Ok(())
    }
}

/// Whether the number of elements to come has been checked against the bytes that are really there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// Memory may be reserved at once.
    Sized,
    /// Memory must grow with what arrives.
    Claimed,
}

/// Calls `$body` with `$t` as the Rust type of a `DType`.
macro_rules! for_dtype {
    ($dtype:expr, $t:ident => $body:expr) => {
        match $dtype {
            DType::F32 => {
                type $t = f32;
                $body
            }
            DType::F64 => {
                type $t = f64;
                $body
            }
            DType::F16 => {
                type $t = f16;
                $body
            }
            DType::BF16 => {
                type $t = bf16;
                $body
            }
            DType::I8 => {
                type $t = i8;
                $body
            }
            DType::I16 => {
                type $t = i16;
                $body
            }
            DType::I32 => {
                type $t = i32;
                $body
            }
            DType::I64 => {
                type $t = i64;
                $body
            }
            DType::U8 => {
                type $t = u8;
                $body
            }
            DType::U16 => {
                type $t = u16;
                $body
            }
            DType::U32 => {
                type $t = u32;
                $body
            }
            DType::U64 => {
                type $t = u64;
                $body
            }
            DType::Bool => {
                type $t = bool;
                $body
            }
        }
    };
}

/// Little-endian elements of `dtype`, as safetensors stores them.
pub(super) fn read_tensor(dtype: DType, shape: &[usize], bytes: &mut dyn Read) -> Result<Tensor> {
    Tensor::from_data(shape, read_elements(dtype, elements(shape)?, bytes, Trust::Sized)?)
}

fn read_elements(dtype: DType, count: usize, bytes: &mut dyn Read, trust: Trust) -> Result<Data> {
    for_dtype!(dtype, T => Ok(T::wrap(read_values::<T>(count, bytes, trust)?)))
}

/// Bytes per read; a multiple of every element size.
const CHUNK: usize = 64 << 10;

fn read_values<T: Stored>(count: usize, bytes: &mut dyn Read, trust: Trust) -> Result<Vec<T>> {
    let size = T::DTYPE.size();
    let mut values: Vec<T> = Vec::new();
    if trust == Trust::Sized {
        values.try_reserve_exact(count).map_err(|e| {
            Error::bad_file(format!("no memory for {count} elements of {}: {e}", T::DTYPE.name()))
        })?;
    }
    let mut chunk = [0u8; CHUNK];
    while values.len() < count {
        let wanted = (count - values.len()).min(CHUNK / size) * size;
        let filled = chunk.get_mut(..wanted).unwrap_or_default();
        bytes.read_exact(filled).map_err(|e| short(e, values.len(), count))?;
        T::extend(&mut values, filled);
    }
    Ok(values)
}

#[cold]
fn short(error: std::io::Error, got: usize, count: usize) -> Error {
    if error.kind() == IoKind::UnexpectedEof {
        return Error::bad_file(format!("the file ends after about {got} of {count} elements"));
    }
    Error::bad_file(format!("cannot read element {got} of {count}: {error}")).caused_by(error)
}

fn cut(storage: &Data, tensor: &TensorRef) -> Result<Tensor> {
    for_dtype!(tensor.dtype, T => {
        let values = T::view(storage).ok_or_else(|| Error::internal("a storage changed its type"))?;
        Tensor::new(&tensor.shape, gather(values, tensor)?)
    })
}

/// The elements of a strided view in row-major order. The extent has been checked.
fn gather<T: Element>(storage: &[T], tensor: &TensorRef) -> Result<Vec<T>> {
    let outside = || Error::internal("a view reaches outside of its storage");
    let count = tensor.len()?;
    if count == 0 {
        return Ok(Vec::new());
    }
    let offset = usize::try_from(tensor.offset).map_err(|_| outside())?;
    let view = storage.get(offset..).ok_or_else(outside)?;
    if tensor.is_contiguous() {
        return view.get(..count).map(<[T]>::to_vec).ok_or_else(outside);
    }
    let mut values = Vec::with_capacity(count);
    let mut place = vec![0usize; tensor.shape.len()];
    let mut at = 0usize;
    loop {
        values.push(*view.get(at).ok_or_else(outside)?);
        if values.len() == count {
            return Ok(values);
        }
        for ((index, &extent), &stride) in place.iter_mut().zip(&tensor.shape).zip(&tensor.strides).rev() {
            *index += 1;
            if *index < extent {
                at += stride;
                break;
            }
            *index = 0;
            at -= (extent - 1) * stride;
        }
    }
}

/// How an element lies in a file.
trait Stored: Element {
    /// Appends the elements that `bytes`, a whole number of them, hold.
    fn extend(values: &mut Vec<Self>, bytes: &[u8]);
}

macro_rules! stored {
    ($($t:ty, $size:literal);+ $(;)?) => {$(
        impl Stored for $t {
            fn extend(values: &mut Vec<Self>, bytes: &[u8]) {
                values.extend(bytes.as_chunks::<$size>().0.iter().map(|b| <$t>::from_le_bytes(*b)));
            }
        }
    )+};
}

stored!(f32, 4; f64, 8; f16, 2; bf16, 2; i8, 1; i16, 2; i32, 4; i64, 8; u8, 1; u16, 2; u32, 4; u64, 8);

impl Stored for bool {
    fn extend(values: &mut Vec<Self>, bytes: &[u8]) {
        values.extend(bytes.iter().map(|&b| b != 0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(shape: &[usize], strides: &[usize], offset: u64, elements: u64) -> TensorRef {
        TensorRef {
            storage: StorageRef { key: "0".into(), dtype: Some(DType::F32), elements },
            dtype: DType::F32,
            offset,
            shape: shape.to_vec(),
            strides: strides.to_vec(),
        }
    }

    fn ramp(count: usize) -> Data {
        Data::F32((0..count).map(|i| i as f32).collect())
    }

    #[test]
    fn strides_may_be_permuted_zero_or_leave_gaps() {
        let cut = |v: &TensorRef| cut(&ramp(12), v).unwrap().f32s().unwrap().to_vec();
        assert_eq!(cut(&view(&[3, 2], &[1, 3], 0, 12)), [0., 3., 1., 4., 2., 5.]);
        assert_eq!(cut(&view(&[2, 2], &[0, 5], 1, 12)), [1., 6., 1., 6.]);
        assert_eq!(cut(&view(&[2, 3], &[3, 1], 4, 12)), [4., 5., 6., 7., 8., 9.]);
        assert_eq!(cut(&view(&[], &[], 11, 12)), [11.]);
        assert_eq!(cut(&view(&[2, 1, 2], &[2, 99, 1], 0, 12)), [0., 1., 2., 3.]);
        assert_eq!(cut(&view(&[0, 4], &[4, 1], 500, 12)), [0f32; 0]);
    }

    #[test]
    fn a_view_outside_of_its_storage_is_refused_with_the_numbers() {
        let limits = Limits::default();
        let plan = |v: TensorRef| Plan::new(vec![("w".to_owned(), v)], &limits);
        let message = plan(view(&[3, 4], &[4, 1], 1, 12)).unwrap_err().to_string();
        assert!(
            message.contains("\"w\"") && message.contains("[3, 4]") && message.contains("12"),
            "{message}"
        );
        assert!(plan(view(&[3, 4], &[4, 1], 0, 12)).is_ok());
        plan(view(&[usize::MAX, 2], &[0, 0], 0, 12)).unwrap_err();
        plan(view(&[2, 2], &[usize::MAX, usize::MAX], 0, 12)).unwrap_err();
        let message = plan(view(&[1 << 30], &[0], 0, 12)).unwrap_err().to_string();
        assert!(message.contains("stride 0"), "{message}");
    }

    #[test]
    fn every_type_reads_little_endian() {
        let read = |dtype, bytes: &[u8]| read_tensor(dtype, &[1], &mut &bytes[..]).unwrap();
        assert_eq!(read(DType::F16, &[0x00, 0x3e]).to_f64(), Some(vec![1.5]));
        assert_eq!(read(DType::BF16, &[0xc0, 0x3f]).to_f64(), Some(vec![1.5]));
        assert_eq!(read(DType::F64, &1.5f64.to_le_bytes()).to_f64(), Some(vec![1.5]));
        assert_eq!(read(DType::I16, &[0xfe, 0xff]).view::<i16>().unwrap(), [-2]);
        assert_eq!(read(DType::Bool, &[2]).view::<bool>().unwrap(), [true]);
    }
}
