//! Where a state dict came from, and how a container is told by its first bytes.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::{self, Write as _},
    io::Read,
};

use sha2::{Digest, Sha256};
use tapetum_runtime::{DType, Error, Result, Tensor};

/// A container of tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// What `torch.save` writes since PyTorch 1.6.
    TorchZip,
    /// What `torch.save` wrote before.
    TorchLegacy,
    /// Hugging Face's safetensors.
    Safetensors,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TorchZip => "PyTorch zip",
            Self::TorchLegacy => "PyTorch legacy",
            Self::Safetensors => "safetensors",
        })
    }
}

/// What was found where, for reports and for the record inside a deployed model.
#[derive(Clone, Debug, PartialEq)]
pub struct Origin {
    /// The container.
    pub format: Format,
    /// Key under which the state dict lay, for example `model_state_dict`; `None` if the file is the state dict.
    pub wrapper: Option<String>,
    /// What was removed from the front of every name, for example `module.`.
    pub prefix: Option<String>,
    /// Other dicts in the file that hold tensors (an optimizer's state, averaged weights), with how many. An empty
    /// name is the top level.
    pub passed_over: Vec<(String, usize)>,
    /// Element types as stored and the number of tensors of each, the most frequent first.
    pub dtypes: Vec<(DType, usize)>,
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: String,
    /// Length of the file.
    pub bytes: u64,
    /// Scalars beside the state dict, or the `__metadata__` of safetensors.
    pub metadata: BTreeMap<String, String>,
}

/// # Errors
/// [`tapetum_runtime::ErrorKind::BadFile`] saying what the bytes look like instead.
pub(super) fn format(first: &[u8]) -> Result<Format> {
    match *first {
        [] => Err(Error::bad_file("the file is empty")),
        [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => Ok(Format::TorchZip),
        [0x80, 2..=5, ..] => Ok(Format::TorchLegacy),
        [_, _, _, _, _, 0, 0, 0, b'{', ..] => Ok(Format::Safetensors),
        _ => Err(Error::bad_file(format!(
            "this is no checkpoint (PyTorch zip, PyTorch legacy or safetensors); {}",
            guess(first)
        ))),
    }
}

fn guess(first: &[u8]) -> String {
    const LOOKS: &[(&[u8], &str)] = &[
        (b"version https://git-lfs", "it is a Git LFS pointer: fetch the real file with `git lfs pull`"),
        (b"<", "it begins like a web page, so the download probably failed"),
        (b"\x1f\x8b", "it is packed with gzip: unpack it first"),
        (b"\x89HDF", "it is an HDF5 file (Keras), which cannot be read"),
        (b"GGUF", "it is a GGUF file, which cannot be read"),
        (b"\x93NUMPY", "it is a NumPy array, not named tensors"),
        (b"\x08", "it looks like an ONNX model"),
    ];
    if let Some((_, look)) = LOOKS.iter().find(|(magic, _)| first.starts_with(magic)) {
        return (*look).to_owned();
    }
    if first.get(257..262) == Some(b"ustar".as_slice()) {
        return "it is a tar archive, PyTorch's format before 0.1.10: save it again with a newer one"
            .to_owned();
    }
    let mut shown = String::from("it begins with the bytes");
    for byte in first.iter().take(8) {
        let _ = write!(shown, " {byte:02x}");
    }
    shown
}

/// Hexadecimal digest of everything that `input` still gives.
pub(super) fn sha256(input: &mut dyn Read) -> std::io::Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        let got = match input.read(&mut buffer) {
            Ok(0) => break,
            Ok(got) => got,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        hash.update(buffer.get(..got).unwrap_or_default());
    }
    let mut hex = String::with_capacity(64);
    for byte in hash.finalize() {
        let _ = write!(hex, "{byte:02x}");
    }
    Ok(hex)
}

pub(super) fn count_dtypes<'a>(tensors: impl Iterator<Item = &'a Tensor>) -> Vec<(DType, usize)> {
    let mut counts: HashMap<DType, usize> = HashMap::new();
    for tensor in tensors {
        *counts.entry(tensor.dtype()).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|&(dtype, count)| (std::cmp::Reverse(count), dtype.name()));
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_told_by_their_first_bytes() {
        assert_eq!(format(b"PK\x03\x04").unwrap(), Format::TorchZip);
        assert_eq!(format(b"\x80\x02\x8a\x0a").unwrap(), Format::TorchLegacy);
        assert_eq!(format(b"\x40\0\0\0\0\0\0\0{").unwrap(), Format::Safetensors);
        let refused: [(&[u8], &str); 5] = [
            (b"", "empty"),
            (b"\x08\x08\x12\x07pytorch", "ONNX"),
            (b"version https://git-lfs.github.com/spec/v1", "LFS"),
            (b"<!DOCTYPE html>", "web page"),
            (&[0; 512], "00 00 00"),
        ];
        for (bytes, says) in refused {
            let message = format(bytes).unwrap_err().to_string();
            assert!(message.contains(says), "{message}");
        }
    }

    #[test]
    fn the_digest_is_sha_256() {
        let digest = sha256(&mut b"abc".as_slice()).unwrap();
        assert_eq!(digest, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
