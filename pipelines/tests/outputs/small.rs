//! A small disk: a tmpfs, where the machine lets us mount one.

use std::{
    ffi::CString,
    fs,
    path::{Path, PathBuf},
};

/// A mounted tmpfs of some bytes.
pub struct Small(PathBuf);

impl Small {
    pub fn mount(at: &Path, bytes: usize) -> Option<Self> {
        let (kind, options) =
            (CString::new("tmpfs").unwrap(), CString::new(format!("size={bytes}")).unwrap());
        let place = CString::new(at.to_str().unwrap()).unwrap();
        // SAFETY: all are strings that end in a zero and live until the call returns.
        let done =
            unsafe { libc::mount(kind.as_ptr(), place.as_ptr(), kind.as_ptr(), 0, options.as_ptr().cast()) };
        if done == 0 {
            return Some(Self(at.to_owned()));
        }
        let why = std::io::Error::last_os_error();
        // Past the test harness, which would swallow the line of a test that passes.
        let line = format!("not run here: a full disk, a tmpfs cannot be mounted: {why}\n");
        std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()).unwrap();
        None
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let place = CString::new(self.0.to_str().unwrap()).unwrap();
        // SAFETY: the string ends in a zero and lives until the call returns.
        unsafe { libc::umount2(place.as_ptr(), libc::MNT_DETACH) };
    }
}

/// Fills what is left.
pub fn fill(dir: &Path) -> PathBuf {
    let file = dir.join("fill");
    let mut to = fs::File::create(&file).unwrap();
    for size in [65536, 4096, 512, 1] {
        while std::io::Write::write_all(&mut to, &vec![0; size]).is_ok() {}
    }
    file
}
