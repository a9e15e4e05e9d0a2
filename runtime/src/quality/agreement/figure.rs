//! A measured agreement, and what it has to reach.

use std::fmt;

/// How well a candidate agrees with the reference on one output.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// The graph output.
    pub output: String,
    /// For example `mask IoU`; `PSNR` is in decibels, all others are shares where 1 is equal.
    pub metric: &'static str,
    /// Over everything that was compared; infinite for a PSNR without any difference.
    pub value: f64,
    /// The least value of a single sample, label or image, where the metric has such a thing.
    pub worst: Option<f64>,
    /// The least value that passes; see [`Figure::passes`].
    pub gate: f64,
    /// How many samples (crops, frames) were compared.
    pub samples: u64,
    /// Why it does not pass whatever the value is: the candidate gave no numbers, or there was nothing to compare.
    pub trouble: Option<String>,
}

impl Figure {
    /// Whether the value reaches the gate, without any trouble.
    pub fn passes(&self) -> bool {
        // A value that is no number fails: comparisons with it are false.
        self.trouble.is_none() && self.value >= self.gate
    }

    fn unit(&self) -> &'static str {
        if self.metric == super::PSNR { " dB" } else { "" }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = self.unit();
        match &self.trouble {
            Some(trouble) => write!(f, "{}: {trouble} (gate {}{unit})", self.metric, self.gate),
            None if unit.is_empty() => write!(f, "{} {:.4} (gate {})", self.metric, self.value, self.gate),
            None => write!(f, "{} {:.1}{unit} (gate {}{unit})", self.metric, self.value, self.gate),
        }
    }
}
