//! 8 bits to `f32`, and what surrounds the picture.

use crate::{Rect, contract::InputContract};

/// What an 8-bit value becomes in one channel: `(v · scale − mean) / std`, each step rounded to `f32` as numpy and
/// PyTorch round it.
pub(super) struct Table([f32; 256]);

impl Table {
    /// One per channel.
    ///
    /// A scale that is the `f32` nearest to `1/n` divides by `n`, because training does (`x / 255`): multiplying
    /// differs by one unit in the last place for 126 of the 256 values.
    pub(super) fn of(contract: &InputContract) -> Vec<Self> {
        let scale = contract.scale;
        let divisor = (1.0 / scale).round();
        let scaled = |v: f32| if 1.0 / divisor == scale { v / divisor } else { v * scale };
        let channels = contract.mean.iter().zip(&contract.std);
        channels.map(|(mean, std)| Self(std::array::from_fn(|v| (scaled(v as f32) - mean) / std))).collect()
    }

    /// What `value` becomes.
    pub(super) fn get(&self, value: u8) -> f32 {
        self.0[usize::from(value)]
    }

    /// What a row becomes.
    pub(super) fn apply(&self, row: &[u8], to: &mut [f32]) {
        for (to, &value) in to.iter_mut().zip(row) {
            *to = self.0[usize::from(value)];
        }
    }
}

/// Fills what `outer` holds beyond `inner` in a plane whose rows are `stride` long.
pub(super) fn surround(plane: &mut [f32], stride: usize, outer: Rect, inner: Rect, value: f32) {
    if outer == inner {
        return;
    }
    for y in outer.y..outer.y + outer.height {
        let row = &mut plane[y * stride + outer.x..][..outer.width];
        if y < inner.y || y >= inner.y + inner.height {
            row.fill(value);
        } else {
            row[..inner.x - outer.x].fill(value);
            row[inner.x + inner.width - outer.x..].fill(value);
        }
    }
}

/// Mirrors the first `width × height` values of a plane to the right and then down until it is full, the edge itself
/// not repeated; to and fro if one mirror image is not enough, as numpy's `pad(mode="reflect")`.
pub(super) fn reflect(plane: &mut [f32], stride: usize, width: usize, height: usize) {
    if width < stride {
        for row in plane.chunks_exact_mut(stride).take(height) {
            for x in width..stride {
                row[x] = row[mirrored(x, width)];
            }
        }
    }
    for y in height..plane.len() / stride {
        let from = mirrored(y, height) * stride;
        plane.copy_within(from..from + stride, y * stride);
    }
}

/// Where `v` is in `0..n` after mirroring at both ends.
fn mirrored(v: usize, n: usize) -> usize {
    let last = n - 1;
    if last == 0 {
        return 0;
    }
    let v = v % (2 * last);
    if v > last { 2 * last - v } else { v }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirroring_goes_to_and_fro() {
        let at: Vec<_> = (0..10).map(|v| mirrored(v, 4)).collect();
        assert_eq!(at, [0, 1, 2, 3, 2, 1, 0, 1, 2, 3]);
        assert_eq!(mirrored(7, 1), 0);
        let mut plane = [1.0, 2.0, 0.0, 3.0, 4.0, 0.0, 0.0, 0.0, 0.0];
        reflect(&mut plane, 3, 2, 2);
        assert_eq!(plane, [1.0, 2.0, 1.0, 3.0, 4.0, 3.0, 1.0, 2.0, 1.0]);
    }

    #[test]
    fn what_surrounds_is_filled_and_nothing_else() {
        let mut plane = [0.0; 20];
        let outer = Rect { x: 1, y: 1, width: 4, height: 3 };
        surround(&mut plane, 5, outer, Rect { x: 2, y: 2, width: 2, height: 1 }, 1.0);
        let want = [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 0, 1, 0, 0, 1, 0, 1, 1, 1, 1];
        assert_eq!(plane, want.map(|v| v as f32));
    }
}
