//! Network cameras: a camera of ours that does as it is told, hostile servers, and (where it is installed) GStreamer's.

mod camera;
mod gstreamer;
mod hostile;
mod jpeg;
mod proxy;
mod report;
mod responder;
mod sequence;
mod server;
mod supervised;

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    path::PathBuf,
    time::{Duration, Instant},
};

use tapetum::source::{
    self, Next, Source,
    packets::{Decoder, Packet},
};
use tapetum_runtime::{Frame, Image};

/// A picture in few bytes.
fn digest(image: &Image) -> u64 {
    let mut hasher = DefaultHasher::new();
    (image.width(), image.height(), image.data()).hash(&mut hasher);
    hasher.finish()
}

fn clip(name: &str) -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    match name {
        "dev_a" => here.join("demo/dev_a.mp4"),
        _ => here.join("../tests/clips").join(name).with_extension("mp4"),
    }
}

/// What came out of a source.
#[derive(Default, Debug)]
struct Taken {
    /// Sequence number, time and digest.
    frames: Vec<(u64, Duration, u64)>,
    sizes: Vec<(usize, usize)>,
    unreadable: Vec<(u64, String)>,
    packets: Vec<Packet>,
    error: Option<String>,
    ended: bool,
}

/// Takes `most` frames, readable or not, for `patience` at most.
fn take(source: &mut dyn Source, most: usize, patience: Duration) -> Taken {
    let (mut taken, mut frame, from) = (Taken::default(), Frame::default(), Instant::now());
    while taken.frames.len() + taken.unreadable.len() < most && from.elapsed() < patience {
        match source.next(&mut frame) {
            Ok(Next::Frame) => {
                taken.frames.push((frame.seq, frame.pts, digest(&frame.image)));
                taken.sizes.push((frame.image.width(), frame.image.height()));
            }
            Ok(Next::Unreadable(why)) => taken.unreadable.push((frame.seq, why.to_string())),
            Ok(Next::Idle) => {}
            Ok(Next::End) => taken.ended = true,
            Err(e) => taken.error = Some(format!("{e}")),
        }
        source.packets(&mut |packet| taken.packets.push(packet));
        if taken.ended || taken.error.is_some() {
            break;
        }
    }
    taken
}

/// The frames of a file, and its packets.
fn file(name: &str) -> Taken {
    let mut source = source::open(&clip(name).to_string_lossy()).unwrap();
    assert!(source.keep_packets());
    take(&mut *source, usize::MAX, Duration::from_secs(600))
}

/// Time and digest of every frame of `packets`.
fn replay(packets: &[Packet]) -> Vec<(Duration, u64)> {
    let (mut decoder, mut frame, mut frames) = (Decoder::new(), Frame::default(), Vec::new());
    for packet in packets {
        if decoder.decode(packet, &mut frame).unwrap() {
            frames.push((frame.pts, digest(&frame.image)));
        }
    }
    while decoder.finish(&mut frame).unwrap() {
        frames.push((frame.pts, digest(&frame.image)));
    }
    frames
}
