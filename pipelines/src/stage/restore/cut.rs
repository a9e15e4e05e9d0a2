//! Whether a picture is restored as a whole or in tiles, and in which.

use tapetum_runtime::{
    Error, Result,
    contract::{Contract, SizePolicy},
    tiles::Grid,
};

use crate::shapes::Sizes;

/// Memory of a run for each byte of the network's working set: layouts of the engine's own and memory that it keeps. As
/// measured, 1.4 to 3.5 (`restore-memory`).
const ENGINE: u64 = 4;
/// Taken for networks whose contract does not state their working set, in bytes per pixel.
const UNSTATED: u64 = 2048;
/// Overlap of tiles where none is asked for, in pixels; at most a quarter of a tile.
const OVERLAP: usize = 64;
/// Side of tiles that are only there so that some can be left out, in pixels.
const SMALL: usize = 256;
/// Sides of tiles are multiples of this where the network allows it, in pixels.
const STEP: usize = 64;

/// What was asked for in the pipeline file.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wish {
    /// Most memory for a run of the network beyond its weights, in bytes.
    pub memory: u64,
    /// Side of the tiles, in pixels.
    pub tile: Option<usize>,
    /// Pixels that neighbours have in common.
    pub overlap: Option<usize>,
    /// Whether tiles are wanted even where the memory would do: some of them may be left out.
    pub piecemeal: bool,
}

/// How pictures are cut up for one network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    /// (width, height) of a tile.
    tile: (usize, usize),
    overlap: usize,
    /// Pictures of at most this many pixels, padding included, stay whole.
    whole: usize,
}

impl Cut {
    /// # Errors
    /// [`tapetum_runtime::ErrorKind::InvalidConfig`] if not even the smallest tile fits into the memory.
    pub fn new(wish: Wish, contract: &Contract) -> Result<Self> {
        let each = contract.working_set.unwrap_or(UNSTATED).max(1).saturating_mul(ENGINE);
        let pixels = usize::try_from(wish.memory / each).unwrap_or(usize::MAX);
        let overlap = |side: usize| wish.overlap.unwrap_or(OVERLAP.min(side / 4));
        let (multiple, least) = match contract.input.size {
            // Only this size goes in: larger pictures are cut into such tiles, smaller ones the contract refuses.
            SizePolicy::Fixed { height, width } => {
                let tile = (width, height);
                return Ok(Self { tile, overlap: overlap(width.min(height)), whole: 0 });
            }
            SizePolicy::Multiple { of, min_height, min_width } => (of, min_height.max(min_width)),
            SizePolicy::Range { multiple, min_height, min_width, .. } => {
                (multiple, min_height.max(min_width))
            }
        };
        let multiple = multiple.max(1);
        let least = least.max(1).next_multiple_of(multiple);
        let side = match wish.tile {
            Some(side) => side,
            None => {
                let step = if STEP.is_multiple_of(multiple) { STEP } else { multiple };
                let largest = pixels.isqrt();
                if largest < least {
                    let needed = (each * (least * least) as u64).div_ceil(1 << 20);
                    return Err(Error::config(format!(
                        "memory_mib = {} does not hold the smallest tile, {least}×{least}: that takes {needed} MiB",
                        wish.memory >> 20
                    )));
                }
                let down = |side: usize, of: usize| side / of * of;
                let side = if largest < step { down(largest, multiple) } else { down(largest, step) };
                if wish.piecemeal { side.min(SMALL.next_multiple_of(multiple)) } else { side }.max(least)
            }
        };
        let whole = if wish.tile.is_some() || wish.piecemeal { 0 } else { pixels };
        Ok(Self { tile: (side, side), overlap: overlap(side), whole })
    }

    /// The same, but never a whole picture that is larger than a tile.
    pub fn always(self) -> Self {
        Self { whole: 0, ..self }
    }

    /// The sizes of its tiles as the network gets them, if no larger picture stays whole.
    pub fn sizes(&self, contract: &Contract) -> Sizes {
        let (of, least) = match contract.input.size {
            SizePolicy::Fixed { .. } => (1, (self.tile.1, self.tile.0)),
            SizePolicy::Multiple { of, min_height, min_width } => (of, (min_height, min_width)),
            SizePolicy::Range { multiple, min_height, min_width, .. } => (multiple, (min_height, min_width)),
        };
        let of = of.max(contract.input.pad.multiple().unwrap_or(1)).max(1);
        let whole = |side: usize| side.max(1).next_multiple_of(of);
        // A picture that is smaller than a tile is a smaller tile.
        let least = (whole(least.0.min(self.tile.1)), whole(least.1.min(self.tile.0)));
        Sizes { least, most: (whole(self.tile.1), whole(self.tile.0)) }
    }

    /// The tiles of a picture of `size` that the network gets as `padded`, both (width, height).
    ///
    /// # Errors
    /// As [`Grid::new`].
    pub fn grid(&self, size: (usize, usize), padded: (usize, usize)) -> Result<Grid> {
        if padded.0 * padded.1 <= self.whole {
            return Grid::new(size, size, 0);
        }
        Grid::new(size, self.tile, self.overlap)
    }
}

#[cfg(test)]
mod tests {
    use tapetum_runtime::backend::Port;

    use super::*;

    fn contract(size: SizePolicy, working_set: Option<u64>) -> Contract {
        let port = |name: &str| Port {
            name: name.into(),
            dtype: tapetum_runtime::DType::F32,
            shape: vec![Some(1), Some(3), None, None],
        };
        let mut contract = Contract::of_ports(&[port("image")], &[port("restored")]).unwrap();
        contract.input.size = size;
        contract.working_set = working_set;
        contract
    }

    fn tiles(cut: &Cut, width: usize, height: usize) -> (usize, usize) {
        let grid = cut.grid((width, height), (width, height)).unwrap();
        (grid.len(), grid.tile(0).width)
    }

    #[test]
    fn an_engine_built_for_tiles_gets_no_larger_picture() {
        let contract = contract(SizePolicy::Multiple { of: 8, min_height: 16, min_width: 32 }, Some(256));
        let wish = Wish { memory: 512 << 20, ..Wish::default() };
        let cut = Cut::new(wish, &contract).unwrap();
        // 524288 pixels fit: a picture that is low and wide stays whole, unless only tiles are built for.
        assert_eq!(tiles(&cut, 2048, 256), (1, 2048));
        assert_eq!(tiles(&cut.always(), 2048, 256).1, 704);
        assert_eq!(cut.sizes(&contract), Sizes { least: (16, 32), most: (704, 704) });
    }

    #[test]
    fn pictures_stay_whole_as_long_as_the_memory_holds_them() {
        let any = SizePolicy::Multiple { of: 4, min_height: 16, min_width: 16 };
        let wish = Wish { memory: 4 << 30, ..Wish::default() };
        let cut = Cut::new(wish, &contract(any.clone(), Some(1024))).unwrap();
        assert_eq!(tiles(&cut, 1280, 720), (1, 1280));
        assert_eq!(tiles(&cut, 3840, 2160), (12, 1024));
        let little =
            Cut::new(Wish { memory: 256 << 20, ..wish }, &contract(any.clone(), Some(1024))).unwrap();
        assert_eq!(tiles(&little, 640, 480), (9, 256));
        // Without a statement, 2 KiB per pixel.
        let unstated = Cut::new(Wish { memory: 128 << 20, ..wish }, &contract(any.clone(), None)).unwrap();
        assert_eq!(tiles(&unstated, 640, 480).1, 128);
        let e = Cut::new(Wish { memory: 1 << 20, ..wish }, &contract(any, Some(1 << 20))).unwrap_err();
        assert!(e.to_string().contains("the smallest tile, 16×16: that takes 1024 MiB"), "{e}");
    }

    #[test]
    fn tiles_are_those_asked_for_or_the_only_ones_that_go_in() {
        let windows = SizePolicy::Multiple { of: 128, min_height: 128, min_width: 128 };
        let wish = Wish { memory: 1 << 30, ..Wish::default() };
        let asked = Wish { tile: Some(256), overlap: Some(32), ..wish };
        assert_eq!(tiles(&Cut::new(asked, &contract(windows.clone(), None)).unwrap(), 480, 256), (2, 256));
        let piecemeal = Wish { piecemeal: true, ..wish };
        assert_eq!(tiles(&Cut::new(piecemeal, &contract(windows, Some(8))).unwrap(), 640, 100), (3, 256));
        let fixed = SizePolicy::Fixed { height: 96, width: 128 };
        assert_eq!(tiles(&Cut::new(wish, &contract(fixed, None)).unwrap(), 128, 96), (1, 128));
    }
}
