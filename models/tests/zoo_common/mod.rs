//! What the suites of the zoo's networks share.
#![allow(dead_code)] // each suite uses a part

use std::path::Path;

use tapetum_models::Result;
use tapetum_models::checkpoint::{self, Limits, StateDict};
use tapetum_models::zoo::{FAMILIES, Network};
use tapetum_runtime::Tensor;
use tapetum_runtime::backend::{BACKENDS, Backend};

/// The tensors of the checkpoint at `path`.
pub fn open(path: &Path) -> StateDict {
    checkpoint::open(path, &Limits::default()).unwrap().0
}

/// The one family that claims the checkpoint.
pub fn recognise(state: &StateDict) -> Result<Option<Box<dyn Network>>> {
    let mut found = None;
    for family in FAMILIES {
        if let Some(network) = family.recognise(state)? {
            assert!(found.is_none(), "two families claim the checkpoint, the second is {}", family.name());
            found = Some(network);
        }
    }
    Ok(found)
}

/// Every engine of this build that can run in this process.
pub fn engines() -> Vec<&'static dyn Backend> {
    let there = |backend: &&dyn Backend| tapetum_parts::there(backend.name(), backend.probe()).is_some();
    BACKENDS.iter().copied().filter(there).collect()
}

/// `max|got − want| / max(1, max|want|)`.
pub fn error(got: &Tensor, want: &Tensor) -> f32 {
    assert_eq!(got.shape(), want.shape());
    let (mut worst, mut scale) = (0f32, 1f32);
    for (g, w) in got.f32s().unwrap().iter().zip(want.f32s().unwrap()) {
        assert!(g.is_finite());
        worst = worst.max((g - w).abs());
        scale = scale.max(w.abs());
    }
    worst / scale
}
