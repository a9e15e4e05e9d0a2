//! What happens to cameras and on the way to them.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    Lengths, proxy,
    scene::{Bystander, Row, Scene, sum, wait},
    server::Server,
    site::Daemon,
};

fn victim(daemon: &Daemon) -> Value {
    daemon.camera("victim")
}

fn delivered(daemon: &Daemon) -> u64 {
    victim(daemon)["frames"]["delivered"].as_u64().unwrap()
}

fn streams(daemon: &Daemon) -> bool {
    victim(daemon)["state"] == "streaming"
}

/// Waits for a new result; how long that took.
fn results(daemon: &Daemon, what: &str) -> Duration {
    let before = delivered(daemon);
    wait(what, || streams(daemon) && delivered(daemon) > before)
}

/// What the daemon says of the victim's losses.
fn lost(daemon: &Daemon) -> String {
    let camera = victim(daemon);
    format!(
        "no pictures for {:.1} s; {} reconnect, {} stall; {} frames unreadable",
        camera["downtime_s"].as_f64().unwrap(),
        camera["reconnects"],
        camera["stalls"],
        camera["frames"]["failed"]["unreadable"].as_u64().unwrap_or(0)
    )
}

pub fn killed(lengths: Lengths) -> Option<Row> {
    let server = Server::start(&[])?;
    let port = server.port.to_string();
    let scene = Scene::new(Some(&format!("source = '{}'", server.url("pattern"))), "");
    let daemon = scene.start();
    let other = Bystander::watch(&daemon);
    let from = Instant::now();
    drop(server);
    wait("that the server is gone is told", || !streams(&daemon));
    let noticed = from.elapsed();
    let lasts = lengths.of(20);
    std::thread::sleep(lasts.saturating_sub(noticed));
    let _server = Server::start(&["--port", &port])?;
    let back = results(&daemon, "results come again");
    let row =
        Row { lasts, noticed: Some(noticed), back, lost: lost(&daemon), others: other.unharmed(&daemon) };
    assert_eq!(victim(&daemon)["reconnects"], 1);
    daemon.stop();
    Some(row)
}

pub fn half_open(lengths: Lengths) -> Option<Row> {
    let server = Server::start(&[])?;
    let (relay, harm) = proxy::start(server.port, 1);
    let scene = Scene::new(Some(&format!("source = 'rtsp://127.0.0.1:{}/pattern'", relay.port)), "");
    let daemon = scene.start();
    let other = Bystander::watch(&daemon);
    harm.frozen.store(true, Ordering::SeqCst);
    let noticed = wait("the stall is told", || victim(&daemon)["stalls"] == 1);
    assert!(
        noticed > Duration::from_millis(1500) && noticed < Duration::from_secs(6),
        "stall_s = 2: {noticed:?}"
    );
    let lasts = lengths.of(20).max(noticed);
    std::thread::sleep(lasts - noticed);
    harm.frozen.store(false, Ordering::SeqCst);
    let back = results(&daemon, "results come again");
    let row =
        Row { lasts, noticed: Some(noticed), back, lost: lost(&daemon), others: other.unharmed(&daemon) };
    daemon.stop();
    Some(row)
}

pub fn garbage(lengths: Lengths) -> Option<Row> {
    let server = Server::start(&[])?;
    let (relay, harm) = proxy::start(server.port, 2);
    let scene = Scene::new(Some(&format!("source = 'rtsp://127.0.0.1:{}/pattern'", relay.port)), "");
    let daemon = scene.start();
    let other = Bystander::watch(&daemon);
    harm.flips.store(true, Ordering::SeqCst);
    harm.drops.store(true, Ordering::SeqCst);
    let failed = || sum(&victim(&daemon)["frames"]["failed"]);
    let noticed = wait("unreadable frames are counted", || failed() > 0);
    let lasts = lengths.of(20);
    std::thread::sleep(lasts.saturating_sub(noticed));
    harm.flips.store(false, Ordering::SeqCst);
    harm.drops.store(false, Ordering::SeqCst);
    // As before: the last frame that cannot be read has gone by, and twenty good ones have come since.
    let (from, mut last, mut good) = (Instant::now(), (Duration::ZERO, failed()), delivered(&daemon));
    wait("only good frames come", || {
        let now = failed();
        if now != last.1 {
            (last, good) = ((from.elapsed(), now), delivered(&daemon));
        }
        delivered(&daemon) >= good + 20
    });
    let row = Row {
        lasts,
        noticed: Some(noticed),
        back: last.0,
        lost: lost(&daemon),
        others: other.unharmed(&daemon),
    };
    daemon.stop();
    Some(row)
}

pub fn resized(lengths: Lengths) -> Option<Row> {
    let server = Server::start(&[])?;
    let scene = Scene::new(Some(&format!("source = '{}'", server.url("resize"))), "");
    let daemon = scene.start();
    let other = Bystander::watch(&daemon);
    let (mut size, mut changes, mut longest) = (victim(&daemon)["size"].clone(), 0, 0.0_f64);
    let enough = if lengths.long { 10 } else { 3 };
    wait("the size changes again and again", || {
        let camera = victim(&daemon);
        longest = longest.max(camera["last_frame_age_s"].as_f64().unwrap());
        if camera["size"] != size {
            (size, changes) = (camera["size"].clone(), changes + 1);
        }
        changes >= enough
    });
    let camera = victim(&daemon);
    assert_eq!((&camera["reconnects"], sum(&camera["frames"]["failed"])), (&Value::from(0), 0), "{camera}");
    let lost = format!("nothing; at most {longest:.2} s between two results over {changes} changes");
    let back = Duration::from_secs_f64(longest);
    let row = Row { lasts: Duration::ZERO, noticed: None, back, lost, others: other.unharmed(&daemon) };
    daemon.stop();
    Some(row)
}

/// The source is pictures in a folder that goes, as a device's node does: it is opened anew for every round, a second long. (A real
/// device that is unplugged: tests/device.)
pub fn gone(lengths: Lengths) -> Option<Row> {
    let scene = Scene::new(None, "");
    let (here, away) = (scene.site.path("pictures"), scene.site.path("away"));
    std::fs::create_dir(&here).unwrap();
    let clips = crate::clip("dev_b_png").with_extension("");
    let mut pictures: Vec<_> = std::fs::read_dir(clips).unwrap().map(|f| f.unwrap().path()).collect();
    pictures.sort();
    for picture in pictures.iter().take(10) {
        std::fs::copy(picture, here.join(picture.file_name().unwrap())).unwrap();
    }
    scene.write(Some(&format!("source = 'loop:{}?fps=10'", here.display())), "", true);
    let daemon = scene.start();
    let other = Bystander::watch(&daemon);
    std::fs::rename(&here, &away).unwrap();
    let noticed = wait("that it is gone is told", || !streams(&daemon));
    let lasts = lengths.of(20).max(noticed);
    std::thread::sleep(lasts - noticed);
    std::fs::rename(&away, &here).unwrap();
    let back = results(&daemon, "results come again");
    let row =
        Row { lasts, noticed: Some(noticed), back, lost: lost(&daemon), others: other.unharmed(&daemon) };
    daemon.stop();
    Some(row)
}
