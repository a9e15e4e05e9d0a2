//! What sinks share in looking at a run: labels of classes, areas of masks, names of files.

use std::fmt;

use tapetum_runtime::{
    Rect,
    finding::{Mask, MaskPart},
};

use crate::{RunInfo, StageInfo};

/// A label by its index, or what stands in where an index has none.
pub(super) enum Label<'a> {
    Known(&'a str),
    Unknown(usize),
}

impl<'a> Label<'a> {
    /// The label of class `index`.
    pub fn of(stage: &'a StageInfo, index: usize) -> Self {
        stage.labels.get(index).map_or(Self::Unknown(index), |label| Self::Known(label))
    }

    /// The label of a pixel's class: a mask with a single label has it for class 1, as class 0 is the background.
    pub fn of_pixel(stage: &'a StageInfo, class: usize) -> Self {
        match (stage.labels.as_slice(), class) {
            ([only], 1) => Self::Known(only),
            _ => Self::of(stage, class),
        }
    }
}

impl fmt::Display for Label<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(label) => f.write_str(label),
            Self::Unknown(index) => write!(f, "#{index}"),
        }
    }
}

/// The parts of `mask` that hold something.
pub(super) fn parts(mask: &Mask) -> &[MaskPart] {
    mask.parts()
}

/// Number of classes that a mask of `stage` may have, the background included.
pub(super) fn pixel_classes(stage: &StageInfo, mask: &Mask) -> usize {
    parts(mask).iter().map(|part| part.area.len()).max().unwrap_or(0).max(stage.labels.len()).max(2)
}

/// Pixels of `class` in all parts.
pub(super) fn area(mask: &Mask, class: usize) -> u64 {
    parts(mask).iter().filter_map(|part| part.area.get(class)).sum()
}

/// Pixels of every class but the background.
pub(super) fn foreground(mask: &Mask) -> u64 {
    parts(mask).iter().flat_map(|part| part.area.iter().skip(1)).sum()
}

/// The smallest rectangle around all parts.
pub(super) fn union(mask: &Mask) -> Option<Rect> {
    parts(mask).iter().map(|part| part.rect).reduce(|a, b| {
        let ([ax, ay, ar, ab], [bx, by, br, bb]) = (a.xyxy(), b.xyxy());
        let (x, y) = (ax.min(bx), ay.min(by));
        Rect { x, y, width: ar.max(br) - x, height: ab.max(bb) - y }
    })
}

/// Where the `masks` sink puts the mask that stage `stage` found on frame `seq`, below the output folder. The first
/// stage that segments needs no addition to the frame's number.
pub(super) struct MaskFile {
    seq: u64,
    addition: Option<usize>,
}

impl MaskFile {
    /// Of the stage at index `stage`.
    pub fn of(run: &RunInfo, stage: usize, seq: u64) -> Self {
        let first = run.stages.iter().position(|s| s.kind == "segment");
        Self { seq, addition: (first != Some(stage)).then_some(stage) }
    }
}

impl fmt::Display for MaskFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.addition {
            None => write!(f, "masks/{:06}.png", self.seq),
            Some(stage) => write!(f, "masks/{:06}-{stage}.png", self.seq),
        }
    }
}
