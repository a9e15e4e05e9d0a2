//! Encoded pictures as they came, for who wants to keep them, and their way back to frames.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use bytes::Bytes;
use tapetum_runtime::{Frame, Image, Result};

use super::video::{h264::H264, mjpeg};

/// How a packet is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// H.264 access units in Annex B form.
    H264,
    /// JPEG pictures.
    Jpeg,
}

/// One encoded picture. Cheap to clone: the bytes are shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// How.
    pub codec: Codec,
    /// Whether decoding can begin here: an H.264 IDR picture with its parameter sets, or any JPEG picture.
    pub key: bool,
    /// Whether this is the first packet of a stream, or something is missing before it. It is a key then, and a
    /// [`Decoder`] starts afresh.
    pub gap: bool,
    /// Presentation time, on the line of time of the source's frames. Packets come in the order of decoding, so it may go
    /// back where pictures lie between others.
    pub pts: Duration,
    /// H.264 parameter sets (SPS and PPS, Annex B) that hold from here on, where they are not those before. Every key
    /// packet has them in `bytes`, too.
    pub parameters: Option<Bytes>,
    /// The picture.
    pub bytes: Bytes,
}

/// Decodes packets: the very decoder that the sources use, so the pictures are the same bit for bit.
#[derive(Default)]
pub struct Decoder {
    h264: Option<H264>,
    /// Presentation times of the packets whose pictures have not come out yet.
    pending: BinaryHeap<Reverse<Duration>>,
}

impl Decoder {
    /// A decoder that waits for a key packet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Decodes the next packet. True if a picture came out: its time and pixels are in `frame` then. Pictures come in the
    /// order in which they are shown, so one or more packets later than they went in.
    ///
    /// # Errors
    /// [`tapetum_runtime::ErrorKind::BadFile`] if it cannot be decoded.
    pub fn decode(&mut self, packet: &Packet, frame: &mut Frame) -> Result<bool> {
        if packet.gap {
            self.restart();
        }
        let Some(pts) = self.feed(packet.codec, &packet.bytes, packet.pts, &mut frame.image)? else {
            return Ok(false);
        };
        frame.pts = pts;
        Ok(true)
    }

    /// After the last packet: the next picture that the decoder still holds. False if there is none.
    ///
    /// # Errors
    /// As [`Decoder::decode`].
    pub fn finish(&mut self, frame: &mut Frame) -> Result<bool> {
        let Some(h264) = &mut self.h264 else { return Ok(false) };
        if !h264.flush(&mut frame.image)? {
            return Ok(false);
        }
        frame.pts = self.pending.pop().map_or(frame.pts, |Reverse(pts)| pts);
        Ok(true)
    }

    /// Forgets everything: the next packet must be a key.
    pub(super) fn restart(&mut self) {
        self.h264 = None;
        self.pending.clear();
    }

    /// Decodes `bytes`, which are shown at `pts`. The time of the picture that came out, if one did.
    pub(super) fn feed(
        &mut self,
        codec: Codec,
        bytes: &[u8],
        pts: Duration,
        out: &mut Image,
    ) -> Result<Option<Duration>> {
        if codec == Codec::Jpeg {
            mjpeg::jpeg(bytes, out)?;
            return Ok(Some(pts));
        }
        let h264 = match &mut self.h264 {
            Some(h264) => h264,
            None => self.h264.insert(H264::new()?),
        };
        self.pending.push(Reverse(pts));
        match h264.feed(bytes, out) {
            Ok(true) => Ok(Some(self.pending.pop().map_or(pts, |Reverse(pts)| pts))),
            Ok(false) => Ok(None),
            Err(e) => {
                self.pending.retain(|Reverse(time)| *time != pts);
                Err(e)
            }
        }
    }
}

/// The NAL units of an Annex B stream: each without its start code.
pub(crate) fn nal_units(stream: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = after_start_code(stream);
    std::iter::from_fn(move || {
        let unit = rest?;
        let end = unit.windows(3).position(|w| w == [0, 0, 1]);
        rest = end.and_then(|at| after_start_code(&unit[at..]));
        let unit = &unit[..end.unwrap_or(unit.len())];
        // The zero before a start code of four bytes, and padding, is no part of the unit.
        let kept = unit.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        Some(&unit[..kept])
    })
}

fn after_start_code(stream: &[u8]) -> Option<&[u8]> {
    stream.windows(3).position(|w| w == [0, 0, 1]).map(|at| &stream[at + 3..])
}

/// Whether an access unit in Annex B form holds an IDR picture.
pub(super) fn has_idr(unit: &[u8]) -> bool {
    nal_units(unit).any(|nal| nal.first().is_some_and(|header| header & 0x1f == 5))
}

/// The parameter sets of an access unit, in Annex B form; empty without any.
pub(super) fn parameter_sets(unit: &[u8]) -> Vec<u8> {
    let mut sets = Vec::new();
    // They come before the picture's data: the rest is not searched.
    let before = nal_units(unit).take_while(|nal| !matches!(nal.first().map(|h| h & 0x1f), Some(1..=5)));
    for set in before.filter(|nal| matches!(nal.first().map(|h| h & 0x1f), Some(7 | 8))) {
        sets.extend_from_slice(&[0, 0, 0, 1]);
        sets.extend_from_slice(set);
    }
    sets
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn units_are_found_behind_start_codes_of_both_lengths() {
        let stream = [0, 0, 0, 1, 0x67, 9, 0, 0, 0, 1, 0x68, 8, 0, 0, 1, 0x65, 1, 0, 0, 3, 2, 0, 0];
        let units: Vec<_> = nal_units(&stream).collect();
        assert_eq!(units, [&[0x67, 9][..], &[0x68, 8], &[0x65, 1, 0, 0, 3, 2]]);
        assert!(has_idr(&stream) && !has_idr(&stream[..12]));
        assert_eq!(parameter_sets(&stream), [0, 0, 0, 1, 0x67, 9, 0, 0, 0, 1, 0x68, 8]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_apart_and_decoded_or_refused(
            units in proptest::collection::vec(proptest::collection::vec(0u8..8, 0..40), 0..6),
            jpeg in any::<bool>(),
        ) {
            let mut stream = Vec::new();
            for unit in &units {
                stream.extend_from_slice(&[0, 0, 1]);
                stream.extend_from_slice(unit);
            }
            let found: Vec<&[u8]> = nal_units(&stream).collect();
            prop_assert!(found.len() >= units.len());
            prop_assert!(found.iter().map(|unit| unit.len()).sum::<usize>() <= stream.len());
            prop_assert!(parameter_sets(&stream).len() <= 2 * stream.len());
            prop_assert_eq!(has_idr(&stream), found.iter().any(|unit| unit.first() == Some(&5)));
            let codec = if jpeg { Codec::Jpeg } else { Codec::H264 };
            let bytes = Bytes::from(stream);
            let packet = Packet { codec, key: true, gap: true, pts: Duration::ZERO, parameters: None, bytes };
            let (mut decoder, mut frame) = (Decoder::new(), Frame::default());
            prop_assert!(!matches!(decoder.decode(&packet, &mut frame), Ok(true)));
        }
    }
}
