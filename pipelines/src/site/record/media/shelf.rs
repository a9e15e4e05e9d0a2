//! What lies in the media folder, the oldest first, and how it goes.

use std::{
    collections::{BTreeMap, HashSet},
    fs::{self, ReadDir},
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use crate::{
    recording::format::SUMMARY,
    site::{config::is_camera_name, event::id},
};

/// Files in the folder, by the event that they were made for: ids sort by time. Links are somebody else's: they are neither followed
/// nor counted nor removed.
pub(super) struct Shelf {
    dir: PathBuf,
    kept: BTreeMap<Key, u64>,
    /// Ids of what was made since we are here.
    ours: HashSet<String>,
    /// Of what is kept, pictures.
    snapshots: usize,
    /// What takes room and can neither be shown nor go, until the folder is looked through again.
    stays: BTreeMap<PathBuf, u64>,
    bytes: u64,
    disk: Disk,
}

/// The id, where it lies, relative to the folder.
type Key = (String, PathBuf);

/// How folders are read and things removed. Tests have a disk that refuses, which no permission does to root.
struct Disk {
    read: fn(&Path) -> io::Result<ReadDir>,
    remove: fn(&Path) -> io::Result<()>,
}

/// What is in the folder besides what is kept.
#[derive(Default)]
pub(super) struct Found {
    /// What an earlier process did not get done.
    pub half_done: Vec<PathBuf>,
    /// Folders of cameras that cannot be read, and why.
    pub unread: Vec<String>,
}

/// What became of something that was to be removed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Went {
    /// It is gone: `recording` or `snapshot`.
    Removed(&'static str),
    /// Somebody else removed it before.
    Gone,
    /// It cannot be removed, and why.
    Stays(String),
}

/// A name that something half done has: `.ID.part`.
pub(super) fn part_name(id: &str) -> String {
    format!(".{id}.part")
}

/// The id in such a name.
fn part_of(name: &str) -> Option<&str> {
    let name = name.strip_prefix('.')?.strip_suffix(".part")?;
    Some(name.strip_suffix(".jpg").unwrap_or(name)).filter(|id| id::time(id).is_some())
}

/// The id that a recording or a snapshot is called by.
fn id_of(name: &str) -> Option<&str> {
    Some(name.strip_suffix(".jpg").unwrap_or(name)).filter(|id| id::time(id).is_some())
}

impl Shelf {
    /// An empty one.
    pub fn new(dir: PathBuf) -> Self {
        let disk = Disk { read: |folder| fs::read_dir(folder), remove };
        let (kept, stays) = (BTreeMap::new(), BTreeMap::new());
        Self { dir, kept, ours: HashSet::new(), snapshots: 0, stays, bytes: 0, disk }
    }

    /// Looks through the folder. What is half done stays until [`Shelf::left`] says otherwise; what is `busy` is passed over, for it is
    /// counted elsewhere.
    ///
    /// # Errors
    /// The folder itself cannot be read; what was known of it is kept then.
    pub fn scan(&mut self, busy: impl Fn(&Path) -> bool) -> io::Result<Found> {
        let cameras: Vec<fs::DirEntry> = (self.disk.read)(&self.dir)?.collect::<io::Result<_>>()?;
        self.clear();
        let mut found = Found::default();
        for camera in cameras {
            let is_folder = camera.file_type().is_ok_and(|kind| kind.is_dir());
            // Nothing of ours is in `lost+found` or `.Trash-1000`.
            if !is_folder || !is_camera_name(&camera.file_name().to_string_lossy()) {
                continue;
            }
            match self.scan_camera(&camera.path(), &busy, &mut found.half_done) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    let what = format!(
                        "{}: cannot be read, so nothing in it is counted or removed: {e}",
                        camera.path().display()
                    );
                    found.unread.push(what);
                }
                _ => {}
            }
        }
        Ok(found)
    }

    fn scan_camera(
        &mut self,
        folder: &Path,
        busy: &impl Fn(&Path) -> bool,
        half_done: &mut Vec<PathBuf>,
    ) -> io::Result<()> {
        let camera = PathBuf::from(folder.file_name().unwrap_or_default());
        for entry in (self.disk.read)(folder)? {
            let entry = entry?;
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            if busy(&path) || entry.file_type().is_ok_and(|kind| kind.is_symlink()) {
                continue;
            }
            if part_of(&name).is_some() {
                self.stay(&camera.join(&name));
                half_done.push(path);
            } else if let Some(id) = id_of(&name) {
                self.lay(id, &camera.join(&name));
            }
        }
        Ok(())
    }

    /// There is nothing any more.
    pub fn clear(&mut self) {
        self.kept.clear();
        self.stays.clear();
        (self.bytes, self.snapshots) = (0, 0);
    }

    /// A file or folder was made, or is another than before.
    pub fn put(&mut self, id: &str, place: &Path) {
        self.ours.insert(id.to_owned());
        self.lay(id, place);
    }

    fn lay(&mut self, id: &str, place: &Path) {
        self.left(place);
        let bytes = size(&self.dir.join(place));
        match self.kept.insert((id.to_owned(), place.to_owned()), bytes) {
            Some(before) => self.bytes -= before,
            None => self.snapshots += usize::from(is_snapshot(place)),
        }
        self.bytes += bytes;
    }

    fn stay(&mut self, place: &Path) {
        self.left(place);
        let bytes = size(&self.dir.join(place));
        self.stays.insert(place.to_owned(), bytes);
        self.bytes += bytes;
    }

    /// What stayed is gone, or is something else now.
    pub fn left(&mut self, place: &Path) {
        self.bytes -= self.stays.remove(place).unwrap_or(0);
    }

    /// Of everything that takes room.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Recordings and snapshots.
    pub fn counts(&self) -> [usize; 2] {
        [self.kept.len() - self.snapshots, self.snapshots]
    }

    /// When the newest was made.
    pub fn newest(&self) -> Option<SystemTime> {
        self.kept.keys().next_back().and_then(|(id, _)| id::time(id))
    }

    /// Removes the oldest. `None` if there is nothing that could be. What was there before us and is of a time after `now` was made
    /// before the clock was set back: it is older than all that has been made since, whatever its name says, and goes first.
    pub fn remove_oldest(&mut self, now: SystemTime) -> Option<Went> {
        let ahead = |(id, _): &&Key| id::time(id).is_some_and(|time| time > now);
        // Ids sort by time: only the last ones are looked at, of which there are hardly ever any.
        let strange =
            self.kept.keys().rev().take_while(ahead).filter(|(id, _)| !self.ours.contains(id)).last();
        let key = strange.or(self.kept.keys().next())?.clone();
        self.remove(&key)
    }

    fn remove(&mut self, key: &Key) -> Option<Went> {
        let bytes = self.kept.remove(key)?;
        let (id, place) = key;
        if self.kept.range((id.clone(), PathBuf::new())..).next().is_none_or(|((next, _), _)| next != id) {
            self.ours.remove(id);
        }
        let snapshot = is_snapshot(place);
        self.bytes -= bytes;
        self.snapshots -= usize::from(snapshot);
        let path = self.dir.join(place);
        let removed = match fs::symlink_metadata(&path) {
            // A link took its place.
            Ok(meta) if meta.is_symlink() => return Some(Went::Gone),
            Ok(_) => (self.disk.remove)(&path),
            Err(e) => Err(e),
        };
        Some(match removed {
            Ok(()) => Went::Removed(if snapshot { "snapshot" } else { "recording" }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Went::Gone,
            Err(e) => {
                self.stay(place);
                Went::Stays(format!("{}: cannot be removed: {e}", path.display()))
            }
        })
    }

    /// Removes the oldest if it is older than `keep` at `now`. `None` if there is no such.
    pub fn remove_older(&mut self, keep: Duration, now: SystemTime) -> Option<Went> {
        let key = self.kept.keys().next()?.clone();
        let age = id::time(&key.0).and_then(|time| now.duration_since(time).ok())?;
        if age > keep { self.remove(&key) } else { None }
    }
}

fn is_snapshot(place: &Path) -> bool {
    place.extension().is_some_and(|e| e == "jpg")
}

/// Removes a file, or a folder with what is in it.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.is_dir() {
        return fs::remove_file(path);
    }
    // Without its summary it is no recording: a kill in between leaves nothing that looks whole.
    fs::remove_file(path.join(SUMMARY)).ok();
    fs::remove_dir_all(path)
}

/// Bytes of a file, or of the files in a folder.
fn size(path: &Path) -> u64 {
    let Ok(meta) = fs::symlink_metadata(path) else { return 0 };
    if !meta.is_dir() {
        return meta.len();
    }
    let files = fs::read_dir(path).into_iter().flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).map(|meta| meta.len()).sum()
}

#[cfg(test)]
mod tests;
