//! Odd starts, and what goes wrong while it runs: it starts or says why not, goes on, and stops within two seconds.

use std::{io::Write, net::TcpListener, time::Duration};

use tapetum_parts::SmallDisk;

use super::{
    accounted, delivered,
    site::{Daemon, Site},
};

/// Stops it within two seconds, and says how long that took.
fn stop(daemon: Daemon, what: &str) -> String {
    let (log, took) = daemon.stop_timed();
    // Past the test harness, which would swallow the line of a test that passes.
    let line = format!("stop: {what}: {} ms\n", took.as_millis());
    std::io::stderr().write_all(line.as_bytes()).unwrap();
    assert!(took < Duration::from_secs(2), "{what}: took {took:?} to stop\n{log}");
    log
}

/// Events that the store knows as going on, and all.
fn stored(site: &Site) -> (i64, i64) {
    let store = rusqlite::Connection::open(site.path("state/site.sqlite")).unwrap();
    let sql = "SELECT count(*) FILTER (WHERE phase <> 'end'), count(*) FROM events";
    store.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
}

#[test]
fn a_dead_camera_and_a_dead_broker() {
    let site = Site::new();
    site.write(
        &["left"],
        "[camera.dead]\nsource = 'rtsp://127.0.0.1:1/'\npipeline = 'eyes.toml'\n\
         [[output]]\nkind = 'mqtt'\nhost = '127.0.0.1'\nport = 1\n\
         [[output]]\nkind = 'webhook'\nurl = 'http://127.0.0.1:1/'\n",
    );
    let daemon = site.start();
    daemon.until("events wait for both", || {
        ["mqtt", "webhook"].iter().all(|name| {
            let output = daemon.output(name);
            output["up"] == false && output["why"].is_string() && output["spooled"].as_u64().unwrap() > 0
        })
    });
    daemon.until("the dead one is told", || daemon.camera("dead")["state"] == "waiting");
    accounted(&daemon.camera("left"));
    stop(daemon, "dead camera, dead broker, dead webhook");
    let (open, all) = stored(&site);
    assert!(open == 0 && all > 0, "{open} of {all} left open");
}

#[test]
fn a_disk_that_is_full_from_the_start() {
    let site = Site::new();
    std::fs::create_dir(site.path("state")).unwrap();
    let Some(disk) = SmallDisk::mount(&site.path("state"), 4 << 20) else { return };
    let full = disk.fill();
    site.write(
        &["left"],
        "[[output]]\nkind = 'jsonl'\n[[output]]\nkind = 'webhook'\nurl = 'http://127.0.0.1:1/'\n",
    );
    let daemon = site.start();
    daemon.until("frames come", || delivered(&daemon, "left") > 20);
    daemon.until("it is told", || {
        ["sqlite", "jsonl"].iter().all(|name| {
            let output = daemon.output(name);
            output["up"] == false && output["why"].as_str().is_some_and(|why| why.contains("full"))
        })
    });
    assert_eq!(daemon.get("/readyz").0, 503);
    stop(daemon, "disk full");
    // There is room while it runs.
    let daemon = site.start();
    daemon.until("frames come", || delivered(&daemon, "left") > 20);
    std::fs::remove_file(full).unwrap();
    daemon.until("all is written", || {
        ["sqlite", "jsonl"].iter().all(|name| daemon.output(name)["delivered"].as_u64().unwrap() > 0)
    });
    stop(daemon, "disk that was full");
    assert_eq!(stored(&site).0, 0);
    drop(disk);
}

#[test]
fn starts_that_are_refused_with_the_reason() {
    let site = Site::new();
    site.write(&["left"], "");
    let daemon = site.start();
    daemon.until("it runs", || delivered(&daemon, "left") > 0);
    let (code, why) = site.start_refused();
    assert!(code == 1 && why.contains("another tapetumd has the state folder"), "{code}: {why}");
    stop(daemon, "two daemons, the first");
    // It was told to stop, so the folder is free.
    stop(site.start(), "at once after the start");

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    site.replace("127.0.0.1:0", &address.to_string());
    let (code, why) = site.start_refused();
    assert!(code == 1 && why.contains(&address.to_string()) && why.contains("in use"), "{code}: {why}");
    site.replace(&address.to_string(), "127.0.0.1:0");

    std::fs::write(site.path("file"), "").unwrap();
    site.replace("state = 'state'", "state = 'file/state'");
    let (code, why) = site.start_refused();
    assert!(code == 1 && why.contains("file/state: cannot create the folder"), "{code}: {why}");
    site.replace("state = 'file/state'", "state = 'state'");

    let pipeline = std::fs::read_to_string(site.path("eyes.toml")).unwrap();
    std::fs::write(site.path("eyes.toml"), pipeline.replace("tf-cls.pt", "gone.pt")).unwrap();
    let (code, why) = site.start_refused();
    assert!(code == 2 && why.contains("gone.pt") && why.contains("eyes.toml:"), "{code}: {why}");
}

#[test]
fn a_configuration_that_is_taken_away_is_told_and_nothing_else_happens() {
    let site = Site::new();
    site.write(&["left"], "");
    let daemon = site.start();
    daemon.until("it runs", || delivered(&daemon, "left") > 5);
    let text = site.text();
    std::fs::remove_file(site.path("site.toml")).unwrap();
    daemon.until("it is told", || {
        daemon.status()["config"]["reload_error"].as_str().is_some_and(|why| why.contains("site.toml"))
    });
    let frames = delivered(&daemon, "left");
    daemon.until("frames go on", || delivered(&daemon, "left") > frames + 5);
    std::fs::write(site.path("site.toml"), text).unwrap();
    daemon.until("it is there again", || daemon.status()["config"]["reload_error"].is_null());
    stop(daemon, "configuration taken away and put back");
}

#[test]
fn sixty_four_cameras() {
    let site = Site::new();
    let names: Vec<String> = (0..16).map(|n| format!("cam-{n}")).collect();
    let dead: String = (0..48)
        .map(|n| format!("[camera.dead-{n}]\nsource = 'rtsp://127.0.0.1:1/{n}'\npipeline = 'eyes.toml'\n"))
        .collect();
    site.write(&names.iter().map(String::as_str).collect::<Vec<_>>(), &dead);
    let text = site.text().replace("max_fps = 10", "max_fps = 1");
    std::fs::write(site.path("site.toml"), text).unwrap();
    let daemon = site.start();
    daemon.until("each gets its turn", || {
        let status = daemon.status();
        let cameras = status["cameras"].as_array().unwrap();
        let state = |state: &str| cameras.iter().filter(|c| c["state"] == state).count();
        let done = |c: &&serde_json::Value| c["frames"]["delivered"].as_u64().unwrap() > 2;
        state("streaming") == 16
            && state("waiting") + state("connecting") == 48
            && cameras.iter().filter(done).count() == 16
    });
    let status = daemon.status();
    status["cameras"].as_array().unwrap().iter().for_each(accounted);
    assert_eq!(status["models"].as_array().unwrap().len(), 1);
    // One more changes nothing for the others.
    site.append("[camera.one-more]\nsource = 'rtsp://127.0.0.1:1/'\npipeline = 'eyes.toml'\n");
    assert_eq!(daemon.reload()["reload_did"], serde_json::json!(["camera one-more added"]));
    stop(daemon, "64 cameras, 48 of them dead");
}
