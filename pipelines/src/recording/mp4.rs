//! Encoded pictures in an MP4 file that players and browsers open: pictures first, as they come; the index at the end.

use crate::source::packets::{Codec, nal_units};

/// Bytes before the first picture.
pub(super) const HEADER: u64 = 48;

/// Ticks per second.
const TIMESCALE: u64 = 90_000;

/// Where one picture lies, and when it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sample {
    /// Offset in the file.
    pub at: u64,
    pub bytes: u32,
    /// Nanoseconds on any line of time.
    pub pts: u64,
    pub key: bool,
}

/// The file's first bytes; `end` is where the pictures end, 0 while that is not known.
pub(super) fn header(end: u64) -> [u8; HEADER as usize] {
    let mut out = [0; HEADER as usize];
    out[..32].copy_from_slice(b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2avc1mp41");
    out[32..40].copy_from_slice(b"\0\0\0\x01mdat");
    // A size of 64 bits, so that any number of pictures fits.
    out[40..].copy_from_slice(&end.saturating_sub(32).to_be_bytes());
    out
}

/// A picture as it lies in the file: H.264 as units with their length before each, JPEG as it is.
pub(super) fn pack(codec: Codec, bytes: &[u8], out: &mut Vec<u8>) {
    match codec {
        Codec::Jpeg => out.extend_from_slice(bytes),
        Codec::H264 => {
            for unit in nal_units(bytes) {
                out.extend((unit.len() as u32).to_be_bytes());
                out.extend_from_slice(unit);
            }
        }
    }
}

/// The way back: H.264 in Annex B form. `None` if it is not what [`pack`] makes.
pub(super) fn unpack(codec: Codec, mut packed: &[u8]) -> Option<Vec<u8>> {
    if codec == Codec::Jpeg {
        return Some(packed.to_vec());
    }
    let mut out = Vec::with_capacity(packed.len() + 16);
    while !packed.is_empty() {
        let (length, rest) = packed.split_first_chunk::<4>()?;
        let (unit, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        out.extend_from_slice(&[0, 0, 0, 1]);
        out.extend_from_slice(unit);
        packed = rest;
    }
    Some(out)
}

/// The index that goes behind the pictures. `first_key`: the first picture, as it came (for H.264 with its parameter sets).
pub(super) fn index(samples: &[Sample], codec: Codec, size: (usize, usize), first_key: &[u8]) -> Vec<u8> {
    let times = Times::of(samples);
    let side = |n: usize| u16::try_from(n).unwrap_or(u16::MAX);
    let (width, height) = (side(size.0), side(size.1));
    boxed(b"moov", |moov| {
        full(moov, b"mvhd", 0, |b| {
            words(b, &[0, 0, TIMESCALE as u32, times.duration, 0x1_0000, 0x0100_0000, 0, 0]);
            matrix(b);
            words(b, &[0; 6]);
            words(b, &[2]);
        });
        nest(moov, b"trak", |trak| {
            // Enabled, and part of what is shown.
            full(trak, b"tkhd", 3, |b| {
                words(b, &[0, 0, 1, 0, times.duration, 0, 0, 0, 0]);
                matrix(b);
                words(b, &[u32::from(width) << 16, u32::from(height) << 16]);
            });
            if times.shift > 0 {
                // Pictures that lie between others are decoded ahead of their time.
                nest(trak, b"edts", |edts| {
                    full(edts, b"elst", 0, |b| words(b, &[1, times.duration, times.shift, 0x1_0000]))
                });
            }
            nest(trak, b"mdia", |mdia| {
                full(mdia, b"mdhd", 0, |b| words(b, &[0, 0, TIMESCALE as u32, times.duration, 0x55c4_0000]));
                full(mdia, b"hdlr", 0, |b| {
                    words(b, &[0]);
                    b.extend(b"vide");
                    words(b, &[0; 3]);
                    b.extend(b"pictures\0");
                });
                nest(mdia, b"minf", |minf| {
                    full(minf, b"vmhd", 1, |b| words(b, &[0, 0]));
                    nest(minf, b"dinf", |dinf| {
                        full(dinf, b"dref", 0, |b| {
                            words(b, &[1]);
                            // The pictures are in this very file.
                            full(b, b"url ", 1, |_| {});
                        });
                    });
                    nest(minf, b"stbl", |stbl| {
                        describe(stbl, codec, (width, height), first_key);
                        tables(stbl, samples, &times);
                    });
                });
            });
        });
    })
}

/// When pictures are decoded and shown, in ticks.
struct Times {
    /// From one decoding to the next.
    steps: Vec<u32>,
    /// From decoding to showing; empty where both are one.
    offsets: Vec<u32>,
    /// The first picture is shown so long after it is decoded.
    shift: u32,
    duration: u32,
}

impl Times {
    fn of(samples: &[Sample]) -> Self {
        let first = samples.iter().map(|s| s.pts).min().unwrap_or(0);
        let ticks = |pts: u64| u128::from(pts - first) * u128::from(TIMESCALE) / 1_000_000_000;
        let shown: Vec<u64> = samples.iter().map(|s| ticks(s.pts) as u64).collect();
        let mut decoded = shown.clone();
        decoded.sort_unstable();
        // A picture can only be shown once it is decoded.
        let shift = decoded.iter().zip(&shown).map(|(d, s)| d.saturating_sub(*s)).max().unwrap_or(0);
        let offset = |(d, s): (&u64, &u64)| u32::try_from(s + shift - d).unwrap_or(u32::MAX);
        let offsets: Vec<u32> = decoded.iter().zip(&shown).map(offset).collect();
        let mut steps: Vec<u32> =
            decoded.windows(2).map(|w| u32::try_from(w[1] - w[0]).unwrap_or(u32::MAX)).collect();
        let mut usual = steps.clone();
        usual.sort_unstable();
        // The last picture is shown as long as is usual.
        let last = usual.get(usual.len() / 2).copied().unwrap_or(TIMESCALE as u32 / 25);
        steps.extend((!samples.is_empty()).then_some(last));
        let duration = u32::try_from(steps.iter().map(|s| u64::from(*s)).sum::<u64>()).unwrap_or(u32::MAX);
        let plain = offsets.iter().all(|o| *o == 0);
        Self {
            steps,
            offsets: if plain { Vec::new() } else { offsets },
            shift: u32::try_from(shift).unwrap_or(0),
            duration,
        }
    }
}

/// How the pictures are encoded.
fn describe(stbl: &mut Vec<u8>, codec: Codec, (width, height): (u16, u16), first_key: &[u8]) {
    full(stbl, b"stsd", 0, |stsd| {
        words(stsd, &[1]);
        let name = match codec {
            Codec::H264 => b"avc1",
            Codec::Jpeg => b"jpeg",
        };
        nest(stsd, name, |b| {
            words(b, &[0, 1, 0, 0, 0, 0, u32::from(width) << 16 | u32::from(height)]);
            // 72 dots per inch, one frame per sample.
            words(b, &[0x48_0000, 0x48_0000, 0]);
            b.extend([0, 1]);
            b.extend([0; 32]);
            b.extend([0, 24, 0xff, 0xff]);
            if codec == Codec::H264 {
                nest(b, b"avcC", |b| parameters(b, first_key));
            }
        });
    });
}

/// The decoder's configuration, from the parameter sets in a key picture.
fn parameters(out: &mut Vec<u8>, key: &[u8]) {
    let of = |kind: u8| nal_units(key).filter(move |unit| unit.first().is_some_and(|h| h & 0x1f == kind));
    let sps: Vec<&[u8]> = of(7).take(1).collect();
    let pps: Vec<&[u8]> = of(8).take(255).collect();
    let profile: [u8; 3] = sps.first().and_then(|s| s.get(1..4)?.try_into().ok()).unwrap_or([66, 0, 30]);
    out.push(1);
    out.extend(profile);
    // Lengths of four bytes.
    out.push(0xff);
    for (sets, mark) in [(&sps, 0xe0), (&pps, 0)] {
        out.push(mark | sets.len() as u8);
        for set in sets {
            out.extend((set.len() as u16).to_be_bytes());
            out.extend_from_slice(set);
        }
    }
    if matches!(profile[0], 100 | 110 | 122 | 144) {
        // 4:2:0 in 8 bits: no other is recorded, for no other is decoded.
        out.extend([0xfd, 0xf8, 0xf8, 0]);
    }
}

fn tables(stbl: &mut Vec<u8>, samples: &[Sample], times: &Times) {
    full(stbl, b"stts", 0, |b| runs(b, &times.steps));
    if !times.offsets.is_empty() {
        full(stbl, b"ctts", 0, |b| runs(b, &times.offsets));
    }
    if samples.iter().any(|s| !s.key) {
        full(stbl, b"stss", 0, |b| {
            let keys: Vec<u32> = (1..).zip(samples).filter(|(_, s)| s.key).map(|(n, _)| n).collect();
            words(b, &[keys.len() as u32]);
            words(b, &keys);
        });
    }
    // Each picture is a chunk of its own.
    full(stbl, b"stsc", 0, |b| words(b, &[1, 1, 1, 1]));
    full(stbl, b"stsz", 0, |b| {
        words(b, &[0, samples.len() as u32]);
        samples.iter().for_each(|s| words(b, &[s.bytes]));
    });
    full(stbl, b"co64", 0, |b| {
        words(b, &[samples.len() as u32]);
        samples.iter().for_each(|s| b.extend(s.at.to_be_bytes()));
    });
}

/// Equal values one after the other, as their number and the value.
fn runs(out: &mut Vec<u8>, values: &[u32]) {
    let runs: Vec<&[u32]> = values.chunk_by(|a, b| a == b).collect();
    words(out, &[runs.len() as u32]);
    runs.iter().for_each(|run| words(out, &[run.len() as u32, run[0]]));
}

fn words(out: &mut Vec<u8>, words: &[u32]) {
    words.iter().for_each(|word| out.extend(word.to_be_bytes()));
}

/// Neither turned nor scaled.
fn matrix(out: &mut Vec<u8>) {
    words(out, &[0x1_0000, 0, 0, 0, 0x1_0000, 0, 0, 0, 0x4000_0000]);
}

fn boxed(name: &[u8; 4], inside: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    nest(&mut out, name, inside);
    out
}

fn nest(out: &mut Vec<u8>, name: &[u8; 4], inside: impl FnOnce(&mut Vec<u8>)) {
    let from = out.len();
    out.extend([0; 4]);
    out.extend(name);
    inside(out);
    let size = ((out.len() - from) as u32).to_be_bytes();
    out[from..from + 4].copy_from_slice(&size);
}

/// A box with a version (0) and flags.
fn full(out: &mut Vec<u8>, name: &[u8; 4], flags: u32, inside: impl FnOnce(&mut Vec<u8>)) {
    nest(out, name, |b| {
        words(b, &[flags]);
        inside(b);
    });
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::source::{self, Next, Source};
    use tapetum_runtime::Frame;

    fn sample(at: u64, ms: u64, key: bool) -> Sample {
        Sample { at, bytes: 10, pts: ms * 1_000_000, key }
    }

    #[test]
    fn pictures_between_others_are_shown_in_their_order() {
        // Decoded I P B B P, 40 ms apart as shown: 0, 120, 40, 80, 160.
        let shown = [0, 120, 40, 80, 160];
        let samples: Vec<Sample> = shown.iter().map(|ms| sample(0, 500 + ms, *ms == 0)).collect();
        let times = Times::of(&samples);
        assert_eq!(times.steps, [3600; 5]);
        assert_eq!(times.shift, 3600);
        assert_eq!(times.offsets, [3600, 10_800, 0, 0, 3600]);
        assert_eq!(times.duration, 18_000);
        let plain = Times::of(&[sample(0, 7, true), sample(0, 47, false), sample(0, 147, false)]);
        assert_eq!((plain.steps, plain.offsets, plain.shift), (vec![3600, 9000, 9000], vec![], 0));
    }

    fn frames(source: &mut dyn Source) -> Vec<(Vec<u8>, u128)> {
        let (mut frame, mut all) = (Frame::default(), Vec::new());
        while let Ok(Next::Frame) = source.next(&mut frame) {
            all.push((frame.image.data().to_vec(), frame.pts.as_micros() / 100));
        }
        all
    }

    #[test]
    fn what_was_recorded_from_a_file_is_that_file_again_bit_for_bit() {
        let clip = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/dev_a.mp4");
        let mut source = source::open(&clip.display().to_string()).unwrap();
        assert!(source.keep_packets());
        let (mut packets, mut size) = (Vec::new(), (0, 0));
        let mut frame = Frame::default();
        while let Ok(Next::Frame) = source.next(&mut frame) {
            size = (frame.image.width(), frame.image.height());
            source.packets(&mut |packet| packets.push(packet));
        }
        let (mut bytes, mut samples) = (header(0).to_vec(), Vec::new());
        for packet in &packets {
            let at = bytes.len();
            pack(packet.codec, &packet.bytes, &mut bytes);
            assert_eq!(unpack(packet.codec, &bytes[at..]).unwrap(), packet.bytes);
            let (bytes, pts) = ((bytes.len() - at) as u32, packet.pts.as_nanos() as u64);
            samples.push(Sample { at: at as u64, bytes, pts, key: packet.key });
        }
        let end = bytes.len() as u64;
        bytes[..HEADER as usize].copy_from_slice(&header(end));
        bytes.extend(index(&samples, Codec::H264, size, &packets[0].bytes));
        let copy = tempfile::Builder::new().suffix(".mp4").tempfile().unwrap();
        std::fs::write(copy.path(), bytes).unwrap();
        let mut again = source::open(&copy.path().display().to_string()).unwrap();
        assert_eq!(again.info().size, Some(size));
        let (again, first) =
            (frames(&mut *again), frames(&mut *source::open(&clip.display().to_string()).unwrap()));
        assert!(first.len() > 50 && again == first, "{} and {} frames", first.len(), again.len());
    }

    #[test]
    fn what_is_no_packed_picture_is_refused() {
        assert_eq!(unpack(Codec::H264, &[0, 0, 0, 9, 1]), None);
        assert_eq!(unpack(Codec::H264, &[0, 0]), None);
        assert_eq!(unpack(Codec::H264, &[]), Some(Vec::new()));
    }
}
