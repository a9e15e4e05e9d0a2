//! The source against GStreamer's RTSP server.

use std::{
    collections::HashMap,
    sync::atomic::Ordering,
    time::{Duration, Instant, SystemTime},
};

use tapetum::source::{
    self, Next, Source,
    live::Stop,
    recover::{Patience, Phase},
    rtsp::{Rtsp, RtspOptions},
    supervised::{LiveOptions, SourceHealth, Supervised},
};
use tapetum_runtime::{ErrorKind, Frame};

use crate::{camera::CLIP, digest, proxy, replay, server::Server, take};

const SOON: Duration = Duration::from_secs(20);

fn watch(url: &str) -> Rtsp {
    Rtsp::open(url, &RtspOptions::default(), &Stop::default()).unwrap()
}

/// Milliseconds → digest of the clip's frames.
fn clip_by_time() -> HashMap<u128, u64> {
    let first = CLIP.frames[0].1;
    CLIP.frames.iter().map(|f| ((f.1 - first).as_micros().div_ceil(500) / 2, f.2)).collect()
}

#[test]
fn the_clip_comes_through_bit_for_bit_by_tcp_and_by_udp() {
    let Some(server) = Server::start(&[]) else { return };
    let clip = clip_by_time();
    for transport in ["tcp", "udp"] {
        let mut source = watch(&format!("{}#transport={transport}", server.url("clip")));
        let got = take(&mut source, 60, SOON);
        assert_eq!(got.frames.len(), 60, "{transport}: {:?} {:?}", got.error, got.unreadable);
        for (n, (seq, pts, picture)) in got.frames.iter().enumerate() {
            assert_eq!(*seq, n as u64);
            let at = pts.as_micros().div_ceil(500) / 2;
            let near = [at, at.saturating_sub(1), at + 1];
            let known = near.iter().find_map(|at| clip.get(at));
            assert_eq!(known, Some(picture), "{transport}: frame {n} at {pts:?}");
        }
        assert_eq!(source.losses(), source::Losses::default(), "{transport}");
    }
}

#[test]
fn mjpeg_and_h264_give_the_same_moving_pattern() {
    let Some(server) = Server::start(&[]) else { return };
    for path in ["pattern", "mjpeg"] {
        let mut source = watch(&server.url(path));
        source.keep_packets();
        let got = take(&mut source, 40, SOON);
        assert_eq!(got.frames.len(), 40, "{path}: {:?} {:?}", got.error, got.unreadable);
        assert!(got.sizes.iter().all(|s| *s == (320, 240)));
        assert!(got.frames.windows(2).all(|w| w[0].2 != w[1].2), "{path}: the ball moves");
        let middle = got.frames[10..].windows(2).map(|w| w[1].1 - w[0].1).max().unwrap();
        assert!(middle < Duration::from_millis(140), "{path}: {middle:?} between frames at 15/s");
        // A recording that starts at a later key frame.
        let from = got.packets.iter().enumerate().skip(5).find(|(_, p)| p.key).unwrap().0;
        let again = replay(&got.packets[from..]);
        let same = again.iter().filter(|(pts, _)| got.frames.iter().any(|f| f.1 == *pts));
        assert!(same.clone().count() > 10, "{path}");
        for (pts, picture) in same {
            assert!(got.frames.iter().any(|f| f.1 == *pts && f.2 == *picture), "{path}: {pts:?}");
        }
    }
}

#[test]
fn the_right_password_opens_and_no_other() {
    for kind in ["--digest", "--basic"] {
        let more: Vec<&str> = ["--user", "viewer", "--password", "p@ss#1"]
            .into_iter()
            .chain((kind == "--basic").then_some(kind))
            .collect();
        let Some(server) = Server::start(&more) else { return };
        let address = |user: &str| format!("rtsp://{user}127.0.0.1:{}/pattern", server.port);
        let mut source = watch(&address("viewer:p%40ss%231@"));
        assert_eq!(take(&mut source, 3, SOON).frames.len(), 3, "{kind}");
        assert!(!source.info().name.contains("viewer"));
        for (user, says) in
            [("", "wants a user name"), ("viewer:wr0ng@", "refuses"), ("wr0ng:p%40ss%231@", "refuses")]
        {
            let Err(e) = source::open(&address(user)) else { panic!("{kind}: {user} was let in") };
            assert_eq!(e.kind(), ErrorKind::InvalidConfig, "{e}");
            assert!(e.to_string().contains(says), "{kind}: {e}");
            assert!(!["wr0ng", "p@ss", "p%40ss"].iter().any(|s| format!("{e} {e:?}").contains(s)), "{e:?}");
        }
    }
}

#[test]
fn a_stream_that_changes_its_size_goes_on() {
    let Some(server) = Server::start(&[]) else { return };
    let mut source = watch(&server.url("resize"));
    let got = take(&mut source, 100, SOON);
    let changes = got.sizes.windows(2).filter(|w| w[0] != w[1]).count();
    assert!(changes >= 2, "{changes} changes in {} frames: {:?}", got.sizes.len(), got.error);
    assert!(got.sizes.iter().all(|s| [(320, 240), (192, 144)].contains(s)), "{:?}", got.sizes);
    assert_eq!(got.unreadable, []);
}

#[test]
fn who_is_slow_gets_the_latest_picture_and_the_rest_is_counted() {
    let Some(server) = Server::start(&[]) else { return };
    let mut source = source::open(&server.url("pattern")).unwrap();
    let mut frame = Frame::default();
    let (mut numbers, mut ages) = (Vec::new(), Vec::new());
    while numbers.len() < 8 {
        if matches!(source.next(&mut frame).unwrap(), Next::Frame) {
            numbers.push(frame.seq);
            ages.push(SystemTime::now().duration_since(frame.captured.unwrap()).unwrap_or_default());
            std::thread::sleep(Duration::from_millis(400));
        }
    }
    let last = numbers[7] - numbers[0];
    assert!(last >= 30, "{numbers:?}");
    assert_eq!(source.losses().overtaken, numbers[7] + 1 - 8, "{numbers:?} {:?}", source.losses());
    assert!(ages.iter().all(|age| *age < Duration::from_millis(600)), "{ages:?}");
}

/// Reads until `until` holds of the health, for 20 s at most. How long it took.
fn wait(source: &mut Supervised, what: &str, until: impl Fn(&SourceHealth) -> bool) -> Duration {
    let (from, state, mut frame) = (Instant::now(), source.state(), Frame::default());
    while !until(&state.health()) {
        assert!(from.elapsed() < SOON, "{what}: {:?}", state.health());
        source.next(&mut frame).unwrap();
    }
    from.elapsed()
}

fn supervised(url: &str) -> Supervised {
    let patience = Patience {
        first: Duration::from_millis(500),
        most: Duration::from_secs(1),
        stall: Duration::from_secs(2),
        ..Patience::default()
    };
    let rtsp = RtspOptions { connect: Duration::from_secs(3), ..RtspOptions::default() };
    let options = LiveOptions { patience, rtsp, packets: false };
    source::open_live(url, &options, Stop::default()).unwrap()
}

#[test]
fn a_server_that_is_killed_and_started_again_is_found() {
    let Some(server) = Server::start(&[]) else { return };
    let (url, port) = (server.url("pattern"), server.port.to_string());
    let mut source = supervised(&url);
    wait(&mut source, "start", |h| h.pictures > 10);
    drop(server);
    let noticed = wait(&mut source, "killed", |h| !matches!(h.phase, Phase::Streaming { .. }));
    std::thread::sleep(Duration::from_secs(1));
    let Some(_server) = Server::start(&["--port", &port]) else { return };
    let back = wait(&mut source, "started again", |h| h.faults.reconnects == 1);
    eprintln!("server killed: noticed after {noticed:?}; started again: pictures after {back:?}");
    assert!(noticed < Duration::from_secs(1) && back < Duration::from_secs(4), "{noticed:?} {back:?}");
    let health = source.state().health();
    assert_eq!((health.faults.lost, health.faults.stalls), (1, 0), "{health:?}");
    assert!(health.faults.downtime >= Duration::from_secs(1), "{health:?}");
}

#[test]
fn a_connection_that_hangs_half_open_is_given_up_and_made_anew() {
    let Some(server) = Server::start(&[]) else { return };
    let (relay, harm) = proxy::start(server.port, 1);
    let mut source = supervised(&format!("rtsp://127.0.0.1:{}/pattern", relay.port));
    wait(&mut source, "start", |h| h.pictures > 10);
    harm.frozen.store(true, Ordering::SeqCst);
    let noticed = wait(&mut source, "frozen", |h| h.faults.stalls == 1);
    harm.frozen.store(false, Ordering::SeqCst);
    let back = wait(&mut source, "thawed", |h| h.faults.reconnects == 1);
    eprintln!("half-open: noticed after {noticed:?} (stall 2 s); pictures {back:?} after the way is free");
    assert!(noticed > Duration::from_millis(1500) && noticed < Duration::from_secs(3), "{noticed:?}");
    assert!(back < Duration::from_secs(5), "{back:?}");
}

#[test]
fn broken_and_lost_packets_cost_pictures_and_never_the_source() {
    let Some(server) = Server::start(&[]) else { return };
    for seed in 1..4 {
        let (relay, harm) = proxy::start(server.port, seed);
        let mut source = supervised(&format!("rtsp://127.0.0.1:{}/pattern", relay.port));
        source.keep_packets();
        wait(&mut source, "start", |h| h.pictures > 5);
        harm.flips.store(true, Ordering::SeqCst);
        harm.drops.store(true, Ordering::SeqCst);
        let got = take(&mut source, 60, SOON);
        assert!(got.error.is_none() && !got.ended, "{:?}", got.error);
        harm.flips.store(false, Ordering::SeqCst);
        harm.drops.store(false, Ordering::SeqCst);
        let before = source.state().health();
        assert!(before.losses.damaged > 0 && before.losses.packets > 0, "seed {seed}: {before:?}");
        let back = wait(&mut source, "whole again", |h| h.pictures > before.pictures + 20);
        let after = source.state().health();
        eprintln!(
            "garbage, seed {seed}: {:?}, {:?}; 20 pictures {back:?} after the last",
            after.losses, after.faults
        );
        let mut frame = Frame::default();
        while !matches!(source.next(&mut frame).unwrap(), Next::Frame) {}
        assert_ne!(digest(&frame.image), 0);
    }
}
