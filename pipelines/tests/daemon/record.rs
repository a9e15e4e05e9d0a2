//! Recordings, snapshots and replay, with the real daemon and the real program.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

use crate::{
    broker::Broker,
    raw_topics,
    site::{Daemon, Site, demo},
};

/// Every frame's result, to hold recordings against.
const HEAD: &str = "[site]\nname = 'test'\nstate = 'state'\n\n[http]\nlisten = '127.0.0.1:0'\n\n[[output]]\nkind = 'sqlite'\n\n\
                    [[output]]\nkind = 'jsonl'\nresults = true\n";

const RECORD: &str = "record = { pre_s = 1, post_s = 0.5 }";

/// A camera that plays the demo's clip, on which eyes dry up and blink, with short events.
fn camera(name: &str, source: &str, record: &str) -> String {
    format!(
        "\n[camera.{name}]\nsource = '{source}'\npipeline = 'eyes.toml'\nmax_fps = 10\n\
         events = {{ labels = ['broken', 'closed'], min_frames = 2, end_after_s = 0.4 }}\n{record}\n"
    )
}

fn clip() -> String {
    format!("loop:{}/dev_a.mp4", demo())
}

fn write(site: &Site, text: &str) {
    fs::write(site.path("site.toml"), text).unwrap();
}

fn events(daemon: &Daemon) -> Vec<Value> {
    if daemon.get("/api/v1/events").0 != 200 {
        // Before the first write there is no store to ask.
        return Vec::new();
    }
    daemon.json("/api/v1/events?limit=1000")["events"].as_array().unwrap().clone()
}

/// An event that is over and whose recording is there.
fn recorded(daemon: &Daemon) -> Option<Value> {
    events(daemon).into_iter().find(|event| event["phase"] == "end" && !event["clip_url"].is_null())
}

fn wait_for_recording(daemon: &Daemon) -> Value {
    daemon.until("an event is recorded", || recorded(daemon).is_some());
    recorded(daemon).unwrap()
}

fn replay(site: &Site, arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_tapetum"))
        .arg("replay")
        .args(arguments)
        .arg("--site")
        .arg(site.path("site.toml"))
        .env("TAPETUM_CACHE", env!("CARGO_TARGET_TMPDIR"))
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

fn replayed(site: &Site, arguments: &[&str]) -> (Option<i32>, Value) {
    let (code, out, said) = replay(site, &[arguments, &["--json"]].concat());
    (code, serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}\n{said}")))
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn summary(folder: &Path) -> Value {
    serde_json::from_slice(&fs::read(folder.join("recording.json")).unwrap()).unwrap()
}

fn nanos(time: &str) -> i128 {
    time.parse::<jiff::Timestamp>().unwrap().as_nanosecond()
}

/// Every result that left the site, by number: time in the stream in nanoseconds, and the line.
fn results(site: &Site, camera: &str) -> BTreeMap<u64, (i128, Value)> {
    let files = fs::read_dir(site.path("state/jsonl")).unwrap().flatten().map(|entry| entry.path());
    let files = files.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("results-"));
    let all = files.flat_map(|path| lines(&path));
    let mine = all.filter(|line| line["camera"] == camera || line["source"].as_str().is_some());
    mine.map(|line| {
        let pts = (line["pts_s"].as_f64().unwrap() * 1e9).round() as i128;
        (line["seq"].as_u64().unwrap(), (pts, line))
    })
    .collect()
}

/// Holds a recording against the results that left the site: the delivered frames from `pre` before its events' first frame to
/// `post` after their last, and no other.
fn exact_to_a_frame(site: &Site, folder: &Path, (pre, post): (i128, i128)) {
    let results = results(site, "left");
    let store = rusqlite::Connection::open(site.path("state/site.sqlite")).unwrap();
    let summary = summary(folder);
    let (mut first, mut last) = (i128::MAX, i128::MIN);
    for event in summary["events"].as_array().unwrap() {
        let text: String = store
            .query_row("SELECT event FROM events WHERE id = ?1", [event["id"].as_str().unwrap()], |row| {
                row.get(0)
            })
            .unwrap();
        let event: Value = serde_json::from_str(&text).unwrap();
        let start = event["start"].as_str().unwrap();
        let (begins, _) = results.values().find(|(_, line)| line["captured"] == start).unwrap();
        let length = nanos(event["end"].as_str().unwrap()) - nanos(start);
        (first, last) = (first.min(*begins), last.max(begins + length));
    }
    let wanted: Vec<u64> = results
        .iter()
        .filter(|(_, (pts, _))| (first - pre..=last + post).contains(pts))
        .map(|(seq, _)| *seq)
        .collect();
    let frames = lines(&folder.join("frames.jsonl"));
    let delivered: Vec<&Value> = frames.iter().filter(|frame| frame["fate"] == "delivered").collect();
    let got: Vec<u64> = delivered.iter().map(|frame| frame["seq"].as_u64().unwrap()).collect();
    assert_eq!(got, wanted, "{summary:#}");
    for frame in delivered {
        assert_eq!(frame["result"], results[&frame["seq"].as_u64().unwrap()].1);
    }
    // The camera gives thirty frames a second and ten are looked at: the others are accounted for.
    let over_rate = frames.iter().filter(|frame| frame["fate"] == "over_rate").count();
    assert!(over_rate >= got.len(), "{over_rate} of {}", frames.len());
}

#[test]
fn an_event_is_recorded_exact_to_a_frame_and_replayed_to_the_last_bit() {
    let site = Site::new();
    site.pipeline_of("eyes.toml", &site.copy_of_weights());
    write(&site, &(HEAD.to_owned() + &camera("left", &clip(), RECORD)));
    let daemon = site.start();
    // The clip begins with an eye that is closed: what was before that event nobody has.
    let later = || {
        let all = events(&daemon);
        let first = all.last().map(|event| event["id"].clone());
        all.into_iter().find(|event| {
            Some(&event["id"]) != first.as_ref() && event["phase"] == "end" && !event["clip_url"].is_null()
        })
    };
    daemon.until("an event is recorded that had something before it", || later().is_some());
    let event = later().unwrap();
    let id = event["id"].as_str().unwrap();
    // The picture was there when the event was told, and is a JPEG of the camera's size.
    let (code, picture) = daemon.get_bytes(event["snapshot_url"].as_str().unwrap());
    assert_eq!((code, &picture[..2]), (200, &[0xff, 0xd8][..]));
    let (code, clip) = daemon.get_bytes(event["clip_url"].as_str().unwrap());
    assert_eq!((code, &clip[4..8]), (200, &b"ftyp"[..]));
    let media = daemon.status()["media"].clone();
    assert!(media["up"] == true && media["bytes"].as_u64().unwrap() > 10_000, "{media}");
    assert!(
        media["written"]["recording"].as_u64().unwrap() >= 1 && media["dropped"] == serde_json::json!({}),
        "{media}"
    );
    assert!(daemon.get("/metrics").1.contains("tapetum_media_written_total{kind=\"recording\"}"));
    daemon.stop();
    let folder = site.path("state/media").join(event["recording"].as_str().unwrap());
    exact_to_a_frame(&site, &folder, (1_000_000_000, 500_000_000));
    assert_eq!(summary(&folder)["ended"], "over");
    assert_eq!(summary(&folder)["exact"], true);

    // By id and by folder.
    let video = site.path("again.avi");
    for arguments in [vec![id], vec![folder.to_str().unwrap(), "--video", video.to_str().unwrap()]] {
        let (code, report) = replayed(&site, &arguments);
        assert_eq!((code, &report["verdict"]), (Some(0), &Value::from("identical")), "{report:#}");
        assert!(report["frames"].as_u64().unwrap() >= 3 && report["frames"] == report["identical"]);
        assert_eq!(
            (&report["changes"], &report["missing"]),
            (&serde_json::json!([]), &serde_json::json!([]))
        );
    }
    assert!(fs::metadata(&video).unwrap().len() > 10_000);
    // The clip is one that our own reader takes, too.
    let out = site.path("out");
    let run = Command::new(env!("CARGO_BIN_EXE_tapetum"))
        .args([
            "run",
            site.path("eyes.toml").to_str().unwrap(),
            "--json",
            "--out",
            out.to_str().unwrap(),
            "--source",
        ])
        .arg(folder.join("clip.mp4"))
        .env("TAPETUM_CACHE", env!("CARGO_TARGET_TMPDIR"))
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));

    // Other weights: that is said first, then what differs.
    site.other_weights();
    let (code, report) = replayed(&site, &[id]);
    assert_eq!((code, &report["verdict"]), (Some(3), &Value::from("different")), "{report:#}");
    let changes = report["changes"].as_array().unwrap();
    assert!(
        changes.iter().any(|c| c.as_str().unwrap().starts_with("stage state: model: then tfcls")),
        "{changes:?}"
    );
    let first = &report["differences"][0];
    assert!(first["differences"].as_array().unwrap().iter().all(|d| d["stage"] == "state"), "{first:#}");
    assert!(report["largest"].as_f64().unwrap() > 1e-4);
    let (code, said, _) = replay(&site, &[id]);
    assert_eq!(code, Some(3));
    let at = |what: &str| said.find(what).unwrap_or_else(|| panic!("{what:?} is not in:\n{said}"));
    assert!(
        at("changed since: stage state: model") < at("state: prob") && at("state: prob") < at("\ndifferent")
    );

    // A changed file is refused, and so is what is no event.
    let clip = folder.join("clip.mp4");
    let mut bytes = fs::read(&clip).unwrap();
    bytes[100] ^= 1;
    fs::write(&clip, bytes).unwrap();
    let (code, _, said) = replay(&site, &[id]);
    assert!(code == Some(1) && said.contains("clip.mp4: changed since it was recorded"), "{code:?} {said}");
    for (event, says) in
        [("01ARZ3NDEKTSV4RRFFQ69G5FAV", "there is no recording of it"), ("gate", "neither the folder")]
    {
        let (code, _, said) = replay(&site, &[event]);
        assert!(code == Some(2) && said.contains(says), "{code:?} {said}");
    }
}

#[test]
fn what_a_killed_daemon_was_recording_is_completed_by_the_next() {
    let site = Site::new();
    write(&site, &(HEAD.to_owned() + &camera("left", &clip(), RECORD)));
    let daemon = site.start();
    let parts = || {
        let entries = fs::read_dir(site.path("state/media/left")).into_iter().flatten().flatten();
        let hidden = entries.filter(|entry| entry.file_name().to_string_lossy().ends_with(".part"));
        hidden.map(|entry| entry.path()).filter(|path| path.is_dir()).collect::<Vec<PathBuf>>()
    };
    let grown = || {
        let size = |part: &PathBuf| fs::metadata(part.join("frames.jsonl")).map_or(0, |meta| meta.len());
        parts().iter().any(|part| size(part) > 4000)
    };
    daemon.until("a recording grows", grown);
    daemon.kill();
    let left = parts();
    assert!(!left.is_empty());
    let whole = |part: &PathBuf| {
        let name = part.file_name().unwrap().to_string_lossy().into_owned();
        part.with_file_name(name.trim_start_matches('.').trim_end_matches(".part"))
    };
    assert!(left.iter().all(|part| !whole(part).exists()));
    let daemon = site.start();
    daemon.until("it is completed", || left.iter().all(|part| whole(part).join("recording.json").exists()));
    assert_eq!(daemon.status()["media"]["written"]["salvaged"], left.len());
    daemon.stop();
    for part in &left {
        assert_eq!(summary(&whole(part))["ended"], "killed");
        let (code, report) = replayed(&site, &[whole(part).to_str().unwrap()]);
        assert_eq!((code, &report["verdict"]), (Some(0), &Value::from("identical")), "{report:#}");
    }
}

#[test]
fn the_folder_stays_below_its_bound_while_events_go_on() {
    let site = Site::new();
    let bound = "\n[media]\nmax_mb = 1\n";
    let cameras = camera("left", &clip(), "record = { pre_s = 3, post_s = 1 }");
    write(&site, &(HEAD.to_owned() + bound + &cameras));
    let daemon = site.start();
    daemon.until("the oldest went", || {
        let media = daemon.status()["media"].clone();
        assert!(media["bytes"].as_u64().unwrap() <= 1 << 20, "{media}");
        media["removed"]["recording: max_mb"].as_u64().unwrap_or(0) >= 1
    });
    let events = events(&daemon);
    let there: Vec<bool> = events.iter().map(|event| !event["clip_url"].is_null()).collect();
    assert!(there.contains(&true) && there.contains(&false), "{there:?}");
    // What went is not there, which is said.
    let gone = events.iter().find(|e| e["clip_url"].is_null() && e["phase"] == "end").unwrap();
    assert_eq!(daemon.get(&format!("/api/v1/events/{}/clip.mp4", gone["id"].as_str().unwrap())).0, 404);
    daemon.stop();
}

#[test]
fn a_folder_that_cannot_be_written_is_told_and_events_go_on() {
    let site = Site::new();
    fs::write(site.path("blocked"), "a file, not a folder").unwrap();
    let media = format!("\n[media]\ndir = '{}'\n", site.path("blocked/media").display());
    write(&site, &(HEAD.to_owned() + &media + &camera("left", &clip(), RECORD)));
    let daemon = site.start();
    daemon.until("events are told without pictures", || {
        events(&daemon).iter().any(|event| event["phase"] == "end" && event["snapshot"].is_null())
    });
    let (code, ready) = daemon.get("/readyz");
    assert!(code == 503 && ready.contains("media: ") && ready.contains("cannot be written"), "{ready}");
    daemon.until("recordings are counted as dropped", || {
        daemon.status()["media"]["dropped"]["recording: cannot be written"].as_u64().unwrap_or(0) >= 1
    });
    fs::remove_file(site.path("blocked")).unwrap();
    wait_for_recording(&daemon);
    assert_eq!(daemon.get("/readyz").0, 200);
    let log = daemon.stop();
    assert!(log.contains("no snapshots and recordings: ") && log.contains("are written again"), "{log}");
}

#[test]
fn other_keys_are_taken_in_while_the_camera_runs() {
    let site = Site::new();
    write(&site, &(HEAD.to_owned() + &camera("left", &clip(), "")));
    let daemon = site.start();
    daemon.until("an event without anything kept", || !events(&daemon).is_empty());
    assert!(events(&daemon)[0]["recording"].is_null() && events(&daemon)[0]["snapshot"].is_null());
    write(&site, &(HEAD.to_owned() + &camera("left", &clip(), RECORD)));
    daemon.hang_up();
    let event = wait_for_recording(&daemon);
    // Snapshots alone.
    let alone = "record = { clips = false, snapshots = 'plain' }";
    write(&site, &(HEAD.to_owned() + &camera("left", &clip(), alone)));
    daemon.hang_up();
    daemon.until("pictures without footage", || {
        let newest = events(&daemon).into_iter().next().unwrap_or_default();
        newest["id"] != event["id"] && !newest["snapshot_url"].is_null() && newest["recording"].is_null()
    });
    let left = daemon.camera("left");
    assert_eq!(
        (&left["reconnects"], &left["stalls"]),
        (&Value::from(0), &Value::from(0)),
        "its source went on"
    );
    daemon.stop();
    let folder = site.path("state/media").join(event["recording"].as_str().unwrap());
    let (code, report) = replayed(&site, &[folder.to_str().unwrap()]);
    assert_eq!((code, &report["verdict"]), (Some(0), &Value::from("identical")), "{report:#}");
}

#[test]
fn an_event_ends_where_what_is_kept_of_it_changes_and_its_recording_with_it() {
    let site = Site::new();
    // One picture for hours: an event that goes on for as long as it is looked at.
    let source = "loop:synthetic:bars?size=160x120&fps=10&frames=100000";
    let text = |record: &str| {
        let camera = camera("left", source, record).replace("['broken', 'closed']", "[]");
        HEAD.to_owned() + &camera.replace("min_frames = 2", "min_frames = 2, min_score = 0")
    };
    write(&site, &text(RECORD));
    let daemon = site.start();
    let going_on = || {
        let mut all = events(&daemon).into_iter();
        all.find(|event| event["phase"] != "end" && !event["recording"].is_null())
    };
    daemon.until("an event is being recorded", || going_on().is_some());
    let id = going_on().unwrap()["id"].clone();
    write(&site, &text("record = { pre_s = 1, post_s = 1 }"));
    daemon.hang_up();
    daemon.until("its recording is there", || recorded(&daemon).is_some_and(|event| event["id"] == id));
    daemon.until("another is being recorded", || going_on().is_some());
    assert_ne!(going_on().unwrap()["id"], id);
    let media = daemon.status()["media"].clone();
    assert_eq!((&media["dropped"], &media["up"]), (&serde_json::json!({}), &Value::from(true)), "{media}");
    daemon.stop();
    let folder = |id: &Value| site.path("state/media/left").join(id.as_str().unwrap());
    assert_eq!(summary(&folder(&id))["ended"], "changed");
}

#[test]
fn a_source_without_encoded_pictures_is_recorded_as_jpeg_and_the_replay_says_what_that_means() {
    let site = Site::new();
    let frames = format!("loop:{}/../../tests/clips/dev_b_png?fps=10", demo());
    // The pictures of one look: an event that is over when the clip begins anew, or at the stop.
    write(
        &site,
        &(HEAD.to_owned()
            + &camera("left", &frames, "record = { pre_s = 1, post_s = 0.5, longest_s = 4 }")
                .replace("['broken', 'closed']", "['clear', 'broken', 'closed']")),
    );
    let daemon = site.start();
    daemon.until("it is recorded", || {
        daemon.status()["media"]["written"]["recording"].as_u64().unwrap_or(0) >= 1
    });
    let event = events(&daemon).into_iter().find(|event| !event["clip_url"].is_null()).unwrap();
    daemon.stop();
    let folder = site.path("state/media").join(event["recording"].as_str().unwrap());
    let summary = summary(&folder);
    assert_eq!(
        (&summary["exact"], &summary["codec"]),
        (&Value::from(false), &Value::from("jpeg")),
        "{summary:#}"
    );
    let (code, report) = replayed(&site, &[folder.to_str().unwrap(), "--tolerance", "0.5"]);
    assert!(report["remarks"].to_string().contains("encoded as JPEG for the recording"), "{report:#}");
    assert!(matches!(code, Some(0 | 3)) && report["frames"].as_u64().unwrap() >= 3, "{report:#}");
    assert_eq!(report["missing"], serde_json::json!([]));
}

#[test]
fn mistakes_in_what_is_to_be_kept_are_told_with_their_places() {
    let site = Site::new();
    let wrong =
        camera("left", &clip(), "record = { pre_s = -1, snapshots = 'all', memory_mb = 0, clip = true }")
            + &camera("right", &clip(), "record = { clips = false, snapshots = 'off' }")
            + "\n[camera.third]\nsource = 'loop:x.mp4'\npipeline = 'eyes.toml'\nrecord = {}\n"
            + "\n[media]\nmax_mb = 0\nkeep_day = 3\n";
    write(&site, &(HEAD.to_owned() + &wrong));
    let said = String::from_utf8(site.check(env!("CARGO_BIN_EXE_tapetum")).stderr).unwrap();
    for part in [
        "pre_s must be 0 to 300",
        "snapshots",
        "memory_mb must be 1 to",
        "did you mean \"clips\"?",
        "neither clips nor snapshots",
        "record goes with events",
        "max_mb must be 1 to",
        "did you mean \"keep_days\"?",
    ] {
        assert!(said.contains(part), "{part:?} is not in:\n{said}");
    }
    write(&site, &(HEAD.to_owned() + &camera("left", &clip(), "record = {}")));
    assert!(site.check(env!("CARGO_BIN_EXE_tapetum")).status.success());
}

#[test]
fn a_network_camera_is_recorded_as_it_sends_and_replayed_to_the_last_bit() {
    let Some(server) = crate::server::Server::start(&[]) else { return };
    let site = Site::new();
    // The pattern is no eye: whatever it is taken for is an event.
    for path in ["pattern", "mjpeg"] {
        let source = server.url(path);
        let text = camera("left", &source, "record = { pre_s = 2, post_s = 0.5, longest_s = 5 }")
            .replace("['broken', 'closed']", "[]")
            .replace("min_frames = 2", "min_frames = 2, min_score = 0");
        fs::remove_dir_all(site.path("state")).ok();
        write(&site, &(HEAD.to_owned() + &text));
        let daemon = site.start();
        daemon.until("it is recorded", || {
            daemon.status()["media"]["written"]["recording"].as_u64().unwrap_or(0) >= 1
        });
        let event = events(&daemon).into_iter().find(|event| !event["clip_url"].is_null()).unwrap();
        daemon.stop();
        let folder = site.path("state/media").join(event["recording"].as_str().unwrap());
        let codec = if path == "mjpeg" { "jpeg" } else { "h264" };
        assert_eq!(
            (&summary(&folder)["codec"], &summary(&folder)["exact"]),
            (&Value::from(codec), &Value::from(true))
        );
        let (code, report) = replayed(&site, &[folder.to_str().unwrap()]);
        assert_eq!((code, &report["verdict"]), (Some(0), &Value::from("identical")), "{path}: {report:#}");
        assert!(report["frames"].as_u64().unwrap() >= 3, "{report:#}");
    }
}

#[test]
fn a_broker_is_sent_the_picture_of_an_event_and_finds_it_in_the_message() {
    let port = crate::broker::free_port();
    let site = Site::new();
    let Some(_broker) = Broker::start(&site.path(""), port, "allow_anonymous true") else { return };
    let output =
        format!("\n[[output]]\nkind = 'mqtt'\nhost = '127.0.0.1'\nport = {port}\nsnapshots = true\n");
    let record = "record = { clips = false, snapshots = 'boxes' }";
    write(&site, &(HEAD.to_owned() + &output + &camera("left", &clip(), record)));
    let heard = raw_topics::listen(port, "tapetum/test/#");
    let daemon = site.start();
    daemon.until("a picture is sent", || {
        heard.lock().unwrap().iter().any(|(topic, _)| topic.ends_with("/snapshot"))
    });
    let heard = heard.lock().unwrap().clone();
    let (topic, picture) = heard.iter().find(|(topic, _)| topic.ends_with("/snapshot")).unwrap();
    assert!(topic.starts_with("tapetum/test/left/"), "{topic}");
    // A whole JPEG, from its first marker to its last.
    assert_eq!((&picture[..2], &picture[picture.len() - 2..]), (&[0xff, 0xd8][..], &[0xff, 0xd9][..]));
    let events = heard.iter().filter(|(topic, _)| topic == "tapetum/test/events");
    let named = events
        .map(|(_, body)| serde_json::from_slice::<Value>(body).unwrap())
        .find(|event| event["snapshot"] == format!("left/{}.jpg", event["id"].as_str().unwrap()));
    assert!(named.is_some(), "no event names its picture");
    daemon.stop();
}
