//! The report on disk.

use std::path::{Path, PathBuf};

use tapetum_runtime::{Error, Result};

use super::{Report, chart, markdown};
use crate::sink::files;

/// Writes `soak.json`, `soak.md` and `soak.svg` into `folder`, which is created; each is whole or not there. Returns their paths.
///
/// # Errors
/// [`tapetum_runtime::ErrorKind::Environment`] if they cannot be written.
pub fn write(report: &Report, folder: &Path) -> Result<Vec<PathBuf>> {
    files::folder(folder)?;
    let mut json = serde_json::to_string_pretty(report)
        .map_err(|e| Error::internal(format!("the figures are not JSON: {e}")))?;
    json.push('\n');
    let mut written = Vec::new();
    for (name, text) in [("soak.json", json), ("soak.md", markdown(report)), ("soak.svg", chart(report))] {
        let path = folder.join(name);
        files::replace(&path, text.as_bytes())?;
        written.push(path);
    }
    Ok(written)
}
