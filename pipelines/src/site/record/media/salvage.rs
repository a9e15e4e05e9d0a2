//! What the folder holds when it is come upon: looked through, and what an earlier process left half done completed or removed.

use std::{
    fs, io,
    path::Path,
    time::{Duration, Instant, SystemTime},
};

use super::{shelf::remove, worker::Worker};
use crate::recording::{
    format::{Ended, HEAD, SUMMARY},
    part::{complete, sync_folder},
};

/// How often what went wrong in it is tried again.
const AGAIN: Duration = Duration::from_secs(600);

/// The folder as it was looked through last.
#[derive(Default)]
pub(super) struct Looked {
    /// Which it was; `None` if there was none.
    folder: Option<(u64, u64)>,
    at: Option<Instant>,
    /// Whether it could be read.
    failed: bool,
    /// What went wrong in it.
    pub notes: Vec<String>,
}

impl Looked {
    /// Whether `dir` is to be looked through (again): it could not be, or is another, as a disk is that was mounted since, or
    /// something is `wrong` in it.
    pub fn is_due(&self, dir: &Path, wrong: bool) -> bool {
        let again = || self.at.is_none_or(|at| at.elapsed() >= AGAIN);
        self.failed || which(dir) != self.folder || (wrong && again())
    }
}

/// What tells one folder from another that comes to have its name.
#[cfg(unix)]
fn which(dir: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(dir).ok().map(|meta| (meta.dev(), meta.ino()))
}

#[cfg(not(unix))]
fn which(dir: &Path) -> Option<(u64, u64)> {
    fs::metadata(dir).ok().map(|_| (0, 0))
}

impl Worker<'_> {
    /// Looks through the folder, and completes or removes what an earlier process left half done.
    pub(super) fn tidy_up(&mut self) {
        let folder = which(&self.dir);
        if folder != self.looked.folder {
            self.room.other_folder();
        }
        self.looked = Looked { folder, at: Some(Instant::now()), ..Looked::default() };
        self.room.stuck = None;
        let ours = |path: &Path| self.parts.values().any(|(part, _)| part.folder() == path);
        match self.room.shelf.scan(ours) {
            Ok(found) => {
                self.looked.notes = found.unread;
                found.half_done.iter().for_each(|path| self.settle(path));
            }
            // A folder that is not there yet holds nothing; that it cannot be made is told where that is tried.
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                self.room.shelf.clear();
            }
            Err(e) => {
                self.looked.failed = true;
                let what = "cannot be read, so nothing in it is counted or removed";
                self.looked.notes.push(format!("{}: {what}: {e}", self.dir.display()));
            }
        }
        self.room.make_room(0);
        self.by_age(SystemTime::now());
        self.tell();
    }

    /// Completes something half done, removes it if nothing can come of it, and leaves it alone where that may be otherwise later.
    fn settle(&mut self, path: &Path) {
        let Ok(place) = path.strip_prefix(&self.dir).map(Path::to_owned) else { return };
        let salvaged = match path.is_dir() {
            true => self.salvage(path),
            false => Err(io::Error::new(io::ErrorKind::InvalidData, "a picture without its end")),
        };
        let wrong = match salvaged {
            Ok(()) => {
                self.room.shelf.left(&place);
                self.shared.figures().wrote("salvaged");
                return;
            }
            Err(e) if is_hopeless(&e) => match remove(path) {
                Ok(()) => {
                    self.room.shelf.left(&place);
                    self.shared.figures().removed("half done");
                    return;
                }
                Err(e) => format!("cannot be removed: {e}"),
            },
            Err(e) => format!("a killed process left it, and it cannot be completed for now: {e}"),
        };
        self.looked.notes.push(format!("{}: {wrong}", path.display()));
    }

    fn salvage(&mut self, part: &Path) -> io::Result<()> {
        if part.join(HEAD).exists() || !part.join(SUMMARY).exists() {
            // For index and summary.
            self.room.make_room(65_536);
            self.room.unless_full(|| complete(part, Vec::new(), Ended::Killed))?;
        }
        let name = part.file_name().and_then(|name| name.to_str());
        let id = name.and_then(|name| name.strip_prefix('.')?.strip_suffix(".part"));
        let id = id.ok_or(io::ErrorKind::InvalidData)?;
        let whole = part.with_file_name(id);
        fs::rename(part, &whole)?;
        whole.parent().map(sync_folder);
        if let Ok(place) = whole.strip_prefix(&self.dir) {
            self.room.shelf.put(id, place);
        }
        Ok(())
    }
}

/// Whether it is broken itself, rather than the disk full or in trouble.
fn is_hopeless(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::InvalidData | io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof)
}
