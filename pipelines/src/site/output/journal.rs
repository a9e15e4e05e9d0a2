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

use super::Output;
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
    /// An output that is new, and what only its own store knows as going on.
    Introduce(Arc<dyn Output>, Vec<Event>),
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
    let path = state.join(FILE);
    let Ok(text) = std::fs::read(&path) else { return Vec::new() };
    let Ok(events) = serde_json::from_slice::<Vec<Event>>(&text) else {
        // Kept for who wants to know, as databases are.
        std::fs::rename(&path, path.with_extension("json.corrupt")).ok();
        return Vec::new();
    };
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

    /// Tells an output that is new what goes on, as it was told last, and ends what `unfinished` has of other events. In its order:
    /// nothing older comes after it.
    pub fn introduce(&self, output: Arc<dyn Output>, unfinished: Vec<Event>) {
        if let Some(to) = lock(&self.to).as_ref() {
            to.try_send(Job::Introduce(output, unfinished)).ok();
        }
    }

    /// Why it cannot be written, if so.
    pub fn trouble(&self) -> Option<String> {
        lock(&self.trouble).clone()
    }

    /// Hands on what is on its way, until `until` at the latest. To be called before the outputs end. Whether all was handed on.
    pub fn stop(&self, until: Instant) -> bool {
        *lock(&self.to) = None;
        let Some(thread) = lock(&self.thread).take() else { return false };
        while !thread.is_finished() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(2));
        }
        thread.is_finished() && thread.join().is_ok()
    }

    /// The outputs have ended, and all was handed on to them. If all is on disk there is nothing to tell at the next start.
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
            let (mut batch, mut marks, mut introduced) = (Vec::new(), Vec::new(), Vec::new());
            for job in first.into_iter().chain(from.try_iter().take(WAITING)) {
                match job {
                    Job::Event(event) => batch.push(event),
                    Job::Mark(mark) => marks.push(mark),
                    Job::Introduce(output, unfinished) => introduced.push((output, unfinished)),
                }
            }
            for event in &batch {
                self.stale = true;
                self.events.insert(event.id.clone(), event.clone());
            }
            // First here, then there: what an output knows is known here in any case.
            self.write();
            batch.iter().for_each(|event| self.outputs.offer(&Message::Event(event.clone())));
            introduced.into_iter().for_each(|(output, unfinished)| self.introduce(&*output, unfinished));
            // Whoever asked may have stopped waiting.
            for mark in marks {
                mark.try_send(()).ok();
            }
            self.forget();
        }
    }

    fn introduce(&self, output: &dyn Output, unfinished: Vec<Event>) {
        let known = |event: &Event| self.events.contains_key(&event.id);
        let (here, left): (Vec<_>, Vec<_>) = unfinished.into_iter().partition(known);
        let wanted = |event: &&Arc<Event>| {
            event.phase != Phase::End || here.iter().any(|unfinished| unfinished.id == event.id)
        };
        let tell = |event| output.offer(&Message::Event(event));
        self.events.values().filter(wanted).cloned().for_each(tell);
        left.into_iter().map(Arc::new).for_each(tell);
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::site::status::OutputStatus;

    /// Outputs, or one of them, that keep what they are told.
    #[derive(Default)]
    struct Ear {
        heard: Mutex<Vec<(String, u32, Phase)>>,
        on_disk: AtomicBool,
    }

    impl Ear {
        fn hear(&self, message: &Message) {
            if let Message::Event(event) = message {
                lock(&self.heard).push((event.id.clone(), event.revision, event.phase));
            }
        }

        fn heard(&self) -> Vec<(String, u32, Phase)> {
            lock(&self.heard).clone()
        }
    }

    impl Told for Ear {
        fn offer(&self, message: &Message) {
            self.hear(message);
        }

        fn flush(&self, _: Duration) -> bool {
            self.on_disk.load(Ordering::SeqCst)
        }
    }

    impl Output for Ear {
        fn name(&self) -> &str {
            "ear"
        }

        fn offer(&self, message: &Message) {
            self.hear(message);
        }

        fn flush(&self, _: Duration) -> bool {
            true
        }

        fn status(&self) -> OutputStatus {
            unreachable!("nobody asks")
        }

        fn stop(&self, _: Duration) -> bool {
            true
        }
    }

    fn event(id: &str, revision: u32, phase: Phase) -> Event {
        Event {
            id: id.to_owned(),
            revision,
            camera: "gate".to_owned(),
            label: "person".to_owned(),
            phase,
            start: std::time::SystemTime::UNIX_EPOCH,
            end: None,
            frames: 3,
            score: 0.75,
            xyxy: [1.0, 2.0, 3.0, 4.0],
            most: 2,
            size: (640, 360),
            seq: 7,
            digest: "d".to_owned(),
            snapshot: None,
            recording: None,
        }
    }

    const SOON: Duration = Duration::from_secs(20);

    #[test]
    fn what_is_not_on_disk_everywhere_is_there_at_the_next_start() {
        for on_disk in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let outputs = Arc::new(Ear::default());
            let journal = Journal::start(dir.path(), outputs.clone(), Vec::new()).unwrap();
            journal.offer(&Arc::new(event("a", 1, Phase::Start)));
            journal.offer(&Arc::new(event("a", 2, Phase::End)));
            journal.settle(SOON);
            outputs.on_disk.store(on_disk, Ordering::SeqCst);
            assert!(journal.stop(Instant::now() + SOON));
            journal.close();
            assert_eq!(outputs.heard().len(), 2);
            let left: Vec<_> = left_over(dir.path()).into_iter().map(|e| (e.id, e.revision)).collect();
            // It had ended: it is told once more, as it was.
            assert_eq!(left, if on_disk { vec![] } else { vec![("a".to_owned(), 2)] });
        }
    }

    #[test]
    fn an_output_that_is_new_hears_what_goes_on_as_it_was_told_last_and_the_end_of_what_only_it_knows() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::start(dir.path(), Arc::new(Ear::default()), Vec::new()).unwrap();
        for (id, revision, phase) in
            [("a", 1, Phase::Start), ("b", 1, Phase::Start), ("a", 2, Phase::Update), ("c", 2, Phase::End)]
        {
            journal.offer(&Arc::new(event(id, revision, phase)));
        }
        let new = Arc::new(Ear::default());
        // Its store has `a` and `c` from before it was away, and one that nobody else knows any more.
        let unfinished = ["a", "c", "z"].map(|id| event(id, 9, Phase::End)).to_vec();
        journal.introduce(new.clone(), unfinished);
        journal.settle(SOON);
        let told = |id: &str, revision, phase| (id.to_owned(), revision, phase);
        let want = [
            told("a", 2, Phase::Update),
            told("b", 1, Phase::Start),
            told("c", 2, Phase::End),
            told("z", 9, Phase::End),
        ];
        assert_eq!(new.heard(), want);
        assert!(journal.stop(Instant::now() + SOON));
    }

    #[test]
    fn a_file_that_is_no_journal_is_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), "[{").unwrap();
        assert!(left_over(dir.path()).is_empty());
        assert!(dir.path().join("events.open.json.corrupt").exists() && !dir.path().join(FILE).exists());
    }
}
