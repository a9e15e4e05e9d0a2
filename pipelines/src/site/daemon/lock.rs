//! One daemon to a state folder: two would write the same spools and databases.

use std::{
    fs::{File, TryLockError},
    path::Path,
};

use tapetum_runtime::{Error, ErrorKind, Result};

/// The lock of a state folder, on the folder itself, so that a full disk does not matter. The system takes it back whatever becomes
/// of the process.
pub(super) struct StateLock(#[expect(dead_code, reason = "held, not used")] Option<File>);

impl StateLock {
    /// # Errors
    /// [`ErrorKind::Environment`] if another process has it. A file system that knows no locks is none.
    pub fn take(state: &Path) -> Result<Self> {
        // What is wrong with the folder is the outputs' to tell.
        let Some(folder) = std::fs::create_dir_all(state).ok().and_then(|()| File::open(state).ok()) else {
            return Ok(Self(None));
        };
        match folder.try_lock() {
            Err(TryLockError::WouldBlock) => Err(Error::new(
                ErrorKind::Environment,
                format!(
                    "another tapetumd has the state folder {}; stop that one, or say another folder with `state` in [site]",
                    state.display()
                ),
            )),
            Ok(()) => Ok(Self(Some(folder))),
            Err(TryLockError::Error(_)) => Ok(Self(None)),
        }
    }
}
