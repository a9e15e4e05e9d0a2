//! Shared helpers of the cross-crate suites.

pub mod goldens;
