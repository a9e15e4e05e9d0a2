//! Restoration: a model's `[C, H, W]` → a picture.

use crate::{Error, Image, PixelFormat, Rect, Result, contract::Colour};

/// Makes a picture of a model's output.
#[derive(Clone, Debug)]
pub struct ImageDecoder {
    range: [f32; 2],
    clamp: bool,
    crop: bool,
    colour: Colour,
}

impl ImageDecoder {
    /// `range`: the values of black and white. `clamp`: values outside are cut to it; else they are an error. `crop`: the
    /// input's padding is cut off. `colour`: the order of the channels.
    pub fn new(range: [f32; 2], clamp: bool, crop: bool, colour: Colour) -> Self {
        Self { range, clamp, crop, colour }
    }

    /// Reads the output for one picture; `valid` is the part of the network's input that held it. Values are rounded to
    /// 8 bits, halves up.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] if the shape is another, or a value is no number or outside of the range.
    pub fn run(&self, shape: &[usize], values: &[f32], valid: Rect, out: &mut Image) -> Result<()> {
        let channels = self.colour.channels();
        let (height, width) = match *shape {
            [c, height, width] if c == channels && values.len() == c * height * width => (height, width),
            _ => {
                let what =
                    format!("the model gave a picture of {shape:?}, the contract says [{channels}, H, W]");
                return Err(Error::bad_input(what));
            }
        };
        let taken = if self.crop { valid } else { Rect { x: 0, y: 0, width, height } };
        if !taken.fits(width, height) {
            let what = format!("a picture of {width}×{height} does not cover {:?}", taken.xyxy());
            return Err(Error::bad_input(what));
        }
        let format = if channels == 1 { PixelFormat::Grey8 } else { PixelFormat::Rgb8 };
        let bytes = out.reset(taken.width, taken.height, format);
        let [black, white] = self.range;
        let factor = 255.0 / (white - black);
        for (n, pixel) in bytes.chunks_exact_mut(channels).enumerate() {
            let (x, y) = (taken.x + n % taken.width, taken.y + n / taken.width);
            for (c, byte) in pixel.iter_mut().enumerate() {
                let plane = if self.colour == Colour::Bgr { 2 - c } else { c };
                let value = values[(plane * height + y) * width + x];
                let scaled = (value - black) * factor;
                // Half a step of grace for values that are in range but for rounding.
                if value.is_nan() || (!self.clamp && !(-0.5..=255.5).contains(&scaled)) {
                    return Err(Error::bad_input(format!(
                        "the restored picture holds {value} at column {x}, row {y}; the range is {black} to {white}"
                    )));
                }
                *byte = (scaled + 0.5).clamp(0.0, 255.0) as u8;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_is_cut_off_and_bgr_put_in_order() {
        // Blue, green, red planes of a 2 × 1 input whose right pixel is padding.
        let values = [0.0, 9.0, 0.5, 9.0, 2.0, 9.0];
        let valid = Rect { x: 0, y: 0, width: 1, height: 1 };
        let mut image = Image::default();
        let decoder = ImageDecoder::new([0.0, 1.0], true, true, Colour::Bgr);
        decoder.run(&[3, 1, 2], &values, valid, &mut image).unwrap();
        assert_eq!((image.width(), image.data()), (1, &[255, 128, 0][..]));
        let strict = ImageDecoder::new([0.0, 1.0], false, true, Colour::Bgr);
        assert!(strict.run(&[3, 1, 2], &values, valid, &mut image).is_err());
        assert!(decoder.run(&[1, 1, 2], &values[..2], valid, &mut image).is_err());
        assert!(decoder.run(&[3, 1, 2], &[f32::NAN; 6], valid, &mut image).is_err());
    }
}
