//! In steady state nothing of ours allocates: what a frame needs was taken when the first ones came.

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tapetum::assemble::{Options, assemble};
use tapetum::config::{Choice, PipelineFile};
use tapetum::executor::{Run, run};
use tapetum::{sink, source};
use tapetum_runtime::backend::{Backend, LoadOptions, ModelSource};
use tapetum_runtime::clock::Monotonic;
use tapetum_runtime::contract::golden;
use tapetum_tests::goldens::engines;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations while TF-Collab runs on `frames` test frames, all three networks on every frame, results to JSON Lines.
fn in_pipeline(engine: &'static dyn Backend, cache: &Path, frames: usize) -> u64 {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../pipelines/tf-collab.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let text: Vec<_> =
        text.lines().filter(|l| !l.starts_with("when =") && !l.starts_with("crop =")).collect();
    let file = PipelineFile::parse(text.join("\n"), &path).unwrap();
    let options = Options {
        engine: Some(Choice::Exactly(engine.name().to_owned())),
        cache: Some(cache.to_owned()),
        workers: Some(1),
        threads: Some(1),
        ..Options::default()
    };
    let mut pipeline = assemble(&file, &options, "test", false, &mut |_| {}).unwrap();
    pipeline.info.sinks = vec!["jsonl"];
    let out = tempfile::tempdir().unwrap();
    let sinks = vec![sink::open("jsonl", out.path(), &pipeline.info).unwrap()];
    let source = source::open(&format!("synthetic:moving?frames={frames}&size=320x240")).unwrap();
    let before = ALLOCATIONS.load(Ordering::SeqCst);
    let outcome = run(
        &pipeline,
        Run {
            source,
            sinks,
            clock: &Monotonic::start(),
            stop: &AtomicBool::new(false),
            watch: &mut |_, _| {},
        },
    );
    assert_eq!(outcome.summary.frames.delivered, frames as u64);
    ALLOCATIONS.load(Ordering::SeqCst) - before
}

/// Allocations of the engine's own crate per run, all three models together.
fn in_engine(engine: &'static dyn Backend, cache: &Path) -> u64 {
    let mut models: Vec<_> =
        std::fs::read_dir(cache.join("models")).unwrap().map(|e| e.unwrap().path()).collect();
    models.retain(|file| file.extension().is_some_and(|end| end == "onnx"));
    assert_eq!(models.len(), 3);
    let per_run = models.iter().map(|model| {
        let name = model.file_name().unwrap().to_string_lossy().into_owned();
        let size = [("tf-cls", 224, 224), ("tf-det", 240, 320), ("tf-net", 512, 512)];
        let (_, height, width) = size.into_iter().find(|(stem, ..)| name.starts_with(stem)).unwrap();
        let shape = vec![1, 3, height, width];
        let shapes = (engine.name() == "tract").then(|| vec![shape.clone()]);
        let options = LoadOptions { threads: Some(1), shapes, ..LoadOptions::default() };
        let mut session = engine.load(ModelSource::Path(model), &options).unwrap();
        let (inputs, mut outputs) = (vec![golden::input(1, &shape)], Vec::new());
        let mut counts = [0; 4];
        for count in &mut counts {
            let before = ALLOCATIONS.load(Ordering::SeqCst);
            session.run_into(&inputs, &mut outputs).unwrap();
            *count = ALLOCATIONS.load(Ordering::SeqCst) - before;
        }
        assert_eq!(counts[2], counts[3], "{name}: the engine does not come to rest");
        counts[3]
    });
    per_run.sum()
}

/// Allocations of ours in so many frames.
fn ours(engine: &'static dyn Backend, cache: &Path, few: usize, many: usize) -> i64 {
    let engines_own = in_engine(engine, cache);
    let first = in_pipeline(engine, cache, few);
    let all = in_pipeline(engine, cache, many);
    let frames = (many - few) as i64;
    let ours = all as i64 - first as i64 - frames * engines_own as i64;
    println!("{}: {engines_own} of the engine per frame, {ours} of ours in {frames} frames", engine.name());
    ours
}

#[test]
fn a_frame_costs_no_allocation_of_ours() {
    let cache = tempfile::tempdir().unwrap();
    for engine in engines() {
        let tract = engine.name() == "tract";
        let (few, many) = if tract { (8, 20) } else { (20, 120) };
        in_pipeline(engine, cache.path(), few);
        // ONNX Runtime's crate allocates the same in every run: now and then a buffer of ours may grow, no more. tract's
        // 1400 a frame differ by some from one loaded session to the next (its hash maps are seeded at random), so the
        // best of three is taken, and less than one a frame.
        let (attempts, most) =
            if tract { (3, (many - few) as i64 - 1) } else { (1, (many - few) as i64 / 4) };
        let good = (0..attempts).any(|_| ours(engine, cache.path(), few, many).abs() <= most);
        assert!(good, "{}: more than {most} allocations of ours in {} frames", engine.name(), many - few);
    }
}
