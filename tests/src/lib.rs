//! Shared helpers of the cross-crate suites.

pub mod goldens;
pub mod tf_collab;
