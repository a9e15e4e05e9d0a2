//! Segmentation.

use crate::Rect;

/// Classes of pixels, in one part per region that was segmented.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mask {
    /// In the order of the regions. Only the first `used` hold something: the rest is memory kept for later frames.
    pub parts: Vec<MaskPart>,
    /// Number of valid parts.
    pub used: usize,
}

/// The classes of a rectangle's pixels.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MaskPart {
    /// Where it lies in the frame.
    pub rect: Rect,
    /// Per pixel of `rect`, row by row: index into the contract's labels (0 is the background), or 0 and 1 for a model
    /// with a single channel.
    pub classes: Vec<u8>,
    /// Pixels per class index.
    pub area: Vec<u64>,
}
