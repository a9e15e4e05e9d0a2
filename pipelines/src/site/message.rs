//! What leaves a site.

use std::{path::PathBuf, sync::Arc, time::SystemTime};

use serde::{Deserialize, Serialize};

/// Something for the outputs. Cheap to clone.
#[derive(Clone, Debug)]
pub enum Message {
    /// Something happened on a camera. Never lost: kept on disk until every output that wants it has taken it.
    Event(Arc<Event>),
    /// What was found on one frame. The newest is worth more than the one before: may be dropped, and is counted then.
    Result(Arc<FrameResult>),
    /// A camera came or went. Only the last one matters.
    Camera(Arc<CameraNews>),
}

/// One thing that was seen for some time, for example a person who walks through the picture. It is told when it begins, when it
/// changes notably (a better picture) and when it ends; all with the same [`Event::id`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Unique over all cameras and restarts; sorts by time.
    pub id: String,
    /// How often this event was told before; with `id` it makes a message unique.
    pub revision: u32,
    /// As in the configuration.
    pub camera: String,
    /// As the model calls it.
    pub label: String,
    /// Whether it has ended.
    pub phase: Phase,
    /// Wall-clock time of the first frame that it was seen on.
    #[serde(serialize_with = "rfc3339", deserialize_with = "from_rfc3339")]
    pub start: SystemTime,
    /// Wall-clock time of the last frame that it was seen on; none while it goes on.
    #[serde(serialize_with = "rfc3339_or_null", deserialize_with = "from_rfc3339_or_null")]
    pub end: Option<SystemTime>,
    /// Frames that it was seen on.
    pub frames: u64,
    /// The highest score of all its boxes.
    pub score: f32,
    /// The box with that score: x1, y1, x2, y2 in frame pixels.
    pub xyxy: [f32; 4],
    /// Most boxes of the label at once.
    pub most: usize,
    /// Width and height of the frame, in pixels.
    pub size: (usize, usize),
    /// Sequence number of the frame with the highest score.
    pub seq: u64,
    /// Digest of the pipeline and its models; see [`crate::RunInfo::digest`].
    pub digest: String,
    /// The picture with the highest score, relative to the site's media folder.
    pub snapshot: Option<PathBuf>,
    /// The recording, a folder relative to the site's media folder.
    pub recording: Option<PathBuf>,
}

/// Where an event is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// It was just seen.
    Start,
    /// It goes on, and more is known of it.
    Update,
    /// It was not seen for as long as the configuration says.
    End,
}

/// What was found on one frame.
#[derive(Clone, Debug)]
pub struct FrameResult {
    /// As in the configuration.
    pub camera: String,
    /// The line of `results.jsonl`, with its line feed; see the result format in the README.
    pub line: Vec<u8>,
}

/// Whether a camera gives frames.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CameraNews {
    /// As in the configuration.
    pub camera: String,
    /// Whether frames come.
    pub online: bool,
    /// Why not; no secrets.
    pub why: Option<String>,
    /// Since when.
    #[serde(serialize_with = "rfc3339")]
    pub since: SystemTime,
}

/// As results and events write times; times that no calendar has become `null`.
pub(crate) fn rfc3339<S: serde::Serializer>(time: &SystemTime, to: S) -> Result<S::Ok, S::Error> {
    rfc3339_or_null(&Some(*time), to)
}

pub(crate) fn rfc3339_or_null<S: serde::Serializer>(
    time: &Option<SystemTime>,
    to: S,
) -> Result<S::Ok, S::Error> {
    match time.and_then(|time| jiff::Timestamp::try_from(time).ok()) {
        Some(time) => to.collect_str(&time),
        None => to.serialize_none(),
    }
}

fn from_rfc3339<'de, D: serde::Deserializer<'de>>(from: D) -> Result<SystemTime, D::Error> {
    from_rfc3339_or_null(from)?.ok_or_else(|| serde::de::Error::custom("a time is missing"))
}

fn from_rfc3339_or_null<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<SystemTime>, D::Error> {
    let text = Option::<String>::deserialize(from)?;
    let time =
        text.map(|text| text.parse::<jiff::Timestamp>()).transpose().map_err(serde::de::Error::custom)?;
    time.map(SystemTime::try_from).transpose().map_err(serde::de::Error::custom)
}
