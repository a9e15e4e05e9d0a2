//! `tapetum warm` and the starts after it, with ONNX Runtime and its real files. Runs where ONNX Runtime is, and says so
//! where it is not; `TAPETUM_REQUIRE` (`ort`, `ort:openvino`) makes that an error.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

fn tapetum(cache: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tapetum"));
    command.args(args).env("TAPETUM_CACHE", cache);
    command
}

fn said(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

/// Whether `engine` can run here.
fn is_there(engine: &str) -> bool {
    let out = tapetum(Path::new("unused"), &["doctor", "--json"]).output().unwrap();
    let told: Value = serde_json::from_slice(&out.stdout).unwrap();
    let engines = told["engines"].as_array().unwrap();
    let one = engines.iter().find(|e| e["engine"] == engine).unwrap();
    let found = one["version"].is_string();
    let name = if engine == "ort:cpu" { "ort" } else { engine };
    if !found {
        tapetum_parts::missing(name, &one["missing"]);
    }
    found
}

/// A pipeline of two networks of one structure with different weights, and the folder that everything is in.
struct Stage(tempfile::TempDir);

impl Stage {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
        let mut text = "[pipeline]\nname = \"twins\"\n".to_owned();
        for (name, seed) in [("a", "1"), ("b", "2")] {
            let (checkpoint, model) = (at(&format!("{name}.safetensors")), at(&format!("{name}.onnx")));
            for args in [
                &["init", "tfnet", "--seed", seed, "-o", &checkpoint][..],
                &["fuse", &checkpoint, "-o", &model, "--input", "64x96"],
            ] {
                let out = tapetum(folder.path(), args).output().unwrap();
                assert!(out.status.success(), "{}", said(&out));
            }
            text += &format!("[model.{name}]\nfile = \"{name}.onnx\"\n");
        }
        for name in ["a", "b"] {
            text += &format!("[[stage]]\nname = \"{name}\"\nkind = \"segment\"\nmodel = \"{name}\"\n");
        }
        fs::write(folder.path().join("twins.toml"), text).unwrap();
        Self(folder)
    }

    fn cache(&self) -> PathBuf {
        self.0.path().join("cache")
    }

    fn pipeline(&self) -> String {
        self.0.path().join("twins.toml").to_string_lossy().into_owned()
    }

    fn warm(&self, engine: &str) -> Command {
        tapetum(&self.cache(), &["warm", &self.pipeline(), "--engine", engine, "--json"])
    }

    /// What became of each model, and what was said beside it.
    fn warmed(&self, engine: &str) -> (Vec<String>, String, Value) {
        let out = self.warm(engine).output().unwrap();
        assert!(out.status.success(), "{}", said(&out));
        let told: Value = serde_json::from_slice(&out.stdout).unwrap();
        let models = told["models"].as_array().unwrap();
        let origin = |m: &Value| m["origin"].as_str().unwrap().to_owned();
        (models.iter().map(origin).collect(), said(&out), told)
    }

    /// What the start lines and the summary of a run say of its engines.
    fn run(&self, engine: &str) -> (String, Value, String) {
        let out_folder = self.0.path().join("out").to_string_lossy().into_owned();
        let source = "synthetic:eye?frames=2&size=96x96";
        let args = ["run", &self.pipeline(), "--engine", engine, "--source", source, "--out", &out_folder];
        let out = tapetum(&self.cache(), &args).output().unwrap();
        assert!(out.status.success(), "{}", said(&out));
        let summary = fs::read(self.0.path().join("out/summary.json")).unwrap();
        let summary: Value = serde_json::from_slice(&summary).unwrap();
        (String::from_utf8_lossy(&out.stdout).into_owned(), summary["models"].clone(), said(&out))
    }

    /// The entries; panics if anything half-built was left.
    fn entries(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for entry in fs::read_dir(self.cache().join("engines")).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            assert!(name == ".locks" || !name.starts_with('.'), "{name} was left");
            if name != ".locks" {
                found.push(entry.path());
            }
        }
        found
    }
}

#[test]
fn warmed_once_a_run_starts_from_the_cache_and_twins_share_nothing() {
    if !is_there("ort:cpu") {
        return;
    }
    let stage = Stage::new();
    // Nobody asked: a run keeps nothing of an engine that is built in a moment.
    let (shown, models, _) = stage.run("ort");
    assert!(!shown.contains("cache") && models["a"]["engine_cache"].is_null(), "{shown}");
    assert!(!stage.cache().join("engines").exists());

    let (origins, _, told) = stage.warmed("ort");
    assert_eq!(origins, ["built", "built"]);
    for model in told["models"].as_array().unwrap() {
        assert!(model["golden_error"].as_f64().unwrap() < 1e-4, "{told}");
        assert!(model["bytes"].as_u64().unwrap() > 1_000_000 && model["build_seconds"].is_number(), "{told}");
    }
    assert_eq!(stage.entries().len(), 2);
    assert_eq!(stage.warmed("ort").0, ["found", "found"]);
    let (shown, models, said) = stage.run("ort");
    assert!(shown.contains("on cpu, from cache") && said.is_empty(), "{shown}{said}");
    assert_eq!(
        (&models["a"]["engine_cache"], &models["b"]["engine_cache"]),
        (&"found".into(), &"found".into())
    );

    // One twin's files with the other's record, digests and all: only the self-check can tell.
    let entries = stage.entries();
    let model = |entry: &PathBuf| -> Value {
        serde_json::from_slice(&fs::read(entry.join("entry.json")).unwrap()).unwrap()
    };
    let (mut one, two) = (model(&entries[0]), model(&entries[1]));
    one["files"] = two["files"].clone();
    fs::copy(entries[1].join("optimized.onnx"), entries[0].join("optimized.onnx")).unwrap();
    fs::write(entries[0].join("entry.json"), one.to_string()).unwrap();
    let (_, models, said) = stage.run("ort");
    assert!(said.contains("entry failed its self-check") && said.contains("probabilities"), "{said}");
    let used = [&models["a"]["engine_cache"], &models["b"]["engine_cache"]];
    assert!(used.contains(&&"built".into()) && used.contains(&&"found".into()), "{models}");
    assert_eq!(stage.warmed("ort").0, ["found", "found"]);
}

#[test]
fn a_flipped_byte_a_cut_record_and_a_foreign_version_are_said_and_built_anew() {
    if !is_there("ort:cpu") {
        return;
    }
    let stage = Stage::new();
    stage.warmed("ort");
    let entry = &stage.entries()[0];
    let record = fs::read_to_string(entry.join("entry.json")).unwrap();
    let version = serde_json::from_str::<Value>(&record).unwrap()["key"]["versions"]["onnxruntime"].clone();
    let version = version.as_str().unwrap();
    let flip = || {
        let file = entry.join("optimized.onnx");
        let mut bytes = fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 4;
        fs::write(file, bytes).unwrap();
    };
    let cut = || fs::write(entry.join("entry.json"), &record[..record.len() / 2]).unwrap();
    let foreign = || {
        let edited = record.replace(&format!("\"{version}\""), "\"1.20.1\"");
        fs::write(entry.join("entry.json"), edited).unwrap();
    };
    let here = format!("onnxruntime 1.20.1, here {version}");
    let cases: [(&dyn Fn(), &str); 3] =
        [(&flip, "file optimized.onnx: SHA-256"), (&cut, "entry.json: EOF"), (&foreign, &here)];
    for (spoil, words) in cases {
        spoil();
        let (shown, _, said) = stage.run("ort");
        assert!(said.contains(words) && said.contains("built anew"), "{said}");
        assert!(shown.contains(", built in ") && shown.contains("from cache"), "{shown}");
        let (shown, _, said) = stage.run("ort");
        assert!(!shown.contains("built in") && said.is_empty(), "{shown}{said}");
    }
}

#[test]
fn killed_at_any_moment_the_next_start_recovers() {
    if !is_there("ort:cpu") {
        return;
    }
    let stage = Stage::new();
    let begun = Instant::now();
    stage.warmed("ort");
    let whole = begun.elapsed();
    let mut killed = 0;
    let mut random = 0x2545_f491_4f6c_dd1du64;
    for n in 0..12 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        fs::remove_dir_all(stage.cache().join("engines")).unwrap();
        // Spread over the whole, from the start of the process to beyond its end.
        let moment = whole.mul_f64((n as f64 + (random >> 40) as f64 / (1u64 << 24) as f64) / 12.0);
        let mut child = stage.warm("ort").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(moment);
        killed += u32::from(child.try_wait().unwrap().is_none());
        // SIGKILL.
        let _ = child.kill();
        child.wait().unwrap();
        let (origins, said, _) = stage.warmed("ort");
        assert!(origins.iter().all(|o| o == "built" || o == "found"), "{origins:?}");
        assert!(!said.contains("damaged"), "killed after {moment:?}: {said}");
        assert_eq!(stage.entries().len(), 2);
        assert_eq!(stage.warmed("ort").0, ["found", "found"], "killed after {moment:?}");
    }
    assert!(killed >= 4, "only {killed} of 12 were still at work");
}

#[test]
fn killed_in_the_middle_of_a_write_it_leaves_something_and_the_next_start_removes_it() {
    if !is_there("ort:cpu") {
        return;
    }
    let stage = Stage::new();
    let engines = stage.cache().join("engines");
    let half_built = || {
        let names = fs::read_dir(&engines).into_iter().flatten().flatten();
        names.filter(|e| e.file_name().to_string_lossy().ends_with(".building")).count()
    };
    let mut left = 0;
    for n in 0..12 {
        let _ = fs::remove_dir_all(&engines);
        let mut child = stage.warm("ort").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        while half_built() == 0 && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        std::thread::sleep(Duration::from_millis(n));
        let _ = child.kill();
        child.wait().unwrap();
        left += half_built();
        stage.warmed("ort");
        assert_eq!((half_built(), stage.entries().len()), (0, 2));
    }
    assert!(left >= 1, "none of 12 was killed while it wrote");
}

#[test]
fn two_processes_warm_at_the_same_time() {
    if !is_there("ort:cpu") {
        return;
    }
    let stage = Stage::new();
    let mut commands: Vec<Command> = (0..3).map(|_| stage.warm("ort")).collect();
    let spawn = |c: &mut Command| c.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let children: Vec<_> = commands.iter_mut().map(spawn).collect();
    let mut built = 0;
    for child in children {
        let out = child.wait_with_output().unwrap();
        assert!(out.status.success(), "{}", said(&out));
        let told: Value = serde_json::from_slice(&out.stdout).unwrap();
        built += told["models"].as_array().unwrap().iter().filter(|m| m["origin"] == "built").count();
    }
    assert_eq!((built, stage.entries().len()), (2, 2));
}

#[test]
fn a_model_that_fails_its_self_check_fails_the_command_and_names_the_element() {
    let stage = Stage::new();
    let path = stage.0.path().join("b.onnx");
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 4096].fill(0x3d);
    fs::write(&path, bytes).unwrap();
    let out = tapetum(&stage.cache(), &["warm", &stage.pipeline(), "--engine", "tract"]).output().unwrap();
    assert_eq!(out.status.code(), Some(1), "{}", said(&out));
    let told = said(&out);
    for word in ["b: ", "b.onnx on tract", "probabilities", "element"] {
        assert!(told.contains(word), "{word:?} is not in {told}");
    }
    assert!(
        String::from_utf8_lossy(&out.stdout).starts_with("a on tract/fp32: nothing to keep, checked to ")
    );
}

#[test]
fn a_model_without_a_golden_record_is_said_not_to_be_checked() {
    let folder = tempfile::tempdir().unwrap();
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/goldens/onnx_tfnet_dynamo/model.onnx");
    let kind = "{ mask = { labels = [\"background\", \"tfbu\"], rule = \"argmax\" } }";
    fs::write(folder.path().join("c.toml"), format!("[output.output]\nkind = {kind}\n")).unwrap();
    let text = format!(
        "[pipeline]\nname = \"foreign\"\n[model.net]\nfile = {model:?}\ncontract = \"c.toml\"\n[[stage]]\nname = \"s\"\n\
         kind = \"segment\"\nmodel = \"net\"\n"
    );
    let pipeline = folder.path().join("p.toml");
    fs::write(&pipeline, text).unwrap();
    let args = ["warm", &pipeline.to_string_lossy(), "--engine", "tract"];
    let out = tapetum(folder.path(), &args).output().unwrap();
    assert!(out.status.success(), "{}", said(&out));
    let shown = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(
        shown.contains("net on tract/fp32: nothing to keep, no golden record: not self-checked"),
        "{shown}"
    );
}

#[test]
fn the_cache_is_where_the_file_says_or_nowhere() {
    if !is_there("ort:cpu") {
        return;
    }
    let stage = Stage::new();
    let text = fs::read_to_string(stage.pipeline()).unwrap();
    let with =
        |cache: &str| fs::write(stage.pipeline(), format!("{text}[engine]\ncache = {cache:?}\n")).unwrap();
    with("off");
    assert_eq!(stage.warmed("ort").0, ["unkept", "unkept"]);
    with("on");
    let (_, models, _) = stage.run("ort");
    assert_eq!(models["a"]["engine_cache"], "built");
    assert_eq!(stage.entries().len(), 2);
    with("kept/here");
    assert_eq!(stage.warmed("ort").0, ["built", "built"]);
    assert!(stage.0.path().join("kept/here/.locks").is_dir());
    let wrong = format!("{text}[engine]\ncaches = \"on\"\n");
    fs::write(stage.pipeline(), wrong).unwrap();
    let out = stage.warm("ort").output().unwrap();
    assert_eq!(out.status.code(), Some(2));
    assert!(
        said(&out).contains("caches") && said(&out).contains("did you mean \"cache\"?"),
        "{}",
        said(&out)
    );
}

#[test]
fn a_cache_that_cannot_be_written_fails_the_command_and_names_every_model() {
    if !is_there("ort:cpu") {
        return;
    }
    let stage = Stage::new();
    let engines = stage.cache().join("engines");
    // Nobody can make a folder of it, root neither; then nobody can lock an entry.
    let spoil: [&dyn Fn(); 2] = [
        &|| {
            fs::create_dir_all(stage.cache()).unwrap();
            fs::write(&engines, "").unwrap();
        },
        &|| {
            fs::remove_file(&engines).unwrap();
            assert_eq!(stage.warmed("ort").0, ["built", "built"]);
            for entry in stage.entries() {
                fs::remove_dir_all(entry).unwrap();
            }
            let locks: Vec<_> =
                fs::read_dir(engines.join(".locks")).unwrap().map(|e| e.unwrap().path()).collect();
            for lock in locks {
                fs::remove_file(&lock).unwrap();
                fs::create_dir(&lock).unwrap();
            }
        },
    ];
    for spoil in spoil {
        spoil();
        let out = stage.warm("ort").output().unwrap();
        assert_eq!(out.status.code(), Some(1), "{}", said(&out));
        let told: Value = serde_json::from_slice(&out.stdout).unwrap();
        let failed = told["failed"].as_array().unwrap();
        assert_eq!(failed.len(), 2, "{told}");
        for (model, failed) in ["a", "b"].iter().zip(failed) {
            let why = failed["why"].as_str().unwrap();
            assert!(failed["model"] == *model && why.contains("could not be kept: cannot be used"), "{told}");
        }
        assert_eq!(told["models"][0]["origin"], "unkept");
        assert!(told["models"][0]["golden_error"].is_number(), "it was checked all the same: {told}");
        // Nothing to keep, nothing lost.
        let out = stage.warm("tract").output().unwrap();
        assert!(out.status.success(), "{}", said(&out));
    }
    let out = tapetum(&stage.cache(), &["warm", &stage.pipeline(), "--engine", "ort"]).output().unwrap();
    let shown = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(shown.starts_with("a on ort:cpu/fp32: could not be kept, checked to "), "{shown}");
}

/// OpenVINO as published writes models for the CPU that it cannot read; with the reader beside it they are kept.
#[test]
fn openvino_keeps_what_it_can_take_again_and_says_what_it_cannot() {
    if !is_there("ort:openvino") {
        return;
    }
    let stage = Stage::new();
    let (origins, said, told) = stage.warmed("ort:openvino");
    for model in told["models"].as_array().unwrap() {
        assert!(model["golden_error"].as_f64().unwrap() < 1e-4, "{told}");
    }
    if origins == ["unkept", "unkept"] {
        assert!(said.contains("libopenvino_ir_frontend") && said.contains("nothing is kept"), "{said}");
        assert!(stage.entries().is_empty());
    } else {
        assert_eq!(origins, ["built", "built"], "{said}");
        assert!(stage.run("ort:openvino").0.contains("from cache"));
    }
    // Asked for every engine of the list: OpenVINO's library is the one that is loaded, and has both.
    let list = ["warm", &stage.pipeline(), "--engine", "ort:openvino,ort,tract", "--all", "--json"];
    let begun = Instant::now();
    let out = tapetum(&stage.cache(), &list).output().unwrap();
    assert!(out.status.success() && begun.elapsed() < Duration::from_secs(60), "{}", self::said(&out));
    let told: Value = serde_json::from_slice(&out.stdout).unwrap();
    let engines: Vec<&str> =
        told["models"].as_array().unwrap().iter().map(|m| m["engine"].as_str().unwrap()).collect();
    assert_eq!(engines[..4], ["ort:openvino/fp32", "ort:openvino/fp32", "ort:cpu/fp32", "ort:cpu/fp32"]);
    assert_eq!(engines.len(), 6, "{told}");
}
