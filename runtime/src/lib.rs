//! One model and one frame.
//!
//! This crate holds what every other part of Tapetum stands on: [`Tensor`]s, the inference [`backend`]s behind one
//! small trait, the model [`contract`] that travels inside an ONNX file, a [`Frame`] and its way into a tensor, what
//! comes out of a model as a [`finding`], the [`quality`] of a restored picture, time, and the one [`Error`] type.
//! It opens no files and starts no threads of its own (an engine may read its library and the model, and have a pool), and
//! knows nothing of checkpoints or cameras.

#![forbid(clippy::print_stdout, clippy::print_stderr)]

pub mod backend;
pub mod clock;
pub mod contract;
mod error;
pub mod finding;
mod frame;
mod image;
pub mod latency;
pub mod pixels;
pub mod preprocess;
pub mod quality;
pub mod seed;
pub mod settings;
mod tensor;
pub mod tiles;

pub use error::{Error, ErrorKind, Result};
pub use frame::Frame;
pub use image::{Image, PixelFormat, Rect};
pub use tensor::{DType, Data, Element, Tensor};
