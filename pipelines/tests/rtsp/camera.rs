//! The source against a camera of ours, which sends a clip as fast as it is read.

use std::{
    collections::HashSet,
    net::{Shutdown, TcpStream},
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use openh264::{
    encoder::Encoder,
    formats::{RgbSliceU8, YUVBuffer},
};
use tapetum::source::{
    self, Next, Source,
    live::Stop,
    packets::{Codec, Packet},
    rtsp::{Rtsp, RtspOptions},
};
use tapetum_runtime::Frame;

use crate::{
    Taken, file, replay,
    responder::{self, Responder, sdp},
    sequence::{packetized, send},
    take,
};

const SOON: Duration = Duration::from_secs(60);

/// The clip: 30 frames/s, and what its packets and frames are.
pub static CLIP: LazyLock<Taken> = LazyLock::new(|| file("dev_b"));

/// What becomes of each packet: whether it is sent, and its stamp.
type Fate = dyn Fn(usize, u32) -> Option<u32> + Send + Sync;

/// A camera that sends `units` and closes the connection.
fn camera(units: Vec<Packet>, fate: Box<Fate>) -> Responder {
    let packets = Arc::new(packetized(&units));
    Responder::start(move |_, mut stream: TcpStream| {
        if !responder::play(&mut stream, &sdp("H264", "")) {
            return;
        }
        for (n, packet) in packets.iter().enumerate() {
            if let Some(stamp) = fate(n, packet.stamp)
                && !send(&mut stream, n as u16, stamp, packet.mark, &packet.payload)
            {
                return;
            }
        }
        let _ = stream.shutdown(Shutdown::Write);
    })
}

fn watch(camera: &Responder) -> Rtsp {
    let spec = format!("rtsp://127.0.0.1:{}/clip", camera.port);
    Rtsp::open(&spec, &RtspOptions::default(), &Stop::default()).unwrap()
}

#[test]
fn frames_are_those_of_the_file_and_so_are_their_times_and_packets() {
    let camera = camera(CLIP.packets.clone(), Box::new(|_, stamp| Some(stamp)));
    let mut source = watch(&camera);
    source.keep_packets();
    let got = take(&mut source, usize::MAX, SOON);
    // The decoder holds two pictures when the camera goes: the clip has pictures between others.
    let whole = CLIP.frames.len();
    assert!(got.frames.len() + 2 >= whole, "{} of {whole}: {:?}", got.frames.len(), got.error);
    let first = CLIP.frames[0].1;
    for (ours, theirs) in got.frames.iter().zip(&CLIP.frames) {
        assert_eq!((ours.0, ours.2), (theirs.0, theirs.2));
        let apart = ours.1.abs_diff(theirs.1 - first);
        assert!(apart < Duration::from_micros(50), "{ours:?} {theirs:?}");
    }
    assert!(got.error.unwrap().contains("closed the connection"));
    assert_eq!((got.unreadable.len(), source.losses(), source.stamps()), Default::default());
    // Replayed from each key packet on, the frames are the same bit for bit.
    let keys: Vec<usize> = (0..got.packets.len()).filter(|n| got.packets[*n].key).collect();
    for &key in keys.iter().rev().take(3).chain(keys.first()) {
        let again = replay(&got.packets[key..]);
        assert!(!again.is_empty());
        for (pts, digest) in again.iter().take(200) {
            if let Some(theirs) = got.frames.iter().find(|f| f.1 == *pts) {
                assert_eq!(theirs.2, *digest, "replayed from packet {key}, frame at {pts:?}");
            }
        }
        assert!(again.len() + 1 >= got.packets.len() - key);
    }
    assert!(got.packets[0].gap && got.packets[0].parameters.is_some());
    assert!(got.packets[1..].iter().all(|p| !p.gap && p.parameters.is_none()));
}

#[test]
fn after_a_loss_nothing_is_shown_before_the_next_key_frame() {
    let units = CLIP.packets.clone();
    let keys: Vec<usize> = (0..units.len()).filter(|n| units[*n].key).collect();
    let Some(&next) = keys.get(1) else { panic!("the clip has one key frame only: {}", units.len()) };
    let packets = packetized(&units);
    // Two packets of the tenth unit are lost.
    let lost: HashSet<usize> = (0..packets.len()).filter(|n| packets[*n].unit == 10).take(2).collect();
    let count = lost.len() as u64;
    let camera = camera(units.clone(), Box::new(move |n, stamp| (!lost.contains(&n)).then_some(stamp)));
    let mut source = watch(&camera);
    source.keep_packets();
    let got = take(&mut source, usize::MAX, SOON);
    let losses = source.losses();
    assert_eq!(losses.packets, count);
    // The unit that lost packets is gone or in pieces; those up to the key came and were passed over.
    assert_eq!(losses.damaged + losses.frames, (next - 10) as u64, "{losses:?}");
    assert_eq!(losses.damaged, got.unreadable.len() as u64);
    assert!(got.unreadable[0].1.contains("packets were lost"), "{:?}", got.unreadable[0]);
    // Every picture that was shown is one of the clip's, and none that depends on the loss.
    let good: HashSet<u64> = CLIP.frames.iter().map(|f| f.2).collect();
    assert!(got.frames.iter().all(|f| good.contains(&f.2)));
    assert!(got.frames.windows(2).all(|w| w[0].0 < w[1].0 && w[0].1 < w[1].1));
    // A recording of it decodes to the same.
    let after = got.packets.iter().position(|p| p.gap && p.pts > Duration::ZERO).unwrap();
    assert!(got.packets[after].key);
    for (pts, digest) in replay(&got.packets[after..]) {
        if let Some(theirs) = got.frames.iter().find(|f| f.1 == pts) {
            assert_eq!(theirs.2, digest);
        }
    }
}

#[test]
fn a_leap_of_the_cameras_clock_is_mended_and_counted() {
    let whole = packetized(&CLIP.packets).len();
    let leap = move |n: usize, stamp: u32| match n * 3 / whole {
        0 => Some(stamp),
        1 => Some(stamp.wrapping_add(3600 * 90_000)),
        _ => Some(stamp.wrapping_sub(1_000_000)),
    };
    let camera = camera(CLIP.packets.clone(), Box::new(leap));
    let mut source = watch(&camera);
    let got = take(&mut source, usize::MAX, SOON);
    assert!(got.frames.windows(2).all(|w| w[0].1 < w[1].1));
    assert!(got.frames.last().unwrap().1 < Duration::from_secs(60));
    assert_eq!(source.stamps().jumps, 2, "{:?} {} {:?}", source.stamps(), got.frames.len(), got.error);
}

/// A square going around, encoded here.
fn encoded(width: usize, height: usize, from: Duration) -> Vec<Packet> {
    let pattern = format!("synthetic:moving?size={width}x{height}&fps=25&frames=20");
    let mut source = source::open(&pattern).unwrap();
    let (mut encoder, mut frame, mut packets) = (Encoder::new().unwrap(), Frame::default(), Vec::new());
    while matches!(source.next(&mut frame).unwrap(), Next::Frame) {
        let rgb = RgbSliceU8::new(frame.image.data(), (width, height));
        let bytes = encoder.encode(&YUVBuffer::from_rgb8_source(rgb)).unwrap().to_vec().into();
        let (key, pts) = (packets.is_empty(), from + frame.pts);
        packets.push(Packet { codec: Codec::H264, key, gap: key, pts, parameters: None, bytes });
    }
    packets
}

#[test]
fn a_stream_may_change_its_size_in_the_middle() {
    let mut units = encoded(320, 240, Duration::ZERO);
    units.extend(encoded(160, 128, Duration::from_millis(800)));
    let camera = camera(units, Box::new(|_, stamp| Some(stamp)));
    let mut source = watch(&camera);
    source.keep_packets();
    let got = take(&mut source, usize::MAX, SOON);
    assert_eq!((got.unreadable.len(), got.sizes.len()), (0, 40), "{:?}", got.unreadable);
    assert!(got.sizes[..20].iter().all(|s| *s == (320, 240)), "{:?}", got.sizes);
    assert!(got.sizes[20..].iter().all(|s| *s == (160, 128)), "{:?}", got.sizes);
    assert_eq!(source.info().size, Some((160, 128)));
    let changed: Vec<_> = (0..40).filter(|n| got.packets[*n].parameters.is_some()).collect();
    assert_eq!(changed, [0, 20], "parameter sets are told once each");
    let digests: Vec<_> = got.frames.iter().map(|f| (f.1, f.2)).collect();
    assert_eq!(replay(&got.packets), digests);
}

#[test]
fn a_camera_that_goes_silent_is_lost_after_the_stall_time() {
    let units: Vec<Packet> = CLIP.packets.iter().take(20).cloned().collect();
    let packets = packetized(&units);
    let camera = Responder::start(move |_, mut stream| {
        if responder::play(&mut stream, &sdp("H264", "")) {
            for (n, p) in packets.iter().enumerate() {
                send(&mut stream, n as u16, p.stamp, p.mark, &p.payload);
            }
            std::thread::sleep(Duration::from_secs(10));
        }
    });
    let spec = format!("rtsp://127.0.0.1:{}/#stall=1", camera.port);
    let mut source = Rtsp::open(&spec, &RtspOptions::default(), &Stop::default()).unwrap();
    let from = Instant::now();
    let got = take(&mut source, usize::MAX, SOON);
    assert!(got.frames.len() >= 17, "{}", got.frames.len());
    assert!(got.error.as_ref().unwrap().contains("nothing came for 1."), "{:?}", got.error);
    assert!(from.elapsed() < Duration::from_secs(3), "{:?}", from.elapsed());
}
