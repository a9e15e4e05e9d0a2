//! Real engines that fail while they run: what is restarted, what takes over, and that all of it is told.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use serde_json::Value;
use tapetum::assemble::{Options, assemble};
use tapetum::config::{Choice, PipelineFile};
use tapetum::executor::{Outcome, Run, run};
use tapetum::{sink, source};
use tapetum_models::graph::{Attr, Builder, Dim, Graph};
use tapetum_models::onnx;
use tapetum_runtime::clock::Simulated;
use tapetum_runtime::{DType, Tensor};
use tapetum_tests::goldens::engines;

const SIZE: usize = 8;

/// A graph from the picture's mean, `[1]`, 0 for black and 3.5 for white, to `[1, 4]`.
fn from_mean(make: impl Fn(&mut Builder, &str) -> String) -> Graph {
    let mut b = Builder::new("picky");
    let x = b.input("image", [1, 3, SIZE, SIZE].map(Dim::Fixed).to_vec());
    let axes = ("axes", Attr::Ints(vec![1, 2, 3]));
    let mean = b.op("ReduceMean", "mean", &[&x], &[axes, ("keepdims", Attr::Int(0))]);
    let factor = b.float(3.5);
    let scaled = b.binary("Mul", "scaled", &mean, &factor);
    let y = make(&mut b, &scaled);
    // Left open: ONNX Runtime takes an output's extents at their word and would not compute them.
    b.output("y", &y, vec![Dim::symbol("n"), Dim::symbol("m")]);
    b.finish().unwrap()
}

/// Fails on white pictures by an index out of range, on tract.
fn gather() -> Graph {
    from_mean(|b, mean| {
        let table = b.param("table", Tensor::new(&[3, 4], vec![0.5f32; 12]).unwrap());
        let row = b.cast("row", mean, DType::I32);
        b.op("Gather", "found", &[&table, &row], &[("axis", Attr::Int(0))])
    })
}

/// Fails on white pictures by two shapes that do not go together, on ONNX Runtime.
fn add() -> Graph {
    from_mean(|b, mean| {
        let values = b.param("values", Tensor::new(&[1, 4], vec![0.5f32; 4]).unwrap());
        let row = b.cast("row", mean, DType::I64);
        let three = b.ints(&[3]);
        let one = b.ints(&[1]);
        let four = b.ints(&[4]);
        let wrong = b.binary("Div", "wrong", &row, &three);
        let columns = b.binary("Add", "columns", &wrong, &four);
        let shape = b.concat("shape", &[&one, &columns], 0);
        let zeros = b.op("ConstantOfShape", "zeros", &[&shape], &[]);
        b.binary("Add", "found", &values, &zeros)
    })
}

/// Fails on every picture, by an index that is always out of range.
fn never() -> Graph {
    from_mean(|b, mean| {
        let table = b.param("table", Tensor::new(&[3, 4], vec![0.5f32; 12]).unwrap());
        let row = b.cast("row", mean, DType::I32);
        let three = b.param("three", Tensor::vector(vec![3i32]));
        let beyond = b.binary("Add", "beyond", &row, &three);
        b.op("Gather", "found", &[&table, &beyond], &[("axis", Attr::Int(0))])
    })
}

/// Runs `graph` on one picture per letter, `w` white and `g` grey, one second apart, with one worker.
fn play(graph: &Graph, engines: &[&str], pictures: &str, folder: &Path) -> (Outcome, Vec<Value>, Value) {
    let model = folder.join("picky.onnx");
    onnx::write(graph, &mut std::fs::File::create(&model).unwrap()).unwrap();
    let contract = "[output.y]\nkind = { embedding = { dim = 4, metric = \"cosine\" } }\n";
    std::fs::write(folder.join("picky.toml"), contract).unwrap();
    let text = "[pipeline]\nname = \"picky\"\n[model.picky]\nfile = \"picky.onnx\"\ncontract = \"picky.toml\"\n\
                [[stage]]\nname = \"look\"\nkind = \"embed\"\nmodel = \"picky\"\n";
    let file = PipelineFile::parse(text.to_owned(), &folder.join("pipeline.toml")).unwrap();
    let frames = folder.join("frames");
    std::fs::create_dir(&frames).unwrap();
    for (n, letter) in pictures.chars().enumerate() {
        let grey = image::GrayImage::from_pixel(16, 16, image::Luma([if letter == 'w' { 255 } else { 100 }]));
        grey.save(frames.join(format!("{n:04}.png"))).unwrap();
    }
    let names = engines.iter().map(|e| (*e).to_owned()).collect();
    let options = Options {
        engine: Some(Choice::FirstOf(names)),
        workers: Some(1),
        threads: Some(1),
        ..Options::default()
    };
    let pipeline = assemble(&file, &options, "frames", false, &mut |_| {}).unwrap();
    let clock = Simulated::default();
    let mut told = 0;
    let outcome = run(
        &pipeline,
        Run {
            source: source::open(&frames.to_string_lossy()).unwrap(),
            sinks: vec![sink::open("jsonl", folder, &pipeline.info).unwrap()],
            clock: &clock,
            stop: &AtomicBool::new(false),
            watch: &mut |item, _| {
                told += item.engine_events.len();
                clock.advance(Duration::from_secs(1));
            },
        },
    );
    assert!(outcome.source_error.is_none() && outcome.sink_errors.is_empty());
    assert_eq!(told, outcome.summary.engine_faults[0].events.len());
    let lines = std::fs::read_to_string(folder.join("results.jsonl")).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), pictures.len());
    let summary = std::fs::read(folder.join("summary.json")).unwrap();
    (outcome, lines, serde_json::from_slice(&summary).unwrap())
}

#[test]
fn a_frame_on_which_the_session_fails_costs_that_frame_alone() {
    for engine in engines() {
        let graph = match engine.name() {
            "tract" => gather(),
            "ort:openvino" => {
                // It gives something for an index out of range and for shapes that do not go together.
                tapetum_parts::missing("a failing session of ort:openvino", "it computes on");
                continue;
            }
            _ => add(),
        };
        let folder = tempfile::tempdir().unwrap();
        let pictures = "gwgggwwgwgggggg";
        let (outcome, lines, summary) = play(&graph, &[engine.name()], pictures, folder.path());
        for (letter, line) in pictures.chars().zip(&lines) {
            assert_eq!(line["status"] == "failed", letter == 'w', "{}: {line}", engine.name());
        }
        assert_eq!(outcome.summary.frames.failed["look"], 4);
        let faults = &summary["engine_faults"]["look"];
        assert!((1..=3).contains(&faults["restarts"].as_u64().unwrap()), "{faults}");
        let first = &faults["events"][0];
        assert_eq!((&first["frame"], &first["change"]), (&1.into(), &"restarted".into()));
        assert_eq!(first["engine"], lines[0]["engine"]["look"]);
        assert!(first["why"].as_str().unwrap().contains("running"), "{first}");
    }
}

#[test]
fn the_next_engine_of_the_list_takes_over() {
    if !engines().iter().any(|engine| engine.name() == "ort") {
        return; // said by `engines`
    }
    let folder = tempfile::tempdir().unwrap();
    // White for so long that tract's restarts are used up; then grey, which either engine could run.
    let pictures = "gwwwwwwwwwwwwggggggg";
    let (_, lines, summary) = play(&gather(), &["tract", "ort"], pictures, folder.path());
    let faults = &summary["engine_faults"]["look"];
    assert_eq!(faults["restarts"], 3, "{faults}");
    let last = faults["events"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["change"], &last["engine"]), (&"took over".into(), &"ort:cpu/fp32".into()));
    assert!(last["why"].as_str().unwrap().contains("tract panicked running"), "{last}");
    // What runs it now, beside what ran it at the start.
    assert!(last["engine_version"].as_str().unwrap().starts_with("onnxruntime "), "{last}");
    let nodes = last["nodes"].as_object().unwrap();
    assert!(nodes.len() == 1 && nodes["cpu"].as_u64().unwrap() > 0, "{last}");
    assert!(summary["models"]["look"]["engine_version"].as_str().unwrap().starts_with("tract "), "{summary}");
    assert!(faults["events"][0].get("nodes").is_none(), "{faults}");
    let at = last["frame"].as_u64().unwrap() as usize;
    // Restarts wait until 1 and 5 seconds have passed; the clock moves when a frame is delivered, some frames after it began.
    assert!((5..=12).contains(&at), "{last}");
    for (n, (letter, line)) in pictures.chars().zip(&lines).enumerate() {
        let engine = if n < at { "tract/fp32" } else { "ort:cpu/fp32" };
        assert_eq!(line["engine"]["look"], engine, "frame {n}");
        assert_eq!(line["status"] == "failed", letter == 'w', "frame {n}: {line}");
    }
}

#[test]
fn without_a_list_frames_fail_quickly_and_the_run_ends_with_its_account() {
    let folder = tempfile::tempdir().unwrap();
    let (outcome, lines, summary) = play(&never(), &["tract"], &"g".repeat(40), folder.path());
    assert!(lines.iter().all(|line| line["status"] == "failed" && line["engine"]["look"] == "tract/fp32"));
    assert_eq!(outcome.summary.frames.failed["look"], 40);
    let last = summary["engine_faults"]["look"]["events"].as_array().unwrap().last().unwrap();
    assert_eq!(last["change"], "given up");
    let why = lines[39]["error"]["message"].as_str().unwrap();
    assert!(why.contains("tract/fp32 does not run") && why.contains("tract panicked running"), "{why}");
}
