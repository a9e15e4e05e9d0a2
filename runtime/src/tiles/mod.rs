//! Large pictures in pieces: where the tiles lie, and how their results become one picture without seams.
//!
//! | File | Holds |
//! |---|---|
//! | `axis` | where tiles lie along one axis, and how much each counts where two overlap |
//! | `grid` | [`Grid`]: the tiles of a picture |
//! | `mosaic` | [`Mosaic`]: tiles → picture |

mod axis;
mod grid;
mod mosaic;

pub use grid::Grid;
pub use mosaic::Mosaic;
