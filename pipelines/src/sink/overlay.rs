//! `overlay.avi`: the video with everything that was found drawn into it.

use std::path::Path;

use tapetum_runtime::{Error, Result};

use super::{MjpegVideo, Sink, SinkKind, draw::Canvas};
use crate::{Item, RunInfo, Summary};

/// `--sink overlay`.
pub(super) const OVERLAY: SinkKind = SinkKind {
    name: "overlay",
    writes: "overlay.avi: the video with boxes, masks and classes drawn in (Motion-JPEG)",
    open: |out, _| Ok(overlay(&out.join("overlay.avi"))),
};

/// Frames are shrunk to this many pixels on their longer side.
const MOST: usize = 1920;

struct Overlay {
    canvas: Canvas,
    jpeg: Vec<u8>,
    video: MjpegVideo,
}

/// Writes the video to `path`.
pub(crate) fn overlay(path: &Path) -> Box<dyn Sink> {
    let video = MjpegVideo::new(path.to_owned());
    Box::new(Overlay { canvas: Canvas::default(), jpeg: Vec::new(), video })
}

impl Sink for Overlay {
    fn name(&self) -> &'static str {
        OVERLAY.name
    }

    fn deliver(&mut self, item: &Item, run: &RunInfo) -> Result<()> {
        self.canvas.paint(item, run, MOST);
        self.jpeg.clear();
        self.canvas
            .jpeg(&mut self.jpeg, 85)
            .map_err(|e| Error::internal(format!("overlay of frame {}: {e}", item.frame.seq)).caused_by(e))?;
        self.video.add(&self.jpeg, self.canvas.size(), item.frame.pts)
    }

    fn finish(&mut self, _: &RunInfo, _: &Summary) -> Result<()> {
        self.video.finish()
    }
}
