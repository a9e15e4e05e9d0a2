//! What the store's thread writes.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use rusqlite::{Connection, Transaction, params};

use super::{SqliteSpec, tables};
use crate::site::{
    age::Age,
    message::{Event, FrameResult, Phase},
    output::{
        db::{Fault, Keeper},
        tally::Tally,
        unix_ms,
    },
};

/// Rows that go at once when the file is too large.
const BITE: i64 = 500;
/// Pages that are given back to the disk at once, so that a large clean-up does not keep writes waiting.
const PAGES: usize = 2000;

#[derive(Clone)]
pub enum Job {
    Event(Arc<Event>),
    Result(Arc<FrameResult>, SystemTime),
}

pub struct Rows {
    spec: SqliteSpec,
    tally: Arc<Tally>,
    written: u64,
    /// Bytes written since the size was looked at.
    since: usize,
    age: Age,
    began: Instant,
}

impl Rows {
    pub(super) fn new(spec: SqliteSpec, tally: Arc<Tally>) -> Self {
        Self { spec, tally, written: 0, since: 0, age: Age::default(), began: Instant::now() }
    }

    /// By age.
    fn forget(&mut self, db: &Connection) -> rusqlite::Result<()> {
        let now = unix_ms(SystemTime::now());
        let newest = db.query_row("SELECT max(start_ms) FROM events", [], |row| row.get(0))?;
        if !self.age.trusted(now, self.began.elapsed(), newest) {
            return Ok(());
        }
        let before = |keep: Duration| now.saturating_sub(i64::try_from(keep.as_millis()).unwrap_or(i64::MAX));
        let sql = "DELETE FROM events WHERE start_ms < ?1 AND phase = 'end'";
        db.execute(sql, [before(self.spec.keep)])?;
        db.execute("DELETE FROM results WHERE at_ms < ?1", [before(self.spec.keep_results)])?;
        Ok(())
    }

    /// By size: results first, they are the many; then the oldest events, in the order in which they came: the clock may have been set
    /// back meanwhile, and their ids with it.
    fn shrink(&self, db: &Connection) -> rusqlite::Result<()> {
        while used(db)? > self.spec.max_bytes {
            let results =
                "DELETE FROM results WHERE number IN (SELECT number FROM results ORDER BY number LIMIT ?1)";
            let events = "DELETE FROM events WHERE id IN (SELECT id FROM events WHERE phase = 'end' ORDER BY rowid LIMIT ?1)";
            if db.execute(results, [BITE])? == 0 && db.execute(events, [BITE])? == 0 {
                break;
            }
        }
        Ok(())
    }
}

/// Bytes of pages in use.
fn used(db: &Connection) -> rusqlite::Result<u64> {
    let pragma = |name| db.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let (pages, free, size) = (pragma("page_count")?, pragma("freelist_count")?, pragma("page_size")?);
    Ok((pages - free).max(0).unsigned_abs() * size.max(0).unsigned_abs())
}

impl Keeper for Rows {
    type Job = Job;
    const BATCH: usize = 2000;
    const WAITING: usize = 10_000;
    const GATHER: Duration = Duration::from_millis(100);

    fn prepare(&mut self, db: &mut Connection) -> Result<(), Fault> {
        tables::migrate(db)
    }

    fn idle(&self, _: &Job) -> bool {
        false
    }

    fn write(&mut self, tx: &Transaction<'_>, jobs: &[Job]) -> rusqlite::Result<()> {
        self.written = 0;
        // An older message never replaces a newer one, whatever order they come in.
        let mut events = tx.prepare_cached(
            "INSERT INTO events (id, revision, camera, label, phase, start_ms, end_ms, score, event)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
             ON CONFLICT (id) DO UPDATE SET revision = excluded.revision, phase = excluded.phase,
                 start_ms = excluded.start_ms, end_ms = excluded.end_ms, score = excluded.score, event = excluded.event
             WHERE excluded.revision > events.revision",
        )?;
        let mut results =
            tx.prepare_cached("INSERT INTO results (camera, at_ms, result) VALUES (?1, ?2, ?3)")?;
        for job in jobs {
            match job {
                Job::Event(event) => {
                    let Ok(json) = serde_json::to_string(&**event) else {
                        self.tally.dropped("not JSON", 1);
                        continue;
                    };
                    self.since += json.len();
                    events.execute(params![
                        event.id,
                        event.revision,
                        event.camera,
                        event.label,
                        word(event.phase),
                        unix_ms(event.start),
                        event.end.map(unix_ms),
                        f64::from(event.score),
                        json
                    ])?;
                }
                Job::Result(result, at) => {
                    let line = String::from_utf8_lossy(&result.line);
                    self.since += line.len();
                    results.execute(params![result.camera, unix_ms(*at), line.trim_end()])?;
                }
            }
            self.written += 1;
        }
        // Much was written: the minute until the next clean-up would be too long.
        if self.since as u64 > self.spec.max_bytes / 20 {
            self.shrink(tx)?;
            self.since = 0;
        }
        Ok(())
    }

    fn committed(&mut self) {
        self.tally.delivered(self.written);
    }

    fn tidy(&mut self, db: &mut Connection) -> rusqlite::Result<()> {
        let tx = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        self.forget(&tx)?;
        self.shrink(&tx)?;
        tx.commit()?;
        self.since = 0;
        let mut vacuum = db.prepare(&format!("PRAGMA incremental_vacuum({PAGES})"))?;
        let mut rows = vacuum.query([])?;
        while rows.next()?.is_some() {}
        Ok(())
    }

    fn lost(&mut self, aside: &Path, what: &str) {
        self.tally.dropped("store corrupt", 1);
        self.tally
            .note(format!("the store was corrupt ({what}); moved to {}, started anew", aside.display()));
    }

    fn state(&self, fault: Option<&Fault>) {
        match fault {
            None => self.tally.up(),
            Some(fault) => self.tally.down(fault.to_string()),
        }
    }
}

fn word(phase: Phase) -> &'static str {
    match phase {
        Phase::Start => "start",
        Phase::Update => "update",
        Phase::End => "end",
    }
}
