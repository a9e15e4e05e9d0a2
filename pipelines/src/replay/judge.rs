//! Holds each frame that comes out against what was recorded of it.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use serde::Serialize;
use serde_json::Value;
use tapetum_runtime::{Result, finding::Finding};

use super::compare::{Unlike, Unlikes, compare};
use crate::{
    Item, RunInfo, Summary,
    recording::{
        digest,
        format::{FrameFate, FrameLine},
    },
    sink::{ResultLine, Sink},
};

/// Frames whose differences are told.
const MOST: usize = 100;

/// What of a result its digest is of, besides pixels.
const DIGESTED: [&str; 4] = ["size", "status", "error", "findings"];

/// What all frames together came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Every frame to the last bit as it was.
    Identical,
    /// No number is off by more than the tolerance, and nothing but numbers is.
    Within,
    /// Nothing that is judged is otherwise, but digests are: what a stage remembers from before the recording is not judged, and
    /// neither are pixels beside it.
    Unjudged,
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
    /// What differs; of one stage, the first of it.
    pub differences: Vec<Difference>,
    /// So much more does that is not told.
    pub others: u64,
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

/// A frame as it came out.
pub(super) struct Seen<'a> {
    pub seq: u64,
    /// Its time in the stream, in seconds.
    pub pts_s: f64,
    /// See [`digest::found`].
    pub found: &'a str,
    /// Its line of `results.jsonl`.
    pub line: &'a [u8],
    /// Stages that found a mask or made a picture: their pixels are in the digest alone.
    pub pixels: Vec<&'a str>,
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
    /// Their digest is another, and nothing that is judged differs.
    pub unjudged: u64,
    /// Other stages whose pixels could not be judged on these.
    pub pixels: BTreeSet<String>,
    pub largest: f64,
    pub differences: Vec<FrameDifference>,
}

/// All that differs on one frame.
#[derive(Default)]
struct Differences {
    told: Vec<Difference>,
    count: u64,
    largest: f64,
    words: bool,
}

impl Differences {
    fn put(&mut self, stage: &str, unlikes: Unlikes) {
        self.count += unlikes.count;
        self.largest = self.largest.max(unlikes.largest);
        self.words |= unlikes.words;
        self.told.extend(unlikes.told.into_iter().map(|Unlike { field, then, now, by }| Difference {
            stage: stage.to_owned(),
            field,
            then,
            now,
            by,
        }));
    }
}

impl Judge {
    pub fn new(recorded: &[FrameLine], remembering: Vec<String>, tolerance: f64) -> Self {
        let delivered = recorded.iter().filter(|frame| frame.fate == FrameFate::Delivered);
        let recorded = delivered.map(|frame| (frame.seq, frame.clone())).collect();
        Self { recorded, remembering, tolerance, ..Self::default() }
    }

    pub fn verdict(&self, missing: bool) -> Verdict {
        match (self.different, self.within, self.unjudged) {
            _ if missing || self.frames == 0 => Verdict::Different,
            (0, 0, 0) => Verdict::Identical,
            (0, 0, _) => Verdict::Unjudged,
            (0, ..) => Verdict::Within,
            _ => Verdict::Different,
        }
    }

    fn see(&mut self, seen: &Seen<'_>) {
        let Some(recorded) = self.recorded.get(&seen.seq) else { return };
        self.frames += 1;
        if recorded.found.as_deref() == Some(seen.found) {
            self.identical += 1;
            return;
        }
        let then = recorded.result.clone().unwrap_or_default();
        let now: Value = serde_json::from_slice(seen.line).unwrap_or_default();
        let mut all = self.differences(&then, &now);
        if all.count == 0 {
            if self.may_be_remembered(&then, &now, seen) {
                self.unjudged += 1;
                let pixels = seen.pixels.iter().map(|stage| (*stage).to_owned());
                self.pixels.extend(pixels.filter(|stage| !self.remembering.contains(stage)));
                return;
            }
            // All that is in words and numbers is equal, the digest is not.
            let (field, then, now) = ("pixels of a mask or picture".to_owned(), Value::Null, Value::Null);
            all.told.push(Difference { stage: String::new(), field, then, now, by: None });
            (all.count, all.words) = (1, true);
        }
        let within = !all.words && all.largest <= self.tolerance;
        self.largest = self.largest.max(all.largest);
        *(if within { &mut self.within } else { &mut self.different }) += 1;
        if self.differences.len() < MOST {
            let others = all.count - all.told.len() as u64;
            self.differences.push(FrameDifference {
                seq: seen.seq,
                pts_s: seen.pts_s,
                within,
                differences: all.told,
                others,
            });
        }
    }

    /// Whether another digest may come of what a stage remembers. A digest is of a whole frame: where it may, pixels of other stages
    /// cannot be judged.
    fn may_be_remembered(&self, then: &Value, now: &Value, seen: &Seen<'_>) -> bool {
        let remembers = |stage: &&str| self.remembering.iter().any(|name| name == stage);
        let words = DIGESTED.iter().any(|field| then[field] != now[field]);
        !self.remembering.is_empty() && (words || seen.pixels.iter().any(remembers))
    }

    /// Of what is judged, in words and numbers.
    fn differences(&self, then: &Value, now: &Value) -> Differences {
        let mut all = Differences::default();
        let reused = |status: &Value| if status == "reused" { Value::from("ok") } else { status.clone() };
        let remembers = !self.remembering.is_empty();
        for field in ["size", "status", "error"] {
            let (mut then, mut now) = (then[field].clone(), now[field].clone());
            if remembers {
                (then, now) = (reused(&then), reused(&now));
            }
            let mut unlikes = Unlikes::default();
            compare(field, &then, &now, &mut unlikes);
            all.put("", unlikes);
        }
        let of = |line: &'_ Value| line["findings"].as_object().cloned().unwrap_or_default();
        let (then, now) = (of(then), of(now));
        let names = then.keys().chain(now.keys().filter(|name| !then.contains_key(*name)));
        for stage in names.filter(|name| !self.remembering.contains(name)) {
            let mut unlikes = Unlikes::default();
            let none = Value::Object(serde_json::Map::new());
            compare("", then.get(stage).unwrap_or(&none), now.get(stage).unwrap_or(&none), &mut unlikes);
            all.put(stage, unlikes);
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
        judge.see(&Seen {
            seq: item.frame.seq,
            pts_s: item.frame.pts.as_secs_f64(),
            found: &found,
            line: self.line.bytes(),
            pixels: pixels(item, run),
        });
        Ok(())
    }

    fn finish(&mut self, _: &RunInfo, _: &Summary) -> Result<()> {
        Ok(())
    }
}

/// Stages that found a mask or made a picture.
fn pixels<'r>(item: &Item, run: &'r RunInfo) -> Vec<&'r str> {
    let has_pixels = |at: usize| matches!(item.found(at), Some(Finding::Mask(_) | Finding::Image(_)));
    run.stages
        .iter()
        .enumerate()
        .filter(|(at, _)| has_pixels(*at))
        .map(|(_, stage)| stage.name.as_str())
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A frame on which a class was found, and something that a stage remembers.
    fn result(class: &str, age: f64) -> Value {
        json!({
            "seq": 1, "size": [4, 4], "status": "ok",
            "findings": { "state": { "class": class }, "watch": { "age": age }, "skin": { "parts": 1 } },
        })
    }

    fn judge(remembering: &[&str], then: Value) -> Judge {
        let frame = FrameLine {
            seq: 1,
            pts_ns: 0,
            captured: None,
            fate: FrameFate::Delivered,
            picture: None,
            found: Some("recorded".to_owned()),
            result: Some(then),
        };
        Judge::new(&[frame], remembering.iter().map(|&name| name.to_owned()).collect(), 1e-4)
    }

    fn see(judge: &mut Judge, found: &str, now: &Value, pixels: &[&'static str]) -> Verdict {
        let line = serde_json::to_vec(now).unwrap();
        judge.see(&Seen { seq: 1, pts_s: 0.0, found, line: &line, pixels: pixels.to_vec() });
        judge.verdict(false)
    }

    #[test]
    fn another_digest_is_never_called_identical() {
        let then = result("clear", 1.0);
        let mut all = judge(&["watch"], then.clone());
        assert_eq!(see(&mut all, "recorded", &then, &["skin"]), Verdict::Identical);
        // What is remembered is otherwise, and with it the digest that the pixels are in, too.
        let mut all = judge(&["watch"], then.clone());
        assert_eq!(see(&mut all, "another", &result("clear", 2.0), &["skin"]), Verdict::Unjudged);
        assert_eq!((all.identical, all.unjudged, all.different), (0, 1, 0));
        assert!(all.pixels.iter().eq(["skin"]));
        // Nothing is, and what remembers has no pixels: others' pixels are.
        let mut all = judge(&["watch"], then.clone());
        assert_eq!(see(&mut all, "another", &then, &["skin"]), Verdict::Different);
        assert_eq!(all.differences[0].differences[0].field, "pixels of a mask or picture");
        // They may be those of what remembers.
        let mut all = judge(&["skin"], then.clone());
        assert_eq!((see(&mut all, "another", &then, &["skin"]), all.pixels.len()), (Verdict::Unjudged, 0));
        // Nothing remembers.
        let mut all = judge(&[], then.clone());
        assert_eq!(see(&mut all, "another", &then, &["skin"]), Verdict::Different);
        // What is judged is otherwise.
        let mut all = judge(&["watch"], then.clone());
        assert_eq!(see(&mut all, "another", &result("broken", 2.0), &[]), Verdict::Different);
    }

    #[test]
    fn a_word_behind_many_small_differences_makes_a_frame_different() {
        let boxes = |score: f64, label: &str| {
            let mut all: Vec<Value> =
                (0..300).map(|_| json!({ "score": score, "label": "person" })).collect();
            all[299]["label"] = label.into();
            json!({ "seq": 1, "size": [4, 4], "status": "ok", "findings": { "things": { "boxes": all } } })
        };
        let mut all = judge(&[], boxes(0.5, "person"));
        assert_eq!(see(&mut all, "another", &boxes(0.5 + 1e-9, "person"), &[]), Verdict::Within);
        assert_eq!((all.differences[0].differences.len(), all.differences[0].others), (100, 200));
        let mut all = judge(&[], boxes(0.5, "person"));
        assert_eq!(see(&mut all, "another", &boxes(0.5 + 1e-9, "car"), &[]), Verdict::Different);
        assert!(!all.differences[0].within);
    }
}
