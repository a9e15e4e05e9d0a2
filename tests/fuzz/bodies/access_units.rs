//! Any bytes as what a camera sends once it is unpacked: H.264 access units in a row (split at the fuzzer's marks), and JPEG
//! pictures. Pictures are whole, and a decoder goes on after whatever it got.

use std::time::Duration;

use tapetum::source::packets::{Codec, Decoder, Packet};
use tapetum_runtime::Frame;

/// Splits the input into units.
const MARK: &[u8] = b"\xff\xfe\xfd\xfc";

fn units(bytes: &[u8]) -> Vec<&[u8]> {
    let mut units = Vec::new();
    let mut rest = bytes;
    while let Some(at) = rest.windows(MARK.len()).position(|w| w == MARK) {
        units.push(&rest[..at]);
        rest = &rest[at + MARK.len()..];
    }
    units.push(rest);
    units
}

/// Looks at one input; panics where something is not as it should be.
pub fn look(bytes: &[u8]) {
    let mut frame = Frame::default();
    for codec in [Codec::H264, Codec::Jpeg] {
        let mut decoder = Decoder::new();
        for (n, unit) in units(bytes).into_iter().take(16).enumerate() {
            let pts = Duration::from_millis(40 * n as u64);
            let gap = n == 0 || unit.first().is_some_and(|b| b % 7 == 3);
            let packet = Packet { codec, key: gap, gap, pts, parameters: None, bytes: unit.to_vec().into() };
            if let Ok(true) = decoder.decode(&packet, &mut frame) {
                let image = &frame.image;
                assert_eq!(image.data().len(), 3 * image.width() * image.height());
            }
        }
        for _ in 0..32 {
            if !matches!(decoder.finish(&mut frame), Ok(true)) {
                break;
            }
        }
    }
}
