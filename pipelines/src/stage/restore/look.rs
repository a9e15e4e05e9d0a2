//! Cheap looks at a picture, tile by tile: is it sharp, did anything move, is it what it was before?

use tapetum_runtime::{Image, PixelFormat, Rect, preprocess::luma};

/// Side of the blocks that motion is looked for in, in pixels: smaller noise averages out.
const BLOCK: usize = 8;

/// A picture's luma (BT.601), and that of the picture before.
#[derive(Default)]
pub(super) struct Luma {
    now: Vec<u8>,
    before: Vec<u8>,
    size: (usize, usize),
    /// Whether `before` is of the same size.
    comparable: bool,
}

impl Luma {
    /// The next picture.
    pub fn take(&mut self, image: &Image) {
        let size = (image.width(), image.height());
        std::mem::swap(&mut self.now, &mut self.before);
        self.comparable = self.size == size;
        self.size = size;
        self.now.clear();
        match image.format() {
            PixelFormat::Grey8 => self.now.extend_from_slice(image.data()),
            PixelFormat::Rgb8 => {
                self.now.extend(image.data().chunks_exact(3).map(|p| luma(p[0], p[1], p[2])));
            }
        }
    }

    /// Variance of the 4-neighbour Laplacian of the luma within `tile`, a usual measure of sharpness (Pech-Pacheco et
    /// al. 2000, LAPV); 0 for a tile without an interior.
    pub fn sharpness(&self, tile: Rect) -> f64 {
        let at = |x: usize, y: usize| i64::from(self.now[y * self.size.0 + x]);
        let (mut n, mut sum, mut squares) = (0i64, 0i64, 0i64);
        for y in tile.y + 1..(tile.y + tile.height).saturating_sub(1) {
            for x in tile.x + 1..(tile.x + tile.width).saturating_sub(1) {
                let l = at(x - 1, y) + at(x + 1, y) + at(x, y - 1) + at(x, y + 1) - 4 * at(x, y);
                n += 1;
                sum += l;
                squares += l * l;
            }
        }
        if n == 0 {
            return 0.0;
        }
        let mean = sum as f64 / n as f64;
        squares as f64 / n as f64 - mean * mean
    }

    /// The greatest mean absolute difference of a block of 8×8 pixels of `tile` to the picture before, in 8-bit steps;
    /// `None` if that is not known.
    pub fn motion(&self, tile: Rect) -> Option<f64> {
        if !self.comparable {
            return None;
        }
        let mut most = 0f64;
        for y in (tile.y..tile.y + tile.height).step_by(BLOCK) {
            let rows = BLOCK.min(tile.y + tile.height - y);
            for x in (tile.x..tile.x + tile.width).step_by(BLOCK) {
                let columns = BLOCK.min(tile.x + tile.width - x);
                let sum: u32 = (y..y + rows)
                    .map(|row| {
                        let from = row * self.size.0 + x;
                        let (now, before) =
                            (&self.now[from..from + columns], &self.before[from..from + columns]);
                        now.iter().zip(before).map(|(a, b)| u32::from(a.abs_diff(*b))).sum::<u32>()
                    })
                    .sum();
                most = most.max(f64::from(sum) / (rows * columns) as f64);
            }
        }
        Some(most)
    }
}

/// Whether no sample of `tile` in `image` differs by more than `within` from `before`, a picture of the tile alone.
pub(super) fn is_as(image: &Image, tile: Rect, before: &Image, within: u8) -> bool {
    if (before.width(), before.height(), before.format()) != (tile.width, tile.height, image.format()) {
        return false;
    }
    let channels = image.format().channels();
    (0..tile.height).all(|y| {
        let row = &image.row(tile.y + y)[tile.x * channels..(tile.x + tile.width) * channels];
        row.iter().zip(before.row(y)).all(|(a, b)| a.abs_diff(*b) <= within)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grey(width: usize, height: usize, value: impl Fn(usize, usize) -> u8) -> Image {
        let data = (0..width * height).map(|n| value(n % width, n / width)).collect();
        Image::new(width, height, PixelFormat::Grey8, data).unwrap()
    }

    #[test]
    fn edges_are_sharper_than_ramps() {
        let mut luma = Luma::default();
        luma.take(&grey(32, 16, |x, _| if x < 16 { (x * 16) as u8 } else { ((x / 2) % 2 * 255) as u8 }));
        let ramp = luma.sharpness(Rect { x: 0, y: 0, width: 15, height: 16 });
        let edges = luma.sharpness(Rect { x: 16, y: 0, width: 16, height: 16 });
        assert_eq!(ramp, 0.0);
        assert_eq!(edges, 255.0 * 255.0);
        assert_eq!(luma.sharpness(Rect { x: 0, y: 0, width: 2, height: 16 }), 0.0);
    }

    #[test]
    fn one_moving_block_is_seen_and_noise_is_averaged() {
        let mut luma = Luma::default();
        let all = Rect { x: 0, y: 0, width: 20, height: 20 };
        luma.take(&grey(20, 20, |_, _| 100));
        assert_eq!(luma.motion(all), None);
        luma.take(&grey(20, 20, |x, y| 100 + ((x + y) % 2) as u8 * 2));
        assert_eq!(luma.motion(all), Some(1.0));
        luma.take(&grey(20, 20, |x, y| if x >= 16 && y >= 16 { 150 } else { 100 + ((x + y) % 2) as u8 * 2 }));
        assert_eq!(luma.motion(all), Some(49.0));
        assert_eq!(luma.motion(Rect { width: 16, ..all }), Some(0.0));
        luma.take(&grey(20, 21, |_, _| 0));
        assert_eq!(luma.motion(all), None);
    }

    #[test]
    fn a_difference_of_one_sample_is_seen() {
        let image = grey(9, 9, |x, y| (x * y) as u8);
        let tile = Rect { x: 2, y: 3, width: 5, height: 4 };
        let mut before = grey(5, 4, |x, y| ((x + 2) * (y + 3)) as u8);
        assert!(is_as(&image, tile, &before, 0));
        before.data_mut()[19] += 2;
        assert!(!is_as(&image, tile, &before, 1) && is_as(&image, tile, &before, 2));
        assert!(!is_as(&image, Rect { width: 4, ..tile }, &before, 255));
    }
}
