//! What tuning measured, as it is kept: one JSON file per pipeline, machine and plan of threads.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};
use tapetum_runtime::quality::Figure;

use super::Machine;

/// The version of the file that this build writes, and the only one that it reads.
pub const VERSION: u32 = 3;

/// All figures of a tuning; what is chosen follows from them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tuned {
    /// [`VERSION`].
    pub version: u32,
    /// The version of Tapetum that measured.
    pub tapetum: String,
    /// When, as RFC 3339.
    pub date: String,
    /// The pipeline's name.
    pub pipeline: String,
    /// What it was measured on, without secrets.
    pub source: String,
    /// Where.
    pub machine: Machine,
    /// The options of the engines, as they were.
    pub engine_options: String,
    /// What ran in fp32 as the reference, with its version.
    pub reference: String,
    /// In the order of preference.
    pub engines: Vec<EngineMeasured>,
    /// In the order of the pipeline file.
    pub models: Vec<ModelMeasured>,
    /// What was chosen then, among all of these engines.
    pub chosen: Option<Chosen>,
}

/// One engine that was considered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EngineMeasured {
    /// As asked for.
    pub engine: String,
    /// Name and version of what runs; `None`: it cannot run here.
    pub engine_version: Option<String>,
    /// Versions of the other libraries that it runs with and its device with the driver, by name, as far as they can be
    /// told.
    pub runs_with: BTreeMap<String, String>,
    /// Why it cannot run.
    pub why_not: Option<String>,
}

/// One model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelMeasured {
    /// As in the pipeline file.
    pub name: String,
    /// SHA-256 of the fp32 file, 64 hexadecimal digits.
    pub sha256: String,
    /// How often it ran on the source: once per region.
    pub runs: u64,
    /// Inputs that it was judged and timed on; held back from calibration.
    pub judged: usize,
    /// Threads inside a run.
    pub threads: usize,
    /// Multiply-accumulates of a run: the mean over the inputs that were timed; `None` if they could not be counted.
    pub macs: Option<u64>,
    /// In the order of the engines, fp32 first.
    pub candidates: Vec<Candidate>,
}

/// One way of running a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Candidate {
    /// As asked for.
    pub engine: String,
    /// What it computes in, for example `int8`.
    pub precision: String,
    /// The model file, if it has one of its own.
    pub file: Option<ModelOnDisk>,
    /// Median time of a run on one input, in milliseconds.
    pub ms_median: Option<f64>,
    /// The time that nine of ten runs do not exceed, within 1.6 %.
    pub ms_p90: Option<f64>,
    /// As [`Candidate::ms_p90`], of 99 in 100.
    pub ms_p99: Option<f64>,
    /// The longest.
    pub ms_max: Option<f64>,
    /// Runs that were timed.
    pub rounds: usize,
    /// Resident bytes that its session added to the process, with what its first runs took.
    pub memory_bytes: Option<u64>,
    /// At most while it was loaded and first run.
    pub memory_peak_bytes: Option<u64>,
    /// Each output beside fp32.
    pub figures: Vec<Measured>,
    /// Whether it ran and every figure reached its gate.
    pub passed: bool,
    /// Why it did not run or did not pass.
    pub why_not: Option<String>,
}

/// A model file in the cache.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelOnDisk {
    /// Relative to the cache.
    pub path: PathBuf,
    /// 64 hexadecimal digits.
    pub sha256: String,
}

/// A [`Figure`] as JSON can hold it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// The graph output.
    pub output: String,
    /// For example `mask IoU`.
    pub metric: String,
    /// `None` for a PSNR without any difference, which is infinite.
    pub value: Option<f64>,
    /// The least value of a sample, label or image; `None` as for `value`, or where the metric has no such thing.
    pub worst: Option<f64>,
    /// The metric's own gate.
    pub gate: f64,
    /// Why it does not pass whatever the value is.
    pub trouble: Option<String>,
}

impl From<&Figure> for Measured {
    fn from(figure: &Figure) -> Self {
        let finite = |v: f64| v.is_finite().then_some(v);
        Self {
            output: figure.output.clone(),
            metric: figure.metric.to_owned(),
            value: finite(figure.value),
            worst: figure.worst.and_then(finite),
            gate: figure.gate,
            trouble: figure
                .trouble
                .clone()
                .or_else(|| figure.value.is_nan().then(|| "the value is no number".to_owned())),
        }
    }
}

impl Measured {
    /// Whether it reaches `gate`, or the metric's own.
    pub fn passes(&self, gate: Option<f64>) -> bool {
        self.trouble.is_none() && self.value.unwrap_or(f64::INFINITY) >= gate.unwrap_or(self.gate)
    }

    /// For people, for example `mask IoU 0.9934 (gate 0.99)`.
    pub fn told(&self, gate: Option<f64>) -> String {
        let (metric, gate) = (&self.metric, gate.unwrap_or(self.gate));
        match (&self.trouble, self.value) {
            (Some(trouble), _) => format!("{metric}: {trouble} (gate {gate})"),
            (None, None) => format!("{metric} infinite: no difference (gate {gate} dB)"),
            (None, Some(value)) if metric == "PSNR" => format!("{metric} {value:.1} dB (gate {gate} dB)"),
            (None, Some(value)) => format!("{metric} {value:.4} (gate {gate})"),
        }
    }
}

/// An engine, and a precision for each model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chosen {
    /// As asked for.
    pub engine: String,
    /// Time of all models together, as often as they ran on the source, in milliseconds.
    pub total_ms: f64,
    /// In the order of the pipeline file.
    pub models: Vec<ChosenModel>,
}

/// A precision for a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChosenModel {
    /// As in the pipeline file.
    pub name: String,
    /// For example `int8`.
    pub precision: String,
    /// With the figures, for people.
    pub why: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(metric: &'static str, value: f64, gate: f64) -> Figure {
        Figure { output: "o".into(), metric, value, worst: None, gate, samples: 1, trouble: None }
    }

    #[test]
    fn figures_survive_json_with_what_it_cannot_hold() {
        let through = |figure: &Figure| -> Measured {
            let text = serde_json::to_string(&Measured::from(figure)).unwrap();
            serde_json::from_str(&text).unwrap()
        };
        let equal = through(&figure("PSNR", f64::INFINITY, 40.0));
        assert!(equal.value.is_none() && equal.passes(None) && equal.passes(Some(100.0)));
        assert_eq!(equal.told(None), "PSNR infinite: no difference (gate 40 dB)");
        let near = through(&figure("mask IoU", 0.985, 0.99));
        assert!(!near.passes(None) && near.passes(Some(0.98)));
        assert_eq!(near.told(Some(0.98)), "mask IoU 0.9850 (gate 0.98)");
        assert!(!through(&figure("mask IoU", f64::NAN, 0.99)).passes(None));
        let nothing = Figure { trouble: Some("no box of either".into()), ..figure("box IoU", 1.0, 0.95) };
        assert!(!through(&nothing).passes(Some(0.0)));
        assert_eq!(through(&nothing).told(None), "box IoU: no box of either (gate 0.95)");
    }
}
