//! `overlay.avi`: the video with everything that was found drawn into it.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tapetum_runtime::{Error, Result};

use super::{Sink, SinkKind, avi::Avi, draw::Canvas};
use crate::{Item, RunInfo, Summary};

/// `--sink overlay`.
pub(super) const OVERLAY: SinkKind = SinkKind {
    name: "overlay",
    writes: "overlay.avi: the video with boxes, masks and classes drawn in (Motion-JPEG)",
    open: |out, _| Ok(Box::new(Overlay::new(out))),
};

/// Frames are shrunk to this many pixels on their longer side.
const MOST: usize = 1920;
/// Intervals between frames that are looked at for their median.
const INTERVALS: usize = 1024;

struct Overlay {
    out: PathBuf,
    canvas: Canvas,
    jpeg: Vec<u8>,
    /// Opened with the first frame, which says the size.
    avi: Option<Avi>,
    /// Size of the video's frames.
    size: (usize, usize),
    /// Files begun.
    begun: usize,
    last: Option<Duration>,
    intervals: Vec<Duration>,
}

impl Overlay {
    fn new(out: &Path) -> Self {
        Self {
            out: out.to_owned(),
            canvas: Canvas::default(),
            jpeg: Vec::new(),
            avi: None,
            size: (0, 0),
            begun: 0,
            last: None,
            intervals: Vec::with_capacity(INTERVALS),
        }
    }

    /// The median time between two frames; 1/25 s before there are two.
    fn interval(&mut self) -> Duration {
        self.intervals.sort_unstable();
        let middle = self.intervals.get(self.intervals.len() / 2).copied();
        middle.filter(|time| !time.is_zero()).unwrap_or(Duration::from_millis(40))
    }

    /// The file to write to. A new one is begun where a file would grow too long or the frames change their size.
    fn file(&mut self) -> Result<&mut Avi> {
        let size = self.canvas.size();
        if self.size != size || self.avi.as_ref().is_some_and(|avi| avi.is_full(self.jpeg.len())) {
            self.end()?;
        }
        if self.avi.is_none() {
            self.begun += 1;
            let name = match self.begun {
                1 => "overlay.avi".into(),
                n => format!("overlay-{n}.avi"),
            };
            self.avi = Some(Avi::create(&self.out.join(name), size)?);
            self.size = size;
        }
        self.avi.as_mut().ok_or_else(|| Error::internal("no video file"))
    }

    fn end(&mut self) -> Result<()> {
        let interval = self.interval();
        self.avi.take().map_or(Ok(()), |mut avi| avi.finish(interval))
    }
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
        let pts = item.frame.pts;
        if let Some(last) = self.last.replace(pts)
            && self.intervals.len() < INTERVALS
        {
            self.intervals.push(pts.saturating_sub(last));
        }
        let interval = self.interval();
        let jpeg = std::mem::take(&mut self.jpeg);
        let added = self.file().and_then(|avi| avi.add(&jpeg, interval));
        self.jpeg = jpeg;
        added
    }

    fn finish(&mut self, _: &RunInfo, _: &Summary) -> Result<()> {
        self.end()
    }
}
