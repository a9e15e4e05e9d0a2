//! What the suites of the zoo's networks share.
#![allow(dead_code)] // each suite uses a part

use std::io::Write;
use std::path::Path;
use std::sync::Mutex;

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

/// Every engine of this build that can run in this process. One that cannot is said, and is a failure where
/// `TAPETUM_REQUIRE` names it.
pub fn engines() -> Vec<&'static dyn Backend> {
    let can_run = |backend: &&dyn Backend| match backend.probe() {
        Ok(_) => true,
        Err(why) => {
            let needed = std::env::var("TAPETUM_REQUIRE").unwrap_or_default();
            let needed = needed.split(',').any(|name| name == backend.name());
            assert!(backend.name() != "tract" && !needed, "{why}");
            // Past the test harness, which would swallow the line of a test that passes.
            static SAID: Mutex<Vec<&str>> = Mutex::new(Vec::new());
            let mut said = SAID.lock().unwrap();
            if said.contains(&backend.name()) {
                return false;
            }
            said.push(backend.name());
            let why = why.to_string();
            let line = format!("not run here: {}: {}\n", backend.name(), why.lines().next().unwrap_or(""));
            std::io::stderr().write_all(line.as_bytes()).unwrap();
            false
        }
    };
    BACKENDS.iter().copied().filter(can_run).collect()
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
