//! Key frames, chosen while the video runs: what they are of is only known at its end.

use tapetum_runtime::{Error, Result};

use super::super::draw::Canvas;
use crate::{Item, RunInfo};

/// Pictures kept at most.
const MOST: usize = 64;
/// Pictures kept at most that begin a run of broken frames, per interval: a short run is not believed.
const STARTS: usize = 3;
/// Longer side of a picture at most, in pixels.
const SIDE: usize = 720;

/// Why a frame is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    FirstClear,
    FirstBroken,
    GreatestArea,
}

/// A frame in terms of what makes it key.
pub(super) struct Moment<'a> {
    pub seconds: f64,
    pub label: Option<&'a str>,
    pub area: u64,
}

/// A picture that may be shown.
pub(super) struct Kept {
    pub why: Why,
    pub seconds: f64,
    pub area: u64,
    pub jpeg: Vec<u8>,
}

/// The pictures so far.
#[derive(Default)]
pub(super) struct Frames {
    pub kept: Vec<Kept>,
    /// Whether some were given up for want of room.
    pub full: bool,
    canvas: Canvas,
    /// The frame of greatest area in this interval, painted: time and area.
    greatest: Option<(f64, u64)>,
    painted: Canvas,
    seen_clear: bool,
    starts: usize,
    was_broken: bool,
}

impl Frames {
    /// Looks at the next frame.
    pub fn see(&mut self, moment: &Moment<'_>, item: &Item, run: &RunInfo) -> Result<()> {
        if moment.label == Some("closed") {
            return self.end();
        }
        let broken = moment.label == Some("broken");
        if moment.label == Some("clear") && !self.seen_clear {
            self.seen_clear = true;
            self.keep(Why::FirstClear, moment, item, run)?;
        }
        if broken && !self.was_broken && self.starts < STARTS {
            self.starts += 1;
            self.keep(Why::FirstBroken, moment, item, run)?;
        }
        self.was_broken = broken;
        if moment.area > self.greatest.map_or(0, |(_, area)| area) {
            self.greatest = Some((moment.seconds, moment.area));
            self.painted.paint(item, run, SIDE);
        }
        Ok(())
    }

    /// The interval is over.
    pub fn end(&mut self) -> Result<()> {
        (self.seen_clear, self.starts, self.was_broken) = (false, 0, false);
        let Some((seconds, area)) = self.greatest.take() else { return Ok(()) };
        let painted = std::mem::take(&mut self.painted);
        let pushed = self.push(Why::GreatestArea, seconds, area, &painted);
        self.painted = painted;
        pushed
    }

    fn keep(&mut self, why: Why, moment: &Moment<'_>, item: &Item, run: &RunInfo) -> Result<()> {
        let mut canvas = std::mem::take(&mut self.canvas);
        if self.kept.len() < MOST {
            canvas.paint(item, run, SIDE);
        }
        let pushed = self.push(why, moment.seconds, moment.area, &canvas);
        self.canvas = canvas;
        pushed
    }

    fn push(&mut self, why: Why, seconds: f64, area: u64, canvas: &Canvas) -> Result<()> {
        if self.kept.len() >= MOST {
            self.full = true;
            return Ok(());
        }
        let mut jpeg = Vec::new();
        canvas.jpeg(&mut jpeg, 80).map_err(|e| Error::internal(format!("key frame: {e}")).caused_by(e))?;
        self.kept.push(Kept { why, seconds, area, jpeg });
        Ok(())
    }
}
