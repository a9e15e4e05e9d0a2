//! One kept engine: a folder with the provider's files and `entry.json`, which says what they are.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read},
    path::Path,
    time::SystemTime,
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::key::Key;
use crate::prepare::hex;

/// What says that an entry is whole: written last.
pub const RECORD: &str = "entry.json";

/// Of [`Record`].
const FORMAT: u32 = 1;

/// Largest record that is read, in bytes: a real one has about two thousand.
const MOST_BYTES: u64 = 1 << 20;

/// `entry.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Of this file.
    pub format: u32,
    /// The version of Tapetum that wrote it.
    pub tapetum: String,
    /// What the engine depends on, in clear.
    pub key: Key,
    /// Size of the model file, in bytes.
    pub model_bytes: u64,
    /// Seconds that building took.
    pub build_seconds: f64,
    /// The provider's files, by name.
    pub files: BTreeMap<String, Recorded>,
}

/// A file as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recorded {
    /// Bytes.
    pub size: u64,
    /// 64 hexadecimal digits.
    pub sha256: String,
}

/// Why an entry is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unsound {
    /// There is none.
    Missing,
    /// It is not what was written.
    Damaged(String),
    /// It was built for something else.
    Foreign(String),
}

/// Reads the record of the entry at `folder`.
///
/// # Errors
/// Why not.
pub fn read(folder: &Path) -> Result<Record, Unsound> {
    let damaged = |why: String| Unsound::Damaged(format!("{RECORD}: {why}"));
    let file = match File::open(folder.join(RECORD)) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound && !folder.exists() => return Err(Unsound::Missing),
        Err(e) => return Err(damaged(e.to_string())),
    };
    let mut text = Vec::new();
    file.take(MOST_BYTES).read_to_end(&mut text).map_err(|e| damaged(e.to_string()))?;
    let record: Record = serde_json::from_slice(&text).map_err(|e| damaged(e.to_string()))?;
    if record.format != FORMAT {
        return Err(damaged(format!("format {}, this build reads {FORMAT}", record.format)));
    }
    Ok(record)
}

/// Checks that the entry at `folder` is of `key` and holds exactly what was written.
///
/// # Errors
/// Why it is not to be taken.
pub fn verify(folder: &Path, key: &Key) -> Result<Record, Unsound> {
    let record = read(folder)?;
    if let Some(difference) = key.difference(&record.key) {
        return Err(Unsound::Foreign(difference));
    }
    let damaged = |name: &str, why: String| Unsound::Damaged(format!("file {name}: {why}"));
    let there = states(folder).map_err(|e| Unsound::Damaged(e.to_string()))?;
    if let Some(name) = there.keys().find(|name| !record.files.contains_key(*name)) {
        return Err(damaged(name, "not of this entry".to_owned()));
    }
    for (name, recorded) in &record.files {
        let Some(state) = there.get(name) else { return Err(damaged(name, "missing".to_owned())) };
        if state.size != recorded.size {
            return Err(damaged(name, format!("{} bytes, were {}", state.size, recorded.size)));
        }
        let sha256 = digest(&folder.join(name)).map_err(|e| damaged(name, e.to_string()))?;
        if sha256 != recorded.sha256 {
            return Err(damaged(name, format!("SHA-256 {sha256:.12}…, was {:.12}…", recorded.sha256)));
        }
    }
    Ok(record)
}

/// Writes the record of everything in `folder`, and all of it through to the disk. `None` if there is nothing in it.
///
/// # Errors
/// What cannot be read or written.
pub fn seal(folder: &Path, key: &Key, model_bytes: u64, build_seconds: f64) -> io::Result<Option<Record>> {
    let mut files = BTreeMap::new();
    for (name, state) in states(folder)? {
        let path = folder.join(&name);
        let recorded = Recorded { size: state.size, sha256: digest(&path)? };
        File::open(&path)?.sync_all()?;
        files.insert(name, recorded);
    }
    if files.is_empty() {
        return Ok(None);
    }
    let tapetum = env!("CARGO_PKG_VERSION").to_owned();
    let record = Record { format: FORMAT, tapetum, key: key.clone(), model_bytes, build_seconds, files };
    let path = folder.join(RECORD);
    fs::write(&path, serde_json::to_vec_pretty(&record)?)?;
    File::open(&path)?.sync_all()?;
    sync_folder(folder)?;
    Ok(Some(record))
}

/// Writes a folder's list of names through to the disk, where the system has such a thing.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// Size and time of a file, enough to see that a provider wrote it anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    size: u64,
    changed: Option<SystemTime>,
}

/// The files in `folder` but the record. A provider makes no folders or links; one of those is an error.
///
/// # Errors
/// What cannot be read, or is no file.
pub fn states(folder: &Path) -> io::Result<BTreeMap<String, State>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let metadata = fs::symlink_metadata(entry.path())?;
        if !metadata.is_file() {
            return Err(io::Error::other(format!("{name}: not a file")));
        }
        if name != RECORD {
            found.insert(name, State { size: metadata.len(), changed: metadata.modified().ok() });
        }
    }
    Ok(found)
}

/// SHA-256 of the file at `path`, 64 hexadecimal digits.
pub fn digest(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut digest = Sha256::new();
    let mut block = vec![0; 1 << 20];
    loop {
        match file.read(&mut block)? {
            0 => return Ok(hex(&digest.finalize())),
            n => digest.update(&block[..n]),
        }
    }
}
