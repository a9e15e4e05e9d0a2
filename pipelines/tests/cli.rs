//! The `tapetum` program as a user meets it: output, exit codes, what is left on disk.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn tapetum(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tapetum")).args(args).output().expect("the program starts")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn golden(name: &str) -> String {
    root().join("tests/goldens").join(name).to_string_lossy().into_owned()
}

fn json(out: &Output) -> Value {
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).expect("one JSON object")
}

fn refused(args: &[&str], code: i32, words: &[&str]) {
    let out = tapetum(args);
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(code), "{args:?}: {said}");
    for word in words {
        assert!(said.contains(word), "{args:?} does not say {word:?}: {said}");
    }
}

#[test]
fn fuse_verify_inspect() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("net.onnx").to_string_lossy().into_owned();
    let checkpoint = golden("tfnet_w0125_no_ppm/checkpoint.safetensors");
    let report = json(&tapetum(&["fuse", &checkpoint, "-o", &model, "--input", "64x96", "--json"]));
    assert_eq!(report["network"], "tfnet");
    assert_eq!(report["form"], "training");
    assert_eq!(report["parameters_before"], 203_298);
    assert!(report["parameters_after"].as_u64() < report["parameters_before"].as_u64());
    // 21 convolutions are left: 12 + 2 blocks of the encoder, 6 of the decoder, the last 1×1.
    assert_eq!(report["folds"]["sum_parallel"], 20);
    assert!(report["proof"]["max_rel"].as_f64().unwrap() < 1e-5);
    assert!(report["proof"]["backend"].as_str().unwrap().starts_with("tract"));

    let verified = json(&tapetum(&["verify", &model, "--against", &checkpoint, "--json"]));
    assert!(verified["golden_error"].as_f64().unwrap() < 1e-5);
    assert!(verified["proof"]["max_rel"].as_f64().unwrap() < 1e-5);

    let seen = json(&tapetum(&["inspect", &model, "--json"]));
    assert_eq!(seen["operators"]["Conv"], 21);
    assert_eq!(seen["operators"]["BatchNormalization"], Value::Null);
    assert_eq!(seen["contract"]["source"]["form"], "training");
    assert_eq!(seen["contract"]["input"]["size"]["fixed"]["width"], 96);

    // The same input gives the same bytes.
    let again = folder.path().join("again.onnx").to_string_lossy().into_owned();
    json(&tapetum(&["fuse", &checkpoint, "-o", &again, "--input", "64x96", "--json"]));
    assert_eq!(std::fs::read(&model).unwrap(), std::fs::read(&again).unwrap());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "a temporary file was left");

    refused(
        &["verify", &model, "--against", &golden("tfnet_w0125_sigmoid/checkpoint.safetensors")],
        1,
        &["SHA-256"],
    );
    // A model whose weights were changed after the proof does not pass its own self-check.
    let mut bytes = std::fs::read(&model).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 4096].fill(0x3d);
    std::fs::write(&again, bytes).unwrap();
    refused(&["verify", &again], 1, &["again.onnx"]);
}

#[test]
fn every_wrong_use_says_whose_move_it_is_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("net.onnx").to_string_lossy().into_owned();
    let checkpoint = golden("tfnet_w0125_no_skip/checkpoint.safetensors");
    let fuse = |more: &[&'static str]| [&["fuse", &checkpoint, "-o", &model], more].concat();
    refused(&["fuse"], 2, &["IN"]);
    refused(&fuse(&["--input", "64"]), 2, &["64", "HxW"]);
    refused(&fuse(&["--input", "0x64"]), 2, &["0x64"]);
    refused(&fuse(&["--input", "72x64"]), 2, &["72", "16"]);
    refused(&fuse(&["--input", "64x64", "--dynamic"]), 2, &["--dynamic"]);
    refused(&fuse(&["--engine", "tensorflow"]), 2, &["tensorflow", "tract"]);
    refused(&fuse(&["--arch", "resnext"]), 2, &["resnext", "deanet"]);
    refused(&["fuse", "no/such/file.pth", "-o", &model], 1, &["no/such/file.pth"]);
    refused(&["fuse", &checkpoint, "-o", "no/such/folder/net.onnx"], 2, &["no/such/folder"]);
    refused(&fuse(&["--average-experts"]), 2, &["no experts"]);
    let contract = folder.path().join("c.toml");
    std::fs::write(&contract, "[input]\ncolor = \"rgb\"\n[output.probabilities]\nlabels = 3\n").unwrap();
    let contract = contract.to_string_lossy().into_owned();
    refused(
        &["fuse", &checkpoint, "-o", &model, "--contract", &contract],
        2,
        &["c.toml:2:1", "colour", "c.toml:4:10"],
    );
    let text = folder.path().join("text.pth");
    std::fs::write(&text, "these are not weights").unwrap();
    refused(&["fuse", &text.to_string_lossy(), "-o", &model], 1, &["text.pth"]);
    assert!(!Path::new(&model).exists());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "a temporary file was left");
}

#[test]
fn an_open_size_is_one_model_for_many_sizes() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("net.onnx").to_string_lossy().into_owned();
    let checkpoint = golden("tfnet_w0125_sigmoid/checkpoint.safetensors");
    json(&tapetum(&["fuse", &checkpoint, "-o", &model, "--dynamic", "--json"]));
    let seen = json(&tapetum(&["inspect", &model, "--json"]));
    assert_eq!(seen["inputs"][0]["shape"], serde_json::json!(["batch", "3", "height", "width"]));
    assert_eq!(seen["contract"]["input"]["size"]["multiple"]["of"], 16);
    assert!(json(&tapetum(&["verify", &model, "--against", &checkpoint, "--json"]))["proof"].is_object());
}

#[test]
fn init_is_the_same_everywhere_and_fuses() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let made = json(&tapetum(&[
        "init",
        "osnet",
        "--variant",
        "x0_25",
        "--seed",
        "7",
        "-o",
        &at("a.safetensors"),
        "--json",
    ]));
    json(&tapetum(&[
        "init",
        "osnet",
        "--variant",
        "x0_25",
        "--seed",
        "7",
        "-o",
        &at("b.safetensors"),
        "--json",
    ]));
    assert_eq!(std::fs::read(at("a.safetensors")).unwrap(), std::fs::read(at("b.safetensors")).unwrap());
    let fused = json(&tapetum(&["fuse", &at("a.safetensors"), "-o", &at("m.onnx"), "--json"]));
    assert_eq!(fused["variant"], "x0_25");
    assert_eq!(fused["parameters_before"], made["parameters"]);
    refused(&["init", "osnet", "--variant", "x9", "-o", &at("c.safetensors")], 2, &["x9", "x0_25"]);
    refused(&["init", "yolo", "-o", &at("c.safetensors")], 2, &["yolo", "osnet"]);
}

#[test]
fn the_demo_networks_fuse_with_their_contracts() {
    let folder = tempfile::tempdir().unwrap();
    for (name, before, after) in
        [("tf-cls", 591_556, 529_364), ("tf-det", 673_671, 603_095), ("tf-net", 721_026, 651_282)]
    {
        let file = |ending: &str| {
            root().join(format!("pipelines/demo/{name}.{ending}")).to_string_lossy().into_owned()
        };
        let model = folder.path().join(name).to_string_lossy().into_owned();
        let args = ["fuse", &file("pt"), "--contract", &file("contract.toml"), "-o", &model, "--json"];
        let report = json(&tapetum(&args));
        assert_eq!(
            (&report["parameters_before"], &report["parameters_after"]),
            (&before.into(), &after.into()),
            "{name}"
        );
        let seen = json(&tapetum(&["inspect", &model, "--json"]));
        assert_eq!(seen["contract"]["input"]["resize"]["stretch"]["filter"], "bilinear", "{name}");
    }
}
