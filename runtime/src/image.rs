//! Pictures in memory and places in them.

use crate::{Error, Result, preprocess::luma};

/// How the bytes of a pixel are to be read. Interleaved, 8 bits per channel, sRGB transfer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PixelFormat {
    /// One byte: luma.
    Grey8,
    /// Three bytes: red, green, blue.
    #[default]
    Rgb8,
}

impl PixelFormat {
    /// Bytes of one pixel.
    pub fn channels(self) -> usize {
        match self {
            Self::Grey8 => 1,
            Self::Rgb8 => 3,
        }
    }
}

/// A picture: rows from the top, pixels from the left, no bytes between rows.
///
/// Made to be filled again and again: [`Image::reset`] keeps the memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    width: usize,
    height: usize,
    format: PixelFormat,
    data: Vec<u8>,
}

impl Image {
    /// A picture over `data`.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] if `data` is not `width · height · channels` bytes.
    pub fn new(width: usize, height: usize, format: PixelFormat, data: Vec<u8>) -> Result<Self> {
        let bytes = width.checked_mul(height).and_then(|n| n.checked_mul(format.channels()));
        if bytes != Some(data.len()) {
            let have = data.len();
            return Err(Error::bad_input(format!("{width}×{height} {format:?} does not hold {have} bytes")));
        }
        Ok(Self { width, height, format, data })
    }

    /// Makes this a picture of the given size and format and lends its bytes to be overwritten; what they hold before
    /// is not specified. Memory is only taken if the picture grows beyond every earlier one.
    pub fn reset(&mut self, width: usize, height: usize, format: PixelFormat) -> &mut [u8] {
        (self.width, self.height, self.format) = (width, height, format);
        self.data.resize(width * height * format.channels(), 0);
        &mut self.data
    }

    /// Makes this a copy of `other`, keeping this one's memory.
    pub fn copy_from(&mut self, other: &Self) {
        self.reset(other.width, other.height, other.format).copy_from_slice(&other.data);
    }

    /// Makes this a copy of the part `rect` of `from` in the given format, keeping this one's memory. Grey becomes colour
    /// by three equal channels, colour becomes grey by its BT.601 luma.
    ///
    /// # Panics
    /// If `rect` does not lie in `from`.
    pub fn crop_from(&mut self, from: &Self, rect: Rect, format: PixelFormat) {
        let bytes = self.reset(rect.width, rect.height, format);
        let (to, channels) = (format.channels(), from.format.channels());
        for (y, row) in bytes.chunks_exact_mut((rect.width * to).max(1)).enumerate() {
            let source = &from.row(rect.y + y)[rect.x * channels..(rect.x + rect.width) * channels];
            match (from.format, format) {
                (PixelFormat::Grey8, PixelFormat::Rgb8) => {
                    row.chunks_exact_mut(3).zip(source).for_each(|(pixel, grey)| pixel.fill(*grey));
                }
                (PixelFormat::Rgb8, PixelFormat::Grey8) => {
                    for (grey, pixel) in row.iter_mut().zip(source.chunks_exact(3)) {
                        *grey = luma(pixel[0], pixel[1], pixel[2]);
                    }
                }
                _ => row.copy_from_slice(source),
            }
        }
    }

    /// In pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// In pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// How the bytes are to be read.
    pub fn format(&self) -> PixelFormat {
        self.format
    }

    /// All bytes.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// All bytes, to be changed.
    pub fn data_mut(&mut self) -> &mut [u8] {
        &mut self.data
    }

    /// The bytes of row `y`.
    ///
    /// # Panics
    /// If `y` is not below the height.
    pub fn row(&self, y: usize) -> &[u8] {
        let stride = self.width * self.format.channels();
        &self.data[y * stride..(y + 1) * stride]
    }

    /// The rectangle of the whole picture.
    pub fn rect(&self) -> Rect {
        Rect { x: 0, y: 0, width: self.width, height: self.height }
    }
}

/// A rectangle of whole pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rect {
    /// Column of its left edge.
    pub x: usize,
    /// Row of its upper edge.
    pub y: usize,
    /// Number of columns.
    pub width: usize,
    /// Number of rows.
    pub height: usize,
}

impl Rect {
    /// The pixels of `xyxy` (left, top, right, bottom, in pixels): edges rounded by `floor(v + 0.5)` and cut to a
    /// picture of `width × height`. Empty if nothing of it lies within.
    pub fn round(xyxy: [f32; 4], width: usize, height: usize) -> Self {
        let edge = |v: f32, most: usize| {
            // A NaN is cast to 0.
            ((v + 0.5).floor().max(0.0) as usize).min(most)
        };
        let [x1, y1, x2, y2] = xyxy;
        let (x, y) = (edge(x1, width), edge(y1, height));
        Self { x, y, width: edge(x2, width).saturating_sub(x), height: edge(y2, height).saturating_sub(y) }
    }

    /// `[left, top, right, bottom]`, right and bottom being the first column and row outside.
    pub fn xyxy(&self) -> [usize; 4] {
        [self.x, self.y, self.x + self.width, self.y + self.height]
    }

    /// Whether it holds no pixel.
    pub fn is_empty(&self) -> bool {
        self.width == 0 || self.height == 0
    }

    /// Whether it lies within a picture of `width × height`.
    pub fn fits(&self, width: usize, height: usize) -> bool {
        self.x.checked_add(self.width).is_some_and(|right| right <= width)
            && self.y.checked_add(self.height).is_some_and(|bottom| bottom <= height)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_as_large_as_its_bytes() {
        assert!(Image::new(2, 2, PixelFormat::Rgb8, vec![0; 12]).is_ok());
        assert!(Image::new(2, 2, PixelFormat::Rgb8, vec![0; 11]).is_err());
        assert!(Image::new(usize::MAX, 2, PixelFormat::Rgb8, vec![]).is_err());
    }

    #[test]
    fn a_box_is_rounded_half_up_and_cut_to_the_picture() {
        let r = Rect::round([151.5, 169.49, 374.5, 393.5], 640, 480);
        assert_eq!(r.xyxy(), [152, 169, 375, 394]);
        assert_eq!(Rect::round([-5.0, -5.0, 700.0, 500.0], 640, 480).xyxy(), [0, 0, 640, 480]);
        assert!(Rect::round([700.0, 10.0, 800.0, 20.0], 640, 480).is_empty());
        assert!(Rect::round([f32::NAN, 0.0, f32::NAN, f32::NAN], 640, 480).is_empty());
        assert!(Rect::round([20.0, 20.0, 10.0, 10.0], 640, 480).is_empty());
    }
}
