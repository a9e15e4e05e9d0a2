//! What a camera says of its clock (RTCP sender reports): pictures have its time where that can be true.

use std::{
    io::Write,
    net::{Shutdown, TcpStream},
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tapetum::source::{
    Next, Source,
    live::Stop,
    rtsp::{Rtsp, RtspOptions},
};
use tapetum_runtime::Frame;

use crate::{
    camera::CLIP,
    responder::{self, Responder, sdp},
    sequence::{packetized, send},
};

/// Seconds from 1900 to 1970.
const NTP: u64 = 2_208_988_800;

/// A sender report: at `time` the stream's clock showed `stamp`.
fn report(time: SystemTime, stamp: u32) -> Vec<u8> {
    let since = time.duration_since(UNIX_EPOCH).unwrap();
    let fraction = (u64::from(since.subsec_nanos()) << 32) / 1_000_000_000;
    // Version 2, type 200, 6 words follow.
    let mut bytes = vec![0x80, 200, 0, 6];
    bytes.extend(0x5eed_u32.to_be_bytes());
    bytes.extend(((since.as_secs() + NTP) as u32).to_be_bytes());
    bytes.extend((fraction as u32).to_be_bytes());
    bytes.extend(stamp.to_be_bytes());
    bytes.extend([0; 8]);
    bytes
}

/// Of a picture: when the camera's first picture left it, this picture's time in the stream, its `captured`, and when it was read.
type Told = (SystemTime, Duration, SystemTime, SystemTime);

/// What becomes of a camera's pictures that says at the start that its clock is `behind` (or ahead of, if negative) by so many seconds.
fn told(behind: Option<f64>) -> Vec<Told> {
    let packets = packetized(&CLIP.packets[..12]);
    let first = packets.iter().map(|p| p.stamp).min().unwrap();
    let began = Arc::new(Mutex::new(UNIX_EPOCH));
    let theirs = Arc::clone(&began);
    let camera = Responder::start(move |_, mut stream: TcpStream| {
        if !responder::play(&mut stream, &sdp("H264", "")) {
            return;
        }
        let now = SystemTime::now();
        *theirs.lock().unwrap() = now;
        if let Some(behind) = behind {
            let apart = Duration::from_secs_f64(behind.abs());
            let report = report(if behind >= 0.0 { now - apart } else { now + apart }, first);
            let mut bytes = vec![b'$', 1];
            bytes.extend((report.len() as u16).to_be_bytes());
            bytes.extend(report);
            stream.write_all(&bytes).unwrap();
        }
        for (n, p) in packets.iter().enumerate() {
            if !send(&mut stream, n as u16, p.stamp, p.mark, &p.payload) {
                return;
            }
        }
        let _ = stream.shutdown(Shutdown::Write);
    });
    let spec = format!("rtsp://127.0.0.1:{}/x", camera.port);
    let mut source = Rtsp::open(&spec, &RtspOptions::default(), &Stop::default()).unwrap();
    let (mut frame, mut told) = (Frame::default(), Vec::new());
    while let Ok(next) = source.next(&mut frame) {
        if matches!(next, Next::Frame) {
            let began = *began.lock().unwrap();
            told.push((began, frame.pts, frame.captured.unwrap(), SystemTime::now()));
        }
    }
    assert!(told.len() >= 8, "{told:?}");
    told
}

#[test]
fn a_report_that_can_be_true_is_the_pictures_time() {
    // Believed is what lies at most two seconds back: on a machine that holds the reader up for that long it is tried again.
    let right = |(began, pts, captured, _): &Told| {
        let said = *began - Duration::from_secs(1) + *pts;
        let off = captured.duration_since(said).unwrap_or_else(|before| before.duration());
        off < Duration::from_millis(2)
    };
    let tries: Vec<_> = (0..5).map(|_| told(Some(1.0))).collect();
    assert!(tries.iter().any(|told| told.iter().all(right)), "{tries:?}");
}

#[test]
fn a_clock_that_is_wrong_is_not_believed_and_without_a_report_it_is_the_arrival() {
    // An hour behind, a minute ahead, and no word at all.
    for behind in [Some(3600.0), Some(-60.0), None] {
        for (began, _, captured, read) in told(behind) {
            assert!(began <= captured && captured <= read, "{behind:?}: {began:?} {captured:?} {read:?}");
        }
    }
}
