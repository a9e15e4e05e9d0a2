//! Tiles along one axis.

/// What the weights of a pixel add up to along one axis.
pub(super) const WHOLE: u16 = 16;

/// Longest blend between two tiles, in pixels. What lies outside of it only gives the networks context.
const LONGEST_RAMP: usize = 32;

/// Tiles of one length along an axis: they cover it, and neighbours overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Axis {
    /// Length of every tile, in pixels.
    pub(super) tile: usize,
    /// The first pixel of each, ascending.
    pub(super) starts: Vec<usize>,
    /// First pixel and length of the blend between each tile and the next.
    ramps: Vec<(usize, usize)>,
}

impl Axis {
    /// As few tiles of `tile` pixels as cover `size` with at least `overlap` (less than `tile`) in common, evenly
    /// spread; one of the whole `size` if that is not larger.
    pub(super) fn new(size: usize, tile: usize, overlap: usize) -> Self {
        if size <= tile {
            return Self { tile: size, starts: vec![0], ramps: Vec::new() };
        }
        let n = (size - overlap).div_ceil(tile - overlap);
        let starts: Vec<usize> = (0..n).map(|i| i * (size - tile) / (n - 1)).collect();
        let stride = starts.windows(2).map(|w| w[1] - w[0]).min().unwrap_or(tile);
        let ramp = |pair: &[usize]| {
            let common = pair[0] + tile - pair[1];
            // Two blends must not meet: a pixel belongs to two tiles at most.
            let length = LONGEST_RAMP.min(common).min(stride.saturating_sub(1).max(1));
            (pair[1] + (common - length) / 2, length)
        };
        let ramps = starts.windows(2).map(ramp).collect();
        Self { tile, starts, ramps }
    }

    /// How much tile `n` counts at each of its pixels, in sixteenths; over all tiles a pixel's weights add up to
    /// [`WHOLE`].
    pub(super) fn weights(&self, n: usize) -> impl Iterator<Item = u16> + Clone + '_ {
        let start = self.starts[n];
        let rising = n.checked_sub(1).map(|before| self.ramps[before]);
        let falling = self.ramps.get(n).copied();
        (start..start + self.tile).map(move |at| {
            let in_from = rising.map_or(WHOLE, |ramp| climbed(ramp, at));
            let out_to = falling.map_or(0, |ramp| climbed(ramp, at));
            in_from - out_to
        })
    }
}

/// How far the later tile has come in at pixel `at`: 0 before the blend, [`WHOLE`] after it.
fn climbed((start, length): (usize, usize), at: usize) -> u16 {
    match at.checked_sub(start) {
        None => 0,
        Some(in_it) if in_it >= length => WHOLE,
        Some(in_it) => (usize::from(WHOLE) * (2 * in_it + 1) / (2 * length)) as u16,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pixel_is_covered_once_in_sum() {
        for size in [1, 2, 15, 16, 17, 31, 47, 100, 257, 1080] {
            for (tile, overlap) in [(16, 0), (16, 8), (64, 16), (64, 63), (96, 32), (128, 64)] {
                let axis = Axis::new(size, tile, overlap);
                let mut sums = vec![0; size];
                for (n, &start) in axis.starts.iter().enumerate() {
                    for (sum, weight) in sums[start..].iter_mut().zip(axis.weights(n)) {
                        *sum += weight;
                    }
                }
                assert!(sums.iter().all(|&s| s == WHOLE), "{size} {tile} {overlap}: {sums:?}");
                let common = axis.starts.windows(2).all(|w| w[0] + axis.tile >= w[1] + overlap);
                assert!(common && axis.starts.last().unwrap() + axis.tile == size);
            }
        }
    }

    #[test]
    fn tiles_are_spread_evenly() {
        let axis = Axis::new(300, 96, 32);
        assert_eq!(axis.starts, [0, 51, 102, 153, 204]);
        assert_eq!(axis.ramps[0], (57, 32));
        let first: Vec<u16> = axis.weights(0).collect();
        let at = |places: [usize; 6]| places.map(|p| first[p]);
        assert_eq!(at([58, 59, 72, 73, 88, 89]), [16, 15, 9, 8, 1, 0]);
    }
}
