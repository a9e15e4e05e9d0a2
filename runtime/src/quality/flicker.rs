//! What changes from frame to frame where the scene does not.

use super::alike::alike;
use crate::{Error, Image, PixelFormat, Result};

/// Grey counts as so many equal channels, so that it compares with RGB.
const CHANNELS: u64 = 3;

/// Measures whether a restoration flickers: how much its output changes between frames where the camera's picture
/// stands still, beside how much the camera's picture changes there (its noise).
///
/// A pixel is static if its captured value changed by at most a threshold since the frame before, in every channel. On
/// static pixels the absolute differences of both pictures are averaged over channels, pixels and frames.
///
/// A network that restores every frame for itself may calm the noise of a video or amplify it; `after` beside `before`
/// tells which.
#[derive(Clone, Debug)]
pub struct Flicker {
    threshold: u8,
    captured: Image,
    restored: Image,
    frames: u64,
    sums: Sums,
}

/// What [`Flicker`] found, over all frames so far.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FlickerReport {
    /// Frames given, also the first and those at which the comparison began again.
    pub frames: u64,
    /// Static pixels as a share of all compared ones, above 0 and up to 1.
    pub static_fraction: f64,
    /// Mean absolute difference of the captured picture on static pixels, in 8-bit steps.
    pub before: f64,
    /// The same of the restored picture; `after / before` is the flicker's gain.
    pub after: f64,
}

impl Flicker {
    /// Nothing seen yet; pixels are static up to a change of `threshold` 8-bit steps.
    pub fn new(threshold: u8) -> Self {
        Self {
            threshold,
            captured: Image::default(),
            restored: Image::default(),
            frames: 0,
            sums: Sums::default(),
        }
    }

    /// Adds a frame and what was made of it, and compares both with those before. One may be grey and the other RGB.
    ///
    /// Where a size or format differs from the frame before, there is nothing to compare: the frame counts, and
    /// comparing begins again from it; what was found before stays. Memory is only taken for a frame that is larger than
    /// every earlier one.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] if the two have different sizes; the frame is not added then.
    pub fn frame(&mut self, captured: &Image, restored: &Image) -> Result<()> {
        let size = |image: &Image| (image.width(), image.height());
        let ((width, height), (other_width, other_height)) = (size(captured), size(restored));
        if size(captured) != size(restored) {
            return Err(Error::bad_input(format!(
                "a frame of {width}×{height} cannot be compared with a restored one of {other_width}×{other_height}"
            )));
        }
        if alike(captured, &self.captured) && alike(restored, &self.restored) {
            let compare = match (captured.format(), restored.format()) {
                (PixelFormat::Grey8, PixelFormat::Grey8) => Sums::add::<1, 1>,
                (PixelFormat::Grey8, PixelFormat::Rgb8) => Sums::add::<1, 3>,
                (PixelFormat::Rgb8, PixelFormat::Grey8) => Sums::add::<3, 1>,
                (PixelFormat::Rgb8, PixelFormat::Rgb8) => Sums::add::<3, 3>,
            };
            compare(&mut self.sums, self.threshold, [&self.captured, captured], [&self.restored, restored]);
        }
        self.frames += 1;
        self.captured.copy_from(captured);
        self.restored.copy_from(restored);
        Ok(())
    }

    /// What was found so far; `None` until a pixel was static.
    pub fn report(&self) -> Option<FlickerReport> {
        let Sums { pixels, still, before, after } = self.sums;
        let mean = |sum: u64| sum as f64 / (CHANNELS * still) as f64;
        (still > 0).then(|| FlickerReport {
            frames: self.frames,
            static_fraction: still as f64 / pixels as f64,
            before: mean(before),
            after: mean(after),
        })
    }
}

/// Whole numbers, so that neither the order nor the number of frames costs precision.
#[derive(Clone, Debug, Default)]
struct Sums {
    /// Compared.
    pixels: u64,
    /// Static.
    still: u64,
    /// Differences of the captured picture on static pixels, over [`CHANNELS`].
    before: u64,
    /// The same of the restored picture.
    after: u64,
}

impl Sums {
    /// Compares two captured pictures of `C` channels and two restored ones of `R`, each the earlier first.
    fn add<const C: usize, const R: usize>(
        &mut self,
        threshold: u8,
        captured: [&Image; 2],
        restored: [&Image; 2],
    ) {
        let [earlier, later] = captured.map(|image| image.data().as_chunks::<C>().0.iter());
        let [restored_earlier, restored_later] = restored.map(|image| image.data().as_chunks::<R>().0.iter());
        let (mut still, mut before, mut after) = (0, 0, 0);
        for ((a, b), (c, d)) in earlier.zip(later).zip(restored_earlier.zip(restored_later)) {
            // A factor instead of a branch: on noise every branch would be a guess.
            let is_still = u64::from(a.iter().zip(b).all(|(a, b)| a.abs_diff(*b) <= threshold));
            still += is_still;
            before += is_still * difference(a, b);
            after += is_still * difference(c, d);
        }
        self.pixels += captured[0].data().len() as u64 / C as u64;
        self.still += still;
        self.before += before * CHANNELS / C as u64;
        self.after += after * CHANNELS / R as u64;
    }
}

/// The sum of the absolute differences of two pixels.
fn difference<const N: usize>(a: &[u8; N], b: &[u8; N]) -> u64 {
    a.iter().zip(b).map(|(a, b)| u64::from(a.abs_diff(*b))).sum()
}
