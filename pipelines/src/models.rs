//! The models of a pipeline as ONNX files on disk.

use std::{
    fs::File,
    io::{BufRead, BufReader, Seek},
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};
use tapetum_runtime::{Error, ErrorKind, Result, contract::Contract};

use crate::{
    assemble::Progress,
    config::PipelineFile,
    prepare::{self, hex},
};

/// Every model of `file`, fused if it was a checkpoint. `cache`: where those are kept; [`prepare::cache_dir`] if `None`.
///
/// # Errors
/// As [`prepare::prepare`]; a file that cannot be read.
pub(crate) fn on_disk(
    file: &PipelineFile,
    cache: Option<&Path>,
    tell: &mut dyn FnMut(Progress<'_>),
) -> Result<Vec<OnDisk>> {
    let cache = match cache {
        Some(cache) => cache.to_owned(),
        None if file.models.iter().any(|m| m.is_checkpoint) => prepare::cache_dir()?,
        None => PathBuf::new(),
    };
    let mut models = Vec::new();
    for model in &file.models {
        let prepared =
            prepare::prepare(model, &cache, &mut |step| tell(Progress::Fusing(&model.name, step)))?;
        if let Some(fused) = &prepared.fused {
            tell(Progress::Fused(&model.name, fused));
        }
        models.push(OnDisk::read(prepared.path, model)?);
    }
    Ok(models)
}

/// A model file, read but not loaded by an engine.
pub(crate) struct OnDisk {
    pub path: PathBuf,
    /// 64 hexadecimal digits.
    pub sha256: String,
    pub contract: Contract,
    /// Size of the file.
    pub bytes: u64,
}

impl OnDisk {
    pub fn read(path: PathBuf, model: &crate::config::ModelFile) -> Result<Self> {
        let unreadable = |e: std::io::Error| {
            Error::new(ErrorKind::Environment, format!("{}: {e}", path.display())).caused_by(e)
        };
        let mut file = BufReader::new(File::open(&path).map_err(unreadable)?);
        let mut digest = Sha256::new();
        let mut size = 0;
        loop {
            let bytes = file.fill_buf().map_err(unreadable)?;
            if bytes.is_empty() {
                break;
            }
            digest.update(bytes);
            let read = bytes.len();
            size += read as u64;
            file.consume(read);
        }
        file.rewind().map_err(unreadable)?;
        // A fused checkpoint carries its contract with the proof and the golden record.
        let carried = match model.is_checkpoint {
            true => Contract::from_onnx(&mut file).map_err(|e| e.at(path.display()))?,
            false => model.contract.clone(),
        };
        let contract = carried.ok_or_else(|| {
            Error::bad_file(format!("{} carries no contract; delete it and run again", path.display()))
        })?;
        Ok(Self { sha256: hex(&digest.finalize()), contract, path, bytes: size })
    }
}
