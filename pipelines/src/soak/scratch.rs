//! A folder for a run, which nobody else may read: the site's file may hold passwords.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use tapetum_runtime::{Error, ErrorKind, Result};

/// Removed with all that is in it when it is dropped.
pub(super) struct Scratch {
    folder: PathBuf,
    states: AtomicU32,
}

impl Scratch {
    /// Makes one among the temporary files.
    ///
    /// # Errors
    /// [`ErrorKind::Environment`] if that cannot be done.
    pub fn new() -> Result<Self> {
        let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let name = format!("tapetum-soak-{}-{}", std::process::id(), time.subsec_nanos());
        let folder = std::env::temp_dir().join(name);
        private(&folder).map_err(|e| failed(&folder, e))?;
        Ok(Self { folder, states: AtomicU32::new(0) })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A state folder for one daemon: each begins with nothing.
    ///
    /// # Errors
    /// As [`Scratch::new`].
    pub fn state(&self) -> Result<PathBuf> {
        let folder = self.folder.join(format!("state{}", self.states.fetch_add(1, Ordering::Relaxed)));
        private(&folder).map_err(|e| failed(&folder, e))?;
        Ok(folder)
    }

    /// Writes a file.
    ///
    /// # Errors
    /// As [`Scratch::new`].
    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.folder.join(name);
        fs::write(&path, text).map_err(|e| failed(&path, e))?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left is the system's to clean up.
        fs::remove_dir_all(&self.folder).ok();
    }
}

/// An error if it is there already: somebody may have put it there.
fn private(folder: &Path) -> std::io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

#[cold]
fn failed(path: &Path, e: std::io::Error) -> Error {
    Error::new(ErrorKind::Environment, format!("{}: {e}", path.display())).caused_by(e)
}
