//! Tiles → picture.

use super::{axis::WHOLE, grid::Grid};
use crate::{Error, Image, PixelFormat, Result};

/// Puts the tiles of a [`Grid`] together. Where two overlap, one fades into the other: along each axis the weights are
/// sixteenths that add up to one, so equal tiles give exactly the picture that they were cut from, whatever their order.
///
/// Holds 16 bits per sample of the picture; in steady state nothing is allocated.
#[derive(Default)]
pub struct Mosaic {
    grid: Grid,
    format: PixelFormat,
    /// Σ value · weight across · weight down: 255 · 16 · 16 at most.
    sums: Vec<u16>,
    /// The weights across of the tile at hand.
    across: Vec<u16>,
}

impl Mosaic {
    /// Begins a picture of tiles as in `grid`.
    pub fn begin(&mut self, grid: &Grid, format: PixelFormat) {
        if self.grid != *grid {
            self.grid.clone_from(grid);
        }
        self.format = format;
        self.sums.clear();
        self.sums.resize(grid.size().0 * grid.size().1 * format.channels(), 0);
    }

    /// Adds tile `n`.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] if `picture` is not of the tile's size or of the format.
    pub fn add(&mut self, n: usize, picture: &Image) -> Result<()> {
        let rect = self.grid.tile(n);
        if (picture.width(), picture.height(), picture.format()) != (rect.width, rect.height, self.format) {
            let (w, h, format) = (picture.width(), picture.height(), picture.format());
            let what = format!(
                "a tile of {}×{} {:?} was restored to {w}×{h} {format:?}",
                rect.width, rect.height, self.format
            );
            return Err(Error::bad_input(what));
        }
        let (column, row) = self.grid.place(n);
        self.across.clear();
        self.across.extend(self.grid.across.weights(column));
        let channels = self.format.channels();
        let stride = self.grid.size().0 * channels;
        for (y, down) in self.grid.down.weights(row).enumerate().filter(|(_, weight)| *weight > 0) {
            let from = (rect.y + y) * stride + rect.x * channels;
            let sums = &mut self.sums[from..from + rect.width * channels];
            for ((sums, pixel), across) in
                sums.chunks_exact_mut(channels).zip(picture.row(y).chunks_exact(channels)).zip(&self.across)
            {
                for (sum, value) in sums.iter_mut().zip(pixel) {
                    *sum += u16::from(*value) * (across * down);
                }
            }
        }
        Ok(())
    }

    /// The picture, once every tile was added. Halves are rounded up.
    pub fn finish(&self, out: &mut Image) {
        let (width, height) = self.grid.size();
        let whole = u32::from(WHOLE * WHOLE);
        for (byte, sum) in out.reset(width, height, self.format).iter_mut().zip(&self.sums) {
            *byte = ((u32::from(*sum) + whole / 2) / whole) as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(image: &Image, rect: crate::Rect) -> Image {
        let channels = image.format().channels();
        let rows = (rect.y..rect.y + rect.height)
            .flat_map(|y| image.row(y)[rect.x * channels..(rect.x + rect.width) * channels].to_vec());
        Image::new(rect.width, rect.height, image.format(), rows.collect()).unwrap()
    }

    #[test]
    fn tiles_of_a_picture_give_the_picture_in_any_order() {
        let mut mosaic = Mosaic::default();
        for (width, height, format) in
            [(300, 200, PixelFormat::Rgb8), (97, 301, PixelFormat::Grey8), (5, 3, PixelFormat::Rgb8)]
        {
            let bytes = width * height * format.channels();
            let data = (0..bytes as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
            let image = Image::new(width, height, format, data).unwrap();
            let grid = Grid::new((width, height), (96, 64), 32).unwrap();
            mosaic.begin(&grid, format);
            for n in (0..grid.len()).rev() {
                mosaic.add(n, &cut(&image, grid.tile(n))).unwrap();
            }
            let mut out = Image::default();
            mosaic.finish(&mut out);
            assert_eq!(out, image);
            let other = if format == PixelFormat::Rgb8 { PixelFormat::Grey8 } else { PixelFormat::Rgb8 };
            assert!(mosaic.add(0, &Image::new(1, 1, other, vec![0; other.channels()]).unwrap()).is_err());
        }
    }

    #[test]
    fn a_blend_has_no_step() {
        // Two tiles that disagree by 160: along the row the picture climbs by a sixteenth at a time.
        let grid = Grid::new((96, 1), (64, 1), 0).unwrap();
        let mut mosaic = Mosaic::default();
        mosaic.begin(&grid, PixelFormat::Grey8);
        for (n, value) in [(0, 40), (1, 200)] {
            mosaic.add(n, &Image::new(64, 1, PixelFormat::Grey8, vec![value; 64]).unwrap()).unwrap();
        }
        let mut out = Image::default();
        mosaic.finish(&mut out);
        assert_eq!((out.data()[0], out.data()[95]), (40, 200));
        assert!(out.data().windows(2).all(|w| w[0] <= w[1] && w[1] - w[0] <= 10), "{:?}", out.data());
    }
}
