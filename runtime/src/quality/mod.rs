//! How close a picture is to another, and how still a restored video is.
//!
//! Plain measures of pictures in memory, for who judges a restoration; nothing here is part of a frame's way through a
//! model. Each is scikit-image's or numpy's value to 1e-9; vectors from both are in `tests/data/quality`.
//!
//! | File | Holds |
//! |---|---|
//! | `psnr` | [`mse`] and [`psnr`]: sample against sample |
//! | `ssim` | [`ssim`]: structure within a window that slides over both |
//! | `flicker` | [`Flicker`]: what changes from frame to frame where the scene does not |
//! | `alike` | that two pictures can be compared |

mod alike;
mod flicker;
mod psnr;
mod ssim;

pub use flicker::{Flicker, FlickerReport};
pub use psnr::{mse, psnr};
pub use ssim::ssim;
