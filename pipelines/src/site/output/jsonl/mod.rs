//! Files of lines: `events-DAY.jsonl` and `results-DAY.jsonl`, a new one each day (UTC) and at a size, within a bounded disk.
//!
//! A line is written whole or not at all. While the disk is full, lines wait in memory, within bounds.

mod files;

use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant, SystemTime},
};

use tapetum_runtime::{
    Error, ErrorKind, Result,
    settings::{Reader, Table},
};

use self::files::{Files, Limits};
use super::{Kind, Output, OutputKind, Place, below, folder, reading, spec::Spec, tally::Tally};
use crate::site::{message::Message, status::OutputStatus};

/// `kind = "jsonl"`.
pub(super) const JSONL: OutputKind = OutputKind {
    name: "jsonl",
    does: "files of lines, a new one each day and at a size",
    keys: &["dir", "events", "results", "max_file_mb", "max_mb", "sync"],
    read: |reader, table| JsonlSpec::read(reader, table).map(Kind::Jsonl),
};

/// Most lines that wait in memory.
const WAITING: usize = 10_000;
/// Until the next try after a fault.
const RETRY: Duration = Duration::from_millis(500);

/// What is written where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonlSpec {
    /// Folder of the files, relative to the state folder, or absolute.
    pub dir: PathBuf,
    /// Whether events are written.
    pub events: bool,
    /// Whether results of frames are written.
    pub results: bool,
    /// A file that would grow beyond this is followed by the next, in bytes.
    pub max_file_bytes: u64,
    /// All files together stay below this, in bytes: the oldest go.
    pub max_bytes: u64,
    /// When lines are surely on the disk.
    pub sync: Sync,
}

/// When lines are surely on the disk. A kill of the daemon never takes a line that was written; a loss of power may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// After each line.
    Each,
    /// Once a second.
    Second,
    /// When the system does it.
    Never,
}

impl JsonlSpec {
    fn read<'t>(reader: &mut Reader<'t>, table: &Table<'t>) -> Option<Self> {
        let dir = reading::path(reader, table, "dir").unwrap_or_else(|| "jsonl".into());
        let events = reading::flag(reader, table, "events", true);
        let results = reading::flag(reader, table, "results", false);
        let max_file_bytes = reading::mebibytes(reader, table, "max_file_mb", 64);
        let max_bytes = reading::mebibytes(reader, table, "max_mb", 1024);
        let words = [("each", Sync::Each), ("second", Sync::Second), ("never", Sync::Never)];
        let sync = match reader.choice(table, "sync", &words) {
            None if table.has("sync") => None,
            sync => Some(sync.unwrap_or(Sync::Second)),
        };
        if !events? && !results? {
            reader.note(table.place("events"), "events and results are both off: nothing would be written");
        }
        if max_file_bytes? > max_bytes? {
            reader.note(table.place("max_file_mb"), "max_file_mb must not be more than max_mb");
        }
        Some(Self {
            dir,
            events: events?,
            results: results?,
            max_file_bytes: max_file_bytes?,
            max_bytes: max_bytes?,
            sync: sync?,
        })
    }
}

/// The output.
pub struct Jsonl {
    name: String,
    spec: JsonlSpec,
    shared: Arc<Shared>,
}

struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    done: Condvar,
    tally: Tally,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Line>,
    /// Number of the next line.
    next: u64,
    dropped: u64,
    stop: Option<Instant>,
    ended: bool,
}

#[derive(Clone)]
struct Line {
    /// In the order in which lines were offered.
    number: u64,
    /// What stands at the head of the file's name.
    kind: &'static str,
    /// With its line feed.
    text: Arc<[u8]>,
}

const EVENTS: &str = "events";
const RESULTS: &str = "results";

impl Queue {
    /// Whether everything before the line `mark` was written or dropped.
    fn past(&self, mark: u64) -> bool {
        self.waiting.front().is_none_or(|line| line.number >= mark)
    }

    /// Makes room for one more. Results are the many, and worth less than events.
    fn drop_one(&mut self) {
        let result = self.waiting.iter().position(|line| line.kind == RESULTS);
        self.waiting.remove(result.unwrap_or(0));
        self.dropped += 1;
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Spec for JsonlSpec {
    fn claims(&self, _: &str, place: &Place) -> Vec<String> {
        vec![format!("the folder {}", below(&place.state, &self.dir).display())]
    }

    fn check(&self, place: &Place) -> Result<()> {
        folder(&below(&place.state, &self.dir))
    }

    fn open(&self, name: &str, place: &Place) -> Result<Arc<dyn Output>> {
        self.check(place)?;
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            wake: Condvar::new(),
            done: Condvar::new(),
            tally: Tally::default(),
        });
        shared.tally.up();
        let limits = Limits { file: self.max_file_bytes, all: self.max_bytes };
        let files = Files::new(below(&place.state, &self.dir), limits);
        let (inside, sync) = (Arc::clone(&shared), self.sync);
        thread::Builder::new()
            .name("output-jsonl".to_owned())
            .spawn(move || run(&inside, files, sync))
            .map_err(|e| {
                Error::new(ErrorKind::Environment, format!("cannot start a thread: {e}")).caused_by(e)
            })?;
        Ok(Arc::new(Jsonl { name: name.to_owned(), spec: self.clone(), shared }))
    }
}

fn run(shared: &Shared, mut files: Files, sync: Sync) {
    let mut synced = Instant::now();
    let mut broken = false;
    loop {
        let mut queue = shared.lock();
        let line = loop {
            let now = Instant::now();
            let late = queue.stop.is_some_and(|until| now >= until);
            if late || (queue.stop.is_some() && queue.waiting.is_empty()) {
                drop(queue);
                if let Err(e) = files.sync() {
                    shared.tally.down(e);
                }
                shared.lock().ended = true;
                return shared.done.notify_all();
            }
            match queue.waiting.front() {
                Some(line) if !std::mem::take(&mut broken) => break Some(line.clone()),
                None if sync == Sync::Second
                    && files.dirty()
                    && synced.elapsed() >= Duration::from_secs(1) =>
                {
                    break None;
                }
                _ => {}
            }
            queue = shared.wake.wait_timeout(queue, RETRY).unwrap_or_else(PoisonError::into_inner).0;
        };
        drop(queue);
        let due = sync == Sync::Each || sync == Sync::Second && synced.elapsed() >= Duration::from_secs(1);
        let mut written = match &line {
            Some(line) => files.append(line.kind, &line.text, SystemTime::now()),
            None => Ok(()),
        };
        if due {
            written = written.and_then(|()| files.sync());
            synced = Instant::now();
        }
        match written {
            Ok(()) => shared.tally.up(),
            Err(e) => {
                shared.tally.down(e);
                broken = true;
                continue;
            }
        }
        let mut queue = shared.lock();
        if let Some(line) = line
            && queue.waiting.front().is_some_and(|first| first.number == line.number)
        {
            queue.waiting.pop_front();
            shared.tally.delivered(1);
        }
        drop(queue);
        shared.done.notify_all();
    }
}

impl Output for Jsonl {
    fn name(&self) -> &str {
        &self.name
    }

    fn offer(&self, message: &Message) {
        let (kind, text): (_, Arc<[u8]>) = match message {
            Message::Event(event) if self.spec.events => {
                let Ok(mut json) = serde_json::to_vec(&**event) else {
                    return self.shared.tally.dropped("not JSON", 1);
                };
                json.push(b'\n');
                (EVENTS, json.into())
            }
            Message::Result(result) if self.spec.results => (RESULTS, result.line.as_slice().into()),
            _ => return,
        };
        let mut queue = self.shared.lock();
        if queue.stop.is_some() {
            return self.shared.tally.dropped("stopped", 1);
        }
        if queue.waiting.len() >= WAITING {
            queue.drop_one();
            self.shared.tally.dropped("memory full", 1);
        }
        let number = queue.next;
        queue.next += 1;
        queue.waiting.push_back(Line { number, kind, text });
        drop(queue);
        self.shared.wake.notify_one();
    }

    fn flush(&self, within: Duration) -> bool {
        let until = Instant::now() + within;
        let mut queue = self.shared.lock();
        let (mark, dropped) = (queue.next, queue.dropped);
        while !queue.past(mark) && !queue.ended {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            queue = self.shared.done.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        queue.past(mark) && queue.dropped == dropped
    }

    fn status(&self) -> OutputStatus {
        self.shared.tally.status(&self.name, self.shared.lock().waiting.len() as u64, 0)
    }

    fn stop(&self, within: Duration) -> bool {
        let until = Instant::now() + within;
        let mut queue = self.shared.lock();
        let before = queue.ended;
        queue.stop.get_or_insert(until);
        self.shared.wake.notify_one();
        while !queue.ended {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            queue = self.shared.done.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        // They stay, so that `flush` says that they are not on disk.
        let (ended, left) = (queue.ended, queue.waiting.len() as u64);
        drop(queue);
        if ended && !before {
            self.shared.tally.dropped("stopped", left);
        }
        ended
    }

    fn wants_results(&self) -> bool {
        self.spec.results
    }
}

impl Drop for Jsonl {
    fn drop(&mut self) {
        self.shared.lock().stop.get_or_insert_with(Instant::now);
        self.shared.wake.notify_one();
    }
}
