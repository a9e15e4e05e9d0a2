//! The tiles of a picture.

use super::axis::Axis;
use crate::{Error, Rect, Result};

/// Tiles of one size that cover a picture; neighbours overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grid {
    pub(super) across: Axis,
    pub(super) down: Axis,
    size: (usize, usize),
}

impl Grid {
    /// As few tiles of `tile` (width, height) as cover a picture of `size` with at least `overlap` pixels in common,
    /// evenly spread. Along an axis that is not longer than the tile there is one tile of the axis's length.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] if the picture is empty or the overlap is more than half a tile.
    pub fn new(size: (usize, usize), tile: (usize, usize), overlap: usize) -> Result<Self> {
        if size.0 == 0 || size.1 == 0 {
            return Err(Error::bad_input(format!("a picture of {}×{} pixels has no tiles", size.0, size.1)));
        }
        let short = tile.0.min(tile.1);
        if short == 0 || overlap > short / 2 {
            let (w, h) = tile;
            return Err(Error::bad_input(format!("tiles of {w}×{h} cannot overlap by {overlap} pixels")));
        }
        let across = Axis::new(size.0, tile.0, overlap);
        let down = Axis::new(size.1, tile.1, overlap);
        Ok(Self { across, down, size })
    }

    /// (width, height) of the picture.
    pub fn size(&self) -> (usize, usize) {
        self.size
    }

    /// Number of tiles, at least 1 unless the grid is a default one.
    pub fn len(&self) -> usize {
        self.across.starts.len() * self.down.starts.len()
    }

    /// Whether there is no tile: only in a default grid.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tile `n`, row by row.
    ///
    /// # Panics
    /// If `n` is not below [`Grid::len`].
    pub fn tile(&self, n: usize) -> Rect {
        let (column, row) = self.place(n);
        let (x, y) = (self.across.starts[column], self.down.starts[row]);
        Rect { x, y, width: self.across.tile, height: self.down.tile }
    }

    pub(super) fn place(&self, n: usize) -> (usize, usize) {
        let columns = self.across.starts.len();
        (n % columns, n / columns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_picture_is_one_tile() {
        let grid = Grid::new((300, 90), (320, 96), 32).unwrap();
        assert_eq!((grid.len(), grid.tile(0).xyxy()), (1, [0, 0, 300, 90]));
        let grid = Grid::new((300, 200), (128, 256), 32).unwrap();
        assert_eq!(grid.len(), 3);
        assert_eq!(grid.tile(1).xyxy(), [86, 0, 214, 200]);
        assert!(Grid::new((0, 5), (8, 8), 0).is_err());
        assert!(Grid::new((9, 9), (8, 8), 5).is_err());
    }
}
