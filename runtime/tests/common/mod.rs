//! Shared by the suites: the engines that can run here, golden files, comparison.
#![allow(dead_code)] // each suite uses its part

pub mod onnx;

use std::path::{Path, PathBuf};

use tapetum_runtime::{
    Tensor,
    backend::{BACKENDS, Backend},
};

/// Every engine of this build that can run in this process (which can load one ONNX Runtime; `TAPETUM_ORT` says which).
pub fn engines() -> Vec<&'static dyn Backend> {
    let there = |backend: &&dyn Backend| tapetum_parts::there(backend.name(), backend.probe()).is_some();
    BACKENDS.iter().copied().filter(there).collect()
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
