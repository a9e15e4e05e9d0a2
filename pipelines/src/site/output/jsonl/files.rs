//! The files: which one is written, and which go.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    time::SystemTime,
};

/// In bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub file: u64,
    pub all: u64,
}

/// Files of one folder, by what stands at the head of their names.
pub(super) struct Files {
    dir: PathBuf,
    limits: Limits,
    open: BTreeMap<&'static str, Current>,
    dirty: bool,
    /// Bytes written since all files were looked at.
    since: u64,
}

struct Current {
    file: File,
    path: PathBuf,
    day: String,
    /// Of the complete lines, in bytes.
    length: u64,
}

impl Files {
    pub fn new(dir: PathBuf, limits: Limits) -> Self {
        Self { dir, limits, open: BTreeMap::new(), dirty: false, since: u64::MAX }
    }

    /// Whether something was written since the last sync.
    pub fn dirty(&self) -> bool {
        self.dirty
    }

    /// Adds a line to the file of `kind`, whole or not at all.
    pub fn append(&mut self, kind: &'static str, line: &[u8], now: SystemTime) -> Result<(), String> {
        let day = match jiff::Timestamp::try_from(now) {
            Ok(time) => time.strftime("%Y-%m-%d").to_string(),
            Err(_) => "0000-00-00".to_owned(),
        };
        let fits = |current: &Current| {
            // A clock that jumps back does not open an old file again.
            current.day >= day
                && (current.length == 0 || current.length + line.len() as u64 <= self.limits.file)
        };
        if !self.open.get(kind).is_some_and(fits) {
            let next = self.next(kind, &day, line.len() as u64).map_err(|e| told(&self.dir, "open", &e))?;
            self.since = u64::MAX;
            if let Some(last) = self.open.insert(kind, next) {
                last.file.sync_data().map_err(|e| told(&last.path, "write", &e))?;
            }
        }
        if self.since > self.limits.all / 50 {
            self.make_room(line.len() as u64).map_err(|e| told(&self.dir, "make room", &e))?;
            self.since = 0;
        }
        let Some(current) = self.open.get_mut(kind) else { return Ok(()) };
        match current.file.write_all(line) {
            Ok(()) => {
                current.length += line.len() as u64;
                self.since = self.since.saturating_add(line.len() as u64);
                self.dirty = true;
                Ok(())
            }
            Err(e) => {
                // A full disk takes part of a line: whoever reads the file must not stumble over it.
                let mended = current.file.set_len(current.length);
                let error = told(&current.path, "write", &e);
                if mended.is_err() || !current.path.exists() {
                    // Opened anew, where the end is looked at.
                    self.open.remove(kind);
                }
                Err(error)
            }
        }
    }

    /// Brings what was written to the disk.
    pub fn sync(&mut self) -> Result<(), String> {
        for current in self.open.values() {
            current.file.sync_data().map_err(|e| told(&current.path, "write", &e))?;
        }
        self.dirty = false;
        Ok(())
    }

    /// The file that takes a line of `length` bytes on `day`: the last one of the day, or a new one.
    fn next(&self, kind: &str, day: &str, length: u64) -> io::Result<Current> {
        // Where there was no room for it before.
        fs::create_dir_all(&self.dir)?;
        let newest = self.list()?.into_iter().rfind(|found| found.kind == kind);
        let (day, mut number) = match newest {
            Some(found) if *found.day >= *day => (found.day, found.number),
            _ => (day.to_owned(), 0),
        };
        loop {
            let path = self.dir.join(match number {
                0 => format!("{kind}-{day}.jsonl"),
                n => format!("{kind}-{day}.{n}.jsonl"),
            });
            let mut file = OpenOptions::new().create(true).append(true).read(true).open(&path)?;
            let there = mend(&mut file)?;
            if there == 0 || there + length <= self.limits.file {
                return Ok(Current { file, path, day, length: there });
            }
            number += 1;
        }
    }

    /// The oldest files go until `length` more bytes are within the limit. A file that is written stays.
    fn make_room(&mut self, length: u64) -> io::Result<()> {
        let files = self.list()?;
        let mut all: u64 = files.iter().map(|found| found.length).sum();
        for found in files {
            // A fiftieth is left free, which is what may be written until the next look.
            if all + length <= self.limits.all - self.limits.all / 50 {
                break;
            }
            if self.open.values().any(|current| current.path == found.path) {
                continue;
            }
            fs::remove_file(&found.path)?;
            all -= found.length;
        }
        Ok(())
    }

    /// Our files, the oldest first.
    fn list(&self) -> io::Result<Vec<Found>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some((kind, day, number)) = name.to_str().and_then(parts) else { continue };
            let length = entry.metadata()?.len();
            found.push(Found { day, number, kind, path: entry.path(), length });
        }
        found.sort();
        Ok(found)
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Found {
    day: String,
    number: u32,
    kind: String,
    path: PathBuf,
    length: u64,
}

/// `KIND-YYYY-MM-DD[.N].jsonl`
fn parts(name: &str) -> Option<(String, String, u32)> {
    let rest = name.strip_suffix(".jsonl")?;
    let (kind, rest) = rest.split_once('-')?;
    let (day, number) = match rest.split_once('.') {
        Some((day, number)) => (day, number.parse().ok()?),
        None => (rest, 0),
    };
    let ours = ["events", "results"].contains(&kind) && day.len() == 10;
    ours.then(|| (kind.to_owned(), day.to_owned(), number))
}

/// Cuts off half a line at the end, which a kill or a loss of power has left. The length of what stays.
fn mend(file: &mut File) -> io::Result<u64> {
    let length = file.seek(SeekFrom::End(0))?;
    let mut end = length;
    let mut chunk = [0; 4096];
    while end > 0 {
        let from = end.saturating_sub(chunk.len() as u64);
        let part = &mut chunk[..(end - from) as usize];
        file.seek(SeekFrom::Start(from))?;
        file.read_exact(part)?;
        if let Some(at) = part.iter().rposition(|byte| *byte == b'\n') {
            end = from + at as u64 + 1;
            break;
        }
        end = from;
    }
    if end < length {
        file.set_len(end)?;
    }
    Ok(end)
}

#[cold]
fn told(path: &Path, what: &str, e: &io::Error) -> String {
    match e.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            format!("disk full ({})", path.display())
        }
        _ => format!("{}: cannot {what}: {e}", path.display()),
    }
}
