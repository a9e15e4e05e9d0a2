//! Shared helpers of the cross-crate suites.
