//! Readers for the files that training leaves behind.
//!
//! [`open`] tells the container by its content (`torch_zip`, `torch_legacy`, `safetensors`), reads no more than
//! [`Limits`] allow and returns a [`StateDict`] with its [`Origin`]. The bytes are untrusted: the `pickle` machine
//! describes and never executes, `storage` checks every view before anything is read, and `wrapper` finds the
//! state dict inside whatever was saved around it.

mod limits;
mod origin;
mod pickle;
mod safetensors;
mod state_dict;
mod storage;
mod torch_legacy;
mod torch_zip;
mod wrapper;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{Read, Seek, SeekFrom},
    path::Path,
};

use tapetum_runtime::{Error, Result, Tensor};

pub use self::{
    limits::Limits,
    origin::{Format, Origin},
    safetensors::write_safetensors,
    state_dict::{Accounting, StateDict},
};

/// What a reader found, before it is checked as a whole.
struct Contents {
    format: Format,
    tensors: BTreeMap<String, Tensor>,
    wrapper: Option<String>,
    prefix: Option<String>,
    passed_over: Vec<(String, usize)>,
    metadata: BTreeMap<String, String>,
}

/// Reads the checkpoint at `path`, whatever its ending.
///
/// # Errors
/// [`tapetum_runtime::ErrorKind::InvalidConfig`] if there is no such file,
/// [`tapetum_runtime::ErrorKind::BadFile`] if it is no checkpoint, damaged, hostile or exceeds `limits`,
/// [`tapetum_runtime::ErrorKind::Unsupported`] if it is a sound checkpoint of a kind that cannot be read.
pub fn open(path: &Path, limits: &Limits) -> Result<(StateDict, Origin)> {
    let place = path.display().to_string();
    let opened = open_regular(path).and_then(|file| read(file, limits));
    match opened {
        Ok((state, origin)) => Ok((state.with_place(place), origin)),
        Err(e) => Err(e.at(place)),
    }
}

/// Anything but a regular file may block or never end.
fn open_regular(path: &Path) -> Result<File> {
    let missing = |e: std::io::Error| Error::config(format!("cannot be opened: {e}")).caused_by(e);
    let kind = fs::metadata(path).map_err(missing)?;
    if kind.is_dir() {
        return Err(Error::config("is a directory, a checkpoint file is needed"));
    }
    if !kind.is_file() {
        return Err(Error::config("is not a regular file"));
    }
    File::open(path).map_err(missing)
}

/// Reads a checkpoint from its beginning; see [`open`].
///
/// # Errors
/// As [`open`].
pub fn read<R: Read + Seek>(mut input: R, limits: &Limits) -> Result<(StateDict, Origin)> {
    let unreadable = |e: std::io::Error| Error::bad_file(format!("cannot be read: {e}")).caused_by(e);
    let length = input.seek(SeekFrom::End(0)).map_err(unreadable)?;
    input.rewind().map_err(unreadable)?;
    let mut first = Vec::new();
    input.by_ref().take(512).read_to_end(&mut first).map_err(unreadable)?;
    input.rewind().map_err(unreadable)?;

    let contents = match origin::format(&first)? {
        Format::TorchZip => torch_zip::read(&mut input, length, limits)?,
        Format::TorchLegacy => torch_legacy::read(&mut input, length, limits)?,
        Format::Safetensors => safetensors::read(&mut input, length, limits)?,
    };
    if contents.tensors.is_empty() {
        return Err(Error::bad_file("the checkpoint holds no tensors"));
    }
    if !limits.allow_non_finite {
        contents.tensors.iter().try_for_each(|(name, tensor)| check_finite(name, tensor))?;
    }
    input.rewind().map_err(unreadable)?;
    let sha256 = origin::sha256(&mut input).map_err(unreadable)?;
    let origin = Origin {
        format: contents.format,
        wrapper: contents.wrapper,
        prefix: contents.prefix,
        passed_over: contents.passed_over,
        dtypes: origin::count_dtypes(contents.tensors.values()),
        sha256,
        bytes: length,
        metadata: contents.metadata,
    };
    Ok((StateDict::new(contents.tensors), origin))
}

/// Whether a file that begins so is one that [`open`] would try to read. Nine bytes are enough.
pub fn is_checkpoint(first_bytes: &[u8]) -> bool {
    origin::format(first_bytes).is_ok()
}

fn check_finite(name: &str, tensor: &Tensor) -> Result<()> {
    use tapetum_runtime::Data;
    fn scan<T>(values: &[T], is_finite: impl Fn(&T) -> bool) -> Option<(usize, usize)> {
        let first = values.iter().position(|v| !is_finite(v))?;
        let count = values.iter().skip(first).filter(|v| !is_finite(v)).count();
        Some((first, count))
    }
    let found = match tensor.data() {
        Data::F32(v) => scan(v, |x| x.is_finite()),
        Data::F64(v) => scan(v, |x| x.is_finite()),
        Data::F16(v) => scan(v, |x| x.is_finite()),
        Data::BF16(v) => scan(v, |x| x.is_finite()),
        _ => None,
    };
    match found {
        None => Ok(()),
        Some((first, count)) => Err(Error::bad_file(format!(
            "tensor {name:?} {:?} holds {count} NaN or infinite values, the first at index {first}; the training \
             diverged or the file is damaged",
            tensor.shape()
        ))),
    }
}
