//! The steps in order, and their scratch.

use super::{
    Placement, colour,
    layout::{self, Layout},
    normalise::{Table, reflect, surround},
    resample::Resampler,
    view::View,
};
use crate::{
    Error, Image, Rect, Result,
    contract::{InputContract, PadRule, ResizeRule},
};

/// Makes a model's input from a region of a frame, as the contract says.
///
/// The steps, in order: the region is resized to 8 bits by the contract's filter; channels are put in order (grey is
/// replicated, luma is OpenCV's fixed-point BT.601); the fill of a letterbox is normalised like a pixel; `x · scale`, but
/// `x / n` if the scale is the `f32` nearest to `1/n`, as training divides; `(x − mean) / std`; padding last, so that
/// zeros are zeros of the tensor. A mirror image that is too small for the padding is mirrored again.
///
/// Where the contract leaves a choice: a letterbox is ultralytics' (`LetterBox`, scaling up as well as down), a crop of
/// the centre torchvision's, and a stretch to a size that is not fixed takes each axis to the next multiple within the
/// bounds.
///
/// One per worker: it owns its tables and scratch, and in steady state (sizes that it has seen) allocates nothing.
pub struct Preprocess {
    contract: InputContract,
    tables: Vec<Table>,
    resampler: Resampler,
    /// One row of 8-bit planes: those of the picture, and its luma if that is asked for.
    line: Vec<u8>,
}

impl Preprocess {
    /// For a contract's input.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadFile`] if the contract contradicts itself.
    pub fn new(contract: &InputContract) -> Result<Self> {
        layout::check(contract)?;
        let filter = match contract.resize {
            ResizeRule::None => None,
            ResizeRule::Stretch { filter }
            | ResizeRule::Letterbox { filter, .. }
            | ResizeRule::ShorterSideCrop { filter, .. } => Some(filter),
        };
        Ok(Self {
            contract: contract.clone(),
            tables: Table::of(contract),
            resampler: Resampler::new(filter),
            line: Vec::new(),
        })
    }

    /// The (height, width), in pixels, of the input that the graph gets for a region of `width × height`.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] with the numbers and the rule if the contract cannot take the region.
    pub fn input_size(&self, width: usize, height: usize) -> Result<(usize, usize)> {
        let (w, h) = layout::layout(&self.contract, width, height)?.input;
        Ok((h, w))
    }

    /// Channels of the input.
    pub fn channels(&self) -> usize {
        self.tables.len()
    }

    /// Makes `out`, one image's `[C, H, W]`, of the region `roi` of `image`; every value of it is written.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] if the region is empty or does not lie in the image, if the contract cannot take
    /// its size, or if `out` is not of the input's length.
    pub fn run(&mut self, image: &Image, roi: Rect, out: &mut [f32]) -> Result<Placement> {
        let (width, height) = (image.width(), image.height());
        if roi.is_empty() || !roi.fits(width, height) {
            let Rect { x, y, width: w, height: h } = roi;
            let what = if roi.is_empty() { "holds no pixel" } else { "does not lie in it" };
            let message = format!("region {w}×{h} at ({x}, {y}) of a {width}×{height} image {what}");
            return Err(Error::bad_input(message));
        }
        let layout = layout::layout(&self.contract, roi.width, roi.height)?;
        let ((w, h), channels) = (layout.input, self.channels());
        if h.checked_mul(w).and_then(|n| n.checked_mul(channels)) != Some(out.len()) {
            let have = out.len();
            return Err(Error::bad_input(format!("[{channels}, {h}, {w}] does not hold {have} values")));
        }
        self.picture(&View::new(image, roi), &layout, out);
        self.around(&layout, out);
        let (target, picture) = (layout.target, layout.picture);
        Ok(Placement {
            roi,
            input: layout.input,
            scale_x: target.size.0 as f64 / roi.width as f64,
            scale_y: target.size.1 as f64 / roi.height as f64,
            offset_x: picture.x as f64 - target.window.x as f64,
            offset_y: picture.y as f64 - target.window.y as f64,
            valid: picture,
        })
    }

    /// Resized, in its channels, normalised.
    fn picture(&mut self, view: &View, layout: &Layout, out: &mut [f32]) {
        let ((stride, rows), picture, target) = (layout.input, layout.picture, layout.target);
        let (channels, width) = (view.channels(), picture.width);
        let luma = (0..self.tables.len()).any(|c| colour::plane(self.contract.colour, channels, c) == 3);
        self.line.resize(width * (channels + usize::from(luma)), 0);
        self.resampler.begin(view, target);
        for y in 0..picture.height {
            self.resampler.row(view, &target, y, &mut self.line[..width * channels]);
            if luma {
                colour::luma_row(&mut self.line, width);
            }
            for (c, (table, plane)) in self.tables.iter().zip(out.chunks_exact_mut(stride * rows)).enumerate()
            {
                let from = colour::plane(self.contract.colour, channels, c) * width;
                let to = &mut plane[(picture.y + y) * stride + picture.x..][..width];
                table.apply(&self.line[from..from + width], to);
            }
        }
    }

    /// Fill and padding.
    fn around(&self, layout: &Layout, out: &mut [f32]) {
        let ((width, height), canvas) = (layout.input, layout.canvas);
        for (table, plane) in self.tables.iter().zip(out.chunks_exact_mut(width * height)) {
            if let ResizeRule::Letterbox { fill, .. } = self.contract.resize {
                surround(plane, width, canvas, layout.picture, table.get(fill));
            }
            match self.contract.pad {
                PadRule::None => {}
                PadRule::ReflectRightBottom { .. } => reflect(plane, width, canvas.width, canvas.height),
                PadRule::ZeroCentred { .. } => {
                    surround(plane, width, Rect { x: 0, y: 0, width, height }, canvas, 0.0);
                }
            }
        }
    }
}
