//! `tapetum bench` as a user meets it: one configuration, and engines × precisions × threads beside each other.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use tapetum_runtime::backend;

/// A cache, and a pipeline of one classifier.
struct Place {
    folder: tempfile::TempDir,
    pipeline: String,
}

const FRAMES: &str = "synthetic:eye?frames=12&size=160x120";

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo");
        let text = format!(
            "[pipeline]\nname = \"state\"\n\n[model.classifier]\ncheckpoint = {:?}\ncontract = {:?}\n\n\
             [[stage]]\nname = \"state\"\nkind = \"classify\"\nmodel = \"classifier\"\n",
            demo.join("tf-cls.pt"),
            demo.join("tf-cls.contract.toml")
        );
        let pipeline = folder.path().join("state.toml");
        std::fs::write(&pipeline, text).unwrap();
        let pipeline = pipeline.to_string_lossy().into_owned();
        Self { folder, pipeline }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tapetum"));
        command.args(["bench", &self.pipeline, "--source", FRAMES]).args(args);
        command.env("TAPETUM_CACHE", self.folder.path().join("cache"));
        command
    }

    fn bench(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("the program starts")
    }

    /// Compared, with everything written.
    fn compared(&self, args: &[&str]) -> (Value, PathBuf) {
        let out = self.folder.path().join("out");
        let folder = out.to_string_lossy().into_owned();
        let common = ["--samples", "8", "--rounds", "5", "--runs", "2", "--out", &folder, "--json"];
        let done = self.bench(&[args, &common[..]].concat());
        assert!(done.status.success(), "{}", said(&done));
        let told: Value = serde_json::from_slice(&done.stdout).expect("one JSON object");
        let kept: Value = serde_json::from_slice(&std::fs::read(out.join("bench.json")).unwrap()).unwrap();
        assert_eq!(told, kept);
        (told, out)
    }
}

fn said(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

#[test]
fn precisions_and_threads_are_compared_beside_each_other() {
    let place = Place::new();
    let (told, out) = place.compared(&["--engines", "tract", "--thread-counts", "2,1"]);
    assert_eq!(told["version"], 1);
    let model = &told["models"][0];
    // Half of the eight inputs that were kept.
    assert_eq!(
        (&model["name"], &model["runs"], &model["judged"]),
        (&json!("classifier"), &json!(12), &json!(4))
    );
    let rows = model["rows"].as_array().unwrap();
    let seen: Vec<(&str, u64)> =
        rows.iter().map(|r| (r["precision"].as_str().unwrap(), r["threads"].as_u64().unwrap())).collect();
    assert_eq!(seen, [("fp32", 1), ("fp32", 2), ("int8", 1), ("int8", 2)], "{told}");
    for row in rows {
        let ms = |key: &str| row[key].as_f64().unwrap();
        assert!(0.0 < ms("ms_median") && ms("ms_median") <= ms("ms_p99") * 1.001, "{row}");
        assert!(ms("ms_p90") <= ms("ms_p99") && ms("ms_p99") <= ms("ms_max") * 1.001, "{row}");
        assert_eq!((&row["rounds"], &row["figures"][0]["metric"]), (&json!(5), &json!("top-1 agreement")));
        // As much as the model has to compute, in the time that it took.
        let gflops = 2.0 * model["macs"].as_f64().unwrap() / ms("ms_median") / 1e6;
        assert!((row["gflops"].as_f64().unwrap() - gflops).abs() < 1e-6 * gflops, "{row}");
        let peaks = told["peaks"].as_array().unwrap();
        let peak = peaks.iter().find(|p| p["threads"] == row["threads"]).unwrap();
        let share = gflops / peak["gflops"].as_f64().unwrap();
        assert!((row["peak_share"].as_f64().unwrap() - share).abs() < 1e-6 * share, "{row}");
        if cfg!(target_os = "linux") {
            assert!(row["memory_bytes"].is_u64(), "{row}");
        }
    }
    let rates = told["rates"].as_array().unwrap();
    assert_eq!(rates.iter().map(|r| r["threads"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2]);
    assert!(rates.iter().all(|r| r["fps"].as_array().unwrap().len() == 2), "{told}");

    let read = |name: &str| std::fs::read_to_string(out.join(name)).unwrap();
    let (text, picture) = (read("bench.md"), read("bench.svg"));
    assert_eq!(text.lines().filter(|l| l.starts_with("| tract | int8 |")).count(), 2, "{text}");
    assert!(picture.starts_with("<svg ") && picture.contains("tract int8, 2 threads<"), "{picture}");
    let mut names: Vec<_> = std::fs::read_dir(&out).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["bench.json", "bench.md", "bench.svg"]);
    // Nothing of it is a tuning: a run chooses by nothing that was not asked for.
    assert!(!place.folder.path().join("cache/tuned").exists());
}

#[test]
fn what_the_gate_refuses_is_shown_with_its_figure_and_only_what_was_asked_for_is_measured() {
    let place = Place::new();
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo");
    // Boxes of int8 are never all the very same.
    let text = format!(
        "[pipeline]\nname = \"rings\"\n\n[model.localizer]\ncheckpoint = {:?}\ncontract = {:?}\ngate = 1.0\n\n\
         [[stage]]\nname = \"rings\"\nkind = \"detect\"\nmodel = \"localizer\"\n",
        demo.join("tf-det.pt"),
        demo.join("tf-det.contract.toml")
    );
    std::fs::write(&place.pipeline, text).unwrap();
    let (told, out) = place.compared(&["--engines", "tract", "--precisions", "int8", "--thread-counts", "1"]);
    let rows = told["models"][0]["rows"].as_array().unwrap();
    assert_eq!((rows.len(), &rows[0]["precision"], &rows[0]["passed"]), (1, &json!("int8"), &json!(false)));
    let why = rows[0]["why_not"].as_str().unwrap();
    assert!(why.contains("box IoU 0.") && why.contains("(gate 1)"), "{why}");
    let read = |name: &str| std::fs::read_to_string(out.join(name)).unwrap();
    assert!(read("bench.md").contains("| not run: ") && read("bench.svg").contains("not run: "));
}

#[test]
fn what_does_not_go_together_is_refused_before_anything_is_measured() {
    let place = Place::new();
    for (args, words) in [
        (&["--out", "x"][..], "--engines"),
        (&["--precisions", "int8"], "--engines"),
        (&["--engines", "all", "--engine", "tract"], "--engine"),
        (&["--engines", "tract", "--threads", "2"], "--threads"),
        (&["--engines", "tract,tensorflow"], "tensorflow"),
        (&["--engines", "tract", "--precisions", "int4"], "int4"),
        (&["--engines", "tract", "--thread-counts", "0"], "0"),
    ] {
        let out = place.bench(args);
        assert_eq!(out.status.code(), Some(2), "{args:?}: {}", said(&out));
        assert!(said(&out).contains(words), "{args:?}: {}", said(&out));
    }
    assert!(!place.folder.path().join("cache").exists());
}

#[cfg(unix)]
#[test]
fn interrupted_it_says_so_and_writes_nothing() {
    let place = Place::new();
    let out = place.folder.path().join("out");
    let folder = out.to_string_lossy().into_owned();
    let args = ["--engines", "tract", "--rounds", "10000", "--out", &folder];
    let mut command = place.command(&args);
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let child = command.spawn().unwrap();
    // Once the int8 file is there, the rest takes long enough.
    let models = place.folder.path().join("cache/models");
    let begun = std::time::Instant::now();
    let made = || {
        let names = std::fs::read_dir(&models).into_iter().flatten().flatten();
        let made = |name: &str| name.contains("-int8-") && name.ends_with(".onnx");
        names.filter(|e| made(&e.file_name().to_string_lossy())).count() > 0
    };
    while !made() {
        assert!(begun.elapsed().as_secs() < 120, "nothing was made");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    // SAFETY: sends a signal to a child that was not waited for, so its number is still its own.
    assert_eq!(unsafe { libc::kill(child.id() as i32, libc::SIGINT) }, 0);
    let done = child.wait_with_output().unwrap();
    assert_eq!(done.status.code(), Some(1), "{}", said(&done));
    assert!(said(&done).contains("interrupted: nothing was kept of what was measured"), "{}", said(&done));
    assert!(!out.exists(), "something was written");
}

#[test]
fn every_engine_is_told_also_those_that_cannot_run() {
    if tapetum_parts::there("ort", backend::by_name("ort").unwrap().find()).is_none() {
        return;
    }
    let place = Place::new();
    let (told, _) = place.compared(&["--engines", "all", "--precisions", "fp32", "--thread-counts", "1"]);
    let engines: Vec<&str> =
        told["engines"].as_array().unwrap().iter().map(|e| e["engine"].as_str().unwrap()).collect();
    let all: Vec<&str> = backend::BACKENDS.iter().rev().map(|b| b.name()).collect();
    assert_eq!(engines, all);
    let timed = |list: &Value, key: &str| -> Vec<String> {
        let run = list.as_array().unwrap().iter().filter(|r| !r[key].is_null() && r[key] != json!([]));
        run.map(|r| r["engine"].as_str().unwrap().to_owned()).collect()
    };
    for list in [
        timed(&told["models"][0]["rows"], "ms_median"),
        timed(&told["peaks"], "gflops"),
        timed(&told["rates"], "fps"),
    ] {
        assert!(list.iter().any(|e| e == "ort") && list.iter().any(|e| e == "tract"), "{told}");
    }
}

#[test]
fn one_configuration_tells_its_stages() {
    let place = Place::new();
    let out = place.bench(&["--engine", "tract", "--runs", "2", "--json"]);
    assert!(out.status.success(), "{}", said(&out));
    let told: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(told["fps"].as_array().unwrap().len(), 2);
    assert_eq!(told["stages"]["state"]["runs"], 24);
    assert_eq!(told["models"]["state"]["engine"], "tract/fp32");
}
