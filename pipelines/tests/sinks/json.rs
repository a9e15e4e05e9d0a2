//! `results.jsonl` and `summary.json`.

use std::time::Duration;

use serde_json::{Value, json};
use tapetum::{SlotState, Summary, sink};
use tapetum_runtime::{
    ErrorKind, Image, PixelFormat, Rect,
    finding::{Embeddings, Finding, Restored},
};

use crate::{
    fabricate::{self, BROKEN, CLEAR, CLOSED},
    schema::faults,
};

fn schema(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn assert_valid(schema: &Value, value: &Value) {
    let faults = faults(schema, schema, value, "");
    assert!(faults.is_empty(), "{faults:#?}\n{value:#}");
}

fn lines(text: &str) -> Vec<Value> {
    assert!(text.ends_with('\n'));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn lines_and_summary_are_as_the_schemas_say() {
    let dir = tempfile::tempdir().unwrap();
    let sinks = ["jsonl", "masks"];
    let run = fabricate::run(&sinks);
    fabricate::play(&sinks, dir.path(), &run, &fabricate::items(), &fabricate::summary());

    let line_schema = schema(include_str!("../../schema/results.schema.json"));
    let lines = lines(&fabricate::text(dir.path(), "results.jsonl"));
    assert_eq!(lines.len(), 60);
    lines.iter().for_each(|line| assert_valid(&line_schema, line));

    let line = &lines[30];
    assert_eq!(line["seq"], 30);
    assert_eq!(line["pts_s"], 3.0);
    assert_eq!(line["captured"], "2023-11-14T22:13:23Z");
    assert_eq!(line["source"], run.source);
    assert_eq!(line["size"], json!([160, 120]));
    assert_eq!(line["status"], "ok");
    assert_eq!(line["findings"]["state"]["class"], "broken");
    assert_eq!(line["findings"]["state"]["prob"], 0.97);
    assert_eq!(line["findings"]["state"]["probs"]["clear"], 0.01);
    assert_eq!(line["findings"]["rings"]["boxes"][0]["label"], "outside");
    assert_eq!(line["findings"]["rings"]["boxes"][0]["xyxy"], json!([30, 20, 130.25, 100]));
    assert_eq!(line["findings"]["tfbu"]["mask"], "masks/000030.png");
    assert!(dir.path().join("masks/000030.png").is_file());
    assert_eq!(line["findings"]["tfbu"]["area_px"], json!({"tfbu": 305}));
    assert_eq!(line["findings"]["tfbu"]["crop"], json!([30, 20, 130, 100]));
    assert_eq!(line["findings"]["but"]["measure"], json!({"since_clear_s": 0.1, "but_s": null}));
    assert_eq!(line["latency_ms"]["state"], 4.321);
    assert_eq!(line["latency_ms"]["total"], 12.345);
    assert_eq!(
        line["engine"],
        json!({"state": "ort:cpu/fp32", "rings": "ort:cpu/fp32", "tfbu": "ort:cpu/fp32"})
    );
    assert_eq!(line["models"]["tfbu"], "ab".repeat(32));
    assert_eq!(lines[0]["findings"]["rings"], json!({"skipped": "when"}));

    let failed = &lines[13];
    assert_eq!(failed["status"], "failed");
    assert_eq!(
        failed["error"],
        json!({"stage": "rings", "message": "engine said \"no\"\n<b>twice</b>\u{1}"})
    );
    assert_eq!(failed["findings"].as_object().unwrap().keys().collect::<Vec<_>>(), ["state"]);

    assert_eq!(
        failed["engine"],
        json!({"state": "ort:cpu/fp32", "rings": "tract/fp32", "tfbu": "ort:cpu/fp32"})
    );

    let summary: Value = serde_json::from_str(&fabricate::text(dir.path(), "summary.json")).unwrap();
    assert_valid(&schema(include_str!("../../schema/summary.schema.json")), &summary);
    let change = json!({"frame": 13, "change": "took over", "engine": "tract/fp32", "why": "the \"device\" was lost",
                        "engine_version": "tract 0.23.9", "nodes": {"tract": 71}});
    assert_eq!(summary["engine_faults"], json!({"rings": {"restarts": 3, "events": [change]}}));
    assert_eq!(summary["frames"]["dropped"]["stale"], 3);
    assert_eq!(summary["fps"], 9.833);
    assert_eq!(summary["stages"]["tfbu"]["p50_ms"], Value::Null);
    assert_eq!(summary["stages"]["state"]["runs"], 60);
    assert_eq!(summary["break_up_time"]["mean_but_s"], 2);
    assert_eq!(summary["break_up_time"]["intervals"][1]["but_s"], Value::Null);
    assert!(!dir.path().join("summary.json.part").exists());
}

#[test]
fn what_a_run_without_frames_came_to_is_valid_too() {
    let dir = tempfile::tempdir().unwrap();
    let run = fabricate::run(&["jsonl"]);
    fabricate::play(&["jsonl"], dir.path(), &run, &[], &Summary::default());
    assert_eq!(fabricate::text(dir.path(), "results.jsonl"), "");
    let summary: Value = serde_json::from_str(&fabricate::text(dir.path(), "summary.json")).unwrap();
    assert_valid(&schema(include_str!("../../schema/summary.schema.json")), &summary);
    assert_eq!(summary["fps"], Value::Null);
}

#[test]
fn without_the_masks_sink_no_line_points_to_a_mask() {
    let dir = tempfile::tempdir().unwrap();
    let run = fabricate::run(&["jsonl"]);
    fabricate::play(&["jsonl"], dir.path(), &run, &[fabricate::item(0, BROKEN, 9)], &fabricate::summary());
    let lines = lines(&fabricate::text(dir.path(), "results.jsonl"));
    assert_eq!(lines[0]["findings"]["tfbu"]["mask"], Value::Null);
    assert_eq!(lines[0]["findings"]["tfbu"]["area_px"]["tfbu"], 249);
}

#[test]
fn reused_findings_say_their_age_and_odd_values_stay_json() {
    let dir = tempfile::tempdir().unwrap();
    let run = fabricate::run(&["jsonl"]);
    let mut item = fabricate::item(7, CLEAR, 0);
    item.frame.captured = None;
    let Finding::Class(class) = &mut item.slots[0].finding else { unreachable!() };
    class.probs[0] = f32::NAN;
    class.label = 9;
    item.slots[0].state = SlotState::Reused { age: Duration::from_millis(250) };
    let Finding::Boxes(boxes) = &mut item.slots[1].finding else { unreachable!() };
    boxes.0[0].xyxy[2] = f32::INFINITY;
    boxes.0[0].label = 77;
    item.slots[2].state = SlotState::Done;
    item.slots[2].finding = Finding::Image(Restored {
        image: Image::new(1, 1, PixelFormat::Rgb8, vec![1, 2, 3]).unwrap(),
        ..Restored::default()
    });
    item.slots[3].finding = Finding::Embeddings(Embeddings {
        dim: 2,
        rects: vec![Rect { x: 1, y: 2, width: 3, height: 4 }],
        values: vec![0.5, f32::NEG_INFINITY],
    });
    fabricate::play(&["jsonl"], dir.path(), &run, &[item], &fabricate::summary());
    let line = &lines(&fabricate::text(dir.path(), "results.jsonl"))[0];
    assert_valid(&schema(include_str!("../../schema/results.schema.json")), line);
    assert_eq!(line["status"], "reused");
    assert_eq!(line["captured"], Value::Null);
    assert_eq!(line["findings"]["state"]["age_s"], 0.25);
    assert_eq!(line["findings"]["state"]["class"], "#9");
    assert_eq!(line["findings"]["state"]["prob"], Value::Null);
    assert_eq!(line["findings"]["state"]["probs"]["clear"], Value::Null);
    assert_eq!(line["findings"]["rings"]["boxes"][0]["label"], "#77");
    assert_eq!(line["findings"]["rings"]["boxes"][0]["xyxy"][2], Value::Null);
    let tiles = json!({"run": 0, "sharp": 0, "still": 0, "reused": 0});
    assert_eq!(line["findings"]["tfbu"], json!({"image": null, "size": [1, 1], "tiles": tiles}));
    assert_eq!(line["findings"]["but"], json!({"embedding": [0.5, null], "dim": 2, "rects": [[1, 2, 4, 6]]}));
    assert!(line["latency_ms"].get("state").is_none(), "a reused finding took no time on this frame");
}

#[test]
fn a_folder_that_went_away_is_named_in_the_error() {
    let dir = tempfile::tempdir().unwrap();
    let run = fabricate::run(&["jsonl", "masks"]);
    let out = dir.path().join("out");
    std::fs::create_dir(&out).unwrap();
    let mut sinks = fabricate::open(&["jsonl", "masks"], &out, &run);
    std::fs::remove_dir_all(&out).unwrap();
    let e = sinks[0].finish(&run, &fabricate::summary()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Environment);
    assert!(e.to_string().contains("summary.json"), "{e}");
    let e = sinks[1].deliver(&fabricate::item(3, BROKEN, 9), &run).unwrap_err();
    assert!(e.to_string().contains("000003.png"), "{e}");
    assert!(sinks[1].deliver(&fabricate::item(4, CLOSED, 0), &run).is_ok(), "nothing to write");
    let mut restoring = run.clone();
    restoring.stages[0].kind = "restore";
    for kind in sink::SINKS {
        let e = (kind.open)(&out.join("not/there\0"), &restoring).err();
        assert!(e.is_none_or(|e| e.kind() == ErrorKind::Environment), "{}", kind.name);
    }
    let e = sink::open("jsnl", &out, &run).err().unwrap();
    assert!(e.to_string().contains("jsonl"), "{e}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error_that_names_the_file() {
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/dev/full", dir.path().join("results.jsonl")).unwrap();
    let run = fabricate::run(&["jsonl"]);
    let mut sink = sink::open("jsonl", dir.path(), &run).unwrap();
    let e = sink.deliver(&fabricate::item(0, CLEAR, 0), &run).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Environment);
    assert!(e.to_string().contains("results.jsonl"), "{e}");
}
