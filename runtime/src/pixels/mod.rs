//! Pixels as cameras pack them, made into a picture.
//!
//! A [`Layout`] says how a buffer is to be read; [`Layout::unpack`] writes it into an [`Image`]'s own memory. Nothing is
//! trusted: a buffer that is too short for its layout is an error, bytes beyond it are ignored.

mod bayer;
mod yuv;

pub use bayer::Corner;
pub use yuv::{Encoding, Matrix, Range};

use crate::{Error, Image, PixelFormat, Result};

/// Largest side of a picture, in pixels.
pub const MOST_SIDE: usize = 16_384;

/// How pixels lie in memory; 8 bits per sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Packing {
    /// Luma alone, taken as it is; becomes a grey picture.
    Grey,
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red.
    Bgr,
    /// Y0 Cb Y1 Cr for two pixels of a row. A row of odd width ends with a whole group whose Y1 is not used.
    Yuyv,
    /// A plane of luma, then a plane of Cb Cr for each two by two pixels, whose rows are as far apart as those of the luma.
    /// A picture of odd width or height has one more column or row of colour, which serves its last pixels alone.
    Nv12,
    /// One sample per pixel behind a colour filter; the corner says which colours it begins with. Each missing colour is the
    /// mean of the nearest samples that have it (bilinear), rounded half up; the picture is mirrored about its outermost pixels.
    Bayer(Corner),
}

/// What a buffer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// How pixels lie in memory.
    pub packing: Packing,
    /// In pixels.
    pub width: usize,
    /// In pixels.
    pub height: usize,
    /// Bytes from the start of one row to the start of the next.
    pub stride: usize,
    /// What luma and chroma mean, for the packings that have them.
    pub encoding: Encoding,
}

impl Packing {
    /// Whether an [`Encoding`] matters to it.
    pub fn has_chroma(self) -> bool {
        matches!(self, Self::Yuyv | Self::Nv12)
    }

    /// Bytes of a row of `width` pixels, without any between rows.
    pub fn row_bytes(self, width: usize) -> usize {
        match self {
            Self::Grey | Self::Bayer(_) => width,
            Self::Nv12 => width.div_ceil(2) * 2,
            Self::Rgb | Self::Bgr => width * 3,
            Self::Yuyv => width.div_ceil(2) * 4,
        }
    }
}

impl Layout {
    /// Rows without bytes in between.
    ///
    /// # Errors
    /// As [`Layout::check`].
    pub fn tight(packing: Packing, width: usize, height: usize, encoding: Encoding) -> Result<Self> {
        let stride = packing.row_bytes(width.min(MOST_SIDE));
        let layout = Self { packing, width, height, stride, encoding };
        layout.check()?;
        Ok(layout)
    }

    /// # Errors
    /// [`crate::ErrorKind::BadInput`] for a side of no pixel or more than [`MOST_SIDE`], a Bayer picture of fewer than 2×2, and
    /// rows that would overlap.
    pub fn check(&self) -> Result<()> {
        let Self { packing, width, height, stride, .. } = *self;
        let least = if matches!(packing, Packing::Bayer(_)) { 2 } else { 1 };
        if !(least..=MOST_SIDE).contains(&width) || !(least..=MOST_SIDE).contains(&height) {
            return Err(Error::bad_input(format!(
                "a {packing:?} picture of {width}×{height}; each side must be {least} to {MOST_SIDE} pixels"
            )));
        }
        let row = packing.row_bytes(width);
        // The ceiling keeps what a buffer must hold below 4 GiB.
        if stride < row || stride > 8 * MOST_SIDE {
            return Err(Error::bad_input(format!(
                "rows {stride} bytes apart; one of {width} pixels takes {row}"
            )));
        }
        Ok(())
    }

    /// Bytes that a buffer must hold at least: the last row may lack the bytes that lie between rows.
    pub fn bytes(&self) -> usize {
        let rows = match self.packing {
            Packing::Nv12 => self.height + self.height.div_ceil(2),
            _ => self.height,
        };
        let last = match self.packing {
            // Luma of odd width is not padded, but the colour behind it is.
            Packing::Grey | Packing::Bayer(_) => self.width,
            packing => packing.row_bytes(self.width),
        };
        rows.saturating_sub(1) * self.stride + last
    }

    /// Makes `out` the picture in `bytes`: grey for [`Packing::Grey`], colour for all others.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] if the layout cannot be or `bytes` are too few; `out` is left as it was.
    pub fn unpack(&self, bytes: &[u8], out: &mut Image) -> Result<()> {
        self.check()?;
        let Self { packing, width, height, stride, encoding } = *self;
        let need = self.bytes();
        if bytes.len() < need {
            let have = bytes.len();
            return Err(Error::bad_input(format!(
                "{have} of the {need} bytes of a {packing:?} picture of {width}×{height}"
            )));
        }
        let format = if packing == Packing::Grey { PixelFormat::Grey8 } else { PixelFormat::Rgb8 };
        let to = out.reset(width, height, format);
        let rows = || to_rows(bytes, stride, packing.row_bytes(width).min(stride));
        match packing {
            Packing::Grey => {
                to.chunks_exact_mut(width).zip(rows()).for_each(|(to, row)| to.copy_from_slice(row));
            }
            Packing::Rgb => {
                to.chunks_exact_mut(3 * width).zip(rows()).for_each(|(to, row)| to.copy_from_slice(row));
            }
            Packing::Bgr => {
                for (to, row) in to.chunks_exact_mut(3 * width).zip(rows()) {
                    for (to, bgr) in to.chunks_exact_mut(3).zip(row.chunks_exact(3)) {
                        to.copy_from_slice(&[bgr[2], bgr[1], bgr[0]]);
                    }
                }
            }
            Packing::Yuyv => {
                let convert = encoding.converter();
                for (to, row) in to.chunks_exact_mut(3 * width).zip(rows()) {
                    yuv::yuyv_row(&convert, row, to);
                }
            }
            Packing::Nv12 => {
                let (luma, chroma) = bytes.split_at(height * stride);
                yuv::nv12(&encoding.converter(), luma, chroma, stride, width, to);
            }
            Packing::Bayer(corner) => bayer::demosaic(bytes, stride, width, height, corner, to),
        }
        Ok(())
    }
}

/// The first `row` bytes of each `stride`; the last may lack what lies between rows.
fn to_rows(bytes: &[u8], stride: usize, row: usize) -> impl Iterator<Item = &[u8]> {
    bytes.chunks(stride).map_while(move |chunk| chunk.get(..row))
}
