//! JPEG over RTP (RFC 2435) with losses. What is lost inside a picture the library does not tell: see the README.

use std::{
    io::Write,
    net::{Shutdown, TcpStream},
    sync::Arc,
    time::Duration,
};

use jpeg_encoder::{ColorType, Encoder, SamplingFactor};
use tapetum::source::{
    Source,
    live::Stop,
    packets::{Codec, Packet},
    rtsp::{Rtsp, RtspOptions},
};
use tapetum_runtime::seed::Seeded;

use crate::{
    replay,
    responder::{self, Responder, sdp},
    sequence::send,
    take,
};

const WIDTH: u16 = 320;
const HEIGHT: u16 = 240;
/// Of one packet's share of the picture.
const PIECE: usize = 1200;

/// A picture of noise: many packets, and no two are alike.
fn picture(seed: u64) -> Vec<u8> {
    let mut random = Seeded::new(seed);
    let pixels: Vec<u8> =
        (0..3 * usize::from(WIDTH) * usize::from(HEIGHT)).map(|_| random.below(256) as u8).collect();
    let mut jpeg = Vec::new();
    let mut encoder = Encoder::new(&mut jpeg, 90);
    encoder.set_sampling_factor(SamplingFactor::F_2_2);
    encoder.encode(&pixels, WIDTH, HEIGHT, ColorType::Rgb).unwrap();
    jpeg
}

/// The quantization tables (for luma and chroma) and the scan of a baseline JPEG file.
fn parts(jpeg: &[u8]) -> (Vec<u8>, &[u8]) {
    let (mut tables, mut at) = (Vec::new(), 2);
    loop {
        assert_eq!(jpeg[at], 0xff);
        let length = usize::from(jpeg[at + 2]) << 8 | usize::from(jpeg[at + 3]);
        let body = &jpeg[at + 4..at + 2 + length];
        match jpeg[at + 1] {
            0xdb => tables.extend(body.chunks(65).flat_map(|table| &table[1..])),
            0xda => return (tables, &jpeg[at + 2 + length..jpeg.len() - 2]),
            _ => {}
        }
        at += 2 + length;
    }
}

/// The payloads of one picture.
fn payloads(jpeg: &[u8]) -> Vec<Vec<u8>> {
    let (tables, scan) = parts(jpeg);
    assert_eq!(tables.len(), 128);
    let mut payloads = Vec::new();
    for (n, piece) in scan.chunks(PIECE).enumerate() {
        let offset = (n * PIECE) as u32;
        // Type 1: 4:2:0. Q 255: the tables come along.
        let mut payload = vec![0];
        payload.extend(&offset.to_be_bytes()[1..]);
        payload.extend([1, 255, (WIDTH / 8) as u8, (HEIGHT / 8) as u8]);
        if n == 0 {
            payload.extend([0, 0, 0, 128]);
            payload.extend(&tables);
        }
        payload.extend(piece);
        payloads.push(payload);
    }
    payloads
}

/// Sends `pictures` without the packets that `lost` names by picture and place.
fn camera(pictures: Arc<Vec<Vec<u8>>>, lost: fn(usize, usize, usize) -> bool) -> Responder {
    Responder::start(move |_, mut stream: TcpStream| {
        if !responder::play(&mut stream, &sdp("JPEG", "")) {
            return;
        }
        let mut number = 0;
        for (n, picture) in pictures.iter().enumerate() {
            let payloads = payloads(picture);
            let last = payloads.len() - 1;
            for (at, payload) in payloads.iter().enumerate() {
                let stamp = 3600 * n as u32;
                if !lost(n, at, last) && !send(&mut stream, number, stamp, at == last, payload) {
                    return;
                }
                number = number.wrapping_add(1);
            }
        }
        stream.flush().ok();
        let _ = stream.shutdown(Shutdown::Write);
    })
}

/// What the decoder makes of the pictures as files.
fn digests(pictures: &[Vec<u8>]) -> Vec<u64> {
    let packet = |(n, jpeg): (usize, &Vec<u8>)| Packet {
        codec: Codec::Jpeg,
        key: true,
        gap: n == 0,
        pts: Duration::from_millis(40 * n as u64),
        parameters: None,
        bytes: jpeg.clone().into(),
    };
    let packets: Vec<_> = pictures.iter().enumerate().map(packet).collect();
    replay(&packets).into_iter().map(|(_, digest)| digest).collect()
}

#[test]
fn a_picture_that_lost_its_beginning_or_its_end_is_not_shown_and_the_next_one_is() {
    let pictures: Arc<Vec<Vec<u8>>> = Arc::new((0..20).map(picture).collect());
    assert!(payloads(&pictures[0]).len() > 4, "a picture is several packets");
    let whole = digests(&pictures);
    // The first packet of one, the last (which has the mark) of another, and all of a third.
    let camera = camera(Arc::clone(&pictures), |n, at, last| {
        (n == 3 && at == 0) || (n == 11 && at == last) || n == 15
    });
    let spec = format!("rtsp://127.0.0.1:{}/x", camera.port);
    let mut source = Rtsp::open(&spec, &RtspOptions::default(), &Stop::default()).unwrap();
    let got = take(&mut source, usize::MAX, Duration::from_secs(30));
    assert!(got.error.as_ref().is_some_and(|e| e.contains("closed the connection")), "{:?}", got.error);
    let shown: Vec<Option<usize>> = got.frames.iter().map(|f| whole.iter().position(|d| *d == f.2)).collect();
    let expected: Vec<Option<usize>> = (0..20).filter(|n| ![3, 11, 15].contains(n)).map(Some).collect();
    assert_eq!(shown, expected, "{:?} {:?}", got.unreadable, source.losses());
    assert!(got.frames.windows(2).all(|w| w[0].0 < w[1].0 && w[0].1 < w[1].1), "{:?}", got.frames);
}
