//! The region of an image that is read.

use crate::{Image, Rect};

/// The pixels of an image within a rectangle that is not empty and lies inside it.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    image: &'a Image,
    roi: Rect,
}

impl<'a> View<'a> {
    /// `roi` must not be empty and must fit the image.
    pub(super) fn new(image: &'a Image, roi: Rect) -> Self {
        debug_assert!(!roi.is_empty() && roi.fits(image.width(), image.height()));
        Self { image, roi }
    }

    /// (width, height) in pixels.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.roi.width, self.roi.height)
    }

    /// Bytes of one pixel: 1 or 3.
    pub(super) fn channels(&self) -> usize {
        self.image.format().channels()
    }

    /// The interleaved bytes of row `y` of the region.
    pub(super) fn row(&self, y: usize) -> &'a [u8] {
        let channels = self.channels();
        &self.image.row(self.roi.y + y)[self.roi.x * channels..(self.roi.x + self.roi.width) * channels]
    }
}

/// What is to be made: a whole of `size` (width, height), of which only `window` is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) size: (usize, usize),
    pub(super) window: Rect,
}

/// Interleaved pixels to planes, each of the length of a row.
pub(super) fn deinterleave(from: &[u8], channels: usize, to: &mut [u8]) {
    if channels == 1 {
        to.copy_from_slice(from);
        return;
    }
    let width = to.len() / channels;
    for (c, plane) in to.chunks_exact_mut(width).enumerate() {
        for (to, pixel) in plane.iter_mut().zip(from.chunks_exact(channels)) {
            *to = pixel[c];
        }
    }
}
