//! Files of the kernel below a root: small, and often not there.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

/// The kernel's own files are far smaller; anything larger is none of them.
const MOST_BYTES: u64 = 64 << 10;

/// The first bytes of a file, or nothing if it cannot be read.
pub(crate) fn read(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(MOST_BYTES).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// A file's first line without the white space around it.
pub(crate) fn line(path: &Path) -> Option<String> {
    let bytes = read(path)?;
    Some(String::from_utf8_lossy(&bytes).lines().next()?.trim().to_owned())
}

/// A number that stands alone in a file.
pub(crate) fn number(path: &Path) -> Option<i64> {
    line(path)?.parse().ok()
}

/// What a folder holds whose names begin with `prefix`, in the order of their names, numbers by value.
pub(crate) fn entries(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<(u64, String)> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with(prefix))
        .map(|name| {
            let digits = name.trim_start_matches(|c: char| !c.is_ascii_digit());
            (digits.parse().unwrap_or(u64::MAX), name)
        })
        .collect();
    found.sort();
    found.into_iter().map(|(_, name)| folder.join(name)).collect()
}
