//! What is told of engines and of how they were chosen, where nobody watches them being loaded.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use tapetum_runtime::backend;

use super::{delivered, site::Site};

/// The files of the entries in an engine cache.
fn kept(cache: &Path) -> Vec<PathBuf> {
    let files = |folder: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(|path| !path.ends_with(".locks")).collect()
    };
    files(&cache.join("engines")).iter().flat_map(|entry| files(entry)).collect()
}

#[test]
fn the_log_tells_of_a_damaged_engine_and_why_no_tuning_is_gone_by() {
    if tapetum_parts::there("ort", backend::by_name("ort").unwrap().find()).is_none() {
        return;
    }
    let site = Site::new();
    let text = fs::read_to_string(site.path("eyes.toml")).unwrap();
    let auto = text.replace("engine = 'tract'", "engine = 'ort'\nprecision = 'auto'");
    fs::write(site.path("eyes.toml"), auto).unwrap();
    site.write(&["left"], "[limits]\nthreads = 3\n");
    let cache = site.path("cache");
    let mut warm = Command::new(env!("CARGO_BIN_EXE_tapetum"));
    let out = warm.arg("warm").arg(site.path("eyes.toml")).env("TAPETUM_CACHE", &cache).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let graph = kept(&cache).into_iter().find(|path| path.ends_with("optimized.onnx")).unwrap();
    fs::write(&graph, "half of it").unwrap();

    let daemon = site.start_with(&[("TAPETUM_CACHE", cache.to_str().unwrap())]);
    daemon.until("it runs", || delivered(&daemon, "left") > 0);
    let decision = daemon.camera("left")["stages"][0]["decision"].clone();
    assert_eq!(decision["tuned"], Value::Null, "{decision}");
    let why = decision["why"].as_str().unwrap();
    assert!(why.starts_with("nothing is recorded for pipeline \"eyes\"; to measure: tapetum tune "), "{why}");
    assert!(why.ends_with("--workers 1 --threads 3"), "{why}");
    let log = daemon.stop();
    assert!(log.contains(&format!("camera left: untuned: {why}")), "{log}");
    assert!(log.contains("model classifier on ort:cpu: engine cache: entry damaged ("), "{log}");
    assert!(
        log.contains("; built anew") && log.contains("model classifier: building for ort:cpu; "),
        "{log}"
    );
}
