//! Any bytes as a safetensors file, and as the header of one.
#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use tapetum_models::checkpoint::{Limits, read};

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits { total_bytes: 16 << 20, header_bytes: 1 << 20, ..Limits::default() };
    let _ = read(Cursor::new(bytes), &limits);
    let mut file = (bytes.len() as u64 + 1).to_le_bytes().to_vec();
    file.push(b'{');
    file.extend_from_slice(bytes);
    file.extend_from_slice(&[0x3f; 64]);
    let _ = read(Cursor::new(file), &limits);
});
