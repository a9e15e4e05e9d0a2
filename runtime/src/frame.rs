//! One frame of a source: a picture and when it was taken.

use std::time::{Duration, SystemTime};

use crate::Image;

/// A picture with its place in a stream.
#[derive(Clone, Debug, Default)]
pub struct Frame {
    /// Counts what the source gave, from 0; a gap means that a frame could not be read or was dropped.
    pub seq: u64,
    /// Presentation time since the start of the stream. Never decreases within one stream: sources mend the stamps
    /// that do and count them.
    pub pts: Duration,
    /// Wall-clock time of capture, if the source knows it (cameras do, files mostly do not).
    pub captured: Option<SystemTime>,
    /// The picture.
    pub image: Image,
}
