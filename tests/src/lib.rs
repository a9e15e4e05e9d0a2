//! Shared helpers of the cross-crate suites.

pub mod conformance;
pub mod goldens;
pub mod restoration;
pub mod tf_collab;
