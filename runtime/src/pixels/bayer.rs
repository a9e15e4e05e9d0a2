//! Colour filter mosaics, filled in bilinearly.

/// Colours of the first two pixels of the first row; those of the second row follow from them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Corner {
    /// Red green, green blue.
    Rg,
    /// Green red, blue green.
    Gr,
    /// Green blue, red green.
    Gb,
    /// Blue green, green red.
    Bg,
}

impl Corner {
    /// Column and row (0 or 1 each) of the red samples.
    fn red(self) -> (usize, usize) {
        match self {
            Self::Rg => (0, 0),
            Self::Gr => (1, 0),
            Self::Gb => (0, 1),
            Self::Bg => (1, 1),
        }
    }
}

/// Fills `to` (red, green, blue) from `bytes`, whose rows are `stride` apart. Both sides are at least 2, and `bytes` reach to the
/// last pixel.
pub(super) fn demosaic(
    bytes: &[u8],
    stride: usize,
    width: usize,
    height: usize,
    corner: Corner,
    to: &mut [u8],
) {
    let (red_x, red_y) = corner.red();
    let row = |y: usize| &bytes[y * stride..][..width];
    for (y, to) in to.chunks_exact_mut(3 * width).enumerate() {
        // Mirrored about the outermost pixels, so that the colours of the mosaic go on.
        let (up, here, down) = (
            row(if y == 0 { 1 } else { y - 1 }),
            row(y),
            row(if y + 1 == height { height - 2 } else { y + 1 }),
        );
        let in_red_row = y % 2 == red_y;
        for (x, to) in to.chunks_exact_mut(3).enumerate() {
            let left = if x == 0 { 1 } else { x - 1 };
            let right = if x + 1 == width { width - 2 } else { x + 1 };
            let own = here[x];
            let beside = mean2(here[left], here[right]);
            let above = mean2(up[x], down[x]);
            let rgb = match (in_red_row, x % 2 == red_x) {
                (true, false) => [beside, own, above],
                (false, true) => [above, own, beside],
                (red, _) => {
                    let cross = mean4(here[left], here[right], up[x], down[x]);
                    let corners = mean4(up[left], up[right], down[left], down[right]);
                    if red { [own, cross, corners] } else { [corners, cross, own] }
                }
            };
            to.copy_from_slice(&rgb);
        }
    }
}

#[inline]
fn mean2(a: u8, b: u8) -> u8 {
    ((u16::from(a) + u16::from(b) + 1) >> 1) as u8
}

#[inline]
fn mean4(a: u8, b: u8, c: u8, d: u8) -> u8 {
    ((u16::from(a) + u16::from(b) + u16::from(c) + u16::from(d) + 2) >> 2) as u8
}
