//! What is in the files of a recording.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{source::packets::Codec, tune::Machine};

/// Version of the format.
pub const VERSION: u32 = 1;

/// The clip.
pub const CLIP: &str = "clip.mp4";
/// One line per encoded picture, in the order of decoding.
pub const PACKETS: &str = "packets.jsonl";
/// One line per frame, in their order.
pub const FRAMES: &str = "frames.jsonl";
/// The pipeline file.
pub const PIPELINE: &str = "pipeline.toml";
/// What is known of the whole; a folder without it is no recording.
pub const SUMMARY: &str = "recording.json";
/// [`Head`] of a recording that is not complete.
pub(crate) const HEAD: &str = "head.json";

/// What is known when it begins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Head {
    /// [`VERSION`].
    pub format: u32,
    /// That of the event that it was begun for.
    pub id: String,
    /// As in the configuration.
    pub camera: String,
    /// As in the configuration.
    pub site: String,
    /// Version of Tapetum.
    pub tapetum: String,
    /// Where the frames came from; no secrets.
    pub source: String,
    /// Width and height of the first frame, in pixels.
    pub size: (usize, usize),
    /// Of the clip.
    pub codec: Encoding,
    /// Whether the pictures are the camera's own. If not (`codec` is `jpeg` then), they were encoded for the recording and are
    /// only nearly those that were looked at.
    pub exact: bool,
    /// Time of the first frame in the stream, in nanoseconds.
    pub begin_ns: u64,
    /// Of the event.
    pub label: String,
    /// What ran.
    pub run: RunHead,
}

/// What ran on the frames.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunHead {
    /// The pipeline's name.
    pub pipeline: String,
    /// Where its file was: paths in it are relative to its folder.
    pub path: String,
    /// See [`crate::RunInfo::digest`].
    pub digest: String,
    /// In the pipeline's order, those with a model.
    pub models: Vec<ModelHead>,
    /// Threads inside each run of a model.
    pub threads: usize,
    /// Most regions of several cameras in one run of a shared model.
    pub batch: usize,
    /// The machine.
    pub machine: Option<Machine>,
    /// Its text; a file of its own in the recording.
    #[serde(skip)]
    pub text: String,
}

/// A stage's model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelHead {
    /// As in the pipeline file.
    pub stage: String,
    /// Network and variant.
    pub network: String,
    /// SHA-256 of its file.
    pub sha256: String,
    /// What ran it at the start, for example `ort:cpu/fp32`; each frame says its own.
    pub engine: String,
    /// For example `onnxruntime 1.32.0`.
    pub engine_version: String,
}

/// How the clip is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// H.264.
    H264,
    /// One JPEG picture after the other.
    Jpeg,
}

impl From<Codec> for Encoding {
    fn from(codec: Codec) -> Self {
        match codec {
            Codec::H264 => Self::H264,
            Codec::Jpeg => Self::Jpeg,
        }
    }
}

impl From<Encoding> for Codec {
    fn from(encoding: Encoding) -> Self {
        match encoding {
            Encoding::H264 => Self::H264,
            Encoding::Jpeg => Self::Jpeg,
        }
    }
}

/// `recording.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Summary {
    /// What was known at the start.
    #[serde(flatten)]
    pub head: Head,
    /// Events that it shows, in the order in which they began.
    pub events: Vec<EventLine>,
    /// Why it ends where it does.
    pub ended: Ended,
    /// Encoded pictures.
    pub packets: u64,
    /// Frames by what became of them.
    pub frames: BTreeMap<String, u64>,
    /// From the first frame to the last.
    pub seconds: f64,
    /// The other files.
    pub files: BTreeMap<String, FileLine>,
}

/// An event of a recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventLine {
    /// See [`crate::site::message::Event::id`].
    pub id: String,
    /// What was seen.
    pub label: String,
}

/// Why a recording ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// Its events were over, and so was the time after them.
    Over,
    /// It was as long as the configuration allows.
    Limit,
    /// The camera went away, or the daemon was told to stop.
    Stopped,
    /// The pipeline, the source or the configuration changed.
    Changed,
    /// The disk was too slow for what came.
    Slow,
    /// It had the whole of the media folder's room.
    Full,
    /// The daemon was killed; this is what was on disk by then.
    Killed,
}

/// A file of a recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileLine {
    /// Its size.
    pub bytes: u64,
    /// 64 hexadecimal digits.
    pub sha256: String,
}

/// A line of `packets.jsonl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PacketLine {
    /// Where it lies in the clip.
    pub at: u64,
    /// See `at`.
    pub bytes: u32,
    /// When it is shown.
    pub pts_ns: u64,
    /// Whether decoding can begin here.
    pub key: bool,
    /// Whether something is missing before it: decoding begins anew.
    pub gap: bool,
}

/// A line of `frames.jsonl`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct FrameLine {
    /// Its number in the camera's stream; a gap: a newer picture came before anybody took it.
    pub seq: u64,
    /// Its time in the stream.
    pub pts_ns: u64,
    /// Wall-clock time, RFC 3339.
    pub captured: Option<String>,
    /// What became of it.
    pub fate: FrameFate,
    /// See [`super::digest::picture`]; of delivered frames.
    pub picture: Option<String>,
    /// See [`super::digest::found`]; of delivered frames.
    pub found: Option<String>,
    /// Its line of `results.jsonl`; of delivered frames.
    pub result: Option<Value>,
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FrameFate {
    /// The pipeline looked at it.
    Delivered,
    /// It came sooner than `max_fps` allows.
    OverRate,
    /// A newer one took its place before the pipeline had time.
    Stale,
}

impl FrameFate {
    /// As written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::OverRate => "over_rate",
            Self::Stale => "stale",
        }
    }
}

/// Nanoseconds, as the files have them.
pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
