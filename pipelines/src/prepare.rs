//! From a model in a pipeline file to an ONNX file on disk: checkpoints are fused before their first use and kept.

use std::{
    fs,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};
use tapetum_models::fuse::{Fused, Step, fuse};
use tapetum_runtime::{Error, ErrorKind, Result};

use crate::config::ModelFile;

/// The ONNX file of a model.
pub struct Prepared {
    /// Where it is.
    pub path: PathBuf,
    /// What fusing told, if it was fused just now.
    pub fused: Option<Box<Fused>>,
}

/// The ONNX file of `model`. A checkpoint is fused and proven into the cache, under a name made of the digests of all
/// that goes into it, so that a changed checkpoint or contract is fused anew.
///
/// # Errors
/// What [`fuse`] says; [`ErrorKind::Environment`] if the cache cannot be written.
pub fn prepare(model: &ModelFile, cache: &Path, tell: &mut dyn FnMut(Step<'_>)) -> Result<Prepared> {
    if !model.is_checkpoint {
        return Ok(Prepared { path: model.path.clone(), fused: None });
    }
    let bytes = fs::read(&model.path).map_err(|e| environment(&model.path, e))?;
    let mut digest = Sha256::new();
    digest.update(env!("CARGO_PKG_VERSION"));
    for part in [bytes.as_slice(), model.changes.as_ref().map_or(&[], |(_, text)| text)] {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    drop(bytes);
    let folder = cache.join("models");
    fs::create_dir_all(&folder).map_err(|e| environment(&folder, e))?;
    let stem = model.path.file_stem().map_or_else(Default::default, |s| s.to_string_lossy().into_owned());
    let path = folder.join(format!("{stem}-{}.onnx", &hex(&digest.finalize())[..16]));
    if path.is_file() {
        return Ok(Prepared { path, fused: None });
    }
    let fused = fuse(&model.path, &path, &model.fuse_options(), tell)?;
    Ok(Prepared { path, fused: Some(Box::new(fused)) })
}

/// Where fused models are kept: `TAPETUM_CACHE`, else `tapetum` in the user's cache folder.
///
/// # Errors
/// [`ErrorKind::Environment`] if there is neither.
pub fn cache_dir() -> Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    set("TAPETUM_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|dir| dir.join("tapetum")))
        .or_else(|| set("HOME").map(|dir| dir.join(".cache").join("tapetum")))
        .ok_or_else(|| {
            let message = "no folder to keep fused models in: neither TAPETUM_CACHE nor HOME is set";
            Error::new(ErrorKind::Environment, message)
        })
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn environment(path: &Path, e: std::io::Error) -> Error {
    Error::new(ErrorKind::Environment, format!("{}: {e}", path.display())).caused_by(e)
}
