//! Models, pipeline files, limits: what is loaded anew, when, and what is refused.

use std::path::Path;

use super::{
    accounted, delivered,
    site::{Site, demo},
};

/// A pipeline whose checkpoint lies in the site's own folder.
fn with_own_model(site: &Site) {
    std::fs::copy(Path::new(&demo()).join("tf-cls.pt"), site.path("own.pt")).unwrap();
    site.pipeline("own.toml", "own", 1);
    let text = std::fs::read_to_string(site.path("own.toml")).unwrap();
    std::fs::write(site.path("own.toml"), text.replace(&format!("{}/tf-cls.pt", demo()), "own.pt")).unwrap();
}

/// As programs replace files that others read: whole, by a rename.
fn replace(site: &Site, from: &Path, name: &str) {
    std::fs::copy(from, site.path("new")).unwrap();
    std::fs::rename(site.path("new"), site.path(name)).unwrap();
}

#[test]
fn a_model_that_is_replaced_is_loaded_and_one_that_is_wrong_is_mended() {
    let site = Site::new();
    with_own_model(&site);
    site.write(&["left", "right"], "");
    site.change("right", "eyes.toml", "own.toml");
    let daemon = site.start();
    daemon.until("both run", || delivered(&daemon, "left") > 5 && delivered(&daemon, "right") > 5);
    let digests = ["left", "right"].map(|camera| daemon.camera(camera)["digest"].clone());

    // What is there in its place is no model: refused, and what is loaded runs on.
    std::fs::write(site.path("wrong"), "no checkpoint").unwrap();
    replace(&site, &site.path("wrong"), "own.pt");
    daemon.until("it is refused", || !daemon.status()["config"]["reload_error"].is_null());
    let why = daemon.status()["config"]["reload_error"].as_str().unwrap().to_owned();
    assert!(why.contains("own.pt") && why.contains("own.toml:"), "{why}");
    let frames = delivered(&daemon, "right");
    daemon.until("frames go on", || delivered(&daemon, "right") > frames + 5);

    // Another network of the same kind: it takes over without a signal, and only where it is named.
    replace(&site, &Path::new(&demo()).join("tf-cls.pt"), "own.pt");
    daemon.until("it is taken in", || daemon.status()["config"]["reload_error"].is_null());
    let did = daemon.status()["config"]["reload_did"].clone();
    assert_eq!(did, serde_json::json!(["camera right changed"]));
    assert_eq!(["left", "right"].map(|camera| daemon.camera(camera)["digest"].clone()), digests);
    ["left", "right"].iter().for_each(|camera| accounted(&daemon.camera(camera)));
    daemon.stop();
}

#[test]
fn a_refused_configuration_is_taken_in_when_the_file_that_was_wrong_is_mended() {
    let site = Site::new();
    site.write(&["left"], "");
    let daemon = site.start();
    daemon.until("it runs", || delivered(&daemon, "left") > 5);
    let digest = daemon.camera("left")["digest"].clone();
    // Neither the pipeline file nor its model were named before.
    with_own_model(&site);
    let sound = std::fs::read_to_string(site.path("own.toml")).unwrap();
    std::fs::write(site.path("own.toml"), sound.replace("every = 1", "evry = 2")).unwrap();
    std::fs::remove_file(site.path("own.pt")).unwrap();
    site.change("left", "eyes.toml", "own.toml");
    let why = daemon.reload()["reload_error"].as_str().unwrap().to_owned();
    assert!(why.contains("evry") && why.contains("own.pt"), "{why}");
    std::fs::write(site.path("own.toml"), sound.replace("every = 1", "every = 2")).unwrap();
    daemon.until("the model is still missing", || {
        let config = &daemon.status()["config"];
        config["reload_error"].as_str().is_some_and(|why| why.contains("own.pt") && !why.contains("evry"))
    });
    replace(&site, &Path::new(&demo()).join("tf-cls.pt"), "own.pt");
    daemon.until("it is in force", || daemon.camera("left")["digest"] != digest);
    // That is told when all of it is done, a moment after the first frame that it was in force for.
    daemon.until("it is told", || daemon.status()["config"]["reload_error"].is_null());
    daemon.stop();
}

#[test]
fn limits_take_effect_and_what_takes_a_restart_is_refused_with_its_place() {
    let site = Site::new();
    site.write(&["left", "right"], "");
    let daemon = site.start();
    daemon.until("both run", || delivered(&daemon, "left") > 5 && delivered(&daemon, "right") > 5);
    let digest = daemon.camera("left")["digest"].clone();

    // A bound that no result keeps, and other threads: models are loaded anew, cameras go on.
    site.append("\n[limits]\nruns = 1\nthreads = 1\nbatch = 3\nbatch_wait_ms = 5\nmax_age_ms = 1\n");
    let config = daemon.reload();
    assert!(config["reload_error"].is_null(), "{config}");
    let did = config["reload_did"].to_string();
    assert!(
        did.contains("models loaded anew for [limits]") && did.contains("cameras left, right changed"),
        "{did}"
    );
    daemon.until("results are late now", || daemon.camera("left")["late"].as_u64().unwrap() > 3);
    let left = daemon.camera("left");
    accounted(&left);
    assert_eq!((&left["reconnects"], &left["digest"]), (&0.into(), &digest));
    assert_eq!(daemon.status()["models"].as_array().unwrap().len(), 1);

    // What loaded models can follow is changed without loading them.
    site.replace("batch_wait_ms = 5\nmax_age_ms = 1\n", "batch_wait_ms = 7\n");
    assert_eq!(daemon.reload()["reload_did"], serde_json::json!(["[limits] changed"]));
    let late = daemon.camera("left")["late"].clone();
    let frames = delivered(&daemon, "left");
    daemon.until("frames go on", || delivered(&daemon, "left") > frames + 5);
    assert_eq!(daemon.camera("left")["late"], late);

    site.replace("name = 'test'\nstate = 'state'", "name = 'other'\nstate = 'elsewhere'");
    let why = daemon.reload()["reload_error"].as_str().unwrap().to_owned();
    for part in [
        "site.toml:2:8: the site's name \"test\" becomes \"other\"",
        "site.toml:3:9: the state folder",
        "takes a restart",
    ] {
        assert!(why.contains(part), "{part:?} is not in: {why}");
    }
    assert_eq!(daemon.status()["site"], "test");
    daemon.stop();
}

#[test]
fn a_configuration_that_changes_while_another_is_taken_in_is_next() {
    let site = Site::new();
    site.write(&["left"], "");
    let daemon = site.start();
    daemon.until("it runs", || delivered(&daemon, "left") > 5);
    for n in 1..6 {
        site.pipeline("other.toml", "other", n);
        site.write(&["left", "right"], "");
        site.change("left", "eyes.toml", "other.toml");
        if n == 5 {
            site.write(&["left"], "[camera.last]\nsource = 'rtsp://127.0.0.1:1/'\npipeline = 'eyes.toml'\n");
        }
        daemon.hang_up();
    }
    daemon.until("the last one is in force", || {
        let cameras = daemon.status()["cameras"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| c["name"].clone())
            .collect::<Vec<_>>();
        cameras == ["left", "last"]
    });
    daemon.until("it is over", || daemon.status()["config"]["reloading"] == false);
    assert!(daemon.status()["config"]["reload_error"].is_null());
    daemon.stop();
}
