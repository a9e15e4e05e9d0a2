//! Changes to the tensors of a checkpoint before a network is built from them: what training kept apart for its own
//! sake and deployment does not need.
//!
//! To add one: write `transform/<name>.rs` with its equation and tests, then add its `mod` line here.

pub mod ewa;
pub mod lora;

use std::collections::BTreeMap;

use tapetum_runtime::Tensor;

/// Named tensors of a checkpoint.
pub type Tensors = BTreeMap<String, Tensor>;
