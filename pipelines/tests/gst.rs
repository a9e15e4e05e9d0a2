//! Pipelines of GStreamer, by OpenCV: GStreamer's own test pictures stand in for a CSI camera.
#![cfg(feature = "opencv")]

use std::time::{Duration, Instant};

use tapetum::source::{
    self, Next, Source,
    live::Stop,
    recover::{Patience, Phase},
    supervised::LiveOptions,
};
use tapetum_runtime::{ErrorKind, Frame};

const SINK: &str = "videoconvert ! video/x-raw,format=BGR ! appsink drop=true max-buffers=2";
const SOON: Duration = Duration::from_secs(20);

/// A pipeline of test pictures.
fn pictures(properties: &str, rate: &str) -> String {
    format!(
        "gst:videotestsrc is-live=true {properties} ! video/x-raw,width=64,height=48,framerate={rate} ! {SINK}"
    )
}

/// The source, or nothing where GStreamer cannot make test pictures.
fn open(spec: &str) -> Option<Box<dyn Source>> {
    tapetum_parts::there("gstreamer", source::open(spec))
}

#[test]
fn frames_come_with_their_colours_at_their_rate() {
    let Some(mut source) = open(&pictures("pattern=red", "30/1")) else { return };
    assert!(source.info().live && source.info().name.starts_with("gst:videotestsrc pattern=red ! "));
    let (mut frame, mut times, from) = (Frame::default(), Vec::new(), Instant::now());
    while times.len() < 60 {
        assert!(from.elapsed() < SOON, "{} frames", times.len());
        if let Next::Frame = source.next(&mut frame).unwrap() {
            assert_eq!((frame.image.width(), frame.image.height()), (64, 48));
            assert!(
                frame.image.data()[0] > 200 && frame.image.data()[2] < 60,
                "{:?}",
                &frame.image.data()[..3]
            );
            assert!(frame.captured.is_some());
            times.push((frame.seq, frame.pts));
        }
    }
    assert!(times.windows(2).all(|w| w[0].0 < w[1].0 && w[0].1 < w[1].1), "{times:?}");
    let (first, last) = (times[0], times[59]);
    let fps = (last.0 - first.0) as f64 / (last.1 - first.1).as_secs_f64();
    assert!((25.0..35.0).contains(&fps), "{fps}");
}

#[test]
fn a_pipeline_that_ends_or_hangs_is_opened_again() {
    if open(&pictures("num-buffers=3", "30/1")).is_none() {
        return;
    }
    let patience = Patience {
        first: Duration::from_millis(100),
        most: Duration::from_millis(200),
        stall: Duration::from_secs(1),
        ..Patience::default()
    };
    let options = LiveOptions { patience, ..LiveOptions::default() };
    let mut frame = Frame::default();

    let mut ends = source::open_live(&pictures("num-buffers=10", "30/1"), &options, Stop::default()).unwrap();
    let from = Instant::now();
    while ends.state().health().faults.reconnects < 2 {
        assert!(from.elapsed() < SOON, "{:?}", ends.state().health());
        ends.next(&mut frame).unwrap();
    }
    assert_eq!(ends.state().health().faults.stalls, 0);

    // A picture every ten seconds: OpenCV waits in its read, and nobody waits for OpenCV.
    let stop = Stop::default();
    let mut hangs = source::open_live(&pictures("", "1/10"), &options, stop.clone()).unwrap();
    let from = Instant::now();
    loop {
        hangs.next(&mut frame).unwrap();
        let health = hangs.state().health();
        let last = health.faults.last.as_ref().map(|(_, why)| why.clone()).unwrap_or_default();
        if health.faults.stalls >= 1 && last.contains("hangs and has not ended yet") {
            assert!(!last.contains("videotestsrc is-live"), "{last}");
            break;
        }
        assert!(from.elapsed() < SOON, "{health:?}");
    }
    stop.set();
    let from = Instant::now();
    while !matches!(hangs.next(&mut frame).unwrap(), Next::End) {}
    let state = hangs.state();
    drop(hangs);
    assert!(from.elapsed() < Duration::from_millis(800), "{:?}", from.elapsed());
    assert_eq!(state.health().phase, Phase::Stopped);
}

#[test]
fn a_pipeline_that_cannot_run_is_told_with_what_to_do() {
    let spec = format!("gst:nosuchsrc location=rtsp://u:hidden@h/ ! {SINK}");
    let error = source::open(&spec).map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Environment);
    let error = error.to_string();
    assert!(error.contains("gst-launch-1.0") && !error.contains("hidden"), "{error}");
}
