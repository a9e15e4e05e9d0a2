//! Any text as a pipeline's file, and behind a sound head.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use tapetum::config::PipelineFile;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = str::from_utf8(bytes) else { return };
    // The folder is not there: no file of this machine is read.
    let path = Path::new("/nonexistent/pipeline.toml");
    for text in [text.to_owned(), format!("[pipeline]\nname = 'x'\n{text}")] {
        if let Err(e) = PipelineFile::parse(text, path) {
            assert!(!e.to_string().is_empty());
        }
    }
});
