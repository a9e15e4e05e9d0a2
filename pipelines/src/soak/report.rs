//! What came of a run.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{system::Process, trend::Trend};
use crate::tune::Machine;

/// Everything, for a JSON file.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The site's name.
    pub site: String,
    /// When it was written; RFC 3339.
    pub date: String,
    /// Version of the daemon and of this.
    pub tapetum: &'static str,
    /// Where it ran.
    pub machine: Machine,
    /// Seconds measured.
    pub seconds: f64,
    /// Seconds of warm-up before them.
    pub warm_up_s: f64,
    /// If more was asked for than the machine can do.
    pub overload: Option<Overload>,
    /// The bound of ages, if the site has one.
    pub max_age_ms: Option<f64>,
    /// In the order of the configuration.
    pub cameras: Vec<CameraReport>,
    /// Delivered frames per second of all cameras.
    pub delivered_fps: f64,
    /// Jain's index of what each camera got of its fair share.
    pub jain: f64,
    /// The daemon at the first and at the last look.
    pub process: [Process; 2],
    /// Of resident memory in the second half, in KiB per minute.
    pub memory: Option<Trend>,
    /// Cores that the daemon used, on average.
    pub cores: f64,
    /// Cores that everything else on the machine used, on average.
    pub cores_others: f64,
    /// From the signal to the end, in seconds.
    pub stop_s: Option<f64>,
    /// What was judged.
    pub checks: Vec<Check>,
    /// Whether every check holds.
    pub passed: bool,
    /// Over time.
    pub series: Series,
}

/// What was asked for beyond what the machine can do.
#[derive(Clone, Debug, Serialize)]
pub struct Overload {
    /// Times that.
    pub times: f64,
    /// How it was found.
    pub steps: Vec<Step>,
    /// The most that was delivered, in frames per second of all cameras.
    pub capacity_fps: f64,
    /// What all cameras together were asked for.
    pub asked_fps: f64,
    /// Frames per second that each camera was asked for.
    pub rates: BTreeMap<String, f64>,
}

/// One step of the search.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Step {
    /// Frames per second, all cameras.
    pub asked_fps: f64,
    /// See `asked_fps`.
    pub delivered_fps: f64,
}

/// One camera, while it was measured.
#[derive(Clone, Debug, Serialize)]
pub struct CameraReport {
    /// As in the configuration.
    pub name: String,
    /// Frames per second that it was asked for: its loop's, or what came.
    pub asked_fps: f64,
    /// Its fair share of what was delivered.
    pub fair_fps: f64,
    /// Frames per second that its source gave.
    pub captured_fps: f64,
    /// Frames per second that were delivered.
    pub delivered_fps: f64,
    /// Frames by where they went.
    pub frames: BTreeMap<String, u64>,
    /// Age of results, in milliseconds, since the daemon's start (within 1.6 %).
    pub age_p50_ms: Option<f64>,
    /// See `age_p50_ms`.
    pub age_p99_ms: Option<f64>,
    /// See `age_p50_ms`.
    pub age_max_ms: Option<f64>,
    /// Results that were older than the site's bound.
    pub late: u64,
    /// What ran its models.
    pub engines: Vec<String>,
}

/// One line of the verdict.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// What is judged.
    pub name: &'static str,
    /// Whether it holds; `None`: there was nothing to hold it against.
    pub passed: Option<bool>,
    /// What was seen.
    pub seen: String,
    /// What is wanted.
    pub wanted: String,
}

/// Figures over time; all lists are as long as `at_s`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Series {
    /// Since the measurement began.
    pub at_s: Vec<f64>,
    /// Resident memory.
    pub rss_mib: Vec<f64>,
    /// Age of all cameras' results around this time, by the buckets of the metrics; `None` where there were none.
    pub age_p50_ms: Vec<Option<f64>>,
    /// See `age_p50_ms`.
    pub age_p99_ms: Vec<Option<f64>>,
    /// Delivered frames per second around this time, by camera in the order of the configuration.
    pub fps: Vec<Vec<f64>>,
    /// Cores that everything else on the machine used.
    pub cores_others: Vec<f64>,
}
