//! The folder of all entries.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use super::{
    entry::{self, RECORD, Record},
    key::Key,
    open::Event,
};

/// All entries together may take this much, in bytes; then those that were not used for longest are given up.
const MOST_BYTES: u64 = 8 << 30;

/// What a folder beside the entries is called while it is built, or on its way out: `.ID.building`, `.ID.old`.
const PASSING: [&str; 2] = [".building", ".old"];

/// Built engines in one folder, shared by every process of the user.
pub struct Cache {
    root: PathBuf,
    most_bytes: u64,
    /// Entries that this process has verified: their digests are not made again for every worker.
    pub(super) trusted: RefCell<BTreeSet<String>>,
}

/// Held by one process while it uses or builds an entry; the system takes it back when the process ends, however it does.
pub(super) struct Lock(#[allow(dead_code, reason = "locked until it is dropped")] File);

impl Cache {
    /// The cache in `root`, which is created. What killed processes left half-built is removed.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn new(root: &Path) -> io::Result<Self> {
        let cache =
            Self { root: root.to_owned(), most_bytes: MOST_BYTES, trusted: RefCell::new(BTreeSet::new()) };
        fs::create_dir_all(cache.locks())?;
        cache.sweep();
        Ok(cache)
    }

    /// As it is, but with room for `most_bytes` in all.
    pub fn bounded(self, most_bytes: u64) -> Self {
        Self { most_bytes, ..self }
    }

    fn locks(&self) -> PathBuf {
        self.root.join(".locks")
    }

    pub(super) fn entry(&self, id: &str) -> PathBuf {
        self.root.join(id)
    }

    pub(super) fn passing(&self, id: &str, which: usize) -> PathBuf {
        self.root.join(format!(".{id}{}", PASSING[which]))
    }

    fn lock_file(&self, id: &str) -> io::Result<File> {
        File::options().create(true).truncate(false).write(true).open(self.locks().join(id))
    }

    /// Waits for the entry's lock; says so if another process has it.
    pub(super) fn lock(&self, id: &str, tell: &mut dyn FnMut(Event<'_>)) -> io::Result<Lock> {
        let file = self.lock_file(id)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                tell(Event::Waiting);
                file.lock()?;
            }
            Err(TryLockError::Error(e)) => return Err(e),
        }
        Ok(Lock(file))
    }

    /// The lock, if nobody has it.
    fn free(&self, id: &str) -> Option<Lock> {
        let file = self.lock_file(id).ok()?;
        file.try_lock().ok().map(|()| Lock(file))
    }

    /// Removes what is half-built and whose builder is gone. What cannot be removed stays for the next start.
    fn sweep(&self) {
        for name in self.names() {
            let Some(id) = PASSING.iter().find_map(|end| name.strip_prefix('.')?.strip_suffix(end)) else {
                continue;
            };
            if let Some(_lock) = self.free(id) {
                let _ = fs::remove_dir_all(self.root.join(&name));
            }
        }
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.root).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    /// The readable records of all entries, with their names.
    fn records(&self) -> Vec<(String, Record)> {
        let names = self.names().into_iter().filter(|name| !name.starts_with('.'));
        names.filter_map(|name| Some((name.clone(), entry::read(&self.entry(&name)).ok()?))).collect()
    }

    /// How long building for `key` will take, by an engine that was built of a model of this size (within a tenth) for
    /// the same device in the same precision. `None` if there was none.
    pub(super) fn estimate(&self, key: &Key, model_bytes: u64) -> Option<Duration> {
        let near = |bytes: u64| bytes.abs_diff(model_bytes) <= model_bytes / 10;
        let alike = |record: &Record| {
            let other = &record.key;
            near(record.model_bytes)
                && (&other.engine, &other.device, &other.precision)
                    == (&key.engine, &key.device, &key.precision)
        };
        let seconds = self.records().into_iter().filter(|(_, r)| alike(r)).map(|(_, r)| r.build_seconds);
        seconds.max_by(f64::total_cmp).and_then(|s| Duration::try_from_secs_f64(s).ok())
    }

    /// What tells `key` from an entry of the same model in the same use: another driver, for example.
    pub(super) fn kin(&self, key: &Key) -> Option<String> {
        self.records()
            .into_iter()
            .find_map(|(_, r)| if key.is_kin(&r.key) { key.difference(&r.key) } else { None })
    }

    /// Notes that entry `id` was used just now.
    pub(super) fn used(&self, id: &str) {
        if let Ok(file) = File::options().append(true).open(self.entry(id).join(RECORD)) {
            // A clock that cannot be written only makes the entry look older.
            let _ = file.set_modified(SystemTime::now());
        }
    }

    /// Gives up entries, those not used for longest first, until all fit; not `keep`, and none that is in use. Their ids.
    pub(super) fn give_up(&self, keep: &str) -> Vec<String> {
        let mut entries: Vec<(SystemTime, u64, String)> = self
            .names()
            .into_iter()
            .filter_map(|id| {
                let folder = self.entry(&id);
                match entry::read(&folder) {
                    _ if id.starts_with('.') => None,
                    Ok(record) => {
                        let used = fs::metadata(folder.join(RECORD)).and_then(|m| m.modified());
                        Some((used.unwrap_or(SystemTime::UNIX_EPOCH), record.bytes(), id))
                    }
                    // Nobody takes it any more, so it goes first; but the folder may be one that other things lie in.
                    Err(_) if is_id(&id) => Some((SystemTime::UNIX_EPOCH, size(&folder), id)),
                    Err(_) => None,
                }
            })
            .collect();
        entries.sort();
        let mut total: u64 = entries.iter().map(|(_, bytes, _)| bytes).sum();
        let mut given_up = Vec::new();
        for (_, bytes, id) in entries {
            if total <= self.most_bytes {
                break;
            }
            if id == keep {
                continue;
            }
            if let Some(_lock) = self.free(&id)
                && self.remove(&id).is_ok()
            {
                total -= bytes;
                given_up.push(id);
            }
        }
        given_up
    }

    /// Removes entry `id`, whose lock the caller has: out of its place at once, then file by file.
    pub(super) fn remove(&self, id: &str) -> io::Result<()> {
        let (entry, old) = (self.entry(id), self.passing(id, 1));
        self.trusted.borrow_mut().remove(id);
        if !entry.exists() {
            return Ok(());
        }
        let _ = fs::remove_dir_all(&old);
        fs::rename(&entry, &old)?;
        fs::remove_dir_all(&old)
    }
}

/// Whether an entry may be called so.
fn is_id(name: &str) -> bool {
    name.len() == 32 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// What the files in `folder` take, in bytes.
fn size(folder: &Path) -> u64 {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).filter(fs::Metadata::is_file).map(|m| m.len()).sum()
}

impl Record {
    /// What the entry takes on disk, in bytes, its record left out.
    pub fn bytes(&self) -> u64 {
        self.files.values().map(|file| file.size).sum()
    }
}
