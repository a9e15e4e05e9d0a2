//! ONNX's own operator cases on every engine: what agrees, what is refused, what comes out wrong.
//!
//! The cases are the node tests that PyPI's `onnx` packages carry. They are not part of the repository;
//! `scripts/fetch-onnx-cases` fetches the two releases whose operators are those of the opsets we write (17, and 18 for
//! graphs that PyTorch exported in it). Only operators that our graphs use count; which those are is asked of the
//! goldens. Each case runs in several [`Form`]s, since engines take other ways for constants than for fed values.

mod cases;
mod deviations;
mod operators;
mod verdict;

pub use cases::{Case, Form, Left, read};
pub use deviations::{Deviation, Deviations, Kind, Unexplained};
pub use operators::of_the_goldens;
pub use verdict::{Verdict, judge, run};

use std::path::PathBuf;

/// Names the folder with the cases.
pub const FOLDER: &str = "TAPETUM_ONNX_NODE_TESTS";

/// The folder with the cases; `None` where none was named.
pub fn folder() -> Option<PathBuf> {
    std::env::var_os(FOLDER).filter(|v| !v.is_empty()).map(PathBuf::from)
}
