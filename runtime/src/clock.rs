//! Time as the pipelines see it: injected, so that every rule about time can be tested without waiting.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// A point on a [`Clock`]: time since it started. Never wall time.
pub type Tick = Duration;

/// Something that tells the time, never backwards.
pub trait Clock: Send + Sync {
    /// Time since the clock started.
    fn now(&self) -> Tick;
}

/// The machine's monotonic clock.
#[derive(Debug)]
pub struct Monotonic(Instant);

impl Monotonic {
    /// A clock that starts now.
    pub fn start() -> Self {
        Self(Instant::now())
    }
}

impl Clock for Monotonic {
    fn now(&self) -> Tick {
        self.0.elapsed()
    }
}

/// A clock that moves only when it is told to.
#[derive(Debug, Default)]
pub struct Simulated(AtomicU64);

impl Simulated {
    /// Moves on.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }
}

impl Clock for Simulated {
    fn now(&self) -> Tick {
        Duration::from_nanos(self.0.load(Ordering::SeqCst))
    }
}
