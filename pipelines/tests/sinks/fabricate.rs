//! Runs, items and summaries without a pipeline.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

use tapetum::{
    Accounting, Decision, Fate, Item, ModelInfo, PassedOver, RunInfo, Skip, Slot, SlotState, StageInfo,
    Summary,
    engine_fault::{EngineChange, EngineEvent, EngineFaults, Successor},
    sink::{self, Sink},
    stage::{BreakUpTime, Interval},
};
use tapetum_runtime::{
    Frame, Image, PixelFormat, Rect,
    finding::{Boxes, Class, Detection, Finding, Mask, MaskPart},
    latency::Histogram,
};

pub const SIZE: (usize, usize) = (160, 120);
pub const CLEAR: usize = 0;
pub const CLOSED: usize = 1;
pub const BROKEN: usize = 2;

fn stage(name: &str, kind: &'static str, labels: &[&str], model: bool) -> StageInfo {
    let model = model.then(|| ModelInfo {
        sha256: "ab".repeat(32),
        network: "tfnet s0".into(),
        engine: "ort:cpu/fp32".into(),
        engine_version: "onnxruntime 1.32.0".into(),
        nodes: vec![("cpu".into(), 73)],
        origin: tapetum::engine_cache::Origin::Found { bytes: 7 },
        passed_over: vec![PassedOver { engine: "ort:cuda".into(), why: "no library \"libcudart\"".into() }],
        decision: Some(Decision {
            tuned: Some("2030-01-02T03:04:05Z".into()),
            why: "9.31 ms; int8: mask IoU 0.9700 (gate 0.99)".into(),
            fp32_sha256: "ef".repeat(32),
        }),
    });
    StageInfo { name: name.into(), kind, labels: labels.iter().map(|l| (*l).into()).collect(), model }
}

/// As the shipped pipeline for break-up time, at 10 frames per second.
pub fn run(sinks: &[&'static str]) -> RunInfo {
    RunInfo {
        pipeline: "tf-collab".into(),
        digest: "cd".repeat(32),
        source: "clip <script>alert(1)</script> & \"more\".mp4".into(),
        stages: vec![
            stage("state", "classify", &["clear", "closed", "broken", "blur"], true),
            stage("rings", "detect", &["inside", "middle", "outside"], true),
            stage("tfbu", "segment", &["background", "tfbu"], true),
            stage("but", "break-up-time", &[], false),
        ],
        sinks: sinks.to_vec(),
        notice: Some("Trained on synthetic frames only: not for <clinical> use.".into()),
    }
}

fn done(finding: Finding) -> Slot {
    Slot { state: SlotState::Done, finding, took: Duration::from_micros(4321), engine: None }
}

/// A frame of `class`, with boxes where the eye is open and a disc of `radius` where the film is broken.
pub fn item(seq: u64, class: usize, radius: usize) -> Item {
    let mut probs = vec![0.01; 4];
    probs[class] = 0.97;
    let rect = Rect { x: 30, y: 20, width: 100, height: 80 };
    let mut boxes = done(Finding::Boxes(Boxes(vec![Detection {
        label: 2,
        score: 0.9,
        xyxy: [30.0, 20.0, 130.25, 100.0],
    }])));
    let disc = |i: usize| {
        let (x, y) = (i % rect.width, i / rect.width);
        u8::from(x.abs_diff(50).pow(2) + y.abs_diff(40).pow(2) < radius.pow(2))
    };
    let classes: Vec<u8> = (0..rect.width * rect.height).map(disc).collect();
    let area = classes.iter().map(|c| u64::from(*c)).sum();
    let part = MaskPart { rect, area: vec![classes.len() as u64 - area, area], classes };
    let mut found = Mask::default();
    *found.push() = part;
    let mut mask = done(Finding::Mask(found));
    if class == CLOSED {
        boxes.state = SlotState::Skipped(Skip::When);
    }
    if class != BROKEN {
        mask.state = SlotState::Skipped(Skip::When);
    }
    let measure = vec![("since_clear_s", (class != CLOSED).then_some(0.1)), ("but_s", None)];
    let (width, height) = SIZE;
    let grey = (0..width * height).map(|i| (i % width) as u8).collect();
    let pts = Duration::from_millis(100 * seq);
    Item {
        frame: Frame {
            seq,
            pts,
            captured: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000) + pts),
            image: Image::new(width, height, PixelFormat::Grey8, grey).unwrap(),
        },
        slots: vec![
            done(Finding::Class(Class { label: class, probs })),
            boxes,
            mask,
            done(Finding::Measure(measure)),
        ],
        fate: Fate::Ok,
        engine_events: Vec::new(),
        offered: pts,
        finished: pts + Duration::from_micros(12_345),
    }
}

/// The second stage's engine failed.
fn took_over(frame: u64) -> EngineEvent {
    let why = "the \"device\" was lost".into();
    let successor = Successor { version: "tract 0.23.9".into(), nodes: vec![("tract".into(), 71)] };
    EngineEvent {
        stage: 1,
        frame,
        change: EngineChange::TookOver,
        engine: "tract/fp32".into(),
        why,
        successor: Some(successor),
    }
}

/// An item whose second stage failed, on another engine than at the start.
pub fn failed(seq: u64) -> Item {
    let mut item = item(seq, CLEAR, 0);
    item.slots[1].state = SlotState::Failed;
    item.slots[2].state = SlotState::Pending;
    item.slots[3].state = SlotState::Pending;
    item.slots[1].engine = Some("tract/fp32".into());
    item.engine_events = vec![took_over(seq)];
    item.fate = Fate::Failed { stage: 1, why: "engine said \"no\"\n<b>twice</b>\u{1}".into() };
    item
}

/// Closed, clear, broken and growing, closed, clear: the 60 frames of [`summary`].
pub fn items() -> Vec<Item> {
    let shown = |seq: u64| match seq {
        0..5 | 40..45 => item(seq, CLOSED, 0),
        25..40 => item(seq, BROKEN, (seq - 20) as usize),
        13 => failed(seq),
        _ => item(seq, CLEAR, 0),
    };
    (0..60).map(shown).collect()
}

pub fn summary() -> Summary {
    let mut times = Histogram::default();
    (1..=60).for_each(|ms| times.record(Duration::from_millis(ms)));
    let first = Interval {
        after_blink: true,
        opened_s: 0.5,
        closed_s: Some(4.0),
        first_clear_s: 0.5,
        first_broken_s: Some(2.5),
        but_s: Some(2.0),
        lower_bound_s: 1.9,
        uncertainty_s: 0.1,
    };
    let second = Interval {
        after_blink: true,
        opened_s: 4.5,
        closed_s: None,
        first_clear_s: 4.5,
        first_broken_s: None,
        but_s: None,
        lower_bound_s: 1.4,
        uncertainty_s: 0.1,
    };
    Summary {
        frames: Accounting {
            captured: 63,
            delivered: 59,
            dropped: BTreeMap::from([("stale", 3)]),
            failed: BTreeMap::from([("rings".into(), 1)]),
        },
        elapsed: Duration::from_secs(6),
        stages: vec![times.clone(), times.clone(), Histogram::default(), times.clone()],
        engine_faults: vec![
            EngineFaults::default(),
            EngineFaults { restarts: 3, events: vec![took_over(13)] },
        ],
        end_to_end: times,
        break_up_time: Some(BreakUpTime { intervals: vec![first, second] }),
        ..Summary::default()
    }
}

pub fn open(names: &[&'static str], out: &Path, run: &RunInfo) -> Vec<Box<dyn Sink>> {
    names.iter().map(|name| sink::open(name, out, run).unwrap()).collect()
}

/// Delivers `items` to the sinks called `names` and finishes them.
pub fn play(names: &[&'static str], out: &Path, run: &RunInfo, items: &[Item], summary: &Summary) {
    let mut sinks = open(names, out, run);
    for item in items {
        sinks.iter_mut().for_each(|sink| sink.deliver(item, run).unwrap());
    }
    sinks.iter_mut().for_each(|sink| sink.finish(run, summary).unwrap());
}

pub fn text(out: &Path, name: &str) -> String {
    fs::read_to_string(out.join(name)).unwrap()
}
