//! Events that go on, on disk before any output hears of them: a daemon that was killed ends them for all outputs when it
//! starts again, whatever each of them had on disk.
//!
//! An event leaves the journal when it has ended and every output has that on disk. What is found at the start is therefore
//! either open, and is ended with a revision that no output has seen, or had ended, and is told once more as it was.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tapetum_runtime::{Error, ErrorKind, Result};

use crate::{
    sink::files,
    site::message::{Event, Message, Phase},
};

/// The file in the state folder.
const FILE: &str = "events.open.json";
/// Events on their way to the outputs, at most.
const WAITING: usize = 10_000;
/// Most ended events that wait for outputs whose disk is broken.
const MOST_ENDED: usize = 1000;
/// How often outputs are asked whether they have the ends on disk, and how long each may take to say so.
const ASK: Duration = Duration::from_millis(500);
const ANSWER: Duration = Duration::from_millis(100);

/// The outputs of a site, which may be others from one event to the next.
pub(in crate::site) trait Told: Send + Sync {
    /// Hands a message to all.
    fn offer(&self, message: &Message);

    /// Whether each has all it was given on disk, in `within`.
    fn flush(&self, within: Duration) -> bool;
}

enum Job {
    Event(Arc<Event>),
    /// To be answered when everything before it is handed on.
    Mark(SyncSender<()>),
}

/// Hands events on to the outputs.
pub(in crate::site) struct Journal {
    to: Mutex<Option<SyncSender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    outputs: Arc<dyn Told>,
    path: PathBuf,
    trouble: Arc<Mutex<Option<String>>>,
}

/// What the thread has.
struct Writer {
    path: PathBuf,
    outputs: Arc<dyn Told>,
    /// As told last; sorted by id, which is by time.
    events: BTreeMap<String, Arc<Event>>,
    /// The file is not as `events` are.
    stale: bool,
    asked: Instant,
    trouble: Arc<Mutex<Option<String>>>,
}

/// What the journal in `state` knows, each as its end. Nothing if there is none, or none that can be read: the store may still
/// know them.
pub(super) fn left_over(state: &Path) -> Vec<Event> {
    let Ok(text) = std::fs::read(state.join(FILE)) else { return Vec::new() };
    let events: Vec<Event> = serde_json::from_slice(&text).unwrap_or_default();
    events.into_iter().map(ended).collect()
}

/// As it is told when nobody ended it.
pub(super) fn ended(mut event: Event) -> Event {
    if event.phase != Phase::End {
        // When it was seen last is not known; the start certainly was.
        event.end.get_or_insert(event.start);
        (event.phase, event.revision) = (Phase::End, event.revision + 1);
    }
    event
}

impl Journal {
    /// Starts with what was left over and told to the outputs.
    ///
    /// # Errors
    /// [`ErrorKind::Environment`] if there can be no thread.
    pub fn start(state: &Path, outputs: Arc<dyn Told>, left: Vec<Event>) -> Result<Self> {
        let (to, from) = sync_channel(WAITING);
        let (path, trouble) = (state.join(FILE), Arc::<Mutex<Option<String>>>::default());
        let writer = Writer {
            path: path.clone(),
            outputs: outputs.clone(),
            events: left.into_iter().map(|event| (event.id.clone(), Arc::new(event))).collect(),
            stale: true,
            asked: Instant::now(),
            trouble: trouble.clone(),
        };
        let thread = std::thread::Builder::new().name("events".to_owned());
        let thread = thread.spawn(move || writer.run(&from)).map_err(|e| {
            Error::new(ErrorKind::Environment, format!("cannot start a thread: {e}")).caused_by(e)
        })?;
        let (to, thread) = (Mutex::new(Some(to)), Mutex::new(Some(thread)));
        Ok(Self { to, thread, outputs, path, trouble })
    }

    /// Takes an event. Never waits for the disk.
    pub fn offer(&self, event: &Arc<Event>) {
        let taken = lock(&self.to).as_ref().is_some_and(|to| to.try_send(Job::Event(event.clone())).is_ok());
        if !taken {
            // The disk has stood still for long, or it ends: better unknown to the journal than to everybody.
            self.outputs.offer(&Message::Event(event.clone()));
        }
    }

    /// Waits until what was taken so far is handed on, at most for `within`: for who tells the outputs something that comes after it.
    pub fn settle(&self, within: Duration) {
        let (done, wait) = sync_channel(1);
        let asked = lock(&self.to).as_ref().is_some_and(|to| to.try_send(Job::Mark(done)).is_ok());
        if asked {
            wait.recv_timeout(within).ok();
        }
    }

    /// Why it cannot be written, if so.
    pub fn trouble(&self) -> Option<String> {
        lock(&self.trouble).clone()
    }

    /// Hands on what is on its way, until `until` at the latest. To be called before the outputs end.
    pub fn stop(&self, until: Instant) {
        *lock(&self.to) = None;
        let Some(thread) = lock(&self.thread).take() else { return };
        while !thread.is_finished() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// The outputs have ended. If all is on disk there is nothing to tell at the next start.
    pub fn close(&self) {
        if self.outputs.flush(Duration::ZERO) {
            std::fs::remove_file(&self.path).ok();
        }
    }
}

impl Writer {
    fn run(mut self, from: &Receiver<Job>) {
        loop {
            let first = match from.recv_timeout(ASK) {
                Ok(job) => Some(job),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let (mut batch, mut marks) = (Vec::new(), Vec::new());
            for job in first.into_iter().chain(from.try_iter().take(WAITING)) {
                match job {
                    Job::Event(event) => batch.push(event),
                    Job::Mark(mark) => marks.push(mark),
                }
            }
            for event in &batch {
                self.stale = true;
                self.events.insert(event.id.clone(), event.clone());
            }
            // First here, then there: what an output knows is known here in any case.
            self.write();
            batch.iter().for_each(|event| self.outputs.offer(&Message::Event(event.clone())));
            // Whoever asked may have stopped waiting.
            for mark in marks {
                mark.try_send(()).ok();
            }
            self.forget();
        }
    }

    /// Leaves out what has ended and is on disk everywhere.
    fn forget(&mut self) {
        let over = |event: &Arc<Event>| event.phase == Phase::End;
        let count = self.events.values().filter(|event| over(event)).count();
        if count == 0 || self.asked.elapsed() < ASK {
            return;
        }
        self.asked = Instant::now();
        if self.outputs.flush(ANSWER) {
            self.events.retain(|_, event| !over(event));
            self.stale = true;
        } else if count > MOST_ENDED {
            let mut surplus = count - MOST_ENDED;
            self.events.retain(|_, event| {
                let goes = surplus > 0 && over(event);
                surplus -= usize::from(goes);
                !goes
            });
        }
    }

    fn write(&mut self) {
        if !self.stale || (self.events.is_empty() && !self.path.exists()) {
            return;
        }
        let events: Vec<&Event> = self.events.values().map(|event| &**event).collect();
        let text = serde_json::to_vec(&events).map_err(|e| Error::internal(format!("no JSON: {e}")));
        let written = text.and_then(|text| files::replace(&self.path, &text));
        // On a full disk it is tried again with the next event, or soon.
        self.stale = written.is_err();
        *lock(&self.trouble) = written.err().map(|e| format!("events that go on cannot be noted: {e}"));
    }
}

/// What these locks guard is sound between any two statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
