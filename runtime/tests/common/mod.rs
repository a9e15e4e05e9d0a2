//! Shared by the suites: the engines that can run here, golden files, comparison.
#![allow(dead_code)] // each suite uses its part

pub mod onnx;

use std::{
    io::Write,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use tapetum_runtime::{
    Tensor,
    backend::{BACKENDS, Backend},
};

/// Every engine of this build that can run in this process (which can load one ONNX Runtime; `TAPETUM_ORT` says
/// which). One that cannot is said, never passed over in silence, and is a failure where `TAPETUM_REQUIRE` names it.
pub fn engines() -> Vec<&'static dyn Backend> {
    let mut engines = Vec::new();
    for &backend in BACKENDS {
        match backend.probe() {
            Ok(_) => engines.push(backend),
            Err(why) => {
                let required = std::env::var("TAPETUM_REQUIRE").unwrap_or_default();
                let required = required.split(',').any(|name| name == backend.name());
                assert!(!required && backend.name() != "tract", "{}: {why}", backend.name());
                static SAID: Mutex<Vec<&str>> = Mutex::new(Vec::new());
                let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
                if said.contains(&backend.name()) {
                    continue;
                }
                said.push(backend.name());
                // Past the test harness, which would swallow the line of a test that passes.
                let why = why.to_string();
                let line =
                    format!("not run here: {}: {}\n", backend.name(), why.lines().next().unwrap_or(""));
                std::io::stderr().write_all(line.as_bytes()).unwrap();
            }
        }
    }
    engines
}

/// A folder of `tests/goldens`.
pub fn golden(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/goldens").join(case)
}

/// The `f32` tensor called `name` in a safetensors file.
pub fn tensor(file: &Path, name: &str) -> Tensor {
    let bytes = std::fs::read(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let view = file.tensor(name).unwrap();
    assert_eq!(view.dtype(), safetensors::Dtype::F32);
    let values = view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    Tensor::new::<f32>(view.shape(), values).unwrap()
}

/// Asserts `max|got − want| ≤ tolerance · max(1, max|want|)`; a NaN fails.
#[track_caller]
pub fn assert_close(got: &Tensor, want: &Tensor, tolerance: f32, what: &str) {
    assert_eq!(got.shape(), want.shape(), "{what}");
    let (got, want) = (got.f32s().unwrap(), want.f32s().unwrap());
    let scale = want.iter().fold(1f32, |m, w| m.max(w.abs()));
    let bad = got.iter().zip(want).position(|(g, w)| (g - w).is_nan() || (g - w).abs() > tolerance * scale);
    if let Some(at) = bad {
        panic!("{what}: element {at} is {}, want {} (tolerance {tolerance:e} of {scale})", got[at], want[at]);
    }
}
