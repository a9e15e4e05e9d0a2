//! Networks of third parties on real videos: FastestDet finds people, OSNet says what they look like.
//!
//! The files are not part of the repository; where they are absent the suite says so.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use tapetum::assemble::{Options, assemble};
use tapetum::config::{Choice, ModelChange, PipelineFile};
use tapetum::executor::{Run, run};
use tapetum::{SlotState, source};
use tapetum_runtime::clock::Monotonic;
use tapetum_runtime::finding::{Detection, Finding};
use tapetum_tests::goldens::engines;

/// What was found on one frame.
#[derive(Default)]
struct Seen {
    boxes: Vec<Detection>,
    looks: Vec<Vec<f32>>,
    fresh: bool,
}

fn watch(engine: &str, assets: &Path, video: &str, frames: usize) -> Vec<Seen> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines/people.toml");
    let text = std::fs::read_to_string(&path).unwrap().replace("ASSETS", &assets.to_string_lossy());
    let file = PipelineFile::parse(text, &path).unwrap();
    let options = Options { engine: Some(Choice::Exactly(engine.to_owned())), ..Options::default() };
    let pipeline = assemble(&file, &options, video, false, &mut |_| {}).unwrap();
    let (mut all, stop) = (Vec::new(), AtomicBool::new(false));
    let outcome = run(
        &pipeline,
        Run {
            source: source::open(&assets.join(video).to_string_lossy()).unwrap(),
            sinks: Vec::new(),
            clock: &Monotonic::start(),
            stop: &stop,
            watch: &mut |item, _| {
                let mut seen = Seen { fresh: item.slots[1].state == SlotState::Done, ..Seen::default() };
                if let Some(Finding::Boxes(boxes)) = item.found(0) {
                    seen.boxes.clone_from(&boxes.0);
                }
                if let Some(Finding::Embeddings(looks)) = item.found(1) {
                    seen.looks = looks.iter().map(|(_, values)| values.to_vec()).collect();
                }
                all.push(seen);
                stop.store(all.len() >= frames, Ordering::SeqCst);
            },
        },
    );
    assert!(outcome.source_error.is_none() && outcome.summary.frames.failed.is_empty());
    all.truncate(frames);
    all
}

/// The third parties' files, if they are there; else `what` is named as not run.
fn assets(what: &str) -> Option<PathBuf> {
    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/assets");
    if assets.join("FastestDet.onnx").is_file() {
        return Some(assets);
    }
    tapetum_parts::missing("assets", format!("{what}: ../shared/assets is absent"));
    None
}

#[test]
fn clear_view_detects_on_the_restored_frame() {
    let Some(assets) = assets("clear-view with FastestDet") else { return };
    let detector =
        ModelChange { name: "detector".into(), path: assets.join("FastestDet.onnx").canonicalize().unwrap() };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../pipelines/clear-view.toml");
    let file = PipelineFile::read_with(&path, &[detector]).unwrap();
    let video = assets.join("one-by-one-person-detection.mp4");
    for engine in engines() {
        let cache = tempfile::tempdir().unwrap();
        let options = Options {
            engine: Some(Choice::Exactly(engine.name().to_owned())),
            cache: Some(cache.path().to_owned()),
            ..Options::default()
        };
        let pipeline = assemble(&file, &options, "video", false, &mut |_| {}).unwrap();
        let (mut seen, mut people, stop) = (0, 0, AtomicBool::new(false));
        let outcome = run(
            &pipeline,
            Run {
                source: source::open(&video.to_string_lossy()).unwrap(),
                sinks: Vec::new(),
                clock: &Monotonic::start(),
                stop: &stop,
                watch: &mut |item, _| {
                    let (Some(Finding::Image(restored)), Some(Finding::Boxes(boxes))) =
                        (item.found(0), item.found(1))
                    else {
                        panic!("{:?}", item.fate)
                    };
                    assert_eq!((restored.image.width(), restored.image.height()), (768, 432));
                    assert_ne!(restored.image.data(), item.frame.image.data());
                    assert!(std::ptr::eq(item.image_for(1), &restored.image), "the detector's picture");
                    people += usize::from(boxes.0.iter().any(|b| b.label == 0 && b.score > 0.5));
                    seen += 1;
                    // A person has come in by then.
                    stop.store(seen >= 70, Ordering::SeqCst);
                },
            },
        );
        assert!(outcome.source_error.is_none() && outcome.summary.frames.failed.is_empty());
        assert!(people >= 5, "{}: a person on {people} of {seen} restored frames", engine.name());
    }
}

#[test]
fn people_are_found_and_look_like_themselves_on_every_engine() {
    let Some(assets) = assets("FastestDet and OSNet on real videos") else { return };
    let all: Vec<Vec<Seen>> = engines()
        .iter()
        .map(|engine| watch(engine.name(), &assets, "one-by-one-person-detection.mp4", 140))
        .collect();
    for seen in &all {
        let person = |s: &Seen| s.boxes.iter().any(|b| b.label == 0 && b.score > 0.6);
        let with_person = seen.iter().filter(|s| person(s)).count();
        assert!((30..140).contains(&with_person), "{with_person} of 140 frames with a person");
        // The same person two frames later looks much the same.
        let pairs: Vec<f32> = seen
            .windows(3)
            .filter(|w| w[0].fresh && w[2].fresh && w[0].looks.len() == 1 && w[2].looks.len() == 1)
            .map(|w| w[0].looks[0].iter().zip(&w[2].looks[0]).map(|(a, b)| a * b).sum())
            .collect();
        let mean = pairs.iter().sum::<f32>() / pairs.len() as f32;
        assert!(pairs.len() > 10 && mean > 0.8, "{} pairs, mean cosine {mean}", pairs.len());
    }
    // The engines agree box for box, frame for frame.
    for (a, b) in all.iter().zip(&all[1..]).flat_map(|(a, b)| a.iter().zip(b)) {
        assert_eq!(a.boxes.len(), b.boxes.len());
        for (a, b) in a.boxes.iter().zip(&b.boxes) {
            assert!(a.label == b.label && (a.score - b.score).abs() < 1e-3, "{a:?} {b:?}");
            assert!(a.xyxy.iter().zip(b.xyxy).all(|(a, b)| (a - b).abs() < 0.05), "{a:?} {b:?}");
        }
    }
}
