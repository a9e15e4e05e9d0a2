//! One camera of a site: its source, what looks at its frames, and what becomes of the findings.
//!
//! ```text
//!  source ──► Lent ──► executor (a generation: one pipeline, loaded) ──► Publisher ──► outputs, live page
//!              └──packets──► Recorder ◄── frames and events ────────────────┘
//! ```
//!
//! A new configuration makes a new *generation*: it loads beside the one that runs, and takes the source over between two
//! frames. Source, figures and open events live longer than any of them.

mod figures;
mod generation;
mod keeper;
mod late;
mod lent;
mod progress;
mod publisher;
mod watcher;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tapetum_runtime::{Result, clock::Clock};

use super::{
    config::CameraSpec,
    live::Live,
    machine::Cap,
    outlets::Outlets,
    record::{Held, Recorder},
    status::Gaps,
};
use crate::recording::format::Ended;
use crate::source::{
    live::Stop,
    open_live,
    recover::SourceFaults,
    supervised::{SourceState, Supervised},
};

use figures::Figures;
pub(super) use generation::Generation;
pub(super) use keeper::{Keeper, Shared};
use late::Lateness;
use lent::Lent;
use progress::Progress;
use publisher::Publisher;
use watcher::Watcher;

/// What all generations of a camera share.
pub(super) struct CameraCore {
    pub name: String,
    pub live: Arc<Live>,
    figures: Arc<Figures>,
    feed: Mutex<Feed>,
    clock: Arc<dyn Clock>,
    outlets: Arc<Outlets>,
    /// What happens on it, if events were asked for.
    watcher: Mutex<Option<Watcher>>,
    /// Events on their way to the outputs.
    held: Arc<Held>,
    /// What is kept of them, if that was asked for. Taken after `watcher` where both are.
    recorder: Mutex<Option<Recorder>>,
    max_age: Mutex<Option<Duration>>,
    /// What the machine can bear at present.
    cap: Arc<Cap>,
    /// Why its pipeline ended by itself, if it did.
    ended: Mutex<Option<String>>,
}

/// Where the frames come from at present.
struct Feed {
    source: Arc<Mutex<Supervised>>,
    state: Arc<SourceState>,
    stop: Stop,
    /// Pictures that earlier sources dropped for newer ones.
    overtaken: u64,
    /// Frames that earlier sources gave, also those that could not be read.
    received: u64,
    /// Times that earlier sources were opened again, and stalled, and how long they gave nothing.
    past: SourceFaults,
    /// What earlier sources lost.
    gaps: Gaps,
}

impl Feed {
    fn open(spec: &CameraSpec) -> Result<Self> {
        let stop = Stop::default();
        let source = open_live(&spec.source, &spec.live, stop.clone())?;
        let state = source.state();
        let source = Arc::new(Mutex::new(source));
        let (past, gaps) = (SourceFaults::default(), Gaps::default());
        Ok(Self { source, state, stop, overtaken: 0, received: 0, past, gaps })
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.stop.set();
    }
}

impl CameraCore {
    fn feed(&self) -> MutexGuard<'_, Feed> {
        lock(&self.feed)
    }

    /// Ends the events that go on.
    fn end_events(&self, why: Ended) {
        if let Some(watcher) = &mut *lock(&self.watcher) {
            watcher.end_all(&mut |event| self.held.take(event));
        }
        if let Some(recorder) = &mut *lock(&self.recorder) {
            recorder.end(why);
        }
    }

    /// Its pipeline ended by itself.
    fn ended(&self, why: Option<String>) {
        *lock(&self.ended) = Some(why.unwrap_or_else(|| "the source is over".to_owned()));
    }
}

/// What these locks guard is sound between any two statements, so a panic elsewhere does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
