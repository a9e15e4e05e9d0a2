//! Holds each frame that comes out against what was recorded of it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use serde::Serialize;
use serde_json::Value;
use tapetum_runtime::Result;

use super::compare::{Unlike, compare};
use crate::{
    Item, RunInfo, Summary,
    recording::{
        digest,
        format::{FrameFate, FrameLine},
    },
    sink::{ResultLine, Sink},
};

/// Frames whose differences are told in full.
const MOST: usize = 100;

/// What all frames together came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Every frame to the last bit as it was.
    Identical,
    /// No number is off by more than the tolerance, and nothing but numbers is.
    Within,
    /// Something is otherwise.
    Different,
}

/// A frame that came out otherwise.
#[derive(Clone, Debug, Serialize)]
pub struct FrameDifference {
    /// Its number in the camera's stream.
    pub seq: u64,
    /// Its time in the stream, in seconds.
    pub pts_s: f64,
    /// Whether all of it is within the tolerance.
    pub within: bool,
    /// What differs.
    pub differences: Vec<Difference>,
}

/// One value that came out otherwise.
#[derive(Clone, Debug, Serialize)]
pub struct Difference {
    /// As in the pipeline file; empty for the frame's status.
    pub stage: String,
    /// Where in its finding.
    pub field: String,
    /// As recorded.
    pub then: Value,
    /// As it is now.
    pub now: Value,
    /// By how much, of numbers: as a share of the larger, or of 1 where both are smaller.
    pub by: Option<f64>,
}

/// The frames that were compared so far.
#[derive(Default)]
pub(super) struct Judge {
    recorded: HashMap<u64, FrameLine>,
    /// Stages that are not judged.
    remembering: Vec<String>,
    tolerance: f64,
    pub frames: u64,
    pub identical: u64,
    pub within: u64,
    pub different: u64,
    pub largest: f64,
    pub differences: Vec<FrameDifference>,
}

impl Judge {
    pub fn new(recorded: &[FrameLine], remembering: Vec<String>, tolerance: f64) -> Self {
        let delivered = recorded.iter().filter(|frame| frame.fate == FrameFate::Delivered);
        let recorded = delivered.map(|frame| (frame.seq, frame.clone())).collect();
        Self { recorded, remembering, tolerance, ..Self::default() }
    }

    pub fn verdict(&self, missing: bool) -> Verdict {
        match (self.different, self.within) {
            (0, 0) if !missing && self.frames > 0 => Verdict::Identical,
            (0, _) if !missing && self.frames > 0 => Verdict::Within,
            _ => Verdict::Different,
        }
    }

    fn see(&mut self, item: &Item, found: &str, line: &[u8]) {
        let seq = item.frame.seq;
        let Some(recorded) = self.recorded.get(&seq) else { return };
        self.frames += 1;
        if recorded.found.as_deref() == Some(found) {
            self.identical += 1;
            return;
        }
        let differences = self.differences(recorded, line);
        if differences.is_empty() {
            // Only what is not judged is otherwise.
            self.identical += 1;
            return;
        }
        let size = |d: &Difference| d.by.unwrap_or(f64::INFINITY);
        let within = differences.iter().all(|d| size(d) <= self.tolerance);
        let largest = differences.iter().filter_map(|d| d.by).fold(0.0, f64::max);
        self.largest = self.largest.max(largest);
        *(if within { &mut self.within } else { &mut self.different }) += 1;
        if self.differences.len() < MOST {
            let pts_s = item.frame.pts.as_secs_f64();
            self.differences.push(FrameDifference { seq, pts_s, within, differences });
        }
    }

    fn differences(&self, recorded: &FrameLine, line: &[u8]) -> Vec<Difference> {
        let then = recorded.result.clone().unwrap_or_default();
        let now: Value = serde_json::from_slice(line).unwrap_or_default();
        let mut all = Vec::new();
        let mut put = |stage: &str, unlike: Vec<Unlike>| {
            all.extend(unlike.into_iter().map(|Unlike { field, then, now, by }| Difference {
                stage: stage.to_owned(),
                field,
                then,
                now,
                by,
            }));
        };
        let reused = |status: &Value| if status == "reused" { Value::from("ok") } else { status.clone() };
        let remembers = !self.remembering.is_empty();
        for field in ["size", "status", "error"] {
            let (mut then, mut now) = (then[field].clone(), now[field].clone());
            if remembers {
                (then, now) = (reused(&then), reused(&now));
            }
            let mut unlike = Vec::new();
            compare(field, &then, &now, &mut unlike);
            put("", unlike);
        }
        let empty = serde_json::Map::new();
        let of = |line: &'_ Value| line["findings"].as_object().cloned().unwrap_or_default();
        let (then, now) = (of(&then), of(&now));
        let names = then.keys().chain(now.keys().filter(|name| !then.contains_key(*name)));
        for stage in names.filter(|name| !self.remembering.contains(name)) {
            let mut unlike = Vec::new();
            let none = Value::Object(empty.clone());
            compare("", then.get(stage).unwrap_or(&none), now.get(stage).unwrap_or(&none), &mut unlike);
            put(stage, unlike);
        }
        if all.is_empty() && !remembers {
            // All that is in words and numbers is equal, the digest is not.
            let (field, then, now) = ("pixels of a mask or picture".to_owned(), Value::Null, Value::Null);
            all.push(Difference { stage: String::new(), field, then, now, by: None });
        }
        all
    }
}

/// The sink that sees every frame.
pub(super) struct Bench {
    judge: Arc<Mutex<Judge>>,
    line: ResultLine,
}

impl Bench {
    pub fn new(judge: Arc<Mutex<Judge>>) -> Self {
        Self { judge, line: ResultLine::default() }
    }
}

impl Sink for Bench {
    fn name(&self) -> &'static str {
        "replay"
    }

    fn deliver(&mut self, item: &Item, run: &RunInfo) -> Result<()> {
        self.line.of(item, run);
        let found = digest::found(&self.line, item, run);
        let mut judge = self.judge.lock().unwrap_or_else(PoisonError::into_inner);
        judge.see(item, &found, self.line.bytes());
        Ok(())
    }

    fn finish(&mut self, _: &RunInfo, _: &Summary) -> Result<()> {
        Ok(())
    }
}
