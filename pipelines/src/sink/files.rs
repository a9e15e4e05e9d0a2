//! Files that sinks write, with errors that name them.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use tapetum_runtime::{Error, ErrorKind, Result};

/// The error of a file that could not be written.
#[cold]
pub(super) fn failed(path: &Path, what: &str, e: io::Error) -> Error {
    Error::new(ErrorKind::Environment, format!("{}: cannot {what}: {e}", path.display())).caused_by(e)
}

/// Makes `path`, or empties it.
pub(super) fn create(path: &Path) -> Result<File> {
    File::create(path).map_err(|e| failed(path, "create", e))
}

/// Makes the folder `path`, if it is not there.
pub(crate) fn folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|e| failed(path, "create", e))
}

/// Writes `bytes` to `path` so that at every moment the file is either the old or the new one, complete.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".part");
    let temporary = PathBuf::from(temporary);
    let mut file = create(&temporary)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    drop(file);
    written
        .map_err(|e| failed(path, "write", e))
        .and_then(|()| fs::rename(&temporary, path).map_err(|e| failed(path, "put in place", e)))
        .inspect_err(|_| {
            // What is left of it would only take up space.
            fs::remove_file(&temporary).ok();
        })
}
