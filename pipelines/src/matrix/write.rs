//! The matrix on disk.

use std::path::{Path, PathBuf};

use tapetum_runtime::{Error, Result};

use super::{Matrix, chart, markdown};
use crate::sink::files;

/// Writes `bench.json`, `bench.md` and `bench.svg` into `folder`, which is created; each is whole or not there. Returns their
/// paths.
///
/// # Errors
/// [`tapetum_runtime::ErrorKind::Environment`] if they cannot be written.
pub fn write(matrix: &Matrix, folder: &Path) -> Result<Vec<PathBuf>> {
    files::folder(folder)?;
    let mut json = serde_json::to_string_pretty(matrix)
        .map_err(|e| Error::internal(format!("the figures are not JSON: {e}")))?;
    json.push('\n');
    let all = [("bench.json", json), ("bench.md", markdown(matrix)), ("bench.svg", chart(matrix))];
    let mut written = Vec::new();
    for (name, text) in all {
        let path = folder.join(name);
        files::replace(&path, text.as_bytes())?;
        written.push(path);
    }
    Ok(written)
}
