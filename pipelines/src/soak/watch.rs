//! What the daemon says of itself over HTTP.

use std::collections::BTreeMap;

use serde::Deserialize;
use tapetum_runtime::{Error, Result};

use super::child::Child;

/// One camera at one moment; counters since the daemon's start.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Camera {
    pub name: String,
    pub state: String,
    pub frames: Frames,
    pub reconnects: u64,
    pub stalls: u64,
    pub late: u64,
    pub age: Age,
    pub stages: Vec<Stage>,
    /// How many results were not older than each of [`Seen::bounds`].
    #[serde(skip)]
    pub ages: Vec<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub(super) struct Frames {
    pub captured: u64,
    pub delivered: u64,
    pub dropped: BTreeMap<String, u64>,
    pub failed: BTreeMap<String, u64>,
    pub in_flight: u64,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Age {
    pub n: u64,
    pub p50_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    pub max_ms: Option<f64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Stage {
    pub engine: Option<String>,
    pub engine_faults: u64,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Output {
    pub name: String,
    pub up: bool,
    pub why: Option<String>,
    pub dropped: BTreeMap<String, u64>,
}

/// The site at one moment.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Seen {
    pub cameras: Vec<Camera>,
    pub outputs: Vec<Output>,
    /// Of the histogram of ages, in milliseconds.
    #[serde(skip)]
    pub bounds: Vec<f64>,
}

impl Frames {
    /// Frames that are done with.
    pub fn gone(&self) -> u64 {
        self.delivered + self.dropped.values().sum::<u64>() + self.failed.values().sum::<u64>()
    }
}

/// Asks for status and metrics.
///
/// # Errors
/// No answer, or none that is understood.
pub(super) fn ask(child: &Child) -> Result<Seen> {
    let strange = |what: &str| Error::internal(format!("the daemon's {what} is not understood"));
    let (code, status) = child.get("/api/v1/status")?;
    if code != 200 {
        return Err(Error::internal(format!("the daemon's status answers {code}")));
    }
    let mut seen: Seen = serde_json::from_str(&status).map_err(|_| strange("status"))?;
    let (_, metrics) = child.get("/metrics")?;
    for camera in &mut seen.cameras {
        let buckets = ages(&metrics, &camera.name);
        seen.bounds = buckets.iter().map(|(bound, _)| *bound).collect();
        camera.ages = buckets.into_iter().map(|(_, n)| n).collect();
    }
    Ok(seen)
}

/// The histogram of a camera's ages: upper bound in milliseconds, and how many were not above it.
fn ages(metrics: &str, camera: &str) -> Vec<(f64, u64)> {
    let label = |line: &str, name: &str| {
        let (_, rest) = line.split_once(&format!("{name}=\""))?;
        Some(rest.split_once('"')?.0.to_owned())
    };
    let mut buckets = Vec::new();
    for line in metrics.lines().filter_map(|line| line.strip_prefix("tapetum_result_age_seconds_bucket{")) {
        if label(line, "camera").as_deref() != Some(camera) {
            continue;
        }
        let bound = label(line, "le").and_then(|le| le.parse::<f64>().ok());
        let count = line.rsplit_once(' ').and_then(|(_, n)| n.parse::<f64>().ok());
        if let (Some(bound), Some(count)) = (bound, count) {
            buckets.push((bound * 1e3, count as u64));
        }
    }
    buckets
}

/// The age that a share `q` of what came between two looks did not exceed, linear within a bucket; `None` if nothing came.
pub(super) fn quantile(bounds: &[f64], before: &[u64], after: &[u64], q: f64) -> Option<f64> {
    let counts: Vec<u64> = after.iter().zip(before).map(|(a, b)| a.saturating_sub(*b)).collect();
    let total = *counts.last()?;
    if total == 0 {
        return None;
    }
    let rank = q * total as f64;
    let at = counts.iter().position(|n| *n as f64 >= rank)?;
    let (from, below) = if at == 0 { (0.0, 0) } else { (bounds[at - 1], counts[at - 1]) };
    // The last bucket has no end.
    let to = if bounds[at].is_finite() { bounds[at] } else { from };
    let inside = (counts[at] - below).max(1) as f64;
    Some(from + (to - from) * ((rank - below as f64) / inside).clamp(0.0, 1.0))
}

/// What the daemon said of a camera's frames when it ended: how many came, and where they went.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Account {
    pub received: u64,
    pub gone: BTreeMap<String, u64>,
}

/// The lines `camera NAME: N frames received: N delivered, N REASON, …` of the daemon's log.
pub(super) fn accounts(log: &str) -> BTreeMap<String, Account> {
    let line = |line: &str| {
        let (name, rest) = line.strip_prefix("camera ")?.split_once(": ")?;
        let (received, parts) = rest.split_once(" frames received: ")?;
        let mut account = Account { received: received.parse().ok()?, gone: BTreeMap::new() };
        for part in parts.split(", ") {
            let (n, reason) = part.split_once(' ')?;
            account.gone.insert(reason.to_owned(), n.parse().ok()?);
        }
        Some((name.to_owned(), account))
    };
    log.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const METRICS: &str = "# HELP x\n\
        tapetum_result_age_seconds_bucket{le=\"0.01\",camera=\"a\"} 5\n\
        tapetum_result_age_seconds_bucket{le=\"0.02\",camera=\"a\"} 15\n\
        tapetum_result_age_seconds_bucket{le=\"+Inf\",camera=\"a\"} 16\n\
        tapetum_result_age_seconds_bucket{le=\"0.01\",camera=\"b\"} 7\n";

    #[test]
    fn ages_are_read_from_the_metrics_and_only_the_cameras() {
        let ages = ages(METRICS, "a");
        assert_eq!(ages[..2], [(10.0, 5), (20.0, 15)]);
        assert!(ages[2].0.is_infinite() && ages[2].1 == 16);
    }

    #[test]
    fn a_quantile_is_of_what_came_in_between() {
        let bounds = [10.0, 20.0, f64::INFINITY];
        assert_eq!(quantile(&bounds, &[0, 0, 0], &[10, 20, 20], 0.75), Some(15.0));
        assert_eq!(quantile(&bounds, &[10, 10, 10], &[10, 20, 20], 0.5), Some(15.0));
        assert_eq!(quantile(&bounds, &[0, 0, 0], &[0, 0, 3], 0.99), Some(20.0), "more is not known");
        assert_eq!(quantile(&bounds, &[4, 4, 4], &[4, 4, 4], 0.5), None);
        assert_eq!(quantile(&[], &[], &[], 0.5), None);
    }

    #[test]
    fn the_last_account_is_read_from_the_log() {
        let log = "site yard: 1 cameras\ncamera gate: streaming\n\
                   camera gate: 1201 frames received: 1180 delivered, 20 overtaken, 1 in hand\n";
        let gone = [("delivered", 1180), ("overtaken", 20), ("in hand", 1)];
        let gone = gone.map(|(reason, n)| (reason.to_owned(), n)).into();
        assert_eq!(accounts(log), [("gate".to_owned(), Account { received: 1201, gone })].into());
    }
}
