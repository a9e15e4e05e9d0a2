//! The safetensors format: a JSON header that describes the tensors, then their bytes without gaps.

use std::{
    collections::BTreeMap,
    io::{BufWriter, Read, Write},
    path::Path,
};

use safetensors::{Dtype, tensor::TensorInfo};
use serde::{
    Deserialize,
    de::{Error as _, MapAccess, Visitor},
};
use tapetum_runtime::{DType, Data, Error, Result, Tensor};

use super::{Contents, Format, limits::Limits, storage, wrapper};

pub(super) fn read<R: Read>(mut input: R, length: u64, limits: &Limits) -> Result<Contents> {
    let mut size = [0; 8];
    input.read_exact(&mut size).map_err(|e| cut_short("the header's length", e))?;
    let size = u64::from_le_bytes(size);
    if size > limits.header_bytes || size > length.saturating_sub(8) {
        return Err(Error::bad_file(format!(
            "the safetensors header should have {size} bytes; the file has {}, the limit is {}",
            length.saturating_sub(8),
            limits.header_bytes
        )));
    }
    let mut header = Vec::new();
    let got = input.by_ref().take(size).read_to_end(&mut header).map_err(|e| cut_short("the header", e))?;
    if got as u64 != size {
        return Err(Error::bad_file(format!("the safetensors header ends after {got} of {size} bytes")));
    }
    let header_text = header;
    let header: Header = serde_json::from_slice(&header_text)
        .map_err(|e| Error::bad_file(format!("the safetensors header is malformed: {e}")).caused_by(e))?;
    drop(header_text);
    let metadata = header.metadata;
    let mut entries = check_layout(header.tensors, length - 8 - size, limits)?;
    let prefix = wrapper::strip_prefix(&mut entries);

    let mut tensors = BTreeMap::new();
    for (name, (dtype, shape)) in entries {
        let tensor = storage::read_tensor(dtype, &shape, &mut input)
            .map_err(|e| e.at(format_args!("tensor {name:?}")))?;
        tensors.insert(name, tensor);
    }
    Ok(Contents {
        format: Format::Safetensors,
        tensors,
        wrapper: None,
        prefix,
        passed_over: Vec::new(),
        metadata,
    })
}

/// The header. Read entry by entry so that a mistake is reported with the tensor's name, and a name that occurs
/// twice at all.
#[derive(Default)]
struct Header {
    tensors: BTreeMap<String, TensorInfo>,
    metadata: BTreeMap<String, String>,
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = Header;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
        let mut header = Header::default();
        while let Some(name) = map.next_key::<String>()? {
            if name == "__metadata__" {
                header.metadata = map.next_value()?;
                continue;
            }
            let info = map.next_value().map_err(|e| A::Error::custom(format!("tensor {name:?}: {e}")))?;
            if header.tensors.insert(name.clone(), info).is_some() {
                return Err(A::Error::custom(format!("tensor {name:?} is described twice")));
            }
        }
        Ok(header)
    }
}

/// A tensor's name, type and shape.
type Entry = (String, (DType, Vec<usize>));

/// Names, types and shapes in file order, once they have been found to cover the `held` bytes without gap.
fn check_layout(tensors: BTreeMap<String, TensorInfo>, held: u64, limits: &Limits) -> Result<Vec<Entry>> {
    let mut infos: Vec<_> = tensors.into_iter().collect();
    limits.check_tensors(infos.len())?;
    infos.sort_by_key(|(_, info)| info.data_offsets);
    let mut entries = Vec::with_capacity(infos.len());
    let mut end = 0u64;
    for (name, info) in infos {
        limits.check_name(&name)?;
        let dtype = from_safetensors(info.dtype)
            .ok_or_else(|| Error::unsupported(format!("tensor {name:?} has the type {:?}", info.dtype)))?;
        let bytes = (storage::elements(&info.shape).map_err(|e| e.at(format_args!("tensor {name:?}")))?
            as u64)
            .checked_mul(dtype.size() as u64);
        let (from, to) = (info.data_offsets.0 as u64, info.data_offsets.1 as u64);
        if from != end || bytes.and_then(|bytes| from.checked_add(bytes)) != Some(to) {
            return Err(Error::bad_file(format!(
                "tensor {name:?} ({} {:?}) lies at bytes {from}..{to}, which does not fit its shape or leaves a \
                 gap after byte {end}",
                dtype.name(),
                info.shape
            )));
        }
        end = to;
        entries.push((name, (dtype, info.shape)));
    }
    if end != held {
        return Err(Error::bad_file(format!("the tensors take {end} bytes, the file holds {held}")));
    }
    limits.check_total(end)?;
    Ok(entries)
}

fn from_safetensors(dtype: Dtype) -> Option<DType> {
    Some(match dtype {
        Dtype::F32 => DType::F32,
        Dtype::F64 => DType::F64,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        Dtype::I8 => DType::I8,
        Dtype::I16 => DType::I16,
        Dtype::I32 => DType::I32,
        Dtype::I64 => DType::I64,
        Dtype::U8 => DType::U8,
        Dtype::U16 => DType::U16,
        Dtype::U32 => DType::U32,
        Dtype::U64 => DType::U64,
        Dtype::BOOL => DType::Bool,
        _ => return None,
    })
}

fn to_safetensors(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 => "F32",
        DType::F64 => "F64",
        DType::F16 => "F16",
        DType::BF16 => "BF16",
        DType::I8 => "I8",
        DType::I16 => "I16",
        DType::I32 => "I32",
        DType::I64 => "I64",
        DType::U8 => "U8",
        DType::U16 => "U16",
        DType::U32 => "U32",
        DType::U64 => "U64",
        DType::Bool => "BOOL",
    }
}

/// Writes `tensors` to `path`, which is replaced as a whole or not at all. The same input gives the same bytes.
///
/// # Errors
/// [`tapetum_runtime::ErrorKind::Environment`] if the file cannot be written.
pub fn write_safetensors(
    path: &Path,
    tensors: &BTreeMap<String, Tensor>,
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    let failed = |e: std::io::Error| {
        Error::new(
            tapetum_runtime::ErrorKind::Environment,
            format!("{}: cannot be written: {e}", path.display()),
        )
        .caused_by(e)
    };
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut temporary = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    let mut out = BufWriter::with_capacity(256 << 10, temporary.as_file_mut());
    // Wider elements first, so that every tensor is aligned to its element.
    let mut order: Vec<(&String, &Tensor)> = tensors.iter().collect();
    order.sort_by_key(|(_, tensor)| std::cmp::Reverse(tensor.dtype().size()));
    write_header(&mut out, &order, metadata)
        .and_then(|()| order.iter().try_for_each(|(_, tensor)| write_data(&mut out, tensor.data())))
        .and_then(|()| out.flush())
        .map_err(failed)?;
    drop(out);
    temporary.as_file().sync_all().map_err(failed)?;
    temporary.persist(path).map_err(|e| failed(e.error))?;
    Ok(())
}

fn write_header(
    out: &mut impl Write,
    order: &[(&String, &Tensor)],
    metadata: &BTreeMap<String, String>,
) -> std::io::Result<()> {
    let mut header = serde_json::Map::new();
    if !metadata.is_empty() {
        header.insert("__metadata__".to_owned(), serde_json::to_value(metadata)?);
    }
    let mut end = 0;
    for (name, tensor) in order {
        let from = end;
        end += tensor.len() * tensor.dtype().size();
        let entry = serde_json::json!({
            "dtype": to_safetensors(tensor.dtype()),
            "shape": tensor.shape(),
            "data_offsets": [from, end],
        });
        header.insert((*name).clone(), entry);
    }
    let mut text = serde_json::to_vec(&header)?;
    text.resize(text.len().next_multiple_of(8), b' ');
    out.write_all(&(text.len() as u64).to_le_bytes())?;
    out.write_all(&text)
}

fn write_data(out: &mut impl Write, data: &Data) -> std::io::Result<()> {
    macro_rules! each {
        ($values:expr) => {
            $values.iter().try_for_each(|value| out.write_all(&value.to_le_bytes()))
        };
    }
    match data {
        Data::F32(v) => each!(v),
        Data::F64(v) => each!(v),
        Data::F16(v) => each!(v),
        Data::BF16(v) => each!(v),
        Data::I8(v) => each!(v),
        Data::I16(v) => each!(v),
        Data::I32(v) => each!(v),
        Data::I64(v) => each!(v),
        Data::U8(v) => out.write_all(v),
        Data::U16(v) => each!(v),
        Data::U32(v) => each!(v),
        Data::U64(v) => each!(v),
        Data::Bool(v) => v.iter().try_for_each(|&value| out.write_all(&[value.into()])),
    }
}

#[cold]
fn cut_short(place: &str, error: std::io::Error) -> Error {
    Error::bad_file(format!("{place} cannot be read, the file is cut short: {error}")).caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_the_file_is_the_same_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let tensors = BTreeMap::from([
            ("a".to_owned(), Tensor::new(&[2, 2], vec![1.0f32, -2.0, 3.5, 0.25]).unwrap()),
            ("b".to_owned(), Tensor::scalar(-7i64)),
            ("c".to_owned(), Tensor::vector(vec![true, false, true])),
            ("d".to_owned(), Tensor::vector(vec![half::bf16::from_f32(0.5)])),
            ("empty".to_owned(), Tensor::vector(Vec::<f64>::new())),
        ]);
        let metadata = BTreeMap::from([("nc".to_owned(), "2".to_owned()), ("z".to_owned(), "é".to_owned())]);
        let (one, two) = (folder.path().join("one.safetensors"), folder.path().join("two.safetensors"));
        write_safetensors(&one, &tensors, &metadata).unwrap();
        write_safetensors(&two, &tensors, &metadata).unwrap();
        let bytes = std::fs::read(&one).unwrap();
        assert_eq!(bytes, std::fs::read(&two).unwrap());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "no temporary file is left");

        let (state, origin) = crate::checkpoint::open(&one, &Limits::default()).unwrap();
        assert_eq!(state.into_tensors(), tensors);
        assert_eq!(origin.metadata, metadata);
        let theirs = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(theirs.tensor("a").unwrap().shape(), [2, 2]);
        assert_eq!(theirs.len(), 5);
    }
}
