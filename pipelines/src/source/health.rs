//! How a source that comes back by itself fares: for health checks and metrics, from any thread.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use tapetum_runtime::clock::{Clock, Tick};

use super::{
    Losses, SequenceFaults, Source, SourceInfo, StampFaults,
    recover::{Phase, Recovery, SourceFaults},
};

/// How a source fares; read by health checks and metrics, at any time and from any thread.
pub struct SourceState {
    health: Mutex<SourceHealth>,
    /// Pictures that a newer one replaced; [`super::live::Live`] counts them.
    overtaken: Mutex<Arc<AtomicU64>>,
    clock: Arc<dyn Clock>,
}

/// A source's health at one moment. Times are of the clock that [`SourceHealth::now`] shows.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceHealth {
    /// When this was.
    pub now: Tick,
    /// Where it stands.
    pub phase: Phase,
    /// What is known of it; no secrets.
    pub info: SourceInfo,
    /// What went wrong so far. The downtime includes the outage that goes on.
    pub faults: SourceFaults,
    /// Pictures that came, whether or not anybody took them.
    pub pictures: u64,
    /// Frames that came and could not be read, whether or not anybody was told.
    pub unreadable: u64,
    /// When the latest picture came, and its wall-clock time.
    pub latest: Option<(Tick, SystemTime)>,
    /// What the latest connection came to: see [`Source::remarks`].
    pub remarks: Vec<String>,
    /// Mended timestamps, over all connections.
    pub stamps: StampFaults,
    /// What was lost, over all connections.
    pub losses: Losses,
    /// Faults of the driver's frame counter, over all connections.
    pub sequence: SequenceFaults,
    pub(super) down: Option<Tick>,
}

/// What a source counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Figures {
    pub stamps: StampFaults,
    pub losses: Losses,
    pub sequence: SequenceFaults,
}

impl Figures {
    /// Those of a source that is open.
    pub fn of(source: &dyn Source) -> Self {
        Self { stamps: source.stamps(), losses: source.losses(), sequence: source.sequence() }
    }
}

impl std::ops::AddAssign for Figures {
    fn add_assign(&mut self, more: Self) {
        self.stamps += more.stamps;
        self.losses += more.losses;
        self.sequence += more.sequence;
    }
}

impl SourceHealth {
    pub(super) fn count(&mut self, figures: Figures) {
        (self.stamps, self.losses, self.sequence) = (figures.stamps, figures.losses, figures.sequence);
    }
}

impl SourceState {
    /// Of a source that is being opened for the first time.
    pub(super) fn new(clock: Arc<dyn Clock>, now: Tick, recovery: &Recovery, info: SourceInfo) -> Self {
        let health = SourceHealth {
            now,
            phase: recovery.phase().clone(),
            info,
            faults: SourceFaults::default(),
            pictures: 0,
            unreadable: 0,
            latest: None,
            remarks: Vec::new(),
            stamps: StampFaults::default(),
            losses: Losses::default(),
            sequence: SequenceFaults::default(),
            down: recovery.down(),
        };
        Self { clock, overtaken: Mutex::default(), health: Mutex::new(health) }
    }

    /// Where pictures that nobody took are counted.
    pub(super) fn count_overtaken(&self, overtaken: Arc<AtomicU64>) {
        *self.overtaken.lock().unwrap_or_else(PoisonError::into_inner) = overtaken;
    }

    /// The health now.
    pub fn health(&self) -> SourceHealth {
        let overtaken = Arc::clone(&self.overtaken.lock().unwrap_or_else(PoisonError::into_inner));
        let mut health = self.lock().clone();
        health.now = self.clock.now();
        health.losses.overtaken += overtaken.load(Ordering::Relaxed);
        if let (Some(down), false) = (health.down, health.phase == Phase::Stopped) {
            health.faults.downtime += health.now.saturating_sub(down);
        }
        health
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, SourceHealth> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
