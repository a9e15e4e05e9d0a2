//! See the body, which `pipelines/tests/mutated.rs` runs, too.
#![no_main]

#[path = "../bodies/access_units.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| body::look(bytes));
