//! A site with a camera that something happens to and one that must not feel it.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::site::{Daemon, Site};

/// How long anything may take on a machine that does other things, too.
const PATIENCE: Duration = Duration::from_secs(120);
/// Over how long the other camera's frames are counted before the fault.
const BEFORE: Duration = Duration::from_secs(2);
/// Its frames per second meanwhile, of those before. The machine may have more to do meanwhile, but not half.
const LEAST: f64 = 0.5;

/// One line of the table.
pub struct Row {
    pub lasts: Duration,
    pub noticed: Option<Duration>,
    pub back: Duration,
    pub lost: String,
    /// The other camera's frames per second, before and meanwhile.
    pub others: Option<[f64; 2]>,
}

impl Row {
    pub fn line(&self, name: &str) -> String {
        let seconds = |d: Duration| format!("{:.2} s", d.as_secs_f64());
        let noticed = self.noticed.map_or("–".to_owned(), seconds);
        let others = self.others.map_or("–".to_owned(), |[a, b]| format!("{a:.1} → {b:.1}"));
        let lasts = if self.lasts.is_zero() {
            "–".to_owned()
        } else {
            format!("{:.0} s", self.lasts.as_secs_f64())
        };
        format!("| {name} | {lasts} | {noticed} | {} | {} | {others} |", seconds(self.back), self.lost)
    }
}

/// Events that begin, change and end all the time.
pub const LIVELY: &str = "events = { min_score = 0.4, min_frames = 1, window_s = 0.1, end_after_s = 0.2, max_length_s = 1.0, \
                          better = 0.0, update_every_s = 0.1 }";

pub struct Scene {
    pub site: Site,
}

impl Scene {
    /// `victim`: the keys of its table but the pipeline; none, no victim. `outputs`: besides the store.
    pub fn new(victim: Option<&str>, outputs: &str) -> Self {
        let scene = Self { site: Site::new() };
        scene.write(victim, outputs, true);
        scene
    }

    /// With `events`, the other camera makes them all the time; else nobody makes any.
    pub fn write(&self, victim: Option<&str>, outputs: &str, events: bool) {
        self.site.write(&[], "");
        let clip = demo().join("dev_a.mp4");
        let lively = if events { LIVELY } else { "" };
        let mut more = format!(
            "{outputs}\n[camera.other]\nsource = 'loop:{}?fps=10'\npipeline = 'eyes.toml'\n{lively}\n",
            clip.display()
        );
        if let Some(victim) = victim {
            more +=
                &format!("[camera.victim]\npipeline = 'eyes.toml'\nstall_s = 2\nconnect_s = 3\n{victim}\n");
        }
        self.site.append(&more);
    }

    /// Starts it, and waits until every camera gives results.
    pub fn start(&self) -> Daemon {
        let daemon = self.site.start();
        daemon.until("all cameras give results", || {
            daemon.status()["cameras"]
                .as_array()
                .unwrap()
                .iter()
                .all(|c| c["frames"]["delivered"].as_u64() > Some(10))
        });
        daemon
    }

    /// Ends the daemon and has what it kept told, by one whose cameras make no events.
    pub fn drain(&self, daemon: Daemon, outputs: &str) {
        daemon.stop();
        self.write(None, outputs, false);
        let daemon = self.site.start();
        daemon.until("the spools are empty", || {
            daemon.status()["outputs"].as_array().unwrap().iter().all(|o| waits(o) == 0)
        });
        daemon.stop();
    }
}

pub fn demo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("demo")
}

/// Messages of an output that the other side does not have.
pub fn waits(output: &Value) -> u64 {
    output["spooled"].as_u64().unwrap() + output["queued"].as_u64().unwrap()
}

pub fn output(daemon: &Daemon, name: &str) -> Value {
    let status = daemon.status();
    let outputs = status["outputs"].as_array().unwrap();
    outputs.iter().find(|output| output["name"] == name).unwrap().clone()
}

/// Sum of what is counted by reason.
pub fn sum(counts: &Value) -> u64 {
    counts.as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum()
}

/// Waits until it holds; how long that took.
#[track_caller]
pub fn wait(what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    let from = Instant::now();
    while !holds() {
        assert!(from.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
    from.elapsed()
}

/// The frames per second of a camera that nothing happens to.
pub struct Bystander {
    before: f64,
    mark: (Instant, u64),
}

impl Bystander {
    /// Looks at it before the fault.
    pub fn watch(daemon: &Daemon) -> Self {
        let from = mark(daemon);
        // Frames are counted over a time; nothing is waited for.
        std::thread::sleep(BEFORE);
        let to = mark(daemon);
        Self { before: rate(from, to), mark: to }
    }

    /// Frames per second before and since.
    #[track_caller]
    pub fn unharmed(&self, daemon: &Daemon) -> Option<[f64; 2]> {
        let meanwhile = rate(self.mark, mark(daemon));
        assert!(meanwhile >= LEAST * self.before, "the other camera felt it: {} → {meanwhile}", self.before);
        let other = daemon.camera("other");
        assert_eq!((&other["reconnects"], &other["stalls"]), (&Value::from(0), &Value::from(0)), "{other}");
        Some([self.before, meanwhile])
    }
}

fn mark(daemon: &Daemon) -> (Instant, u64) {
    (Instant::now(), daemon.camera("other")["frames"]["delivered"].as_u64().unwrap())
}

fn rate(from: (Instant, u64), to: (Instant, u64)) -> f64 {
    (to.1 - from.1) as f64 / (to.0 - from.0).as_secs_f64()
}
