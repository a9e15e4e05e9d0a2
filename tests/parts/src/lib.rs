//! Parts that a suite needs beyond cargo and a C compiler: an engine, a broker, a browser. One that is not there is said by
//! name, never passed over in silence; `TAPETUM_REQUIRE=ort,mosquitto` makes that an error.

mod disk;

pub use disk::SmallDisk;

use std::{
    collections::BTreeSet,
    fmt::Display,
    io::Write,
    sync::{Mutex, PoisonError},
};

/// In every build, so every suite needs it.
const ALWAYS: &str = "tract";

/// What was found of `part`; where it was not, that and why are said.
///
/// # Panics
/// If it is required and not there.
pub fn there<T, E: Display>(part: &str, found: Result<T, E>) -> Option<T> {
    found.map_err(|why| missing(part, why)).ok()
}

/// Says once in a process that `part` is not there, and why.
///
/// # Panics
/// If it is required.
pub fn missing(part: &str, why: impl Display) {
    let required = std::env::var("TAPETUM_REQUIRE").unwrap_or_default();
    let required = part == ALWAYS || required.split(',').any(|name| name == part);
    assert!(!required, "{part} is required here: {why}");
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    if SAID.lock().unwrap_or_else(PoisonError::into_inner).insert(part.to_owned()) {
        let why = why.to_string();
        // Past the test harness, which would swallow the line of a test that passes.
        let line = format!("not run here: {part}: {}\n", why.lines().next().unwrap_or_default());
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
}
