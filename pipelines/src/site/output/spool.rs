//! Events on disk until the other side has taken them: at least once, in order, within bounds.
//!
//! An event is safe when [`Spool::flush`] says so, or about a tenth of a second after it was put in. It then survives a kill and,
//! as far as the disk does what it says, a loss of power. Only what is not yet safe is in memory alone. The same event may be
//! delivered twice (the box died between delivery and note); `id` and `revision` tell.

use std::{
    collections::{BTreeMap, HashSet},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use rusqlite::{Connection, Transaction, params};
use tapetum_runtime::{
    Error, Result,
    settings::{Reader, Table},
};

use super::{
    db::{self, Fault, Keeper, Writer},
    reading,
    tally::Tally,
    unix_ms,
};
use crate::site::message::Event;

/// Number of the tables' version, in the file.
const VERSION: i64 = 1;

/// How much is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolSpec {
    /// Most events on disk. With more, the oldest are dropped.
    pub events: usize,
    /// Most bytes of events on disk. With more, the oldest are dropped.
    pub bytes: u64,
}

impl Default for SpoolSpec {
    fn default() -> Self {
        Self { events: 100_000, bytes: 64 << 20 }
    }
}

impl SpoolSpec {
    /// The keys of the table `spool`.
    pub(super) const KEYS: &[&str] = &["events", "mb"];

    /// Reads the table `spool` of an output.
    pub(super) fn read<'t>(reader: &mut Reader<'t>, output: &Table<'t>) -> Option<Self> {
        let default = Self::default();
        let Some(table) = reader.table(output, "spool", Self::KEYS) else {
            return (!output.has("spool")).then_some(default);
        };
        let events = reading::count(reader, &table, "events", default.events, 1..=10_000_000);
        let bytes = reading::mebibytes(reader, &table, "mb", (default.bytes >> 20) as usize);
        Some(Self { events: events?, bytes: bytes? })
    }
}

/// An event that waits to be delivered.
#[derive(Clone, Debug, PartialEq)]
pub struct Waiting {
    /// Its place in the order; grows.
    pub number: i64,
    /// See [`Event::id`].
    pub id: String,
    /// See [`Event::revision`].
    pub revision: u32,
    /// The event as JSON.
    pub body: Arc<[u8]>,
}

/// The queue of one output.
pub struct Spool {
    path: PathBuf,
    writer: Writer<Rows>,
    next: AtomicI64,
    counts: Arc<Counts>,
    tally: Arc<Tally>,
}

#[derive(Debug, Default)]
struct Counts {
    events: AtomicU64,
    bytes: AtomicU64,
    trouble: Mutex<Option<String>>,
}

#[derive(Clone, Debug)]
enum Job {
    Put(Waiting),
    Taken(i64),
    /// Was put in and taken before it was written.
    Nothing,
}

/// The table, written by the thread.
struct Rows {
    spec: SpoolSpec,
    counts: Arc<Counts>,
    tally: Arc<Tally>,
    /// What the transaction changes.
    change: Change,
}

#[derive(Debug, Default)]
struct Change {
    events: i64,
    bytes: i64,
    dropped: u64,
}

impl Spool {
    /// The file of the output called `name`.
    pub(super) fn file(state: &Path, name: &str) -> PathBuf {
        state.join(format!("{name}.spool.sqlite"))
    }

    /// Opens the queue in the file `path`, or makes it. What is wrong with the file is told in the status.
    ///
    /// # Errors
    /// [`tapetum_runtime::ErrorKind::Environment`] if there can be no thread.
    pub(super) fn open(path: PathBuf, spec: SpoolSpec, tally: Arc<Tally>) -> Result<Self> {
        let counts = Arc::new(Counts::default());
        // After what is there. If that cannot be seen now, time gives a number that is higher.
        let last = last_number(&path).unwrap_or_else(|| unix_ms(SystemTime::now()).max(0) << 20);
        let rows =
            Rows { spec, counts: Arc::clone(&counts), tally: Arc::clone(&tally), change: Change::default() };
        let told = Arc::clone(&tally);
        let writer = Writer::start(path.clone(), rows, move |job| told.dropped("memory full", job.events()))?;
        Ok(Self { path, writer, next: AtomicI64::new(last + 1), counts, tally })
    }

    /// Puts an event in. Never waits for the disk.
    pub fn put(&self, event: &Event) {
        let Ok(body) = serde_json::to_vec(event) else { return self.tally.dropped("not JSON", 1) };
        // Numbered under the queue's lock, so that order and numbers agree.
        self.writer.offer_with(|| {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            Job::Put(Waiting { number, id: event.id.clone(), revision: event.revision, body: body.into() })
        });
    }

    /// The next events after the one numbered `after`, at most `most`, oldest first; on disk or not yet.
    ///
    /// # Errors
    /// The disk cannot be read now. Nothing may be delivered then: it would overtake what is there.
    pub fn next(&self, after: i64, most: usize) -> Result<Vec<Waiting>> {
        // Memory first: what is written meanwhile is then seen twice, not missed.
        let (mut found, taken) = self.writer.waiting(|jobs| {
            let mut found = BTreeMap::new();
            let mut taken = HashSet::new();
            for job in jobs.iter() {
                match job {
                    Job::Put(waiting) if waiting.number > after && found.len() < most => {
                        found.insert(waiting.number, waiting.clone());
                    }
                    Job::Taken(number) => {
                        taken.insert(*number);
                    }
                    _ => {}
                }
            }
            (found, taken)
        });
        if self.path.exists() {
            let rows = read(&self.path, after, most + taken.len())
                .map_err(|e| Error::internal(format!("{}: {}", self.path.display(), Fault::from(e))))?;
            found.extend(rows.into_iter().map(|waiting| (waiting.number, waiting)));
        }
        found.retain(|number, _| !taken.contains(number));
        Ok(found.into_values().take(most).collect())
    }

    /// The other side has taken it: it is not kept any longer.
    pub fn taken(&self, number: i64) {
        self.writer.waiting(|jobs| {
            let put = jobs.iter_mut().find(|job| matches!(job, Job::Put(w) if w.number == number));
            // It may be on its way to the disk at this moment, so the note is written in any case.
            if let Some(job) = put {
                *job = Job::Nothing;
            }
        });
        self.writer.offer(Job::Taken(number));
        self.tally.delivered(1);
    }

    /// Gives an event up, as the other side will never take it.
    pub fn give_up(&self, number: i64, reason: &'static str) {
        self.writer.offer(Job::Taken(number));
        self.tally.dropped(reason, 1);
    }

    /// Events in memory that are not yet on disk.
    pub fn in_memory(&self) -> u64 {
        self.writer.waiting(|jobs| jobs.iter().map(Job::events).sum())
    }

    /// Events on disk.
    pub fn on_disk(&self) -> u64 {
        self.counts.events.load(Ordering::Relaxed)
    }

    /// Why it cannot be written, if so.
    pub fn trouble(&self) -> Option<String> {
        self.counts.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until what was put in is on disk, at most for `within`. Whether it is.
    pub fn flush(&self, within: Duration) -> bool {
        self.writer.flush(within)
    }

    /// Brings what is in memory to disk and ends, after `within` at the latest. Whether it has let go of its file.
    pub fn stop(&self, within: Duration) -> bool {
        self.writer.stop(within)
    }
}

impl Job {
    fn events(&self) -> u64 {
        u64::from(matches!(self, Self::Put(_)))
    }
}

fn last_number(path: &Path) -> Option<i64> {
    if !path.exists() {
        return Some(0);
    }
    let db = db::open_to_read(path).ok()?;
    db.query_row("SELECT coalesce(max(number), 0) FROM queue", [], |row| row.get(0)).ok()
}

fn read(path: &Path, after: i64, most: usize) -> rusqlite::Result<Vec<Waiting>> {
    let db = db::open_to_read(path)?;
    let there: bool =
        db.query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'queue'", [], |row| row.get(0))?;
    if !there {
        return Ok(Vec::new());
    }
    let sql = "SELECT number, id, revision, body FROM queue WHERE number > ?1 ORDER BY number LIMIT ?2";
    let mut query = db.prepare(sql)?;
    let rows = query.query_map(params![after, i64::try_from(most).unwrap_or(i64::MAX)], |row| {
        let body: Vec<u8> = row.get(3)?;
        Ok(Waiting { number: row.get(0)?, id: row.get(1)?, revision: row.get(2)?, body: body.into() })
    })?;
    rows.collect()
}

impl Rows {
    /// The oldest fall out until there is room.
    fn bound(&mut self, tx: &Transaction<'_>) -> rusqlite::Result<()> {
        let now =
            |counter: &AtomicU64, change: i64| counter.load(Ordering::Relaxed).saturating_add_signed(change);
        let events = now(&self.counts.events, self.change.events);
        let bytes = now(&self.counts.bytes, self.change.bytes);
        let mut events_over = events.saturating_sub(self.spec.events as u64);
        let mut bytes_over = bytes.saturating_sub(self.spec.bytes);
        if events_over == 0 && bytes_over == 0 {
            return Ok(());
        }
        let mut oldest = tx.prepare_cached("SELECT number, length(body) FROM queue ORDER BY number")?;
        let mut rows = oldest.query([])?;
        let mut last = None;
        while let Some(row) = rows.next()? {
            if events_over == 0 && bytes_over == 0 {
                break;
            }
            let length: i64 = row.get(1)?;
            last = Some(row.get::<_, i64>(0)?);
            events_over = events_over.saturating_sub(1);
            bytes_over = bytes_over.saturating_sub(length.unsigned_abs());
            self.change.events -= 1;
            self.change.bytes -= length;
            self.change.dropped += 1;
        }
        if let Some(last) = last {
            tx.execute("DELETE FROM queue WHERE number <= ?1", [last])?;
        }
        Ok(())
    }
}

impl Keeper for Rows {
    type Job = Job;
    const BATCH: usize = 1000;
    const WAITING: usize = 10_000;
    const GATHER: Duration = Duration::from_millis(50);

    fn prepare(&mut self, db: &mut Connection) -> std::result::Result<(), Fault> {
        let version: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if version > VERSION {
            return Err(Fault::Newer(version));
        }
        // Small enough to be looked at as a whole: a corrupt page is found now, not when its event is due.
        let check: String = db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if check != "ok" {
            return Err(Fault::Corrupt(check));
        }
        if version == 0 {
            db.execute_batch(&format!(
                "BEGIN IMMEDIATE;
                 CREATE TABLE IF NOT EXISTS queue (
                     number INTEGER PRIMARY KEY, id TEXT NOT NULL, revision INTEGER NOT NULL, body BLOB NOT NULL,
                     UNIQUE (id, revision)
                 ) STRICT;
                 PRAGMA user_version = {VERSION};
                 COMMIT;"
            ))?;
        }
        let sql = "SELECT count(*), coalesce(sum(length(body)), 0) FROM queue";
        let (events, bytes) =
            db.query_row(sql, [], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))?;
        self.counts.events.store(events.unsigned_abs(), Ordering::Relaxed);
        self.counts.bytes.store(bytes.unsigned_abs(), Ordering::Relaxed);
        Ok(())
    }

    fn idle(&self, job: &Job) -> bool {
        matches!(job, Job::Nothing)
    }

    fn write(&mut self, tx: &Transaction<'_>, jobs: &[Job]) -> rusqlite::Result<()> {
        self.change = Change::default();
        let mut put = tx.prepare_cached(
            "INSERT OR IGNORE INTO queue (number, id, revision, body) VALUES (?1, ?2, ?3, ?4)",
        )?;
        let mut take = tx.prepare_cached("DELETE FROM queue WHERE number = ?1 RETURNING length(body)")?;
        for job in jobs {
            match job {
                Job::Put(waiting) => {
                    let body = &waiting.body[..];
                    if put.execute(params![waiting.number, waiting.id, waiting.revision, body])? > 0 {
                        self.change.events += 1;
                        self.change.bytes += body.len() as i64;
                    }
                }
                Job::Taken(number) => {
                    let mut rows = take.query([number])?;
                    while let Some(row) = rows.next()? {
                        self.change.events -= 1;
                        self.change.bytes -= row.get::<_, i64>(0)?;
                    }
                }
                Job::Nothing => {}
            }
        }
        self.bound(tx)
    }

    fn committed(&mut self) {
        let change = std::mem::take(&mut self.change);
        let add = |counter: &AtomicU64, change: i64| {
            let now = counter.load(Ordering::Relaxed).saturating_add_signed(change);
            counter.store(now, Ordering::Relaxed);
        };
        add(&self.counts.events, change.events);
        add(&self.counts.bytes, change.bytes);
        self.tally.dropped("spool full", change.dropped);
    }

    fn tidy(&mut self, db: &mut Connection) -> rusqlite::Result<()> {
        // What a long outage has filled goes back to the disk.
        let mut vacuum = db.prepare("PRAGMA incremental_vacuum(2000)")?;
        let mut rows = vacuum.query([])?;
        while rows.next()?.is_some() {}
        Ok(())
    }

    fn lost(&mut self, aside: &Path, what: &str) {
        let lost = self.counts.events.swap(0, Ordering::Relaxed);
        self.counts.bytes.store(0, Ordering::Relaxed);
        self.tally.dropped("spool corrupt", lost);
        self.tally
            .note(format!("the spool was corrupt ({what}); moved to {}, started anew", aside.display()));
    }

    fn state(&self, fault: Option<&Fault>) {
        let mut trouble = self.counts.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        *trouble = fault.map(|fault| format!("spool: {fault}"));
    }
}
