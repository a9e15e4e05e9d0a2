//! Precision and engine left to `tapetum tune`, as a user meets it: measured, gone by, and never silently not gone by.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tapetum::{
    Decision,
    assemble::{Options, assemble},
    config::{Choice, PipelineFile},
    flow::Policy,
    hub::{Hub, Limits},
};
use tapetum_runtime::{backend, clock::Monotonic};

/// A cache, a pipeline of one classifier, and where results go.
struct Place {
    folder: tempfile::TempDir,
    pipeline: PathBuf,
}

const FRAMES: &str = "synthetic:eye?frames=24&size=160x120";

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo");
        let text = format!(
            "[pipeline]\nname = \"state\"\nprecision = \"auto\"\n\n[model.classifier]\ncheckpoint = {:?}\ncontract = {:?}\n\n\
             [[stage]]\nname = \"state\"\nkind = \"classify\"\nmodel = \"classifier\"\n",
            demo.join("tf-cls.pt"),
            demo.join("tf-cls.contract.toml")
        );
        let pipeline = folder.path().join("state.toml");
        std::fs::write(&pipeline, text).unwrap();
        Self { folder, pipeline }
    }

    fn tapetum(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tapetum"));
        command.args(args).env("TAPETUM_CACHE", self.folder.path().join("cache"));
        command.output().expect("the program starts")
    }

    /// Tunes for `engine`; the figures and their file.
    fn tune(&self, engine: &str) -> (Value, PathBuf) {
        let pipeline = self.pipeline.to_string_lossy().into_owned();
        let options =
            ["--calibrate", FRAMES, "--engine", engine, "--samples", "16", "--rounds", "3", "--json"];
        let out = self.tapetum(&[&["tune", &pipeline], &options[..]].concat());
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let told: Value = serde_json::from_slice(&out.stdout).expect("one JSON object");
        (told["tuned"].clone(), PathBuf::from(told["file"].as_str().unwrap()))
    }

    /// Calls what a run that is untuned for the reason `why` says is to be called.
    fn follow(&self, why: &str) {
        let (_, command) = why.split_once("to measure: tapetum ").expect("a command");
        let words = command.lines().next().unwrap_or_default().split(' ');
        let args: Vec<&str> = words.map(|word| if word == "SRC" { FRAMES } else { word }).collect();
        let out = self.tapetum(&[&args, &["--samples", "8", "--rounds", "2"][..]].concat());
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    }

    /// Why it runs as it does in a daemon whose models get so many threads.
    fn decision(&self, threads: usize) -> Decision {
        let limits = Limits { runs: 1, threads, batch: 1, wait: Duration::ZERO };
        let options = Options {
            hub: Some(Hub::new(limits, Arc::new(Monotonic::start()))),
            workers: Some(1),
            queue: Some(Policy::Latest),
            usual: Some(Choice::FirstOf(["tract", "ort"].map(str::to_owned).to_vec())),
            cache: Some(self.folder.path().join("cache")),
            ..Options::default()
        };
        let file = PipelineFile::read(&self.pipeline).unwrap();
        let pipeline = assemble(&file, &options, "camera", true, &mut |_| {}).unwrap();
        pipeline.info.stages[0].model.as_ref().unwrap().decision.clone().unwrap()
    }

    /// What a run on `engine` shows at its start, what stands in its summary about the model, and a frame's engine.
    fn run(&self, engine: &str, more: &[&str]) -> (String, Value, String) {
        let (pipeline, out) = (self.pipeline.to_string_lossy(), self.folder.path().join("out"));
        let args = ["run", &pipeline, "--source", "synthetic:eye?frames=3&size=96x96", "--engine", engine];
        let said = self.tapetum(&[&args[..], &["--out", &out.to_string_lossy()], more].concat());
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
        let read = |name: &str| std::fs::read_to_string(out.join(name)).unwrap();
        let summary: Value = serde_json::from_str(&read("summary.json")).unwrap();
        let frame: Value = serde_json::from_str(read("results.jsonl").lines().next().unwrap()).unwrap();
        let engine = frame["engine"]["state"].as_str().unwrap().to_owned();
        (String::from_utf8_lossy(&said.stdout).into_owned(), summary["models"]["state"].clone(), engine)
    }

    /// What `warm` did with each model on tract, and why no tuning holds.
    fn warm(&self, more: &[&str]) -> (Vec<Value>, Value) {
        let pipeline = self.pipeline.to_string_lossy();
        let out = self.tapetum(&[&["warm", &pipeline, "--engine", "tract", "--json"], more].concat());
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let told: Value = serde_json::from_slice(&out.stdout).unwrap();
        (told["models"].as_array().unwrap().clone(), told["untuned"].clone())
    }

    /// Says everywhere that it runs untuned, for the reason `why`.
    fn is_untuned(&self, engine: &str, more: &[&str], why: &str) {
        let (shown, model, in_results) = self.run(engine, more);
        assert!(in_results.ends_with("/fp32 (untuned)"), "{in_results}");
        assert_eq!(model["engine"], in_results);
        assert_eq!(model["decision"]["tuned"], Value::Null);
        for told in [&shown, model["decision"]["why"].as_str().unwrap()] {
            assert!(told.contains(why), "{told}");
            assert!(
                told.contains("to measure: tapetum tune ") && told.contains("state.toml --calibrate"),
                "{told}"
            );
        }
    }
}

fn write(path: &Path, value: &Value) {
    std::fs::write(path, serde_json::to_vec(value).unwrap()).unwrap();
}

#[test]
fn a_tuning_is_measured_gone_by_and_left_where_something_else_would_run() {
    let place = Place::new();
    place.is_untuned("tract", &[], "nothing is recorded for pipeline \"state\"");
    let (warmed, untuned) = place.warm(&[]);
    assert_eq!(warmed[0]["engine"], "tract/fp32");
    assert_eq!(untuned, "nothing is recorded for pipeline \"state\"");

    let (tuned, file) = place.tune("tract");
    let model = &tuned["models"][0];
    assert_eq!((&model["runs"], &model["judged"]), (&json!(24), &json!(8)), "{tuned}");
    let candidates = model["candidates"].as_array().unwrap();
    let of = |precision: &str| candidates.iter().find(|c| c["precision"] == precision).unwrap();
    // fp32 on tract beside the reference: the same classes.
    assert_eq!(of("fp32")["figures"][0]["metric"], "top-1 agreement");
    assert_eq!(of("fp32")["figures"][0]["value"], 1.0);
    assert!(candidates.iter().all(|c| c["engine"] == "tract"), "{tuned}");
    let date = tuned["date"].as_str().unwrap();

    let (shown, ran, in_results) = place.run("tract", &[]);
    let picked = tuned["chosen"]["models"][0]["precision"].as_str().unwrap();
    assert_eq!(in_results, format!("tract/{picked}"));
    assert_eq!(ran["decision"]["tuned"], date);
    assert_eq!(ran["decision"]["fp32_sha256"], model["sha256"]);
    assert!(shown.contains(&format!("chosen by the tuning of {date}")), "{shown}");
    assert!(shown.contains(ran["decision"]["why"].as_str().unwrap()), "{shown}");

    // Told to run fp32, nothing was left to a tuning.
    let (shown, ran, in_results) = place.run("tract", &["--precision", "fp32"]);
    assert_eq!((in_results.as_str(), &ran["decision"]), ("tract/fp32", &Value::Null));
    assert!(!shown.contains("tun"), "{shown}");

    // Whatever the times were: with these int8 is the fastest that passes.
    let int8 = candidates.iter().position(|c| c["precision"] == "int8").unwrap();
    let path = of("int8")["file"]["path"].as_str().unwrap_or_else(|| panic!("no int8 file: {tuned}"));
    let mut faster = tuned.clone();
    faster["models"][0]["candidates"][int8]["ms_median"] = json!(0.001);
    write(&file, &faster);
    let (shown, ran, in_results) = place.run("tract", &[]);
    assert_eq!(in_results, "tract/int8", "{shown}");
    assert_eq!(ran["sha256"], of("int8")["file"]["sha256"]);
    assert!(ran["decision"]["why"].as_str().unwrap().contains("top-1 agreement 1.0000 (gate 0.99)"), "{ran}");

    // What that run chose is what `warm` checks, also with a camera's plan of threads where that is measured.
    let (warmed, untuned) = place.warm(&[]);
    assert_eq!(warmed.iter().map(|m| &m["engine"]).collect::<Vec<_>>(), ["tract/int8"]);
    assert_eq!((&warmed[0]["tuned"], &untuned), (&json!(date), &Value::Null));
    assert!(warmed[0]["golden_error"].is_number(), "{warmed:?}");
    let (warmed, untuned) = place.warm(&["--threads", "7"]);
    assert_eq!(warmed.iter().map(|m| &m["engine"]).collect::<Vec<_>>(), ["tract/fp32"]);
    assert_eq!(warmed[0]["tuned"], Value::Null);
    assert!(untuned.as_str().unwrap().contains("threads then, 7 now"), "{untuned}");
    let (warmed, untuned) = place.warm(&["--precision", "fp32"]);
    assert_eq!((&warmed[0]["engine"], &untuned), (&json!("tract/fp32"), &Value::Null));

    // Another plan of threads, another engine, another model: said, and fp32.
    place.is_untuned("tract", &["--threads", "7"], "threads then, 7 now");
    place.is_untuned("ort,tract", &[], "it did not look at ort");
    let mut other = faster.clone();
    other["models"][0]["sha256"] = json!("00".repeat(32));
    write(&file, &other);
    place.is_untuned("tract", &[], "model \"classifier\" has changed (SHA-256 000000000000… then");
    let mut other = faster.clone();
    other["engines"][0]["engine_version"] = json!("tract 0.0.1");
    write(&file, &other);
    place.is_untuned("tract", &[], "tract was tract 0.0.1 then, it is tract 0.");
    let mut other = faster.clone();
    other["engines"][0]["runs_with"]["instructions"] = json!("abacus");
    write(&file, &other);
    place.is_untuned("tract", &[], "tract: instructions was abacus then, it is ");
    let mut other = faster.clone();
    other["machine"]["cpu"] = json!("Another CPU");
    write(&file, &other);
    place.is_untuned("tract", &[], "measured on another machine (Another CPU");

    // The int8 file is not what was measured any more.
    write(&file, &faster);
    let path = place.folder.path().join("cache").join(path);
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    place.is_untuned("tract", &[], path.file_name().unwrap().to_str().unwrap());
    // The weights are changed, the contract is not.
    let mut changed = whole.clone();
    changed[whole.len() / 2] ^= 1;
    std::fs::write(&path, changed).unwrap();
    place.is_untuned("tract", &[], "is not the file that was measured");
    std::fs::write(&path, whole).unwrap();
    assert_eq!(place.run("tract", &[]).2, "tract/int8");
}

#[test]
fn a_file_in_the_cache_that_is_not_what_was_written_is_said_and_made_anew() {
    let place = Place::new();
    let (tuned, _) = place.tune("tract");
    let models = place.folder.path().join("cache/models");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&models).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|end| end == "onnx"));
    // What was fused, and int8 of it.
    assert_eq!(files.len(), 2, "{files:?}");
    let whole: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).unwrap()).collect();
    let again = || {
        let args = ["--calibrate", FRAMES, "--engine", "tract", "--samples", "16", "--rounds", "3", "--json"];
        let out = place.tapetum(&[&["tune", &place.pipeline.to_string_lossy()], &args[..]].concat());
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.success(), "{said}");
        (serde_json::from_slice::<Value>(&out.stdout).unwrap()["tuned"].clone(), said)
    };
    for (file, whole) in files.iter().zip(&whole) {
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 1;
        std::fs::write(file, flipped).unwrap();
    }
    let (now, said) = again();
    for (file, whole) in files.iter().zip(&whole) {
        let name = file.file_name().unwrap().to_string_lossy();
        assert!(said.contains(&format!("{name} is not what was written (SHA-256 ")), "{said}");
        assert_eq!(&std::fs::read(file).unwrap(), whole, "{name}");
    }
    assert!(said.contains("classifier: ") && said.contains("; made anew"), "{said}");
    assert_eq!(now["models"][0]["sha256"], tuned["models"][0]["sha256"]);
    assert!(!again().1.contains("made anew"));
}

#[test]
fn shared_models_go_by_a_tuning_for_the_threads_of_their_hub() {
    let place = Place::new();
    // As no plan for a source would have it on this machine.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = cores + 1;
    let untuned = place.decision(threads);
    assert_eq!(untuned.tuned, None);
    let told = format!("state.toml --calibrate SRC --workers 1 --threads {threads} --engine tract,ort");
    assert!(untuned.why.ends_with(&told), "{}", untuned.why);
    place.follow(&untuned.why);
    let tuned = place.decision(threads);
    assert!(tuned.tuned.is_some(), "{}", tuned.why);
    // All cores: what one run alone would get.
    let other = place.decision(cores);
    assert_eq!(other.tuned, None);
    let told = format!("model \"classifier\" ran with {threads} threads then, {cores} now");
    assert!(other.why.contains(&told), "{}", other.why);
}

#[test]
fn what_an_untuned_run_says_is_to_be_called_makes_it_a_tuned_one() {
    let place = Place::new();
    let plan = ["--workers", "3", "--threads", "2"];
    let (shown, model, _) = place.run("tract", &plan);
    assert_eq!(model["decision"]["tuned"], Value::Null);
    let (_, why) = shown.split_once("untuned: ").unwrap();
    place.follow(why);
    let (_, model, _) = place.run("tract", &plan);
    assert!(model["decision"]["tuned"].is_string(), "{model}");

    let pipeline = place.pipeline.to_string_lossy();
    let out = place.tapetum(&["warm", &pipeline, "--engine", "tract", "--workers", "4", "--threads", "5"]);
    let shown = String::from_utf8_lossy(&out.stdout).into_owned();
    let (_, why) = shown.split_once("untuned: ").unwrap();
    assert!(why.contains("--workers 4 --threads 5\n"), "{why}");
}

#[test]
fn a_camera_is_recorded_until_ctrl_c_and_what_came_until_then_is_measured() {
    let place = Place::new();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tapetum"));
    command
        .arg("tune")
        .arg(&place.pipeline)
        .args(["--calibrate", "loop:synthetic:eye?frames=24&size=160x120"]);
    command.args(["--engine", "tract", "--samples", "8", "--rounds", "2", "--json"]);
    command.env("TAPETUM_CACHE", place.folder.path().join("cache"));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let begun = lines.any(|line| line.contains("Ctrl-C ends the recording"));
    assert!(begun, "it does not say how to go on");
    std::thread::sleep(Duration::from_secs(2));
    // SAFETY: a plain system call on our own child, which has not been waited for.
    let sent = unsafe { libc::kill(i32::try_from(child.id()).unwrap(), libc::SIGINT) };
    assert_eq!(sent, 0);
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success(), "{}", out.status);
    let told: Value = serde_json::from_slice(&out.stdout).unwrap();
    let model = &told["tuned"]["models"][0];
    assert!(model["runs"].as_u64().unwrap() > 0 && model["judged"].as_u64().unwrap() > 0, "{model}");
    assert!(told["tuned"]["chosen"].is_object(), "{told}");
}

/// Whether ONNX Runtime is there.
fn has_ort() -> bool {
    tapetum_parts::there("ort", backend::by_name("ort").unwrap().find()).is_some()
}

#[test]
fn tf_collab_tuned_on_a_clip_measures_the_same_break_up_time() {
    if !has_ort() {
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (pipeline, clip) = (root.join("tf-collab.toml"), root.join("../tests/clips/dev_c.mp4"));
    let out = tempfile::tempdir().unwrap();
    let tapetum = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tapetum"));
        command.args(args).arg(&pipeline).args(["--engine", "ort"]);
        // Where other tests keep the fused models, too.
        let done = command.env("TAPETUM_CACHE", env!("CARGO_TARGET_TMPDIR")).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        done.stdout
    };
    let clip = clip.to_string_lossy();
    let told = tapetum(&["tune", "--calibrate", &clip, "--samples", "16", "--rounds", "3", "--json"]);
    let tuned = serde_json::from_slice::<Value>(&told).unwrap()["tuned"].clone();
    let metrics: Vec<&str> = tuned["models"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m["candidates"][1]["figures"][0]["metric"].as_str().unwrap())
        .collect();
    assert_eq!(metrics, ["top-1 agreement", "box IoU", "mask IoU"], "{tuned}");

    let folder = out.path().to_string_lossy();
    tapetum(&["run", "--source", &clip, "--precision", "auto", "--out", &folder]);
    let summary: Value =
        serde_json::from_slice(&std::fs::read(out.path().join("summary.json")).unwrap()).unwrap();
    for (stage, model) in ["state", "rings", "tfbu"].iter().zip(tuned["chosen"]["models"].as_array().unwrap())
    {
        let ran = &summary["models"][stage];
        assert_eq!(ran["engine"], format!("ort:cpu/{}", model["precision"].as_str().unwrap()));
        assert_eq!(ran["decision"]["tuned"], tuned["date"]);
    }
    // As in fp32: one interval broke up after 2.23 s, one did not.
    let intervals = summary["break_up_time"]["intervals"].as_array().unwrap();
    assert_eq!(intervals.iter().map(|i| i["but_s"].is_number()).collect::<Vec<_>>(), [false, true]);
    let but = intervals[1]["but_s"].as_f64().unwrap();
    assert!((but - 2.23).abs() < 0.05, "{but}");
}

#[test]
fn auto_considers_every_engine_there_is() {
    if !has_ort() {
        return;
    }
    let place = Place::new();
    let (tuned, file) = place.tune("auto");
    let engines: Vec<&str> =
        tuned["engines"].as_array().unwrap().iter().map(|e| e["engine"].as_str().unwrap()).collect();
    let all: Vec<&str> = backend::BACKENDS.iter().rev().map(|b| b.name()).collect();
    assert_eq!(engines, all, "whatever cannot run is named with its reason");
    let timed = |engine: &str| {
        let candidates = tuned["models"][0]["candidates"].as_array().unwrap().iter();
        candidates.filter(|c| c["engine"] == engine && c["ms_median"].is_number()).count()
    };
    assert!(timed("tract") >= 1 && timed("ort") >= 1, "{tuned}");
    let picked = tuned["chosen"]["engine"].as_str().unwrap();
    let full = backend::by_name(picked).unwrap().full_name();
    let (_, ran, in_results) = place.run("auto", &[]);
    assert!(in_results.starts_with(&format!("{full}/")), "{in_results}, chosen was {picked}");
    assert!(ran["decision"]["tuned"].is_string(), "{ran}");
    // An engine that keeps what it built keeps that of the int8 file, which the run then takes.
    let mut ort = tuned.clone();
    for candidate in ort["models"][0]["candidates"].as_array_mut().unwrap() {
        let fast = candidate["engine"] == "ort" && candidate["precision"] == "int8";
        candidate["ms_median"] = json!(if fast { 0.001 } else { 50.0 });
        candidate["passed"] = json!(true);
        candidate["why_not"] = Value::Null;
    }
    write(&file, &ort);
    let pipeline = place.pipeline.to_string_lossy();
    let out = place.tapetum(&["warm", &pipeline, "--engine", "auto", "--json"]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let told: Value = serde_json::from_slice(&out.stdout).unwrap();
    let warmed = &told["models"][0];
    assert_eq!((&warmed["engine"], &warmed["origin"]), (&json!("ort:cpu/int8"), &json!("built")), "{told}");
    assert_eq!(told["models"].as_array().unwrap().len(), 1);
    let (shown, _, in_results) = place.run("auto", &[]);
    assert!(in_results == "ort:cpu/int8" && shown.contains("from cache"), "{in_results}: {shown}");
    write(&file, &tuned);
    // A run that may use one engine only chooses anew among its figures.
    let (_, ran, in_results) = place.run("tract", &[]);
    assert!(in_results.starts_with("tract/") && ran["decision"]["tuned"].is_string(), "{ran}");
}

#[test]
fn a_model_is_quantized_with_what_it_gets_in_its_pipeline_or_refused_with_the_figure() {
    let place = Place::new();
    let pipeline = place.pipeline.to_string_lossy().into_owned();
    let model = place.folder.path().join("int8.onnx").to_string_lossy().into_owned();
    let common = ["--calibrate", FRAMES, "--samples", "8", "--engine", "tract", "-o", &model];
    let quantize =
        |input: &str, more: &[&str]| place.tapetum(&[&["quantize", input], &common[..], more].concat());

    let out = quantize(&pipeline, &["--model", "clasifier"]);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(2), "{said}");
    assert!(said.contains("no model \"clasifier\"") && said.contains("\"classifier\""), "{said}");
    // No share is above 1.
    let out = quantize(&pipeline, &["--gate", "1.01"]);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(said.contains("top-1 agreement 1.0000 (gate 1.01)"), "{said}");
    assert!(!Path::new(&model).exists());

    let out = quantize(&pipeline, &["--json"]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let told: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!((&told["calibrated"], &told["judged"]), (&json!(4), &json!(4)), "{told}");
    assert_eq!(told["figures"][0]["metric"], "top-1 agreement");
    assert!(told["bytes"].as_u64() < told["bytes_before"].as_u64(), "{told}");
    // What came out is refused as a start, and is a model like any other to a pipeline.
    let out = place.tapetum(&["quantize", &model, "--calibrate", FRAMES, "-o", &format!("{model}2")]);
    assert!(String::from_utf8_lossy(&out.stderr).contains("quantized already"), "{out:?}");
    let change = format!("classifier={model}");
    let (_, ran, in_results) = place.run("tract", &["--precision", "fp32", "--model", &change]);
    assert_eq!(in_results, "tract/int8", "{ran}");
}
