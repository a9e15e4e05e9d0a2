//! How long to wait before the next try.

use std::time::Duration;

use tapetum_runtime::seed::Seeded;

/// Doubles from `first` to `most`; each wait is shortened by a random part of up to a half, so that boxes which lost the same server
/// do not come back at once.
#[derive(Debug)]
pub(super) struct Backoff {
    first: Duration,
    most: Duration,
    next: Duration,
    jitter: Seeded,
}

impl Backoff {
    pub fn new(first: Duration, most: Duration, seed: u64) -> Self {
        Self { first, most, next: first, jitter: Seeded::new(seed) }
    }

    pub fn wait(&mut self) -> Duration {
        let wait = self.next.mul_f32(self.jitter.uniform(0.5, 1.0));
        self.next = (self.next * 2).min(self.most);
        wait
    }

    /// It works again.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}
