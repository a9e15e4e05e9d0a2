//! What is known about a run before its first frame: names, labels and provenance.

use serde::Serialize;

use crate::engine_cache::Origin;

/// A run as sinks see it.
#[derive(Clone, Debug, Default)]
pub struct RunInfo {
    /// The pipeline's name.
    pub pipeline: String,
    /// SHA-256 of the pipeline file and its models' digests, 64 hexadecimal digits: equal digests, equal computation.
    pub digest: String,
    /// The source, without secrets.
    pub source: String,
    /// In the pipeline's order, as [`crate::Item::slots`].
    pub stages: Vec<StageInfo>,
    /// The sinks that take part, as in [`crate::sink::SINKS`]: what one of them writes, another may point to.
    pub sinks: Vec<&'static str>,
    /// What whoever reads the results must know first, for example that they are not for clinical use.
    pub notice: Option<String>,
}

/// One stage of a run.
#[derive(Clone, Debug)]
pub struct StageInfo {
    /// As in the pipeline file.
    pub name: String,
    /// For example `classify`.
    pub kind: &'static str,
    /// The labels that its findings' indices speak of.
    pub labels: Vec<String>,
    /// The model it runs, if it runs one.
    pub model: Option<ModelInfo>,
}

/// A loaded model.
#[derive(Clone, Debug)]
pub struct ModelInfo {
    /// SHA-256 of the model file, 64 hexadecimal digits.
    pub sha256: String,
    /// Network and variant, for example `tfnet s0`.
    pub network: String,
    /// What runs it, for example `ort:cpu/fp32`.
    pub engine: String,
    /// Its version, for example `onnxruntime 1.32.0`.
    pub engine_version: String,
    /// How many of the model's nodes each provider got, as the engine told.
    pub nodes: Vec<(String, usize)>,
    /// Where the built engine comes from, of an engine that builds.
    pub origin: Origin,
    /// Engines asked for first that could not run.
    pub passed_over: Vec<PassedOver>,
    /// Why it runs there and so, where engine or precision are `auto`.
    pub decision: Option<Decision>,
}

/// Why a model runs on its engine in its precision, where that was left to a tuning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// When it was measured, as RFC 3339; `None`: no tuning holds, and it runs as without one, in fp32.
    pub tuned: Option<String>,
    /// With the figures; or why no tuning holds, and what to do.
    pub why: String,
    /// SHA-256 of the model in fp32, 64 hexadecimal digits; the model that runs may be another file made of it.
    pub fp32_sha256: String,
}

impl ModelInfo {
    /// Which provider runs how many nodes, for people: `71 nodes on openvino, 2 on cpu`.
    pub fn nodes_shown(&self) -> String {
        nodes_shown(&self.nodes)
    }
}

/// `71 nodes on openvino, 2 on cpu`.
pub(crate) fn nodes_shown(nodes: &[(String, usize)]) -> String {
    let one = |(at, (provider, n)): (usize, &(String, usize))| match at {
        0 => format!("{n} nodes on {provider}"),
        _ => format!("{n} on {provider}"),
    };
    nodes.iter().enumerate().map(one).collect::<Vec<_>>().join(", ")
}

/// An engine that was asked for and could not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassedOver {
    /// As asked for.
    pub engine: String,
    /// Why not.
    pub why: String,
}
