//! `tapetumd` from outside: cameras, events, health, new configurations, signals.

#[allow(dead_code, reason = "other suites use the rest")]
#[path = "../outputs/broker.rs"]
mod broker;
#[path = "../http/certificate.rs"]
mod certificate;
mod door;
mod engines;
mod hostile;
mod models;
mod outputs;
mod raw_topics;
mod record;
#[path = "../rtsp/server.rs"]
mod server;
mod service;
#[allow(dead_code, reason = "other suites use the rest")]
mod site;
#[path = "../support/until.rs"]
mod until;

use std::time::{Duration, Instant};

use serde_json::Value;
use site::{Daemon, Site};
use until::until;

/// For the RTSP server.
fn clip(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/clips").join(name).with_extension("mp4")
}

/// A frame is in one place at a time, whenever anybody looks.
fn accounted(camera: &Value) {
    let frames = &camera["frames"];
    let sum = |v: &Value| v.as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum::<u64>();
    let whole = frames["delivered"].as_u64().unwrap()
        + sum(&frames["dropped"])
        + sum(&frames["failed"])
        + frames["in_flight"].as_u64().unwrap();
    assert_eq!(frames["captured"].as_u64().unwrap(), whole, "{frames}");
}

fn delivered(daemon: &Daemon, camera: &str) -> u64 {
    daemon.camera(camera)["frames"]["delivered"].as_u64().unwrap()
}

#[test]
fn cameras_share_a_model_and_a_dead_one_harms_nobody() {
    let site = Site::new();
    site.write(
        &["left", "right"],
        "[camera.dead]\nsource = 'rtsp://user:hidden-word@127.0.0.1:1/'\npipeline = 'eyes.toml'\n",
    );
    let daemon = site.start();
    daemon.until("both are ready and the third waits", || {
        daemon.get("/readyz").0 == 200
            && delivered(&daemon, "left") > 20
            && delivered(&daemon, "right") > 20
            && daemon.camera("dead")["state"] == "waiting"
    });
    let status = daemon.status();
    status["cameras"].as_array().unwrap().iter().for_each(accounted);
    let models = status["models"].as_array().unwrap();
    assert_eq!(models.len(), 1, "three cameras, one model: {models:?}");
    assert_eq!(models[0]["cameras"], 3);
    let dead = daemon.camera("dead");
    assert!(dead["retry_in_s"].as_f64().unwrap() > 0.0, "{dead}");
    for path in ["/metrics", "/api/v1/status", "/readyz", "/"] {
        assert!(!daemon.get(path).1.contains("hidden-word"), "{path} shows a password");
    }
    assert!(daemon.get("/metrics").1.contains("tapetum_"));
    let log = daemon.stop();
    assert!(!log.contains("hidden-word"), "{log}");
    assert!(log.contains("camera dead: waiting"), "{log}");
}

#[test]
fn events_are_stored_and_ended_when_the_daemon_is_told_to_stop() {
    let site = Site::new();
    site.write(&["left"], "");
    let daemon = site.start();
    // Before the first write there is no store to ask: 503.
    daemon.until("an event goes on", || {
        daemon.get("/api/v1/events").0 == 200
            && daemon.json("/api/v1/events")["events"].as_array().is_some_and(|events| !events.is_empty())
    });
    let event = daemon.json("/api/v1/events")["events"][0].clone();
    assert_eq!((&event["camera"], event["id"].as_str().unwrap().len()), (&Value::from("left"), 26));
    let from = Instant::now();
    daemon.stop();
    assert!(from.elapsed() < Duration::from_secs(2), "took {:?} to stop", from.elapsed());
    let store = rusqlite::Connection::open(site.path("state/site.sqlite")).unwrap();
    let open: i64 =
        store.query_row("SELECT count(*) FROM events WHERE phase <> 'end'", [], |row| row.get(0)).unwrap();
    let all: i64 = store.query_row("SELECT count(*) FROM events", [], |row| row.get(0)).unwrap();
    assert!(all > 0 && open == 0, "{open} of {all} events were left open");
}

#[test]
fn a_new_configuration_is_taken_in_between_two_frames_or_not_at_all() {
    let site = Site::new();
    site.write(&["left", "right"], "");
    let daemon = site.start();
    daemon.until("both run", || delivered(&daemon, "left") > 5 && delivered(&daemon, "right") > 5);
    let digest = daemon.camera("left")["digest"].clone();

    // One camera gets another pipeline, one leaves, one comes.
    site.pipeline("other.toml", "other", 2);
    site.write(&["left", "third"], "");
    site.change("left", "eyes.toml", "other.toml");
    daemon.hang_up();
    daemon.until("it is in force", || {
        daemon.camera("left")["digest"] != digest && daemon.camera("third")["state"] == "streaming"
    });
    daemon.until("the other is gone", || daemon.get("/api/v1/cameras/right").0 == 404);
    let left = daemon.camera("left");
    accounted(&left);
    assert_eq!(left["reconnects"], 0, "its source went on: {left}");
    assert!(daemon.status()["config"]["reload_error"].is_null());

    // What is wrong is refused with its place, and nothing has changed.
    let before = daemon.camera("left");
    site.append("\n[camera.fourth]\nsource = 'loop:nowhere.mp4'\npipelin = 'eyes.toml'\n");
    daemon.hang_up();
    daemon.until("it is refused", || !daemon.status()["config"]["reload_error"].is_null());
    let why = daemon.status()["config"]["reload_error"].as_str().unwrap().to_owned();
    assert!(why.contains("site.toml:") && why.contains("did you mean \"pipeline\"?"), "{why}");
    let frames = before["frames"]["delivered"].as_u64().unwrap();
    daemon.until("frames go on", || delivered(&daemon, "left") > frames + 5);
    assert_eq!(daemon.camera("left")["digest"], before["digest"]);
    daemon.stop();
}

#[test]
fn a_pipeline_that_does_not_load_is_rolled_back_although_another_camera_could_change() {
    let site = Site::new();
    site.write(&["left", "right"], "");
    let daemon = site.start();
    daemon.until("both run", || delivered(&daemon, "left") > 5 && delivered(&daemon, "right") > 5);
    let digests = ["left", "right"].map(|camera| daemon.camera(camera)["digest"].clone());
    site.pipeline("other.toml", "other", 2);
    site.broken_pipeline("broken.toml");
    site.change("left", "eyes.toml", "other.toml");
    site.change("right", "eyes.toml", "broken.toml");
    daemon.hang_up();
    daemon.until("it is refused", || !daemon.status()["config"]["reload_error"].is_null());
    assert_eq!(["left", "right"].map(|camera| daemon.camera(camera)["digest"].clone()), digests);
    // The file is mended, which is seen without a signal.
    site.change("right", "broken.toml", "other.toml");
    daemon.until("both have changed", || {
        ["left", "right"].iter().zip(&digests).all(|(camera, was)| daemon.camera(camera)["digest"] != *was)
    });
    daemon.until("that is told", || daemon.status()["config"]["reload_error"].is_null());
    daemon.stop();
}

/// One of each kind.
const MISTAKES: &str = "
[limits]
rums = 1

[camera.Up]
source = 'loop:x.mp4'
pipeline = 'none.toml'
max_fps = 0

[camera.low]
source = 'loop:x.mp4'
pipeline = 'eyes.toml'
events = { labels = ['claer'] }

[camera.lower]
source = 'loop:x.mp4'
pipeline = 'eyes.toml'
events = { stage = 'stat' }
";

#[test]
fn a_check_names_every_mistake_of_site_and_pipelines() {
    let site = Site::new();
    site.write(&["left"], MISTAKES);
    for program in [env!("CARGO_BIN_EXE_tapetumd"), env!("CARGO_BIN_EXE_tapetum")] {
        let check = site.check(program);
        let said = String::from_utf8_lossy(&check.stderr).into_owned();
        assert_eq!(check.status.code(), Some(2), "{said}");
        for part in [
            "rums",
            "did you mean \"runs\"?",
            "camera \"Up\"",
            "none.toml",
            "max_fps must be from",
            "site.toml:",
            "has no label \"claer\"; did you mean \"clear\"?",
            "no stage \"stat\" that detects or classifies in this pipeline; did you mean \"state\"?",
        ] {
            assert!(said.contains(part), "{part:?} is not in:\n{said}");
        }
    }
    site.write(&["left"], "");
    for program in [env!("CARGO_BIN_EXE_tapetumd"), env!("CARGO_BIN_EXE_tapetum")] {
        let check = site.check(program);
        assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
    }
}
