//! The newest inferred frame of a camera, for whoever looks at it: picture and findings of the very same frame.

use std::{sync::Arc, time::SystemTime};

use tokio::sync::watch;

/// One frame with what was found on it.
#[derive(Debug)]
pub struct LiveFrame {
    /// Its number in the camera's stream.
    pub seq: u64,
    /// When it was captured.
    pub captured: Option<SystemTime>,
    /// Width and height of the picture, in pixels; boxes speak of these.
    pub size: (usize, usize),
    /// The picture that the findings were made on, as JPEG.
    pub jpeg: Vec<u8>,
    /// Pixels by class, one per stage that segmented something.
    pub masks: Vec<LiveMask>,
    /// The frame's line of `results.jsonl`, without the line feed.
    pub result: Vec<u8>,
}

/// What one stage segmented on a frame.
#[derive(Debug)]
pub struct LiveMask {
    /// As in the pipeline file.
    pub stage: String,
    /// What the classes are called, from class 0, the background, on.
    pub labels: Vec<String>,
    /// An 8-bit grey PNG of the frame's size whose samples are class indices.
    pub png: Vec<u8>,
}

/// Where a camera lays its newest frame. Nothing is encoded while nobody looks.
#[derive(Debug)]
pub struct Live(watch::Sender<Option<Arc<LiveFrame>>>);

impl Default for Live {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl Live {
    /// Whether anybody looks.
    pub fn watched(&self) -> bool {
        self.0.receiver_count() > 0
    }

    /// Lays down a frame in place of the one before.
    pub fn show(&self, frame: LiveFrame) {
        self.0.send_replace(Some(Arc::new(frame)));
    }

    /// Looks at the camera until the receiver is dropped. Who is slow misses frames, never delays them.
    pub fn watch(&self) -> watch::Receiver<Option<Arc<LiveFrame>>> {
        let mut receiver = self.0.subscribe();
        // What lies there may be from the last time that anybody looked.
        receiver.mark_unchanged();
        receiver
    }
}
