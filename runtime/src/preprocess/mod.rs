//! From a region of a frame to the tensor that a model takes, as its [`InputContract`] says.
//!
//! Every filter is the named library's result bit for bit, at 8 bits, before anything is normalised: OpenCV 5.0.0
//! (`INTER_NEAREST`, `INTER_LINEAR`, `INTER_AREA`) and Pillow 13.0.0 (`BILINEAR`). Vectors from both are in
//! `tests/data/preprocess`.
//!
//! | File | Holds |
//! |---|---|
//! | `prepare` | [`Preprocess`]: the steps in order, and their scratch |
//! | `layout` | which size the input has and where the picture lies in it, from the contract alone |
//! | `placement` | [`Placement`]: coordinates from input to frame and back |
//! | `view` | the region of an image that is read |
//! | `resample` | one filter at work, row by row |
//! | `nearest`, `resize`, `antialias`, `area` | the filters |
//! | `colour` | the order and the number of channels |
//! | `normalise` | 8 bits to `f32`, and what surrounds the picture |
//! | `wide` | the inner loops once more for processors with AVX2 |
//!
//! [`InputContract`]: crate::contract::InputContract

mod antialias;
mod area;
mod colour;
mod layout;
mod nearest;
mod normalise;
mod placement;
mod prepare;
mod resample;
mod resize;
mod view;
mod wide;

pub use colour::luma;
pub use placement::Placement;
pub use prepare::Preprocess;
