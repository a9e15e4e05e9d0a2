//! Segmentation: a model's `[C, H, W]` → a class per pixel of the frame.

use crate::{Error, Rect, Result, contract::MaskRule};

/// Classes of pixels, in one part per region that was segmented. Keeps its memory when it is filled again.
#[derive(Clone, Debug, Default)]
pub struct Mask {
    parts: Vec<MaskPart>,
    used: usize,
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

impl Mask {
    /// Takes all parts out.
    pub fn clear(&mut self) {
        self.used = 0;
    }

    /// Puts a part in; what it holds is that of an earlier frame.
    pub fn push(&mut self) -> &mut MaskPart {
        if self.used == self.parts.len() {
            self.parts.push(MaskPart::default());
        }
        self.used += 1;
        &mut self.parts[self.used - 1]
    }

    /// The parts, in the order of the regions.
    pub fn parts(&self) -> &[MaskPart] {
        &self.parts[..self.used]
    }

    /// Pixels of class `class` in all parts; those in two parts count twice.
    pub fn area(&self, class: usize) -> u64 {
        self.parts().iter().filter_map(|part| part.area.get(class)).sum()
    }
}

/// Makes a [`MaskPart`] of a model's output: decides each pixel at the network's resolution, then takes the nearest for
/// each pixel of the frame as OpenCV's `INTER_NEAREST` does (the pixel under `floor(x · scale)`).
#[derive(Clone, Debug)]
pub struct MaskDecoder {
    rule: MaskRule,
    channels: usize,
    /// Per column of the region, the network's column.
    columns: Vec<usize>,
}

impl MaskDecoder {
    /// For a model with this many channels.
    pub fn new(rule: MaskRule, channels: usize) -> Self {
        Self { rule, channels, columns: Vec::new() }
    }

    /// Reads the output for one region. `shape` is `[C, H, W]`; `valid` is the part of the network's input that holds
    /// the picture, `roi` the region of the frame that it shows.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] if the shape is another or a pixel's value is no number.
    pub fn run(
        &mut self,
        shape: &[usize],
        values: &[f32],
        valid: Rect,
        roi: Rect,
        out: &mut MaskPart,
    ) -> Result<()> {
        let (height, width) = match *shape {
            [channels, height, width] if channels == self.channels => (height, width),
            _ => {
                let want = self.channels;
                return Err(Error::bad_input(format!(
                    "the model gave a mask of {shape:?} per image, the contract says [{want}, H, W]"
                )));
            }
        };
        let plane = height * width;
        if !valid.fits(width, height) || valid.is_empty() || values.len() != plane * self.channels {
            return Err(Error::bad_input(format!(
                "a mask of {width}×{height} does not cover the input's pixels {:?}",
                valid.xyxy()
            )));
        }
        out.rect = roi;
        out.classes.resize(roi.width * roi.height, 0);
        out.area.clear();
        out.area.resize(self.channels.max(2), 0);
        self.columns.clear();
        self.columns.extend((0..roi.width).map(|x| valid.x + x * valid.width / roi.width));
        for (y, row) in out.classes.chunks_exact_mut(roi.width.max(1)).enumerate() {
            let from = (valid.y + y * valid.height / roi.height) * width;
            for (class, &column) in row.iter_mut().zip(&self.columns) {
                let at = from + column;
                *class = class_of(self.rule, self.channels, values, at, plane).ok_or_else(|| {
                    let (x, y) = (at % width, at / width);
                    Error::bad_input(format!("the mask holds no number at column {x}, row {y}"))
                })?;
                out.area[usize::from(*class)] += 1;
            }
        }
        Ok(())
    }
}

/// The class of the pixel at `at`, whose channels lie `plane` apart; `None` if a value is no number.
pub(crate) fn class_of(
    rule: MaskRule,
    channels: usize,
    values: &[f32],
    at: usize,
    plane: usize,
) -> Option<u8> {
    if let MaskRule::Threshold { above } = rule {
        let value = values[at];
        return (!value.is_nan()).then_some(u8::from(value > above));
    }
    let mut best = 0;
    let mut highest = values[at];
    for channel in 1..channels {
        let value = values[channel * plane + at];
        if value.is_nan() {
            return None;
        }
        if value > highest {
            (best, highest) = (channel, value);
        }
    }
    // The contract allows at most as many labels as a byte counts.
    (!highest.is_nan()).then_some(best as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rect(x: usize, y: usize, width: usize, height: usize) -> Rect {
        Rect { x, y, width, height }
    }

    #[test]
    fn argmax_takes_the_first_of_equals_and_the_nearest_pixel() {
        // Background 0.5 everywhere; foreground of a 4 × 2 map.
        let values = [[0.5; 8], [0.6, 0.5, 0.4, 0.9, 0.0, 0.7, 0.0, 0.0]].concat();
        let mut part = MaskPart::default();
        let mut decoder = MaskDecoder::new(MaskRule::Argmax, 2);
        decoder.run(&[2, 2, 4], &values, rect(0, 0, 4, 2), rect(7, 9, 4, 2), &mut part).unwrap();
        assert_eq!(part.classes, [1, 0, 0, 1, 0, 1, 0, 0]);
        assert_eq!((part.area.as_slice(), part.rect), (&[5, 3][..], rect(7, 9, 4, 2)));
        // Twice as wide, half as high: floor(x · 4 / 8), floor(y · 2 / 1).
        decoder.run(&[2, 2, 4], &values, rect(0, 0, 4, 2), rect(0, 0, 8, 1), &mut part).unwrap();
        assert_eq!(part.classes, [1, 1, 0, 0, 0, 0, 1, 1]);
        // Only the right half holds the picture.
        decoder.run(&[2, 2, 4], &values, rect(2, 0, 2, 2), rect(0, 0, 2, 2), &mut part).unwrap();
        assert_eq!(part.classes, [0, 1, 0, 0]);
    }

    #[test]
    fn one_channel_is_foreground_where_it_is_above() {
        let mut part = MaskPart::default();
        let mut decoder = MaskDecoder::new(MaskRule::Threshold { above: 0.5 }, 1);
        decoder.run(&[1, 1, 3], &[0.5, 0.51, 0.0], rect(0, 0, 3, 1), rect(0, 0, 3, 1), &mut part).unwrap();
        assert_eq!((part.classes.as_slice(), part.area.as_slice()), (&[0, 1, 0][..], &[2, 1][..]));
    }

    #[test]
    fn wrong_shapes_and_what_is_no_number_are_refused() {
        let mut decoder = MaskDecoder::new(MaskRule::Argmax, 2);
        let whole = rect(0, 0, 2, 1);
        let mut run = |shape: &[usize], values: &[f32], valid| {
            decoder.run(shape, values, valid, whole, &mut MaskPart::default())
        };
        assert!(run(&[3, 1, 2], &[0.0; 6], whole).is_err());
        assert!(run(&[2, 1, 2], &[0.0; 3], whole).is_err());
        assert!(run(&[2, 1, 2], &[0.0; 4], rect(1, 0, 2, 1)).is_err());
        for at in 0..4 {
            let mut values = [0.0; 4];
            values[at] = f32::NAN;
            assert!(run(&[2, 1, 2], &values, whole).is_err(), "{at}");
        }
    }

    #[test]
    fn parts_keep_their_memory() {
        let mut mask = Mask::default();
        mask.push().area = vec![1, 2];
        mask.push().area = vec![3, 4];
        assert_eq!((mask.parts().len(), mask.area(1), mask.area(7)), (2, 6, 0));
        mask.clear();
        assert!(mask.parts().is_empty());
        assert_eq!(mask.push().area, [1, 2]);
    }
}
