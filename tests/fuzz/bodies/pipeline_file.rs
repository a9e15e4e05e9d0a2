//! Any text as a pipeline's file, and behind a sound head.

use std::path::Path;

use tapetum::config::PipelineFile;

/// Looks at one input; panics where something is not as it should be.
pub fn look(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    // The folder is not there: no file of this machine is read.
    let path = Path::new("/nonexistent/pipeline.toml");
    for text in [text.to_owned(), format!("[pipeline]\nname = 'x'\n{text}")] {
        if let Err(e) = PipelineFile::parse(text, path) {
            assert!(!e.to_string().is_empty());
        }
    }
}
