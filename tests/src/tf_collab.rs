//! TF-Collab on the development clips, held against the ground truth and against PyTorch.
//!
//! `tests/clips` has the clips, `gt/` what was drawn (classes, boxes, masks, break-up times), and `reference.json` what the
//! folded networks gave in PyTorch, per clip and frame.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, atomic::AtomicBool};

use serde::Deserialize;
use tapetum::assemble::{Options, assemble};
use tapetum::config::{Choice, PipelineFile};
use tapetum::executor::{Run, run};
use tapetum::sink::Sink;
use tapetum::{Item, RunInfo, Summary, source};
use tapetum_runtime::clock::Monotonic;
use tapetum_runtime::finding::{Finding, boxes::iou};
use tapetum_runtime::{Image, Rect, Result};

/// The clips, in the order of the table.
pub const CLIPS: [&str; 3] = ["dev_a", "dev_b", "dev_c"];

/// What was drawn.
#[derive(Deserialize)]
pub struct Truth {
    /// Frames per second.
    pub fps: f64,
    /// Class of every frame.
    pub classes: Vec<usize>,
    /// Boxes of every frame on which the eye is open.
    pub boxes: Vec<Option<Rings>>,
    /// Frames whose mask is stored.
    pub mask_frames: Vec<usize>,
    /// Intervals between blinks.
    pub intervals: Vec<TrueInterval>,
}

/// Left, top, right, bottom in frame pixels.
#[derive(Deserialize)]
pub struct Rings {
    /// The outermost ring.
    pub outside: [f32; 4],
}

/// The time between two blinks, as drawn.
#[derive(Deserialize)]
pub struct TrueInterval {
    /// First open frame.
    pub start_frame: usize,
    /// First closed frame after it.
    pub end_frame: usize,
    /// In seconds; `None`: the film does not break.
    pub but_s: Option<f64>,
}

/// `reference.json`.
#[derive(Deserialize)]
pub struct Reference {
    /// Per clip.
    pub end_to_end: std::collections::BTreeMap<String, ReferenceClip>,
    /// Single frames.
    pub frames: Vec<ReferenceFrame>,
}

/// What PyTorch came to on a clip.
#[derive(Deserialize)]
pub struct ReferenceClip {
    /// Share of frames whose class is right.
    pub cls_acc: f64,
    /// Mean overlap of the outside box.
    pub det_outside_iou: f64,
    /// Overlap of all stored masks together.
    pub seg_iou_end_to_end: f64,
    /// Break-up times.
    pub but: Vec<ReferenceBut>,
    /// Class of every frame, a digit each.
    pub pred_classes: String,
    /// Break-up area of every frame, in frame pixels.
    pub pred_area_px: Vec<u64>,
}

/// A break-up time, in seconds.
#[derive(Deserialize)]
pub struct ReferenceBut {
    /// As PyTorch's classes give it.
    pub pred_but_s: Option<f64>,
}

/// What PyTorch gave for one frame.
#[derive(Deserialize)]
pub struct ReferenceFrame {
    /// The frame's file.
    pub png: String,
    /// Probability per class.
    pub cls_probs: Vec<f32>,
    /// The crop, if the outside ring was found.
    pub crop_rect_x1y1x2y2: Option<[usize; 4]>,
    /// The segmentation, run on every crop.
    pub seg: Option<ReferenceMask>,
}

/// A segmentation in figures.
#[derive(Deserialize)]
pub struct ReferenceMask {
    /// Break-up area in frame pixels.
    pub area_px_frame: u64,
}

/// What the pipeline found on one frame.
#[derive(Clone, Default)]
pub struct Seen {
    /// Class.
    pub class: usize,
    /// Probability per class.
    pub probs: Vec<f32>,
    /// The outside box, left, top, right, bottom.
    pub outside: Option<[f32; 4]>,
    /// The crop and its break-up pixels.
    pub mask: Option<(Rect, Vec<u8>)>,
    /// Break-up area in frame pixels.
    pub area: u64,
}

/// A clip in figures.
pub struct Figures {
    /// Every frame.
    pub seen: Vec<Seen>,
    /// Share of frames whose class is right.
    pub accuracy: f64,
    /// Mean overlap of the outside box, where one was found and drawn.
    pub outside_iou: f64,
    /// Overlap of all stored masks together.
    pub mask_iou: f64,
    /// Break-up time of each true interval, in seconds.
    pub but_s: Vec<Option<f64>>,
    /// Frames whose class differs from PyTorch's.
    pub other_class: usize,
    /// Greatest difference of a frame's break-up area to PyTorch's, in pixels.
    pub area_off: u64,
}

/// The folder with the clips.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clips")
}

/// The file of a clip.
pub fn video(clip: &str) -> PathBuf {
    match clip {
        "dev_a" => Path::new(env!("CARGO_MANIFEST_DIR")).join("../pipelines/demo/dev_a.mp4"),
        _ => folder().join(format!("{clip}.mp4")),
    }
}

/// Reads one of the JSON files in [`folder`].
pub fn json<T: serde::de::DeserializeOwned>(name: &str) -> T {
    let text = std::fs::read_to_string(folder().join(name)).expect("a file of this repository");
    serde_json::from_str(&text).expect("JSON of the form above")
}

/// Keeps what was found.
struct Keep(Arc<Mutex<Vec<Seen>>>);

impl Sink for Keep {
    fn name(&self) -> &'static str {
        "keep"
    }

    fn deliver(&mut self, item: &Item, run: &RunInfo) -> Result<()> {
        let mut seen = Seen::default();
        for (at, stage) in run.stages.iter().enumerate() {
            match item.found(at) {
                Some(Finding::Class(class)) => {
                    seen.class = class.label;
                    seen.probs = class.probs.clone();
                }
                Some(Finding::Boxes(boxes)) => {
                    let outside = stage.labels.iter().position(|l| l == "outside");
                    seen.outside = boxes.0.iter().find(|b| Some(b.label) == outside).map(|b| b.xyxy);
                }
                Some(Finding::Mask(mask)) => {
                    seen.area = mask.area(1);
                    seen.mask = mask.parts().first().map(|part| (part.rect, part.classes.clone()));
                }
                _ => {}
            }
        }
        self.0.lock().expect("nobody panics with it").push(seen);
        Ok(())
    }

    fn finish(&mut self, _: &RunInfo, _: &Summary) -> Result<()> {
        Ok(())
    }
}

/// Runs TF-Collab on `source`. `every_frame` takes the stages' conditions away, as the reference's single frames want.
pub fn play(source: &str, engine: &str, cache: &Path, every_frame: bool) -> Result<(Vec<Seen>, Summary)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../pipelines/tf-collab.toml");
    let mut text = std::fs::read_to_string(&path).expect("a file of this repository");
    if every_frame {
        text = text.lines().filter(|l| !l.starts_with("when =")).collect::<Vec<_>>().join("\n");
    }
    let file = PipelineFile::parse(text, &path)?;
    let options = Options {
        engine: Some(Choice::Exactly(engine.to_owned())),
        cache: Some(cache.to_owned()),
        ..Options::default()
    };
    let pipeline = assemble(&file, &options, source, false, &mut |_| {})?;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let outcome = run(
        &pipeline,
        Run {
            source: source::open(source)?,
            sinks: vec![Box::new(Keep(Arc::clone(&seen)))],
            clock: &Monotonic::start(),
            stop: &AtomicBool::new(false),
            watch: &mut |_, _| {},
        },
    );
    if let Some(e) = outcome.source_error {
        return Err(e);
    }
    let seen = std::mem::take(&mut *seen.lock().expect("nobody panics with it"));
    Ok((seen, outcome.summary))
}

/// Runs TF-Collab on a clip and holds it against what was drawn and what PyTorch gave.
pub fn evaluate(clip: &str, engine: &str, cache: &Path) -> Result<Figures> {
    let truth: Truth = json(&format!("gt/{clip}.json"));
    let reference: Reference = json("reference.json");
    let reference = &reference.end_to_end[clip];
    let (seen, summary) = play(&video(clip).to_string_lossy(), engine, cache, false)?;
    assert_eq!(seen.len(), truth.classes.len(), "{clip}: frames");
    let right = seen.iter().zip(&truth.classes).filter(|(s, class)| s.class == **class).count();
    let overlaps: Vec<f64> = seen
        .iter()
        .zip(&truth.boxes)
        .filter_map(|(s, drawn)| Some(f64::from(iou(rounded(s.outside?), drawn.as_ref()?.outside))))
        .collect();
    let (mut both, mut any) = (0, 0);
    for &frame in &truth.mask_frames {
        let (b, a) = overlap(&seen[frame], &drawn_mask(clip, frame));
        (both, any) = (both + b, any + a);
    }
    let found = summary.break_up_time.map(|b| b.intervals).unwrap_or_default();
    let but_s = truth.intervals.iter().map(|t| {
        let middle = (t.start_frame + t.end_frame) as f64 / 2.0 / truth.fps;
        let end = |closed: Option<f64>| closed.unwrap_or(f64::MAX);
        found.iter().find(|i| (i.opened_s..end(i.closed_s)).contains(&middle)).and_then(|i| i.but_s)
    });
    let classes = reference.pred_classes.bytes().map(|c| usize::from(c - b'0'));
    let areas = seen.iter().zip(&reference.pred_area_px).map(|(s, area)| s.area.abs_diff(*area));
    Ok(Figures {
        accuracy: right as f64 / seen.len() as f64,
        outside_iou: overlaps.iter().sum::<f64>() / overlaps.len() as f64,
        mask_iou: f64::from(both) / f64::from(any.max(1)),
        but_s: but_s.collect(),
        other_class: seen.iter().zip(classes).filter(|(s, class)| s.class != *class).count(),
        area_off: areas.max().unwrap_or(0),
        seen,
    })
}

/// The crop's rectangle, as the reference compares it.
fn rounded(xyxy: [f32; 4]) -> [f32; 4] {
    Rect::round(xyxy, 640, 480).xyxy().map(|v| v as f32)
}

fn drawn_mask(clip: &str, frame: usize) -> Image {
    let mut mask = Image::default();
    let path = folder().join(format!("gt/{clip}_masks/{frame:06}.png"));
    source::images::read(&path, &mut mask).expect("a picture of this repository");
    mask
}

/// Pixels that are in both masks, and in any.
fn overlap(seen: &Seen, drawn: &Image) -> (u32, u32) {
    let channels = drawn.format().channels();
    let (mut both, mut any) = (0, 0);
    for (n, pixel) in drawn.data().chunks_exact(channels).enumerate() {
        let (x, y) = (n % drawn.width(), n / drawn.width());
        let found = seen.mask.as_ref().is_some_and(|(r, classes)| {
            let inside = (r.x..r.x + r.width).contains(&x) && (r.y..r.y + r.height).contains(&y);
            inside && classes[(y - r.y) * r.width + x - r.x] > 0
        });
        both += u32::from(found && pixel[0] > 0);
        any += u32::from(found || pixel[0] > 0);
    }
    (both, any)
}
