//! How a model in less than fp32 was made, and what that changed.

use serde::{Deserialize, Serialize};

use crate::backend::Precision;

/// How a model in less than fp32 was made of the fp32 model, and what that changed on frames that it was not made with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quantization {
    /// The number format of most of its layers.
    pub precision: Precision,
    /// SHA-256 of the fp32 model file, 64 lower-case hexadecimal digits.
    pub from: String,
    /// What calibrated and judged, with its version.
    pub engine: String,
    /// How the range of an activation was found; only int8 has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<String>,
    /// Whether scale was moved between layers first.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub equalised: bool,
    /// Layers that stayed in fp32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<String>,
    /// Samples that the statistics were taken on; 0 where none are needed.
    pub calibrated: usize,
    /// Samples, others, that the figures were taken on.
    pub judged: usize,
    /// Each output beside fp32.
    pub figures: Vec<Measured>,
}

/// One output beside fp32, by the metric of its task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// The graph output.
    pub output: String,
    /// For example `mask IoU`.
    pub metric: String,
    /// What was reached; at most 999.
    pub value: f64,
    /// What had to be reached.
    pub gate: f64,
}
