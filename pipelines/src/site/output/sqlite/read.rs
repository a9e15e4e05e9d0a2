//! Questions to the store, beside its writer.

use std::path::Path;

use rusqlite::{Connection, Row, params};
use tapetum_runtime::{Error, ErrorKind, Result};

use crate::site::{
    event::{EventPage, EventQuery},
    message::Event,
    output::{db, unix_ms},
};

/// Reads the store; many may, in any process, while it is written.
pub struct StoreReader {
    db: Connection,
    path: String,
}

impl StoreReader {
    /// Opens the database of [`super::super::store`].
    ///
    /// # Errors
    /// [`ErrorKind::Environment`] if it is not there yet or cannot be read.
    pub fn open(path: &Path) -> Result<Self> {
        let path_shown = path.display().to_string();
        let db = db::open_to_read(path).map_err(|e| failed(&path_shown, e))?;
        Ok(Self { db, path: path_shown })
    }

    /// Some events, the newest first.
    ///
    /// # Errors
    /// [`ErrorKind::Environment`] if the store cannot be read now.
    pub fn events(&self, query: &EventQuery) -> Result<EventPage> {
        let limit = query.limit.clamp(1, EventQuery::MOST);
        let mut events = self.ask(
            "SELECT event FROM events
             WHERE (?1 IS NULL OR camera = ?1) AND (?2 IS NULL OR label = ?2)
                 AND (?3 IS NULL OR start_ms >= ?3) AND (?4 IS NULL OR start_ms < ?4) AND (?5 IS NULL OR id < ?5)
             ORDER BY id DESC LIMIT ?6",
            params![
                query.camera,
                query.label,
                query.after.map(unix_ms),
                query.before.map(unix_ms),
                query.cursor,
                // One more tells whether there is a next page.
                limit as i64 + 1
            ],
        )?;
        let more = events.len() > limit;
        events.truncate(limit);
        let next = events.last().filter(|_| more).map(|event| event.id.clone());
        Ok(EventPage { events, next })
    }

    /// The event `id`, if it is kept.
    ///
    /// # Errors
    /// [`ErrorKind::Environment`] if the store cannot be read now.
    pub fn event(&self, id: &str) -> Result<Option<Event>> {
        Ok(self.ask("SELECT event FROM events WHERE id = ?1", [id])?.pop())
    }

    /// Events that have not ended, the oldest first.
    ///
    /// # Errors
    /// [`ErrorKind::Environment`] if the store cannot be read now.
    pub fn going_on(&self) -> Result<Vec<Event>> {
        self.ask("SELECT event FROM events WHERE phase <> 'end' ORDER BY id", [])
    }

    fn ask(&self, sql: &str, params: impl rusqlite::Params) -> Result<Vec<Event>> {
        let ask = || -> rusqlite::Result<Vec<Event>> {
            self.db.prepare_cached(sql)?.query_map(params, event)?.collect()
        };
        ask().map_err(|e| failed(&self.path, e))
    }
}

fn event(row: &Row<'_>) -> rusqlite::Result<Event> {
    let json: String = row.get(0)?;
    serde_json::from_str(&json)
        .map_err(|e| rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(e)))
}

#[cold]
fn failed(path: &str, e: rusqlite::Error) -> Error {
    Error::new(ErrorKind::Environment, format!("{path}: cannot read the store: {e}")).caused_by(e)
}

/// Version of the tables in the file, if that can be seen.
pub(super) fn version(path: &Path) -> Option<i64> {
    if !path.exists() {
        return None;
    }
    db::open_to_read(path).ok()?.query_row("PRAGMA user_version", [], |row| row.get(0)).ok()
}
