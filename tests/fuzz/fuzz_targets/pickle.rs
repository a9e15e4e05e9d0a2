//! Any bytes as a PyTorch file, and as the pickle inside of a sound zip archive.
#![no_main]

use std::io::{Cursor, Write};

use libfuzzer_sys::fuzz_target;
use tapetum_models::checkpoint::{Limits, read};
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

/// Small enough that running out of memory means a ceiling does not hold.
fn limits() -> Limits {
    Limits {
        total_bytes: 16 << 20,
        shared_bytes: 1 << 20,
        header_bytes: 1 << 20,
        objects: 100_000,
        ..Limits::default()
    }
}

fn inside_zip(pickle: &[u8]) -> Option<Vec<u8>> {
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    writer.start_file("net/data.pkl", options).ok()?;
    writer.write_all(pickle).ok()?;
    for (key, bytes) in [("0", 48usize), ("1", 16)] {
        writer.start_file(format!("net/data/{key}"), options).ok()?;
        writer.write_all(&vec![0x3f; bytes]).ok()?;
    }
    Some(writer.finish().ok()?.into_inner())
}

fuzz_target!(|bytes: &[u8]| {
    let _ = read(Cursor::new(bytes), &limits());
    if let Some(archive) = inside_zip(bytes) {
        let _ = read(Cursor::new(archive), &limits());
    }
});
