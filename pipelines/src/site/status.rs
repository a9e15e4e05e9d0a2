//! What health, metrics and the page are made of: a copy of the site's state at one moment. No secrets.

use std::{collections::BTreeMap, time::SystemTime};

use serde::Serialize;
use tapetum_runtime::latency::Histogram;

use super::message::{rfc3339, rfc3339_or_null};
use crate::{Decision, source::supervised::SourceHealth};

/// The whole site.
#[derive(Clone, Debug, Serialize)]
pub struct SiteStatus {
    /// As in the configuration.
    pub site: String,
    /// Tapetum's.
    pub version: &'static str,
    /// When the daemon started.
    #[serde(serialize_with = "rfc3339")]
    pub started: SystemTime,
    /// Since then.
    pub uptime_s: f64,
    /// Why the site is not ready (models are loading, an output cannot write), in words; empty: it is.
    pub not_ready: Vec<String>,
    /// In the order of the configuration.
    pub cameras: Vec<CameraStatus>,
    /// Models that cameras share.
    pub models: Vec<ModelStatus>,
    /// In the order of the configuration.
    pub outputs: Vec<OutputStatus>,
    /// Snapshots and recordings.
    pub media: Option<MediaStatus>,
    /// The configuration in force.
    pub config: ConfigStatus,
    /// The machine; null on a processor for which there is no board profile.
    pub board: Option<BoardStatus>,
    /// Resident memory of the process, in bytes, if the system tells.
    pub rss_bytes: Option<u64>,
    /// CPU time of the process, in seconds.
    pub cpu_s: f64,
}

/// One camera.
#[derive(Clone, Debug, Serialize)]
pub struct CameraStatus {
    /// As in the configuration.
    pub name: String,
    /// Where its frames come from.
    pub source: String,
    /// What opening it came to, a line each: what was chosen, and what was asked for and not given.
    pub remarks: Vec<String>,
    /// What it is doing.
    pub state: CameraState,
    /// Why, in words, where there is something to say.
    pub why: Option<String>,
    /// Since when.
    #[serde(serialize_with = "rfc3339")]
    pub since: SystemTime,
    /// Until the next try to connect, in seconds, while it waits.
    pub retry_in_s: Option<f64>,
    /// Width and height of the last frame, in pixels.
    pub size: Option<(usize, usize)>,
    /// Frames per second over the last ten seconds, captured and delivered.
    pub fps: [f64; 2],
    /// Since the daemon started: captured = delivered + Σ dropped + Σ failed + in flight.
    pub frames: Frames,
    /// What is missing of its frames before they were captured, and what had to be mended.
    pub gaps: Gaps,
    /// Times that the source was opened again.
    pub reconnects: u64,
    /// Times that it gave nothing for too long.
    pub stalls: u64,
    /// Time without frames since the first, in seconds.
    pub downtime_s: f64,
    /// Since the last delivered frame, in seconds.
    pub last_frame_age_s: Option<f64>,
    /// Age of results when they were delivered, from the moment that the source handed the frame over.
    pub age: Latency,
    /// Results that were older than the configuration's bound, where it has one.
    pub late: u64,
    /// In the pipeline's order.
    pub stages: Vec<StageStatus>,
    /// Events that go on, and events since the start.
    pub events: [u64; 2],
    /// Digest of the pipeline and models in force.
    pub digest: String,
}

/// What a camera is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CameraState {
    /// Its models are loading.
    Loading,
    /// Its source is being opened.
    Connecting,
    /// Frames come.
    Streaming,
    /// Its source was lost or cannot be opened; it is tried again later.
    Waiting,
    /// Only a new configuration can help.
    Failed,
    /// The daemon is ending, or the camera was taken out.
    Stopped,
}

impl CameraState {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Loading => "loading its models",
            Self::Connecting => "connecting",
            Self::Streaming => "streaming",
            Self::Waiting => "waiting",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
        }
    }
}

/// Where frames went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Frames {
    /// Given by the source.
    pub captured: u64,
    /// Taken by the outputs.
    pub delivered: u64,
    /// By reason.
    pub dropped: BTreeMap<String, u64>,
    /// By stage, or `unreadable`.
    pub failed: BTreeMap<String, u64>,
    /// Not yet one of these.
    pub in_flight: u64,
}

/// What is missing of a source's frames, and what had to be mended; a count each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Gaps {
    /// Packets of the network that did not arrive.
    pub packets_lost: u64,
    /// Frames that never arrived whole, as far as known.
    pub frames_lost: u64,
    /// Frames that a driver left out.
    pub driver_skipped: u64,
    /// Frames to which a driver gave the number of the one before.
    pub driver_repeated: u64,
    /// Times that a driver's counter went back or leapt.
    pub driver_restarted: u64,
    /// Timestamps that were missing, went back or leapt.
    pub stamps_mended: u64,
}

impl Gaps {
    /// Those of a source.
    pub fn of(health: &SourceHealth) -> Self {
        let stamps = health.stamps;
        Self {
            packets_lost: health.losses.packets,
            frames_lost: health.losses.frames,
            driver_skipped: health.sequence.skipped,
            driver_repeated: health.sequence.repeated,
            driver_restarted: health.sequence.restarted,
            stamps_mended: stamps.missing + stamps.backwards + stamps.jumps,
        }
    }

    /// With their names, as in JSON.
    pub fn named(&self) -> [(&'static str, u64); 6] {
        [
            ("packets_lost", self.packets_lost),
            ("frames_lost", self.frames_lost),
            ("driver_skipped", self.driver_skipped),
            ("driver_repeated", self.driver_repeated),
            ("driver_restarted", self.driver_restarted),
            ("stamps_mended", self.stamps_mended),
        ]
    }
}

impl std::ops::AddAssign for Gaps {
    fn add_assign(&mut self, more: Self) {
        self.packets_lost += more.packets_lost;
        self.frames_lost += more.frames_lost;
        self.driver_skipped += more.driver_skipped;
        self.driver_repeated += more.driver_repeated;
        self.driver_restarted += more.driver_restarted;
        self.stamps_mended += more.stamps_mended;
    }
}

/// One stage of a camera's pipeline.
#[derive(Clone, Debug, Serialize)]
pub struct StageStatus {
    /// As in the pipeline file.
    pub name: String,
    /// For example `detect`.
    pub kind: &'static str,
    /// What runs its model now, for example `ort:cpu/fp32`.
    pub engine: Option<String>,
    /// Engines that were asked for first, with why they do not run.
    pub passed_over: Vec<(String, String)>,
    /// Why its model was loaded there and so, where that was left to a tuning; also why none holds.
    pub decision: Option<Decision>,
    /// What was done about engines that failed, the last in words.
    pub engine_faults: u64,
    /// In words.
    pub last_engine_fault: Option<String>,
    /// Time that it worked on a frame.
    pub took: Latency,
}

/// A histogram with its percentiles, for people and Prometheus.
#[derive(Clone, Debug, Default)]
pub struct Latency(pub Histogram);

impl Serialize for Latency {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let ms = |q| self.0.quantile(q).map(|d| (d.as_secs_f64() * 1e6).round() / 1e3);
        let mut map = to.serialize_map(Some(5))?;
        map.serialize_entry("n", &self.0.count())?;
        map.serialize_entry("p50_ms", &ms(0.5))?;
        map.serialize_entry("p90_ms", &ms(0.9))?;
        map.serialize_entry("p99_ms", &ms(0.99))?;
        map.serialize_entry("max_ms", &ms(1.0))?;
        map.end()
    }
}

/// A model that cameras share.
#[derive(Clone, Debug, Serialize)]
pub struct ModelStatus {
    /// Network and variant.
    pub network: String,
    /// SHA-256 of its file, 64 hexadecimal digits.
    pub sha256: String,
    /// For example `ort:cpu/fp32`.
    pub engine: String,
    /// Cameras that use it.
    pub cameras: usize,
    /// Requests that wait.
    pub queue: usize,
    /// Runs of the model, and regions in them: more than one in a run is a batch.
    pub runs: u64,
    /// See `runs`.
    pub regions: u64,
    /// From request to result.
    pub took: Latency,
}

/// One output.
#[derive(Clone, Debug, Serialize)]
pub struct OutputStatus {
    /// For example `mqtt`.
    pub name: String,
    /// Whether it takes messages now.
    pub up: bool,
    /// Why not, or the last trouble; no secrets.
    pub why: Option<String>,
    /// Messages that wait in memory.
    pub queued: u64,
    /// Messages that wait on disk.
    pub spooled: u64,
    /// Messages that the other side has taken.
    pub delivered: u64,
    /// Messages that were given up, by reason.
    pub dropped: BTreeMap<String, u64>,
}

/// The folder of snapshots and recordings.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MediaStatus {
    /// Where it is.
    pub dir: String,
    /// Whether it can be written.
    pub up: bool,
    /// Why not; or if it can, what else is wrong with it.
    pub why: Option<String>,
    /// What is in it, in bytes.
    pub bytes: u64,
    /// There are never more than these.
    pub most_bytes: u64,
    /// Recordings that are whole.
    pub recordings: usize,
    /// Snapshots.
    pub snapshots: usize,
    /// Recordings that are being made.
    pub recording: usize,
    /// What waits for the disk, in bytes.
    pub waiting_bytes: u64,
    /// Since the start: `recording`, `snapshot`, and `salvaged` from an earlier process that was killed.
    pub written: BTreeMap<String, u64>,
    /// What could not be written, by what it was and why.
    pub dropped: BTreeMap<String, u64>,
    /// What had to go, by what it was and why.
    pub removed: BTreeMap<String, u64>,
}

/// The configuration in force.
#[derive(Clone, Debug, Serialize)]
pub struct ConfigStatus {
    /// The file.
    pub path: String,
    /// SHA-256 of its text.
    pub sha256: String,
    /// When it came into force.
    #[serde(serialize_with = "rfc3339")]
    pub loaded: SystemTime,
    /// The last try to take in a new one.
    #[serde(serialize_with = "rfc3339_or_null")]
    pub last_reload: Option<SystemTime>,
    /// Why that one was refused; the old one stayed in force.
    pub reload_error: Option<String>,
    /// What the last one that came into force has changed, in words.
    pub reload_did: Vec<String>,
    /// Whether one is being taken in at this moment.
    pub reloading: bool,
}

/// The machine.
#[derive(Clone, Debug, Serialize)]
pub struct BoardStatus {
    /// Name of the profile.
    pub name: String,
    /// For people.
    pub description: String,
    /// Whether the configuration asks for it; else it was told from the machine.
    pub asked: bool,
    /// The machine's power mode, by its own name, where it has such a thing.
    pub power_mode: Option<String>,
    /// By the type of thermal zone (the hottest of several), in degrees Celsius.
    pub temperatures: Vec<(String, f64)>,
    /// Zones from which on the profile says that the machine slows down.
    pub too_hot: Vec<String>,
    /// The worst of all zones that the profile has limits for.
    pub level: Option<HeatLevel>,
    /// Whether the machine slows itself down: a zone is too hot, or something other than a fan cools it.
    pub throttled: bool,
    /// Cooling devices at work: type, how far, how far they can.
    pub cooling: Vec<(String, u32, u32)>,
    /// Most frames per second of a camera that are looked at for now, because it is too hot.
    pub max_fps: Option<f32>,
}

/// How warm a machine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HeatLevel {
    /// Below every limit.
    Normal,
    /// Somebody should hear of it.
    Warm,
    /// The machine slows down.
    Hot,
}

impl From<tapetum_device::Level> for HeatLevel {
    fn from(level: tapetum_device::Level) -> Self {
        match level {
            tapetum_device::Level::Normal => Self::Normal,
            tapetum_device::Level::Warm => Self::Warm,
            tapetum_device::Level::Hot => Self::Hot,
        }
    }
}
