//! The models of a pipeline as ONNX files on disk.

use std::{
    fs::File,
    io::{BufRead, BufReader, Seek},
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};
use tapetum_runtime::{
    Error, ErrorKind, Result,
    backend::{EngineOptions, Precision},
    contract::Contract,
};

use crate::{
    assemble::Progress,
    config::PipelineFile,
    engine_cache::Event,
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
        if let Some(why) = &prepared.damaged {
            tell(Progress::Engine(&model.name, "", Event::Said(why)));
        }
        if let Some(fused) = &prepared.fused {
            tell(Progress::Fused(&model.name, fused));
        }
        models.push(OnDisk::read(prepared.path, model)?);
    }
    Ok(models)
}

/// A model file, read but not loaded by an engine.
#[derive(Clone)]
pub(crate) struct OnDisk {
    pub path: PathBuf,
    /// 64 hexadecimal digits.
    pub sha256: String,
    pub contract: Contract,
    /// Size of the file.
    pub bytes: u64,
    /// What the engine is told to compute in; `None`: what its options say.
    pub precision: Option<Precision>,
}

impl OnDisk {
    /// The file of `model` at `path`. A fused checkpoint carries its contract with the proof and the golden record.
    pub fn read(path: PathBuf, model: &crate::config::ModelFile) -> Result<Self> {
        if model.is_checkpoint {
            return Self::carrying_contract(path);
        }
        let (_, sha256, bytes) = digested(&path)?;
        let contract = model.contract.clone().ok_or_else(|| without_contract(&path))?;
        Ok(Self { path, sha256, contract, bytes, precision: None })
    }

    /// A file that this program made: its contract is in it.
    fn carrying_contract(path: PathBuf) -> Result<Self> {
        let (mut file, sha256, bytes) = digested(&path)?;
        let carried = Contract::from_onnx(&mut file).map_err(|e| e.at(path.display()))?;
        let contract = carried.ok_or_else(|| without_contract(&path))?;
        Ok(Self { path, sha256, contract, bytes, precision: None })
    }

    /// A file at `path` that was made of `fp32` in a smaller format. It means what `fp32` means here, where a contract file
    /// may have changed what is written into the model; only how it was made and checked is its own.
    pub fn made_of(fp32: &Self, path: PathBuf) -> Result<Self> {
        let made = Self::carrying_contract(path)?;
        let Contract { quantization, golden, .. } = made.contract;
        let contract = Contract { quantization, golden, ..fp32.contract.clone() };
        Ok(Self { contract, ..made })
    }

    /// What the file was made in, if not in fp32.
    pub fn made_in(&self) -> Option<Precision> {
        self.contract.quantization.as_ref().map(|q| q.precision)
    }

    /// `options` with what the engine is told to compute in.
    pub fn told(&self, options: &EngineOptions) -> EngineOptions {
        let mut options = options.clone();
        if let Some(precision) = self.precision {
            options.compute_in(precision);
        }
        options
    }
}

/// What a session computes in, as results state it: for a file that was `made_in` another format than fp32 that one, and
/// behind a plus sign what the engine computes the rest in, if not in fp32.
pub(crate) fn shown_precision(made_in: Option<Precision>, session: Precision) -> String {
    match made_in {
        None => session.name().to_owned(),
        Some(made) if session == made || session == Precision::Fp32 => made.name().to_owned(),
        Some(made) => format!("{}+{}", made.name(), session.name()),
    }
}

/// The file, at its start, its SHA-256 and its size.
fn digested(path: &Path) -> Result<(BufReader<File>, String, u64)> {
    let unreadable = |e: std::io::Error| {
        Error::new(ErrorKind::Environment, format!("{}: {e}", path.display())).caused_by(e)
    };
    let mut file = BufReader::new(File::open(path).map_err(unreadable)?);
    let (mut digest, mut size) = (Sha256::new(), 0);
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
    Ok((file, hex(&digest.finalize()), size))
}

fn without_contract(path: &Path) -> Error {
    Error::bad_file(format!("{} carries no contract; delete it and run again", path.display()))
}
