//! A database of events, and of results if wanted: `site.sqlite`, which anybody may read while it is written.
//!
//! An event is one row, as it was told last. Old rows go by age and by the size of the file.

mod read;
mod tables;
mod write;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tapetum_runtime::{
    Error, Result,
    settings::{Reader, Table},
};

use super::{Kind, Output, OutputKind, Place, below, db::Writer, reading, spec::Spec, tally::Tally};
use crate::site::{message::Message, status::OutputStatus};

pub use read::StoreReader;

/// `kind = "sqlite"`.
pub(super) const SQLITE: OutputKind = OutputKind {
    name: "sqlite",
    does: "a database of events (and results), with retention",
    keys: &["file", "results", "keep_days", "keep_results_hours", "max_mb"],
    read: |reader, table| SqliteSpec::read(reader, table).map(Kind::Sqlite),
};

/// What is kept, and how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqliteSpec {
    /// Relative to the state folder, or absolute.
    pub file: PathBuf,
    /// Whether results of frames are kept, too.
    pub results: bool,
    /// Events that started longer ago go.
    pub keep: Duration,
    /// Results that are older go.
    pub keep_results: Duration,
    /// The file stays below this, in bytes: what is oldest goes.
    pub max_bytes: u64,
}

impl Default for SqliteSpec {
    fn default() -> Self {
        Self {
            file: "site.sqlite".into(),
            results: false,
            keep: Duration::from_hours(30 * 24),
            keep_results: Duration::from_hours(24),
            max_bytes: 512 << 20,
        }
    }
}

impl SqliteSpec {
    fn read<'t>(reader: &mut Reader<'t>, table: &Table<'t>) -> Option<Self> {
        let default = Self::default();
        let file = reading::path(reader, table, "file").unwrap_or(default.file);
        let results = reading::flag(reader, table, "results", default.results);
        let days = reading::count(reader, table, "keep_days", 30, 1..=36_500);
        let hours = reading::count(reader, table, "keep_results_hours", 24, 1..=876_000);
        let max_bytes = reading::mebibytes(reader, table, "max_mb", (default.max_bytes >> 20) as usize);
        Some(Self {
            file,
            results: results?,
            keep: Duration::from_hours(days? as u64 * 24),
            keep_results: Duration::from_hours(hours? as u64),
            max_bytes: max_bytes?,
        })
    }

    /// The database's file, with the site's state folder `state`.
    pub fn file(&self, state: &Path) -> PathBuf {
        below(state, &self.file)
    }
}

/// The output.
pub struct Store {
    name: String,
    results: bool,
    writer: Writer<write::Rows>,
    tally: Arc<Tally>,
}

impl Spec for SqliteSpec {
    fn claims(&self, _: &str, place: &Place) -> Vec<String> {
        vec![format!("the file {}", self.file(&place.state).display())]
    }

    fn check(&self, place: &Place) -> Result<()> {
        let path = self.file(&place.state);
        if let Some(folder) = path.parent() {
            super::folder(folder)?;
        }
        match read::version(&path).filter(|version| *version > tables::version()) {
            None => Ok(()),
            Some(version) => Err(Error::unsupported(format!(
                "{}: made by a newer Tapetum (version {version} of its tables, this one knows {}); use that one, or name \
                 another file",
                path.display(),
                tables::version()
            ))),
        }
    }

    fn open(&self, name: &str, place: &Place) -> Result<Arc<dyn Output>> {
        self.check(place)?;
        let tally = Arc::new(Tally::default());
        let rows = write::Rows::new(self.clone(), Arc::clone(&tally));
        let told = Arc::clone(&tally);
        let writer = Writer::start(self.file(&place.state), rows, move |_| told.dropped("memory full", 1))?;
        Ok(Arc::new(Store { name: name.to_owned(), results: self.results, writer, tally }))
    }
}

impl Output for Store {
    fn name(&self) -> &str {
        &self.name
    }

    fn offer(&self, message: &Message) {
        match message {
            Message::Event(event) => self.writer.offer(write::Job::Event(Arc::clone(event))),
            Message::Result(result) if self.results => {
                let at = std::time::SystemTime::now();
                self.writer.offer(write::Job::Result(Arc::clone(result), at));
            }
            Message::Result(_) | Message::Camera(_) => {}
        }
    }

    fn flush(&self, within: Duration) -> bool {
        self.writer.flush(within)
    }

    fn status(&self) -> OutputStatus {
        self.tally.status(&self.name, self.writer.waiting(|jobs| jobs.len() as u64), 0)
    }

    fn stop(&self, within: Duration) -> bool {
        self.writer.stop(within)
    }

    fn wants_results(&self) -> bool {
        self.results
    }
}
