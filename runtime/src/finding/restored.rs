//! A restored picture: what it came to, which windows the network worked on, and what work was spared.

use crate::{Error, Image, Rect, Result, Tensor, preprocess::Placement};

/// A picture in place of the frame's.
#[derive(Clone, Debug, Default)]
pub struct Restored {
    /// Of the frame's size.
    pub image: Image,
    /// Where a network that prunes windows worked on this frame.
    pub kept: Kept,
    /// What became of the picture's tiles. A picture that is not cut up is one tile.
    pub tiles: Tiles,
}

impl Restored {
    /// Makes this a copy of `other`, keeping this one's memory.
    pub fn copy_from(&mut self, other: &Self) {
        self.image.copy_from(&other.image);
        self.kept.clone_from(&other.kept);
        self.tiles = other.tiles;
    }
}

/// Tiles of one picture (or several), by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tiles {
    /// The network was run on them.
    pub run: u64,
    /// Left as they were: sharp enough.
    pub sharp: u64,
    /// Left as they were: nothing moved.
    pub still: u64,
    /// The result for an equal input was used again.
    pub reused: u64,
}

impl Tiles {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.run + self.sharp + self.still + self.reused
    }

    /// Adds those of another picture.
    pub fn add(&mut self, other: Self) {
        self.run += other.run;
        self.sharp += other.sharp;
        self.still += other.still;
        self.reused += other.reused;
    }
}

/// The windows that a network with decisions worked on in one picture. Tiles that it was not run on count as pruned.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    /// Share of the windows that each decision kept, 0–1, in the order of the model's contract. Empty if the network
    /// makes no decisions.
    pub fractions: Vec<f32>,
    /// 1 where any decision kept a window, else 0: one byte per pixel of the picture. Empty as `fractions`.
    pub map: Vec<u8>,
    /// (width, height) of the map.
    pub size: (usize, usize),
    /// Windows kept and windows in all, per decision.
    counts: Vec<(u64, u64)>,
}

/// Where the windows of a decision lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// Side of a window, in pixels of the network's input.
    pub stride: usize,
    /// How far the grid of windows is moved right and down, in pixels of the network's input; it goes round at the
    /// edges.
    pub shift: usize,
}

impl Kept {
    /// Begins a picture of `size` under a network of `decisions` decisions.
    pub fn begin(&mut self, size: (usize, usize), decisions: usize) {
        self.counts.clear();
        self.counts.resize(decisions, (0, 0));
        self.size = size;
        self.map.clear();
        self.map.resize(if decisions > 0 { size.0 * size.1 } else { 0 }, 0);
        self.fractions.clear();
        self.fractions.resize(decisions, 0.0);
    }

    /// Notes decision `n`, `[1, 1, h, w]` with 1 for a kept window, of a run on the region that `placement` tells.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] if the shape is another or [`crate::ErrorKind::Internal`] if there is no such
    /// decision.
    pub fn note(
        &mut self,
        n: usize,
        decision: &Tensor,
        windows: Windows,
        placement: &Placement,
    ) -> Result<()> {
        let [1, 1, rows, columns] = *decision.shape() else {
            let shape = decision.shape();
            return Err(Error::bad_input(format!("a decision of {shape:?}; expected is [1, 1, h, w]")));
        };
        let values = decision.f32s()?;
        let kept = values.iter().filter(|v| **v > 0.5).count();
        let count = self.counts.get_mut(n).ok_or_else(|| Error::internal(format!("no decision {n}")))?;
        count.0 += kept as u64;
        for (at, _) in values.iter().enumerate().filter(|(_, v)| **v > 0.5) {
            self.mark((at % columns, at / columns), windows, placement);
        }
        let count = &mut self.counts[n];
        count.1 += (rows * columns) as u64;
        self.fractions[n] = count.0 as f32 / count.1.max(1) as f32;
        Ok(())
    }

    /// Counts the windows of a tile that no network was run on, as many as a run on an input of that (width, height) has.
    pub fn spared(&mut self, windows: &[Windows], (width, height): (usize, usize)) {
        for ((count, fraction), w) in self.counts.iter_mut().zip(&mut self.fractions).zip(windows) {
            let stride = w.stride.max(1);
            count.1 += (width.div_ceil(stride) * height.div_ceil(stride)) as u64;
            *fraction = count.0 as f32 / count.1.max(1) as f32;
        }
    }

    /// Share of the picture's pixels that lie in a window that some decision kept; `None` without decisions.
    pub fn share(&self) -> Option<f32> {
        let kept = self.map.iter().filter(|v| **v > 0).count();
        (!self.map.is_empty()).then(|| kept as f32 / self.map.len() as f32)
    }

    /// Marks the window at (column, row).
    fn mark(&mut self, (column, row): (usize, usize), w: Windows, placement: &Placement) {
        let (width, height) = placement.input;
        for (y, rows) in around(row * w.stride + w.shift, w.stride, height) {
            for (x, columns) in around(column * w.stride + w.shift, w.stride, width) {
                let input = Rect { x, y, width: columns, height: rows };
                self.fill(cut(input, placement.valid), placement);
            }
        }
    }

    /// Marks a part of the valid network input.
    fn fill(&mut self, part: Rect, placement: &Placement) {
        let x = placement.roi.x + part.x.saturating_sub(placement.valid.x);
        let y = placement.roi.y + part.y.saturating_sub(placement.valid.y);
        let to = (x + part.width).min(self.size.0);
        for row in y..(y + part.height).min(self.size.1) {
            if x < to {
                self.map[row * self.size.0 + x..row * self.size.0 + to].fill(1);
            }
        }
    }
}

/// The stretch of `length` from `start` on a ring of `size`, in one or two pieces (start, length).
fn around(start: usize, length: usize, size: usize) -> impl Iterator<Item = (usize, usize)> + Clone {
    let start = start % size.max(1);
    let first = length.min(size - start.min(size));
    [(start, first), (0, length.min(size) - first)].into_iter().filter(|(_, length)| *length > 0)
}

/// What `a` and `b` have in common.
fn cut(a: Rect, b: Rect) -> Rect {
    let ([ax, ay, ar, ab], [bx, by, br, bb]) = (a.xyxy(), b.xyxy());
    let (x, y) = (ax.max(bx), ay.max(by));
    Rect { x, y, width: ar.min(br).saturating_sub(x), height: ab.min(bb).saturating_sub(y) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A region of 12 × 10 at (4, 2) of a picture of 20 × 14, centred in an input of 16 × 16.
    fn placement() -> Placement {
        Placement {
            roi: Rect { x: 4, y: 2, width: 12, height: 10 },
            input: (16, 16),
            scale_x: 1.0,
            scale_y: 1.0,
            offset_x: 2.0,
            offset_y: 3.0,
            valid: Rect { x: 2, y: 3, width: 12, height: 10 },
        }
    }

    fn marked(kept: &Kept) -> Vec<(usize, usize)> {
        let width = kept.size.0;
        (0..kept.map.len()).filter(|&n| kept.map[n] > 0).map(|n| (n % width, n / width)).collect()
    }

    #[test]
    fn windows_are_marked_where_they_lie_in_the_frame() {
        let mut kept = Kept::default();
        kept.begin((20, 14), 2);
        let first = Tensor::new(&[1, 1, 2, 2], vec![1f32, 0.0, 0.0, 0.0]).unwrap();
        kept.note(0, &first, Windows { stride: 8, shift: 0 }, &placement()).unwrap();
        // Input columns 2..8 and rows 3..8 hold picture: frame columns 4..10 and rows 2..7.
        let want: Vec<_> = (2..7).flat_map(|y| (4..10).map(move |x| (x, y))).collect();
        assert_eq!(marked(&kept), want);
        assert_eq!(kept.fractions, [0.25, 0.0]);
        kept.spared(&[Windows { stride: 8, shift: 0 }, Windows { stride: 8, shift: 4 }], (16, 16));
        assert_eq!(kept.fractions, [0.125, 0.0]);
        assert_eq!(kept.share(), Some(30.0 / 280.0));
    }

    #[test]
    fn shifted_windows_go_round_at_the_edges() {
        let mut kept = Kept::default();
        kept.begin((20, 14), 1);
        // The last window of the rolled map covers input columns and rows 12..16 and 0..4.
        let last = Tensor::new(&[1, 1, 2, 2], vec![0f32, 0.0, 0.0, 1.0]).unwrap();
        kept.note(0, &last, Windows { stride: 8, shift: 4 }, &placement()).unwrap();
        // In the picture: input columns 2..4 and 12..14, rows 3..4 and 12..13.
        let want: Vec<_> = [2, 11].into_iter().flat_map(|y| [4, 5, 14, 15].map(|x| (x, y))).collect();
        assert_eq!(marked(&kept), want);
    }

    #[test]
    fn a_network_without_decisions_has_no_map() {
        let mut kept = Kept::default();
        kept.begin((20, 14), 0);
        assert!(kept.map.is_empty() && kept.share().is_none());
        let odd = Tensor::new(&[1, 4], vec![0f32; 4]).unwrap();
        assert!(kept.note(0, &odd, Windows { stride: 8, shift: 0 }, &placement()).is_err());
    }
}
