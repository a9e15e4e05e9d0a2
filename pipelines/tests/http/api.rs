//! What is answered, held against the document that says so.

use std::{sync::atomic::Ordering, time::Duration};

use serde_json::Value;

use super::{
    made::{self, Made},
    schema,
    wire::{Answer, get, request},
};

const DOCUMENT: &str = include_str!("../../schema/openapi.json");
const ROUTES: &str = include_str!("../../src/site/http/api.rs");

/// Holds an answer against what the document says for that path, method and status.
fn documented(path: &str, method: &str, answer: &Answer) {
    let document: Value = serde_json::from_str(DOCUMENT).unwrap();
    let responses = &document["paths"][path][method]["responses"];
    let resolve = |value: &Value| match value["$ref"].as_str() {
        Some(path) => document.pointer(path.strip_prefix('#').unwrap()).unwrap().clone(),
        None => value.clone(),
    };
    let response = resolve(&responses[answer.status.to_string()]);
    let kind = answer.header("content-type").unwrap_or("none").split(';').next().unwrap().to_owned();
    let content = &response["content"][&kind];
    assert!(content.is_object(), "{method} {path} {}: {kind} is not documented", answer.status);
    if kind.ends_with("json") {
        let faults = schema::faults(&document, &content["schema"], &answer.json(), "");
        assert!(faults.is_empty(), "{method} {path} {}: {faults:#?}", answer.status);
    }
}

#[test]
fn every_route_is_in_the_document_and_every_path_in_it_is_a_route() {
    let document: Value = serde_json::from_str(DOCUMENT).unwrap();
    let mut routes: Vec<&str> =
        ROUTES.split(".route(\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    routes.retain(|route| *route != "/api/v1/live");
    routes.sort_unstable();
    let paths: Vec<String> =
        document["paths"].as_object().unwrap().keys().map(|path| path.replace("{path}", "{*path}")).collect();
    assert_eq!(routes, paths.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn every_answer_is_as_documented() {
    let made = Made::new();
    let (_serving, address) = made.serve();
    let camera = "/api/v1/cameras/{name}";
    let event = "/api/v1/events/{id}";
    for (path, asked, status) in [
        ("/healthz", "/healthz", 200),
        ("/readyz", "/readyz", 200),
        ("/metrics", "/metrics", 200),
        ("/api/v1/status", "/api/v1/status", 200),
        (camera, "/api/v1/cameras/front%20gate", 200),
        (camera, "/api/v1/cameras/nowhere", 404),
        (camera, "/api/v1/cameras/%ff", 400),
        ("/api/v1/events", "/api/v1/events?limit=2", 200),
        ("/api/v1/events", "/api/v1/events?limit=0", 400),
        ("/api/v1/events", "/api/v1/events?cursor=x", 400),
        (event, "/api/v1/events/20260504030009-gate-1", 200),
        (event, "/api/v1/events/x", 404),
        ("/api/v1/events/{id}/clip.mp4", "/api/v1/events/20260504030009-gate-1/clip.mp4", 200),
        ("/api/v1/events/{id}/clip.mp4", "/api/v1/events/20260504030008-gate-1/clip.mp4", 404),
        ("/api/v1/events/{id}/snapshot.jpg", "/api/v1/events/20260504030009-gate-1/snapshot.jpg", 200),
        ("/api/v1/events/{id}/snapshot.jpg", "/api/v1/events/20260504030008-gate-1/snapshot.jpg", 404),
        ("/api/v1/media/{path}", "/api/v1/media/front%20gate/1.jpg", 200),
        ("/api/v1/media/{path}", "/api/v1/media/none.jpg", 404),
        ("/api/v1/session", "/api/v1/session", 200),
        ("/api/v1/openapi.json", "/api/v1/openapi.json", 200),
    ] {
        let answer = get(address, asked, &[]);
        assert_eq!(answer.status, status, "{asked}: {answer:?}");
        documented(path, "get", &answer);
    }
    let answer = request(address, "POST", "/api/v1/reload", &[], b"");
    assert_eq!(answer.status, 202);
    documented("/api/v1/reload", "post", &answer);
    assert_eq!(made.reloads.load(Ordering::SeqCst), 1);
    *made.refuse_reload.lock().unwrap() = Some("site.toml:3:1: unknown key \"camra\"".into());
    let answer = request(address, "POST", "/api/v1/reload", &[], b"");
    assert_eq!(
        (answer.status, answer.json()["detail"].as_str()),
        (422, Some("site.toml:3:1: unknown key \"camra\""))
    );
    documented("/api/v1/reload", "post", &answer);
    assert_eq!(get(address, "/api/v1/reload", &[]).status, 405);
    assert_eq!(get(address, "/nowhere", &[]).status, 404);
}

#[test]
fn trouble_is_told_with_its_reasons() {
    let made = Made::new();
    let (_serving, address) = made.serve();
    made.status.lock().unwrap().not_ready = vec!["camera \"yard\": models are loading".into()];
    let answer = get(address, "/readyz", &[]);
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json()["reasons"][0], "camera \"yard\": models are loading");
    documented("/readyz", "get", &answer);
    assert_eq!(get(address, "/healthz", &[]).status, 200, "not ready is not dead");
    *made.stuck.lock().unwrap() = vec!["no frame was delivered for 60 s".into()];
    let answer = get(address, "/healthz", &[]);
    assert_eq!(
        (answer.status, answer.json()["reasons"][0].as_str()),
        (503, Some("no frame was delivered for 60 s"))
    );
    documented("/healthz", "get", &answer);
}

#[test]
fn events_come_page_by_page_and_filtered() {
    let made = Made::new();
    let (_serving, address) = made.serve();
    let ids = |query: &str| -> (Vec<String>, Value) {
        let told = get(address, &format!("/api/v1/events{query}"), &[]).json();
        let ids =
            told["events"].as_array().unwrap().iter().map(|event| event["id"].as_str().unwrap().to_owned());
        (ids.collect(), told["next"].clone())
    };
    let (all, next) = ids("");
    assert_eq!((all.len(), next), (3, Value::Null));
    let (first, next) = ids("?limit=2");
    assert_eq!((&first[..], next.as_str().unwrap()), (&all[..2], all[1].as_str()));
    let (rest, next) = ids(&format!("?limit=2&cursor={}", next.as_str().unwrap()));
    assert_eq!((&rest[..], next), (&all[2..], Value::Null));
    assert_eq!(ids("?camera=yard").0, [all[1].clone()]);
    assert_eq!(ids("?after=2026-05-04T03:01:01Z&before=2026-05-04T03:02:01Z").0, [all[1].clone()]);
    assert!(ids("?label=car").0.is_empty());
}

#[test]
fn a_snapshot_is_the_next_frame_and_media_come_whole() {
    let made = Made::new();
    let (_serving, address) = made.serve();
    let live = made.lives["front gate"].clone();
    let asked = std::thread::spawn(move || get(address, "/api/v1/cameras/front%20gate/snapshot.jpg", &[]));
    while !live.watched() {
        std::thread::sleep(Duration::from_millis(5));
    }
    live.show(made::frame(7));
    let answer = asked.join().unwrap();
    assert_eq!((answer.status, answer.header("tapetum-seq")), (200, Some("7")));
    assert_eq!(answer.body, made::frame(7).jpeg);
    documented("/api/v1/cameras/{name}/snapshot.jpg", "get", &answer);
    let answer = get(address, "/api/v1/cameras/yard/snapshot.jpg", &[]);
    assert_eq!(answer.status, 503, "the camera gives no frames");
    documented("/api/v1/cameras/{name}/snapshot.jpg", "get", &answer);
    while live.watched() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let clip = get(address, "/api/v1/media/clip.mp4", &[]);
    assert_eq!((clip.status, clip.header("content-type")), (200, Some("video/mp4")));
    assert_eq!((&clip.body, clip.header("accept-ranges")), (&vec![7; 300_000], Some("bytes")));
    let part = get(address, "/api/v1/media/clip.mp4", &["Range: bytes=299000-"]);
    assert_eq!((part.status, part.body.len()), (206, 1000));
    assert_eq!(part.header("content-range"), Some("bytes 299000-299999/300000"));
    documented("/api/v1/media/{path}", "get", &part);
    let beyond = get(address, "/api/v1/media/clip.mp4", &["Range: bytes=300000-"]);
    assert_eq!(beyond.status, 416);
    documented("/api/v1/media/{path}", "get", &beyond);
    // An event's files have an address while they are there.
    let event = get(address, "/api/v1/events/20260504030009-gate-1", &[]).json();
    assert_eq!(event["clip_url"], "/api/v1/events/20260504030009-gate-1/clip.mp4");
    std::fs::remove_file(made.media.join("front gate/1.jpg")).unwrap();
    std::fs::remove_dir_all(made.media.join("front gate/r1")).unwrap();
    let event = get(address, "/api/v1/events/20260504030009-gate-1", &[]).json();
    assert_eq!((&event["clip_url"], &event["snapshot_url"]), (&Value::Null, &Value::Null));
    assert_eq!(event["recording"], "front gate/r1");
}

#[test]
fn the_page_is_ours_alone_and_is_not_sent_twice() {
    let (_serving, address) = Made::new().serve();
    let page = get(address, "/", &[]);
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    let html = page.text();
    assert!(!html.contains("<style") && !html.contains(" style=") && !html.contains(" on"), "nothing inline");
    for part in html.split(['"']).filter(|part| part.starts_with('/') && part.contains('.')) {
        let file = get(address, part, &[]);
        assert_eq!(file.status, 200, "{part}");
        assert!(
            !file.text().contains("http://") && !file.text().contains("https://"),
            "{part} loads from elsewhere"
        );
        let again = get(address, part, &[&format!("If-None-Match: {}", file.header("etag").unwrap())]);
        assert_eq!((again.status, again.body.len()), (304, 0), "{part}");
        assert_eq!(get(address, part, &["If-None-Match: \"other\""]).status, 200);
    }
}
