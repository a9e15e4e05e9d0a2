//! The media folder: snapshots and recordings, written by a thread of its own, bounded in bytes and age.
//!
//! ```text
//!  media/CAMERA/ID.jpg    best picture of event ID        media/CAMERA/.ID.part/   a recording under way
//!  media/CAMERA/ID/       recording begun for event ID
//! ```
//!
//! Cameras hand orders over and never wait. Names that are not of these forms are left alone.
//!
//! | part | what it does |
//! |---|---|
//! | `queue` | what waits for the disk, bounded in bytes |
//! | `worker` | the thread: does what is ordered |
//! | `salvage` | looks through the folder; completes or removes what an earlier process left half done |
//! | `room` | makes room, by bytes and by age |
//! | `shelf` | what is in the folder |

mod queue;
mod room;
mod salvage;
mod shelf;
mod worker;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tapetum_runtime::{Error, Result};

use super::MediaSpec;
use crate::site::status::MediaStatus;
pub(super) use queue::Order;
use queue::Waiting;

/// The folder, and the thread that writes it.
pub struct Media {
    dir: PathBuf,
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    waiting: Mutex<Waiting>,
    bell: Condvar,
    figures: Mutex<MediaStatus>,
}

impl Shared {
    fn new(spec: &MediaSpec) -> Self {
        let figures = MediaStatus {
            dir: spec.dir.display().to_string(),
            up: true,
            why: None,
            bytes: 0,
            most_bytes: spec.most,
            recordings: 0,
            snapshots: 0,
            recording: 0,
            waiting_bytes: 0,
            written: BTreeMap::new(),
            dropped: BTreeMap::new(),
            removed: BTreeMap::new(),
        };
        Self { waiting: Mutex::default(), bell: Condvar::new(), figures: Mutex::new(figures) }
    }

    /// What these locks guard is sound between any two statements.
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn figures(&self) -> MutexGuard<'_, MediaStatus> {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next order; `Err` once there is none and it is to stop, `Ok(None)` after a while without any.
    fn next(&self, within: Duration) -> std::result::Result<Option<Order>, ()> {
        let until = Instant::now() + within;
        let mut waiting = self.waiting();
        loop {
            if let Some(order) = waiting.take() {
                return Ok(Some(order));
            }
            if waiting.stop {
                return Err(());
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            waiting = self.bell.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl MediaStatus {
    fn wrote(&mut self, what: &str) {
        *self.written.entry(what.to_owned()).or_default() += 1;
    }

    fn drop_one(&mut self, what: &str, why: &str) {
        *self.dropped.entry(format!("{what}: {why}")).or_default() += 1;
    }

    fn removed(&mut self, what: &str) {
        *self.removed.entry(what.to_owned()).or_default() += 1;
    }
}

impl Media {
    /// Starts the thread. What an earlier process left half done is completed or removed by it.
    ///
    /// # Errors
    /// The system gives no thread. A folder that cannot be written is told in the status, and tried again.
    pub fn start(spec: &MediaSpec) -> Result<Self> {
        let shared = Arc::new(Shared::new(spec));
        let (theirs, spec_of_theirs) = (shared.clone(), spec.clone());
        let thread = std::thread::Builder::new()
            .name("media".into())
            .spawn(move || worker::work(&theirs, spec_of_theirs))
            .map_err(|e| Error::internal(format!("no thread for the media folder: {e}")).caused_by(e))?;
        Ok(Self { dir: spec.dir.clone(), shared, thread: Mutex::new(Some(thread)) })
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Hands an order over. False, with the order counted as dropped, if more waits than there may.
    pub(super) fn offer(&self, order: Order) -> bool {
        let refused = self.shared.waiting().put(order);
        let Err(order) = refused else {
            self.shared.bell.notify_one();
            return true;
        };
        let what = if matches!(order, Order::Snapshot(..)) { "snapshot" } else { "recording" };
        self.shared.figures().drop_one(what, "the disk is too slow");
        if let Order::Snapshot(_, _, done) = order {
            done(false);
        }
        false
    }

    /// A camera is there whose recordings begin with up to so many bytes at once: they may wait besides what else does.
    pub(super) fn widen(&self, bytes: usize) {
        self.shared.waiting().widen(bytes);
    }

    /// It is gone.
    pub(super) fn narrow(&self, bytes: usize) {
        self.shared.waiting().narrow(bytes);
    }

    /// How it goes.
    pub fn status(&self) -> MediaStatus {
        let waiting = self.shared.waiting().bytes() as u64;
        MediaStatus { waiting_bytes: waiting, ..self.shared.figures().clone() }
    }

    /// Writes what waits, and ends the thread; returns after `within` at the latest. What is not completed by then is by the next
    /// start.
    pub fn stop(&self, within: Duration) {
        let until = Instant::now() + within;
        self.shared.waiting().stop = true;
        self.shared.bell.notify_all();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(thread) = thread else { return };
        while !thread.is_finished() {
            if Instant::now() >= until {
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        thread.join().ok();
    }
}

impl Drop for Media {
    fn drop(&mut self) {
        self.stop(Duration::from_millis(500));
    }
}

#[cfg(test)]
mod tests;
