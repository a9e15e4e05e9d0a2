//! The supervisor on real connections and in real time; its rules are tested in simulated time beside them.

use std::{
    net::TcpListener,
    sync::Arc,
    time::{Duration, Instant},
};

use tapetum::source::{
    self, Next, Source,
    live::Stop,
    packets::Packet,
    recover::{Patience, Phase},
    supervised::{LiveOptions, Supervised},
};
use tapetum_runtime::{Error, Frame, clock::Monotonic};

use crate::{
    camera::CLIP,
    responder::{self, Responder, sdp},
    sequence::{packetized, send},
    take,
};

fn impatient() -> LiveOptions {
    let patience = Patience {
        first: Duration::from_millis(200),
        most: Duration::from_millis(400),
        stall: Duration::from_secs(1),
        ..Patience::default()
    };
    LiveOptions { patience, packets: true, ..LiveOptions::default() }
}

/// A camera that sends twenty frames, 30 a second, and then hangs (every second connection) or closes.
fn moody() -> Responder {
    let units: Vec<Packet> = CLIP.packets.iter().take(20).cloned().collect();
    let packets = packetized(&units);
    Responder::start(move |connection, mut stream| {
        if !responder::play(&mut stream, &sdp("H264", "")) {
            return;
        }
        let mut unit = 0;
        for (n, p) in packets.iter().enumerate() {
            if p.unit != unit {
                std::thread::sleep(Duration::from_millis(33));
                unit = p.unit;
            }
            if !send(&mut stream, n as u16, p.stamp, p.mark, &p.payload) {
                return;
            }
        }
        if connection % 2 == 1 {
            std::thread::sleep(Duration::from_secs(8));
        }
    })
}

#[test]
fn a_camera_that_breaks_off_again_and_again_is_one_stream() {
    let camera = moody();
    let spec = format!("rtsp://127.0.0.1:{}/x", camera.port);
    let mut source = source::open_live(&spec, &impatient(), Stop::default()).unwrap();
    let state = source.state();
    let from = Instant::now();
    let got = take(&mut source, 90, Duration::from_secs(30));
    let took = from.elapsed();
    assert_eq!((got.ended, &got.error), (false, &None));
    assert!(got.frames.windows(2).all(|w| w[0].0 < w[1].0 && w[0].1 < w[1].1), "{:?}", got.frames);
    let health = state.health();
    let faults = &health.faults;
    assert!(faults.reconnects >= 3 && faults.lost >= 3 && faults.stalls >= 1, "{faults:?}");
    assert_eq!(faults.refused, 0, "{faults:?}");
    // Every frame that came is accounted for.
    let numbered = got.frames.last().unwrap().0 + 1;
    let accounted = got.frames.len() as u64
        + health.losses.frames
        + got.unreadable.len() as u64
        + source.losses().overtaken;
    assert_eq!(numbered, accounted, "{health:?}");
    // The stream's time is that of the clock on the wall, but for the outage before the first frame.
    let line = got.frames.last().unwrap().1;
    assert!(line < took && line + Duration::from_secs(2) > took.mul_f32(0.8), "{line:?} of {took:?}");
    assert!(faults.downtime > Duration::from_millis(500) && faults.downtime < took, "{faults:?}");
    // Each connection's packets begin with a key that says that something is missing before it.
    let gaps = got.packets.iter().filter(|p| p.gap).count() as u64;
    assert!(gaps > faults.reconnects && got.packets.iter().all(|p| p.key || !p.gap), "{gaps}");
}

#[test]
fn it_stops_at_once_wherever_it_is() {
    // Nothing listens; nothing answers; frames come; nothing comes any more.
    let nothing = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let silent = Responder::start(|_, _stream| std::thread::sleep(Duration::from_secs(8)));
    let camera = moody();
    for (what, port, after) in [
        ("waiting", nothing, 150),
        ("connecting", silent.port, 150),
        ("streaming", camera.port, 200),
        ("stalled", camera.port, 1000),
    ] {
        let stop = Stop::default();
        let spec = format!("rtsp://127.0.0.1:{port}/x");
        let mut source = source::open_live(&spec, &impatient(), stop.clone()).unwrap();
        let from = Instant::now();
        let teller = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(after));
            stop.set();
            Instant::now()
        });
        let mut frame = Frame::default();
        while !matches!(source.next(&mut frame).unwrap(), Next::End) {
            assert!(from.elapsed() < Duration::from_secs(5), "{what}");
        }
        let late = teller.join().unwrap().elapsed();
        assert!(late < Duration::from_millis(300), "{what}: {late:?} after it was told");
        let state = source.state();
        let before = Instant::now();
        drop(source);
        assert!(before.elapsed() < Duration::from_millis(600), "{what}: {:?}", before.elapsed());
        assert_eq!(state.health().phase, Phase::Stopped, "{what}");
    }
}

#[test]
fn what_no_attempt_can_mend_is_told_and_tried_slowly() {
    let camera = Responder::start(|_, mut stream| {
        responder::play(&mut stream, &sdp("H265", ""));
    });
    for spec in [format!("rtsp://127.0.0.1:{}/x", camera.port), "https://nothing/of-this-kind".to_owned()] {
        let mut source = source::open_live(&spec, &impatient(), Stop::default()).unwrap();
        take(&mut source, 1, Duration::from_millis(500));
        let health = source.state().health();
        let Phase::Waiting { until, hopeless: true } = health.phase else { panic!("{spec}: {health:?}") };
        assert!(until - health.now > Duration::from_secs(40), "{spec}: {health:?}");
        assert_eq!((health.faults.refused, health.pictures), (1, 0));
    }
}

#[test]
fn a_source_that_panics_is_opened_again() {
    struct Panics(source::SourceInfo, u64);
    impl Source for Panics {
        fn info(&self) -> &source::SourceInfo {
            &self.0
        }
        fn next(&mut self, frame: &mut Frame) -> tapetum_runtime::Result<Next> {
            assert!(self.1 < 3, "on purpose");
            frame.seq = self.1;
            frame.pts = Duration::from_millis(self.1);
            self.1 += 1;
            std::thread::sleep(Duration::from_millis(5));
            Ok(Next::Frame)
        }
    }
    let mut failed = false;
    let open: source::supervised::Opener = Box::new(move |_| {
        if !std::mem::replace(&mut failed, true) {
            return Err(Error::bad_input("not yet"));
        }
        let info = source::SourceInfo { name: "it".to_owned(), live: true, ..Default::default() };
        Ok(Box::new(Panics(info, 0)))
    });
    let clock = Arc::new(Monotonic::start());
    let mut source = Supervised::start("it".to_owned(), open, &impatient(), Stop::default(), clock).unwrap();
    let got = take(&mut source, 7, Duration::from_secs(10));
    let health = source.state().health();
    assert!(got.frames.len() == 7 && got.error.is_none(), "{got:?}");
    assert!(health.faults.refused == 1 && health.faults.lost >= 2, "{health:?}");
    assert!(health.faults.last.unwrap().1.contains("panicked"));
}
