//! `[camera.NAME.record]` and `[media]`.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tapetum_runtime::settings::{Reader, Table};

use crate::site::{
    event::spec::seconds,
    output::reading::{count, flag, mebibytes},
};

/// What is kept of a camera's events.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordSpec {
    /// Whether there is footage.
    pub clips: bool,
    /// Before the first frame that an event's thing was seen on.
    pub pre: Duration,
    /// After the last.
    pub post: Duration,
    /// Longest recording; what happens later than that is not recorded.
    pub longest: Duration,
    /// Most bytes of encoded pictures that wait in memory.
    pub memory: usize,
    /// The event's best picture.
    pub snapshots: Snapshots,
}

/// How the best picture of an event is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Snapshots {
    /// Not at all.
    Off,
    /// As it was looked at.
    Plain,
    /// With what was found drawn on it.
    Boxes,
}

impl Default for RecordSpec {
    fn default() -> Self {
        Self {
            clips: true,
            pre: Duration::from_secs(5),
            post: Duration::from_secs(5),
            longest: Duration::from_secs(300),
            memory: 32 << 20,
            snapshots: Snapshots::Boxes,
        }
    }
}

impl RecordSpec {
    /// The keys of the table.
    pub const KEYS: &[&str] = &["clips", "pre_s", "post_s", "longest_s", "memory_mb", "snapshots"];

    /// Reads the table; mistakes are noted, and none is returned where one matters.
    pub fn read<'t>(reader: &mut Reader<'t>, table: &Table<'t>) -> Option<Self> {
        reader.known(table, Self::KEYS, "record");
        let default = Self::default();
        let clips = flag(reader, table, "clips", default.clips);
        let pre = seconds(reader, table, "pre_s", default.pre, 0.0, 300.0);
        let post = seconds(reader, table, "post_s", default.post, 0.0, 300.0);
        let longest = seconds(reader, table, "longest_s", default.longest, 1.0, 3600.0);
        let memory = mebibytes(reader, table, "memory_mb", default.memory >> 20);
        let kinds = [("off", Snapshots::Off), ("plain", Snapshots::Plain), ("boxes", Snapshots::Boxes)];
        let snapshots = match reader.choice(table, "snapshots", &kinds) {
            None if table.has("snapshots") => None,
            kind => Some(kind.unwrap_or(default.snapshots)),
        };
        let (pre, post, longest) = (pre?, post?, longest?);
        if longest <= pre + post {
            reader.note(table.place("longest_s"), "longest_s must be more than pre_s and post_s together");
            return None;
        }
        if clips == Some(false) && snapshots == Some(Snapshots::Off) {
            reader
                .note(table.place("clips"), "neither clips nor snapshots: leave the whole table out instead");
            return None;
        }
        let memory = usize::try_from(memory?).ok()?;
        Some(Self { clips: clips?, pre, post, longest, memory, snapshots: snapshots? })
    }
}

/// The folder of pictures and footage.
#[derive(Clone, Debug, PartialEq)]
pub struct MediaSpec {
    /// Where it is.
    pub dir: PathBuf,
    /// It holds at most so many bytes.
    pub most: u64,
    /// What is older goes.
    pub keep: Option<Duration>,
}

impl MediaSpec {
    /// The keys of the table.
    pub const KEYS: &[&str] = &["dir", "max_mb", "keep_days"];

    /// Without a table, in the state folder of the site.
    pub fn below(state: &Path) -> Self {
        Self { dir: state.join("media"), most: 10_240 << 20, keep: Some(Duration::from_secs(14 * 86_400)) }
    }

    /// Reads the table; relative paths are below `state`. `keep_days = 0` keeps everything that there is room for.
    pub fn read<'t>(reader: &mut Reader<'t>, table: &Table<'t>, state: &Path) -> Option<Self> {
        let mut spec = Self::below(state);
        if let Some(dir) = reader.string(table, "dir") {
            spec.dir = state.join(dir);
        }
        spec.most = mebibytes(reader, table, "max_mb", (spec.most >> 20) as usize)?;
        let days = count(reader, table, "keep_days", 14, 0..=36_500)?;
        spec.keep = (days > 0).then(|| Duration::from_secs(days as u64 * 86_400));
        Some(spec)
    }
}
