//! Engines as a user asks for them: exactly one, or the first of several, on a machine where some cannot run.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;
use tapetum_parts::missing;

fn run(library: Option<&Path>, engines: &str, out: &Path) -> Output {
    let pipeline = Path::new(env!("CARGO_MANIFEST_DIR")).join("tf-collab.toml");
    let mut command = Command::new(env!("CARGO_BIN_EXE_tapetum"));
    command.args(["run", "--source", "synthetic:eye?frames=3&size=96x96", "--engine", engines]);
    command.arg(pipeline).arg("--out").arg(out).env("TAPETUM_CACHE", env!("CARGO_TARGET_TMPDIR"));
    if let Some(library) = library {
        command.env("TAPETUM_ORT", library);
    }
    command.output().expect("the program starts")
}

/// Where `scripts/fetch-onnxruntime --flavour` puts its library; said where it is not there.
fn fetched(flavour: &str) -> Option<PathBuf> {
    let var = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let cache = var("XDG_CACHE_HOME").or_else(|| Some(var("HOME")?.join(".cache")))?;
    let entries = std::fs::read_dir(cache.join("tapetum")).ok();
    let prefix = format!("onnxruntime-{flavour}-");
    let found = entries
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.path())
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix)));
    if found.is_none() {
        missing(&format!("onnxruntime-{flavour}"), "no library of scripts/fetch-onnxruntime --flavour");
    }
    found
}

/// What went to standard error, less the lines of checkpoints fused for the first time in this folder.
fn said(out: &Output) -> String {
    let said = String::from_utf8_lossy(&out.stderr);
    let fused = |line: &&str| !(line.contains(" fused, ") && line.contains("proven equal to"));
    said.lines().filter(fused).map(|line| format!("{line}\n")).collect()
}

fn models(out: &Path) -> Value {
    let summary = std::fs::read(out.join("summary.json")).expect("summary.json");
    serde_json::from_slice::<Value>(&summary).expect("JSON")["models"].clone()
}

#[test]
fn a_gpu_that_is_not_there_is_an_error_within_a_second() {
    let Some(library) = fetched("gpu") else { return };
    let folder = tempfile::tempdir().unwrap();
    for engine in ["ort:cuda", "ort:tensorrt"] {
        let mut quickest = Duration::MAX;
        for _ in 0..3 {
            let begun = Instant::now();
            let out = run(Some(&library), engine, folder.path());
            quickest = quickest.min(begun.elapsed());
            let said = said(&out);
            if out.status.success() {
                missing("a machine without a GPU", format!("this one has what {engine} needs"));
                return;
            }
            assert_eq!(out.status.code(), Some(1), "{said}");
            // The loader's own words, what is needed, and nothing else on the terminal.
            assert!(said.contains("lib") && said.contains(".so"), "{said}");
            assert!(said.contains(engine) && said.contains("needs an NVIDIA GPU"), "{said}");
            assert_eq!(said.trim().lines().count(), 1, "{said}");
            assert!(out.stdout.is_empty(), "{}", String::from_utf8_lossy(&out.stdout));
        }
        assert!(quickest < Duration::from_secs(1), "{engine}: {quickest:?}");
        assert!(!folder.path().join("summary.json").exists());
    }
}

#[test]
fn the_first_that_works_runs_and_what_was_passed_over_is_told() {
    let library = fetched("gpu");
    let folder = tempfile::tempdir().unwrap();
    // Without that library the reason is another one, the rest is the same.
    let out = run(library.as_deref(), "ort:tensorrt,ort:cuda,tract", folder.path());
    assert!(out.status.success(), "{}", said(&out));
    let shown = String::from_utf8_lossy(&out.stdout).into_owned();
    let models = models(folder.path());
    if models["state"]["engine"] != "tract/fp32" {
        missing("a machine without a GPU", "this one has what TensorRT or CUDA needs");
        return;
    }
    for (at, name) in ["ort:tensorrt", "ort:cuda"].iter().enumerate() {
        assert!(shown.contains(&format!("passed over {name}: ")), "{shown}");
        let passed = &models["state"]["passed_over"][at];
        assert_eq!(passed["engine"], *name);
        assert!(passed["why"].as_str().unwrap().contains("needs an NVIDIA GPU"), "{passed}");
    }
    assert!(models["state"]["nodes"]["tract"].as_u64().unwrap() > 0, "{models}");
}

#[test]
fn openvino_says_its_precision_and_every_node() {
    let Some(library) = fetched("openvino") else { return };
    let folder = tempfile::tempdir().unwrap();
    let out = run(Some(&library), "ort:openvino", folder.path());
    assert!(out.status.success(), "{}", said(&out));
    assert!(said(&out).is_empty(), "{}", said(&out));
    let shown = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(shown.contains("engine ort:openvino/fp32 (onnxruntime 1."), "{shown}");
    assert!(shown.contains("state: 32 nodes on openvino"), "{shown}");
    let models = models(folder.path());
    for stage in ["state", "rings", "tfbu"] {
        assert_eq!(models[stage]["engine"], "ort:openvino/fp32");
        let nodes = models[stage]["nodes"].as_object().unwrap();
        assert_eq!(nodes.keys().collect::<Vec<_>>(), ["openvino"], "{models}");
    }
}

#[test]
fn one_process_has_one_library_and_says_so() {
    let Some(library) = fetched("openvino") else { return };
    let folder = tempfile::tempdir().unwrap();
    // Told to take OpenVINO's library, which has no CUDA: the reason names both.
    let out = run(Some(&library), "ort:cuda", folder.path());
    let said = said(&out);
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(said.contains("without libonnxruntime_providers_cuda.so"), "{said}");
    assert!(said.contains("scripts/fetch-onnxruntime --flavour gpu"), "{said}");
}
