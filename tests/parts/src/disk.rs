//! A disk that is soon full.

use std::{
    ffi::CString,
    fs::File,
    io::{self, Write},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

/// A mounted tmpfs of some bytes.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// At the folder `at`; `None`, which is said, where the machine does not let us (part `tmpfs`).
    pub fn mount(at: &Path, bytes: usize) -> Option<Self> {
        let (kind, options) = (c"tmpfs", CString::new(format!("size={bytes}")).ok()?);
        let place = CString::new(at.as_os_str().as_bytes()).ok()?;
        // SAFETY: all are strings that end in a zero and live until the call returns.
        let done =
            unsafe { libc::mount(kind.as_ptr(), place.as_ptr(), kind.as_ptr(), 0, options.as_ptr().cast()) };
        let done = if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
        crate::there("tmpfs", done).map(|()| Self(at.to_owned()))
    }

    /// Takes what is left of it, to the last byte, with a file.
    pub fn fill(&self) -> PathBuf {
        let path = self.0.join("fill");
        if let Ok(mut file) = File::create(&path) {
            for size in [65536, 4096, 512, 1] {
                while file.write_all(&vec![0; size]).is_ok() {}
            }
        }
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if let Ok(place) = CString::new(self.0.as_os_str().as_bytes()) {
            // SAFETY: the string ends in a zero and lives until the call returns.
            unsafe { libc::umount2(place.as_ptr(), libc::MNT_DETACH) };
        }
    }
}
