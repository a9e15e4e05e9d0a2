//! Pipeline files: what was written, and every mistake in it with its place.

mod file;
mod model;
mod stage;

pub(crate) use file::positive;
pub use file::{Choice, PipelineFile, PrecisionChoice};
pub use model::{ModelChange, ModelFile};
pub use stage::{Crop, Earlier, StageSpec, When};
