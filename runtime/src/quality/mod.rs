//! How close a result is to another: pictures, restored video, and a model in less than fp32 beside the model itself.
//!
//! Plain measures of what lies in memory, for who judges; nothing here is part of a frame's way through a model. The
//! measures of pictures are scikit-image's or numpy's values to 1e-9; vectors from both are in `tests/data/quality`.
//!
//! | File | Holds |
//! |---|---|
//! | `psnr` | [`mse`] and [`psnr`]: sample against sample |
//! | `ssim` | [`ssim`]: structure within a window that slides over both |
//! | `flicker` | [`Flicker`]: what changes from frame to frame where the scene does not |
//! | `agreement` | [`Agreement`]: a model's output beside a reference's, by the metric of its task |
//! | `alike` | that two pictures can be compared |

mod agreement;
mod alike;
mod flicker;
mod psnr;
mod ssim;

pub use agreement::{Agreement, Figure};
pub use flicker::{Flicker, FlickerReport};
pub use psnr::{mse, psnr};
pub use ssim::ssim;
