//! Waiting for what a test expects.

use std::time::{Duration, Instant};

/// Waits until it holds; what did not, after `within`, is the test's failure.
#[track_caller]
pub fn until(within: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + within;
    while !holds() {
        assert!(Instant::now() < end, "not within {within:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
