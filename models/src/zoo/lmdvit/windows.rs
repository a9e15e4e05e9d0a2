//! The windows that a layer's blocks work on: taken out of the map, put back afterwards.

use super::emit::Emit;
use super::plane::{Grid, Part, Plane, roll};
use super::predictor::Kept;

/// Windows of one grid.
pub(super) enum Windows {
    /// Those that a predictor kept. What is not gathered is not computed.
    Kept(Kept),
    /// Every window of the plane; the map is cut, nothing is gathered.
    All {
        /// Side of a window.
        window: usize,
        /// Kinds of the windows of the shifted grid, `[windows]`.
        kinds: Option<String>,
    },
}

impl Windows {
    /// All windows of `grid`.
    pub fn all(grid: &Grid, window: usize) -> Self {
        Self::All { window, kinds: grid.kinds.clone() }
    }

    /// In shifted blocks: the kind of each window (see [`Grid::kinds`]), `[K]`.
    pub fn kinds(&self) -> Option<&str> {
        let (Self::Kept(Kept { kinds, .. }) | Self::All { kinds, .. }) = self;
        kinds.as_deref()
    }

    /// The windows of the map `x [H·W, C]`: `[K, window², C]`.
    pub fn take(&self, e: &mut Emit, name: &str, x: &str, channels: usize, plane: &Plane) -> String {
        let (window, shifted) = match self {
            Self::Kept(kept) => return e.gather(name, x, &kept.tokens),
            Self::All { window, kinds } => (*window, kinds.is_some()),
        };
        let (c, side) = (channels as i64, window as i64);
        let mut x = x.to_owned();
        if shifted {
            x = plane.reshape(e, &format!("{name}/map"), &x, &[Part::Rows(1), Part::Cols(1), Part::Just(c)]);
            x = roll(e, &format!("{name}/rolled"), &x, side / 2);
        }
        let cut = [Part::Rows(window), Part::Just(side), Part::Cols(window), Part::Just(side), Part::Just(c)];
        let x = plane.reshape(e, &format!("{name}/cut"), &x, &cut);
        let x = e.b.transpose(&format!("{name}/windows"), &x, &[0, 2, 1, 3, 4]);
        e.b.reshape(name, &x, &[-1, side * side, c])
    }

    /// The map `x [H·W, C]` with what became of its windows, `worked [K, window², C]`, in their places.
    pub fn put(
        &self,
        e: &mut Emit,
        name: &str,
        x: &str,
        worked: &str,
        channels: usize,
        plane: &Plane,
    ) -> String {
        let (window, shifted) = match self {
            Self::Kept(kept) => return e.b.op("ScatterND", name, &[x, &kept.places, worked], &[]),
            Self::All { window, kinds } => (*window, kinds.is_some()),
        };
        let (c, side) = (channels as i64, window as i64);
        let cut = [Part::Rows(window), Part::Cols(window), Part::Just(side), Part::Just(side), Part::Just(c)];
        let x = plane.reshape(e, &format!("{name}/uncut"), worked, &cut);
        let mut x = e.b.transpose(&format!("{name}/lines"), &x, &[0, 2, 1, 3, 4]);
        if shifted {
            x = plane.reshape(e, &format!("{name}/back"), &x, &[Part::Rows(1), Part::Cols(1), Part::Just(c)]);
            x = roll(e, &format!("{name}/unrolled"), &x, -side / 2);
        }
        e.b.reshape(name, &x, &[-1, c])
    }
}
