//! Ceilings on what one untrusted file may make us do.

use tapetum_runtime::{Error, Result};

/// Ceilings for reading one checkpoint. Exceeding any is an error, never a truncation.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of all tensors together, after decompression and after strided views are written out.
    pub total_bytes: u64,
    /// Bytes that tensors may take beyond what their storages hold: tied weights and broadcast (stride 0) views.
    pub shared_bytes: u64,
    /// Bytes of the part that describes the tensors: the pickle, or the safetensors header.
    pub header_bytes: u64,
    /// Number of tensors in the state dict.
    pub tensors: usize,
    /// Nesting of the pickle's containers.
    pub depth: usize,
    /// Objects that one pickle may create.
    pub objects: usize,
    /// Bytes of one tensor name.
    pub name_bytes: usize,
    /// Accept NaN and infinite values. Off by default: a network that holds one computes nothing useful.
    pub allow_non_finite: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            total_bytes: 8 << 30,
            shared_bytes: 1 << 30,
            header_bytes: 64 << 20,
            tensors: 100_000,
            depth: 256,
            objects: 4_000_000,
            name_bytes: 1024,
            allow_non_finite: false,
        }
    }
}

impl Limits {
    pub(super) fn check_tensors(&self, found: usize) -> Result<()> {
        if found > self.tensors {
            return Err(Error::bad_file(format!(
                "the state dict has {found} or more tensors, the limit is {}",
                self.tensors
            )));
        }
        Ok(())
    }

    pub(super) fn check_name(&self, name: &str) -> Result<()> {
        if name.is_empty() {
            return Err(Error::bad_file("a tensor has an empty name"));
        }
        if name.len() > self.name_bytes {
            let start: String = name.chars().take(40).collect();
            return Err(Error::bad_file(format!(
                "the tensor name that starts with {start:?} has {} bytes, the limit is {}",
                name.len(),
                self.name_bytes
            )));
        }
        Ok(())
    }

    pub(super) fn check_total(&self, bytes: u64) -> Result<()> {
        if bytes > self.total_bytes {
            return Err(Error::bad_file(format!(
                "the tensors take {bytes} or more bytes, the limit is {}",
                self.total_bytes
            )));
        }
        Ok(())
    }
}
