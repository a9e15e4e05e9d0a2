//! One camera of a site: its source, what looks at its frames, and what becomes of the findings.
//!
//! ```text
//!  source ──► Lent ──► executor (a generation: one pipeline, loaded) ──► Publisher ──► outputs, live page
//! ```
//!
//! A new configuration makes a new *generation*: it loads beside the one that runs, and takes the source over between two
//! frames. Source, figures and open events live longer than any of them.

mod figures;
mod generation;
mod keeper;
mod lent;
mod publisher;
mod watcher;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tapetum_runtime::{Result, clock::Clock};

use super::{config::CameraSpec, live::Live, outlets::Outlets};
use crate::source::{
    live::Stop,
    open_live,
    recover::SourceFaults,
    supervised::{SourceState, Supervised},
};

use figures::Figures;
pub(super) use generation::Generation;
pub(super) use keeper::Keeper;
use lent::Lent;
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
    max_age: Mutex<Option<Duration>>,
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
    /// Pictures that earlier sources gave.
    pictures: u64,
    /// Times that earlier sources were opened again, and stalled, and how long they gave nothing.
    past: SourceFaults,
}

impl Feed {
    fn open(spec: &CameraSpec) -> Result<Self> {
        let stop = Stop::default();
        let source = open_live(&spec.source, &spec.live, stop.clone())?;
        let state = source.state();
        let source = Arc::new(Mutex::new(source));
        Ok(Self { source, state, stop, overtaken: 0, pictures: 0, past: SourceFaults::default() })
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

    /// Its pipeline ended by itself.
    fn ended(&self, why: Option<String>) {
        *lock(&self.ended) = Some(why.unwrap_or_else(|| "the source is over".to_owned()));
    }
}

/// What these locks guard is sound between any two statements, so a panic elsewhere does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
