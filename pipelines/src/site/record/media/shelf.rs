//! What lies in the media folder, the oldest first, and what goes when there is too much of it.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use crate::{recording::format::SUMMARY, site::event::id};

/// Files in the folder, by the event that they were made for: ids sort by time.
pub(super) struct Shelf {
    dir: PathBuf,
    kept: BTreeMap<Key, u64>,
    bytes: u64,
}

/// The id, where it lies, relative to the folder.
type Key = (String, PathBuf);

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
        Self { dir, kept: BTreeMap::new(), bytes: 0 }
    }

    /// Looks at the folder. Returns what is half done.
    pub fn scan(&mut self) -> io::Result<Vec<PathBuf>> {
        self.kept.clear();
        self.bytes = 0;
        let mut half_done = Vec::new();
        for camera in fs::read_dir(&self.dir)?.flatten().filter(|entry| entry.path().is_dir()) {
            for entry in fs::read_dir(camera.path())?.flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if part_of(&name).is_some() {
                    half_done.push(entry.path());
                } else if let Some(id) = id_of(&name) {
                    let place = PathBuf::from(camera.file_name()).join(&name);
                    self.put(id, &place);
                }
            }
        }
        Ok(half_done)
    }

    /// A file or folder is there, or is another than before.
    pub fn put(&mut self, id: &str, place: &Path) {
        let bytes = size(&self.dir.join(place));
        let before = self.kept.insert((id.to_owned(), place.to_owned()), bytes).unwrap_or(0);
        self.bytes = self.bytes + bytes - before;
    }

    /// Of everything kept.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Recordings and snapshots.
    pub fn counts(&self) -> [usize; 2] {
        let snapshots = self.kept.keys().filter(|(_, place)| is_snapshot(place)).count();
        [self.kept.len() - snapshots, snapshots]
    }

    /// Removes the oldest. What it was; `None` if there is nothing that can be removed.
    pub fn remove_oldest(&mut self) -> Option<&'static str> {
        while let Some(((_, place), bytes)) = self.kept.pop_first() {
            self.bytes -= bytes;
            if remove(&self.dir.join(&place)) {
                return Some(if is_snapshot(&place) { "snapshot" } else { "recording" });
            }
        }
        None
    }

    /// Removes the oldest if it is older than `keep` at `now`.
    pub fn remove_older(&mut self, keep: Duration, now: SystemTime) -> Option<&'static str> {
        let (id, _) = self.kept.keys().next()?;
        let age = id::time(id).and_then(|time| now.duration_since(time).ok())?;
        if age > keep { self.remove_oldest() } else { None }
    }
}

fn is_snapshot(place: &Path) -> bool {
    place.extension().is_some_and(|e| e == "jpg")
}

/// False if it was gone already, or stays.
fn remove(path: &Path) -> bool {
    if path.is_dir() {
        // Without its summary it is no recording: a kill in between leaves nothing that looks whole.
        fs::remove_file(path.join(SUMMARY)).ok();
        return fs::remove_dir_all(path).is_ok();
    }
    fs::remove_file(path).is_ok()
}

/// Bytes of a file, or of the files in a folder.
fn size(path: &Path) -> u64 {
    let Ok(meta) = fs::metadata(path) else { return 0 };
    if !meta.is_dir() {
        return meta.len();
    }
    let files = fs::read_dir(path).into_iter().flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).map(|meta| meta.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::event::Ids;

    /// A folder with recordings and snapshots of planned times and sizes; a file of somebody else.
    fn folder(seconds: &[u64]) -> (tempfile::TempDir, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        let ids = Ids::new().unwrap();
        let ids: Vec<String> =
            seconds.iter().map(|s| ids.next(SystemTime::UNIX_EPOCH + Duration::from_secs(*s))).collect();
        for (n, id) in ids.iter().enumerate() {
            let camera = dir.path().join(["gate", "yard"][n % 2]);
            fs::create_dir_all(camera.join(id)).unwrap();
            fs::write(camera.join(id).join("clip.mp4"), vec![0; 1000]).unwrap();
            fs::write(camera.join(id).join(SUMMARY), vec![0; 200]).unwrap();
            fs::write(camera.join(format!("{id}.jpg")), vec![0; 100]).unwrap();
        }
        fs::create_dir_all(dir.path().join("gate/holiday")).unwrap();
        fs::write(dir.path().join("gate/notes.txt"), "mine").unwrap();
        (dir, ids)
    }

    #[test]
    fn the_oldest_go_first_over_all_cameras_and_strangers_files_stay() {
        let (dir, ids) = folder(&[1000, 2000, 3000]);
        fs::create_dir_all(dir.path().join("gate").join(part_name(&ids[0]))).unwrap();
        let mut shelf = Shelf::new(dir.path().to_owned());
        assert_eq!(shelf.scan().unwrap(), [dir.path().join("gate").join(part_name(&ids[0]))]);
        assert_eq!((shelf.bytes(), shelf.counts()), (3 * 1300, [3, 3]));
        let mut order = Vec::new();
        while let Some(what) = shelf.remove_oldest() {
            order.push((what, shelf.bytes()));
        }
        let expected = [
            ("recording", 2700),
            ("snapshot", 2600),
            ("recording", 1400),
            ("snapshot", 1300),
            ("recording", 100),
            ("snapshot", 0),
        ];
        assert_eq!(order, expected);
        assert!(dir.path().join("gate/holiday").is_dir() && dir.path().join("gate/notes.txt").is_file());
        assert_eq!(fs::read_dir(dir.path().join("yard")).unwrap().count(), 0);
    }

    #[test]
    fn age_is_by_the_events_time_and_what_is_of_the_future_stays() {
        let (dir, _) = folder(&[1000, 2000, 900_000]);
        let mut shelf = Shelf::new(dir.path().to_owned());
        shelf.scan().unwrap();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(2500);
        let keep = Duration::from_secs(1000);
        let removed = std::iter::from_fn(|| shelf.remove_older(keep, now)).count();
        assert_eq!((removed, shelf.counts()), (2, [2, 2]));
    }

    #[test]
    fn a_picture_that_is_written_anew_counts_once_and_what_is_gone_is_no_trouble() {
        let (dir, ids) = folder(&[1000, 2000]);
        let mut shelf = Shelf::new(dir.path().to_owned());
        shelf.scan().unwrap();
        let place = PathBuf::from("gate").join(format!("{}.jpg", ids[0]));
        fs::write(dir.path().join(&place), vec![0; 400]).unwrap();
        shelf.put(&ids[0], &place);
        assert_eq!(shelf.bytes(), 2 * 1300 + 300);
        // Somebody tidied up by hand.
        fs::remove_dir_all(dir.path().join("gate").join(&ids[0])).unwrap();
        fs::remove_file(dir.path().join(&place)).unwrap();
        assert_eq!(shelf.remove_oldest(), Some("recording"));
        assert_eq!(shelf.bytes(), 100);
    }
}
