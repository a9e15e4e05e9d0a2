//! See the body, which `pipelines/tests/mutated.rs` runs, too.
#![no_main]

#[path = "../bodies/pipeline_file.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| body::look(bytes));
