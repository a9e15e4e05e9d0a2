//! Opening databases, and what their errors mean.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OpenFlags};

/// How long SQLite itself waits for a lock before it says so. The writer tries again, so this is short: a stop must not wait.
const BUSY: Duration = Duration::from_millis(200);

/// Why a database could not be written.
#[derive(Debug)]
pub enum Fault {
    /// Another process has locked it.
    Locked,
    /// There is no room.
    Full,
    /// It is not what it should be: it is moved aside.
    Corrupt(String),
    /// A newer Tapetum has made it, with this version of its tables.
    Newer(i64),
    /// Something else.
    Other(String),
}

impl From<rusqlite::Error> for Fault {
    fn from(e: rusqlite::Error) -> Self {
        match e.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Locked,
            Some(ErrorCode::DiskFull) => Self::Full,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Corrupt(e.to_string()),
            _ => Self::Other(e.to_string()),
        }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Locked => f.write_str("locked by another process"),
            Self::Full => f.write_str("disk full"),
            Self::Corrupt(what) => write!(f, "corrupt ({what})"),
            Self::Newer(version) => {
                write!(f, "made by a newer Tapetum (version {version} of its tables); it is left alone")
            }
            Self::Other(what) => f.write_str(what),
        }
    }
}

/// Opens or makes the database `path`: WAL, and a commit is on the disk before it returns (`synchronous = FULL`), so that neither a
/// kill nor a loss of power takes what was committed, as far as the disk does what it says.
pub(super) fn open(path: &Path) -> Result<Connection, Fault> {
    if let Some(folder) = path.parent() {
        // Where there was no room for it before. What is wrong is told by what follows.
        fs::create_dir_all(folder).ok();
    }
    let db = Connection::open(path)?;
    db.busy_timeout(BUSY)?;
    // Before the first table, else it has no effect: lets space be given back in small steps.
    db.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    let mode: String = db.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(Fault::Other(format!("the file system cannot do WAL (journal mode {mode})")));
    }
    db.pragma_update(None, "synchronous", "FULL")?;
    // After a checkpoint the log is cut to this, in bytes; it would keep its greatest size otherwise.
    db.pragma_update(None, "journal_size_limit", 1 << 20)?;
    // KiB if below 0. What is added at the end needs few pages; the default of 2 MiB fills up over half an hour, in small pieces all over the heap.
    db.pragma_update(None, "cache_size", -256)?;
    Ok(db)
}

/// Opens `path` to read it beside the writer.
///
/// # Errors
/// What SQLite says.
pub fn open_to_read(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(BUSY)?;
    Ok(db)
}

/// Moves a corrupt database out of the way: `NAME.corrupt` in place of the last one that was. Its log goes, too.
pub(super) fn move_aside(path: &Path) -> std::io::Result<PathBuf> {
    let beside = |suffix: &str| {
        let mut name = OsString::from(path);
        name.push(suffix);
        PathBuf::from(name)
    };
    let aside = beside(".corrupt");
    match fs::rename(path, &aside) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    for log in ["-wal", "-shm"] {
        match fs::remove_file(beside(log)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    Ok(aside)
}
