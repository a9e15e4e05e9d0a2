//! The tables, and how a file of an earlier version becomes one of this version.

use rusqlite::Connection;

use crate::site::output::db::Fault;

/// What makes each version of the one before; the first makes it of an empty file. Only ever added to.
const STEPS: &[&str] = &["
    CREATE TABLE events (
        id TEXT PRIMARY KEY,        -- sorts by time
        revision INTEGER NOT NULL,
        camera TEXT NOT NULL,
        label TEXT NOT NULL,
        phase TEXT NOT NULL,        -- start, update, end
        start_ms INTEGER NOT NULL,  -- since 1970
        end_ms INTEGER,
        score REAL NOT NULL,
        event TEXT NOT NULL         -- the message, as JSON
    ) STRICT;
    CREATE INDEX events_start ON events (start_ms);
    CREATE INDEX events_camera ON events (camera, id);
    CREATE INDEX events_label ON events (label, id);
    CREATE INDEX events_going_on ON events (id) WHERE phase <> 'end';
    CREATE TABLE results (
        number INTEGER PRIMARY KEY,
        camera TEXT NOT NULL,
        at_ms INTEGER NOT NULL,     -- since 1970
        result TEXT NOT NULL        -- the line of results.jsonl
    ) STRICT;
    CREATE INDEX results_camera ON results (camera, at_ms);
    CREATE INDEX results_at ON results (at_ms);
"];

/// The version that this program writes.
pub(super) fn version() -> i64 {
    STEPS.len() as i64
}

/// Brings the file to this version, all steps or none.
pub(super) fn migrate(db: &mut Connection) -> Result<(), Fault> {
    let tx = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let found: i64 = tx.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if found > version() {
        return Err(Fault::Newer(found));
    }
    if found == version() {
        return Ok(());
    }
    for step in STEPS.iter().skip(usize::try_from(found).unwrap_or(0)) {
        tx.execute_batch(step)?;
    }
    tx.pragma_update(None, "user_version", version())?;
    Ok(tx.commit()?)
}
