//! Sources: what they give, and that broken files give an error or fewer frames, never less than that.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tapetum::source::{self, Next, Source, StampFaults, packets::Decoder};
use tapetum_runtime::seed::Seeded;
use tapetum_runtime::{ErrorKind, Frame, PixelFormat};

fn demo_clip() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/dev_a.mp4")
}

fn open(path: &Path) -> tapetum_runtime::Result<Box<dyn Source>> {
    source::open(&path.to_string_lossy())
}

/// What came out of a source, up to `most` frames.
#[derive(Default, Debug)]
struct Given {
    frames: Vec<(u64, Duration, [usize; 2])>,
    unreadable: Vec<String>,
    lost: bool,
}

fn play(source: &mut dyn Source, most: usize) -> Given {
    let (mut given, mut frame) = (Given::default(), Frame::default());
    while given.frames.len() + given.unreadable.len() < most {
        match source.next(&mut frame) {
            Ok(Next::Frame) => {
                given.frames.push((frame.seq, frame.pts, [frame.image.width(), frame.image.height()]));
            }
            Ok(Next::Unreadable(why)) => given.unreadable.push(why.to_string()),
            Ok(Next::Idle) => {}
            Ok(Next::End) => return given,
            Err(_) => {
                given.lost = true;
                return given;
            }
        }
    }
    given
}

#[test]
fn the_demo_clip_gives_every_frame_with_its_time() {
    let mut source = open(&demo_clip()).unwrap();
    let info = source.info().clone();
    assert_eq!((info.frames, info.size, info.live), (Some(600), Some((640, 480)), false));
    let given = play(&mut *source, 1000);
    assert_eq!((given.frames.len(), given.unreadable.len()), (600, 0));
    for (n, (seq, pts, size)) in given.frames.iter().enumerate() {
        assert_eq!((*seq, *size), (n as u64, [640, 480]));
        assert!((pts.as_secs_f64() - n as f64 / 30.0).abs() < 1e-3, "frame {n} at {pts:?}");
    }
    assert_eq!(source.stamps(), StampFaults::default());
}

#[test]
fn a_clip_cut_off_anywhere_or_with_bytes_changed_gives_an_error_or_frames() {
    let whole = std::fs::read(demo_clip()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clip.mp4");
    let mut random = Seeded::new(7);
    let mut opened = 0;
    for n in 0..60u64 {
        let mut bytes = whole.clone();
        if n < 20 {
            bytes.truncate(whole.len() * n as usize / 20);
        } else {
            for _ in 0..=n / 4 {
                let at = random.below(bytes.len() as u64) as usize;
                bytes[at] ^= 1 << random.below(8);
            }
        }
        std::fs::write(&path, &bytes).unwrap();
        match open(&path) {
            Ok(mut source) => {
                opened += 1;
                play(&mut *source, 40);
            }
            Err(e) => assert!(e.to_string().contains("clip.mp4"), "{n}: {e}"),
        }
    }
    assert!(opened >= 20, "only {opened} of 60 were opened: nothing was tested");
}

/// An AVI file of MJPEG pictures; an empty picture shows the one before again.
fn avi(pictures: &[&[u8]]) -> Vec<u8> {
    let chunk = |id: &[u8; 4], data: &[u8]| {
        let mut out = [&id[..], &(data.len() as u32).to_le_bytes(), data].concat();
        out.resize(out.len() + data.len() % 2, 0);
        out
    };
    let mut strh = vec![0; 56];
    strh[..8].copy_from_slice(b"vidsMJPG");
    strh[20..24].copy_from_slice(&2u32.to_le_bytes());
    strh[24..28].copy_from_slice(&25u32.to_le_bytes());
    let mut strf = vec![0; 40];
    strf[4..8].copy_from_slice(&32u32.to_le_bytes());
    strf[8..12].copy_from_slice(&24u32.to_le_bytes());
    strf[16..20].copy_from_slice(b"MJPG");
    let strl = [b"strl".to_vec(), chunk(b"strh", &strh), chunk(b"strf", &strf)].concat();
    let hdrl = [b"hdrl".to_vec(), chunk(b"avih", &[0; 56]), chunk(b"LIST", &strl)].concat();
    let movi = std::iter::once(b"movi".to_vec()).chain(pictures.iter().map(|p| chunk(b"00dc", p)));
    let movi = movi.collect::<Vec<_>>().concat();
    chunk(b"RIFF", &[b"AVI ".to_vec(), chunk(b"LIST", &hdrl), chunk(b"LIST", &movi)].concat())
}

fn jpeg() -> Vec<u8> {
    let picture = image::RgbImage::from_fn(32, 24, |x, y| image::Rgb([8 * x as u8, 9 * y as u8, 90]));
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut bytes, image::ImageFormat::Jpeg).unwrap();
    bytes.into_inner()
}

#[test]
fn an_avi_with_a_repeated_and_a_broken_picture() {
    let good = jpeg();
    let broken = &good[..good.len() / 3];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clip.avi");
    std::fs::write(&path, avi(&[&good, &[], broken, &good, &good])).unwrap();
    let mut source = open(&path).unwrap();
    assert_eq!(source.info().frames, Some(5));
    let given = play(&mut *source, 100);
    let seen: Vec<_> = given.frames.iter().map(|(seq, pts, size)| (*seq, pts.as_millis(), *size)).collect();
    assert_eq!(seen, [0, 1, 3, 4].map(|n| (n, u128::from(n) * 80, [32, 24])));
    let [why] = &given.unreadable[..] else { panic!("{given:?}") };
    assert!(why.contains("clip.avi: frame 2"), "{why}");

    let whole = avi(&[&good, &good, &good]);
    for length in (0..whole.len()).step_by(37) {
        std::fs::write(&path, &whole[..length]).unwrap();
        if let Ok(mut source) = open(&path) {
            let given = play(&mut *source, 100);
            assert!(given.frames.len() + given.unreadable.len() <= 3 && !given.lost, "{length}: {given:?}");
        }
    }
}

#[test]
fn other_codecs_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clip.avi");
    let mut bytes = avi(&[&jpeg()]);
    let at = bytes.windows(4).rposition(|w| w == b"MJPG").unwrap();
    bytes[at..at + 4].copy_from_slice(b"QQQQ");
    std::fs::write(&path, bytes).unwrap();
    match open(&path) {
        Err(e) => assert!(e.to_string().contains("the video's codec is QQQQ"), "{e}"),
        // OpenCV may open what it cannot decode.
        Ok(mut source) if cfg!(feature = "opencv") => assert!(play(&mut *source, 9).frames.is_empty()),
        Ok(_) => panic!("opened"),
    }
}

#[test]
fn pictures_come_in_the_order_of_their_numbers_at_the_stated_rate() {
    let folder = tempfile::tempdir().unwrap();
    for (name, value) in [("10.png", 3), ("2.png", 2), ("1.png", 1)] {
        let picture = image::GrayImage::from_pixel(1, 1, image::Luma([value]));
        picture.save(folder.path().join(name)).unwrap();
    }
    let mut source = source::open(&format!("{}?fps=8", folder.path().display())).unwrap();
    let mut frame = Frame::default();
    for (value, ms) in [(1, 0), (2, 125), (3, 250)] {
        assert!(matches!(source.next(&mut frame), Ok(Next::Frame)));
        assert_eq!((frame.image.data(), frame.pts.as_millis()), (&[value][..], ms));
    }
    let glob = format!("{}/1*.png", folder.path().display());
    assert_eq!(source::open(&glob).unwrap().info().frames, Some(2));
}

/// What the source reads out of a PNG with these samples, 16-bit ones in two bytes, the high one first.
fn read_png(colour: png::ColorType, depth: png::BitDepth, samples: &[u8]) -> (PixelFormat, Vec<u8>) {
    // No row of 65,536 pixels: longer sides than 20,000 are refused.
    let height = if samples.len() > 1000 { 256 } else { 2 };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("picture.png");
    let bits = colour.samples() * depth as usize;
    let width = samples.len() * 8 / bits / height;
    let file = std::fs::File::create(&path).unwrap();
    let mut encoder = png::Encoder::new(file, width as u32, height as u32);
    encoder.set_color(colour);
    encoder.set_depth(depth);
    encoder.write_header().unwrap().write_image_data(samples).unwrap();
    let mut frame = Frame::default();
    let next = open(&path).unwrap().next(&mut frame);
    assert!(matches!(next, Ok(Next::Frame)), "{colour:?} {depth:?}: {next:?}");
    assert_eq!((frame.image.width(), frame.image.height()), (width, height));
    (frame.image.format(), frame.image.data().to_vec())
}

#[test]
fn transparency_is_left_out_and_colours_under_it_stay() {
    use png::{BitDepth::Eight, ColorType};
    let grey = [9, 0, 255, 128];
    assert_eq!(read_png(ColorType::Grayscale, Eight, &grey), (PixelFormat::Grey8, grey.to_vec()));
    let grey_alpha = [9, 0, 0, 1, 255, 128, 128, 255];
    assert_eq!(read_png(ColorType::GrayscaleAlpha, Eight, &grey_alpha), (PixelFormat::Grey8, grey.to_vec()));
    let rgb = [10, 20, 30, 255, 0, 1, 7, 7, 7, 0, 255, 254];
    assert_eq!(read_png(ColorType::Rgb, Eight, &rgb), (PixelFormat::Rgb8, rgb.to_vec()));
    let rgba = [10, 20, 30, 0, 255, 0, 1, 1, 7, 7, 7, 128, 0, 255, 254, 255];
    assert_eq!(read_png(ColorType::Rgba, Eight, &rgba), (PixelFormat::Rgb8, rgb.to_vec()));
}

#[test]
fn every_16_bit_value_is_divided_by_257_and_rounded() {
    use png::{BitDepth::Sixteen, ColorType};
    let rounded = |v: u16| (f64::from(v) / 257.0).round() as u8;
    // Every value in the first channel, others in the next, and every transparency.
    let values = |channels: u16| {
        (0..=u16::MAX).flat_map(move |v| (0..channels).map(move |c| v.wrapping_mul(2 * c + 1) ^ (c << 14)))
    };
    for (colour, channels, opaque, format) in [
        (ColorType::Grayscale, 1, 1, PixelFormat::Grey8),
        (ColorType::GrayscaleAlpha, 2, 1, PixelFormat::Grey8),
        (ColorType::Rgb, 3, 3, PixelFormat::Rgb8),
        (ColorType::Rgba, 4, 3, PixelFormat::Rgb8),
    ] {
        let samples: Vec<u8> = values(channels).flat_map(u16::to_be_bytes).collect();
        let seen = values(channels).enumerate().filter(|(n, _)| n % usize::from(channels) < opaque);
        let want: Vec<u8> = seen.map(|(_, v)| rounded(v)).collect();
        let (have_format, have) = read_png(colour, Sixteen, &samples);
        assert_eq!(have_format, format, "{colour:?}");
        let wrong = have.iter().zip(&want).position(|(a, b)| a != b);
        assert_eq!((have.len(), wrong), (want.len(), None), "{colour:?}");
    }
    let exact = [0u16, 128, 129, 385, 386, 0x8080, 65406, 65407, 65535, 1];
    let samples: Vec<u8> = exact.into_iter().flat_map(u16::to_be_bytes).collect();
    assert_eq!(read_png(ColorType::Grayscale, Sixteen, &samples).1, [0, 0, 1, 1, 2, 128, 254, 255, 255, 0]);
}

#[test]
fn fewer_bits_are_spread_over_eight() {
    use png::{BitDepth, ColorType};
    // Four pixels a byte, 0 to 3 of 3.
    let grey = read_png(ColorType::Grayscale, BitDepth::Two, &[0b0001_1011, 0b1110_0100]);
    assert_eq!(grey, (PixelFormat::Grey8, vec![0, 85, 170, 255, 255, 170, 85, 0]));
    let grey = read_png(ColorType::Grayscale, BitDepth::One, &[0b1010_0000, 0xff]);
    assert_eq!(grey, (PixelFormat::Grey8, [[255, 0, 255, 0, 0, 0, 0, 0], [255; 8]].concat()));
}

#[test]
fn test_patterns_depend_on_their_specification_alone() {
    let first = |spec: &str| {
        let mut frame = Frame::default();
        let mut source = source::open(spec).unwrap();
        (0..5).for_each(|_| assert!(matches!(source.next(&mut frame), Ok(Next::Frame))));
        frame.image
    };
    for kind in ["bars", "noise", "moving", "eye"] {
        let spec = format!("synthetic:{kind}?size=64x48&seed=3");
        assert_eq!(first(&spec), first(&spec), "{kind}");
        if kind != "bars" {
            assert_ne!(first(&spec), first(&format!("synthetic:{kind}?size=64x48&seed=4")), "{kind}");
        }
    }
    for (spec, says) in [
        ("synthetic:eyes", "did you mean \"eye\"?"),
        ("synthetic:eye?sed=1", "did you mean \"seed\"?"),
        ("synthetic:eye?size=0x4", "size must be WxH"),
        ("synthetic:eye?fps=0", "fps must be from"),
    ] {
        let e = source::open(spec).err().unwrap();
        assert!(e.kind() == ErrorKind::InvalidConfig && e.to_string().contains(says), "{e}");
    }
}

#[test]
fn formats_that_only_opencv_reads_name_the_feature() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clip.mkv");
    std::fs::write(&path, [0x1a, 0x45, 0xdf, 0xa3, 0, 0, 0, 0, 0, 0, 0, 0]).unwrap();
    let e = open(&path).err().unwrap();
    assert!(e.to_string().contains("clip.mkv: a Matroska or WebM file"), "{e}");
    if cfg!(feature = "opencv") {
        assert!(e.kind() == ErrorKind::BadFile && e.to_string().contains("OpenCV: "), "{e}");
    } else {
        assert!(e.kind() == ErrorKind::Unsupported && e.to_string().contains("--features opencv"), "{e}");
    }
}

#[test]
fn a_gstreamer_pipeline_is_checked_and_without_opencv_the_feature_is_named() {
    let error = |spec: &str| source::open(spec).map(|_| ()).unwrap_err();
    let open_ended = error("gst:videotestsrc ! fakesink");
    assert!(open_ended.kind() == ErrorKind::InvalidConfig, "{open_ended}");
    if !cfg!(feature = "opencv") {
        let e = error("gst:rtspsrc location=rtsp://u:hidden@h/ user-pw=hidden ! videoconvert ! appsink");
        assert!(e.kind() == ErrorKind::Unsupported && e.to_string().contains("--features opencv"), "{e}");
        assert!(!e.to_string().contains("hidden"), "{e}");
    }
}

#[cfg(feature = "opencv")]
mod by_opencv {
    use opencv::{
        core::{CV_8UC3, Mat, Scalar, Size},
        prelude::VideoWriterTrait,
        videoio::VideoWriter,
    };
    use tapetum_runtime::Image;

    use super::*;

    /// 50 frames of MPEG-4 at 20 frames/s that grow redder.
    fn write(path: &Path) {
        let codec = VideoWriter::fourcc('F', 'M', 'P', '4').unwrap();
        let mut writer = VideoWriter::new(path, codec, 20.0, Size::new(96, 64), true).unwrap();
        for n in 0..50 {
            let bgr = Scalar::new(10.0, 60.0, 5.0 * f64::from(n), 0.0);
            writer.write(&Mat::new_rows_cols_with_default(64, 96, CV_8UC3, bgr).unwrap()).unwrap();
        }
        writer.release().unwrap();
    }

    #[test]
    fn matroska_and_mpeg4_come_with_their_colours_and_times() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["clip.mkv", "clip.avi", "clip.mp4"] {
            let path = folder.path().join(name);
            write(&path);
            let mut source = open(&path).unwrap();
            assert_eq!((source.info().size, source.info().live), (Some((96, 64)), false));
            let mut frame = Frame::default();
            for n in 0..50u64 {
                assert!(matches!(source.next(&mut frame), Ok(Next::Frame)), "{name}: {n}");
                assert_eq!((frame.seq, frame.pts.as_millis()), (n, u128::from(n) * 50), "{name}");
                let [red, green, blue] = [0, 1, 2].map(|c| f64::from(frame.image.data()[3 * 3000 + c]));
                let off = (red - 5.0 * n as f64).abs().max((green - 60.0).abs()).max((blue - 10.0).abs());
                assert!(off < 12.0, "{name}: frame {n} is {red} {green} {blue}");
            }
            assert!(matches!(source.next(&mut frame), Ok(Next::End)));
            assert_eq!(source.stamps(), StampFaults::default(), "{name}");
        }
    }

    #[test]
    fn a_file_that_breaks_off_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clip.mkv");
        write(&path);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        let given = play(&mut *open(&path).unwrap(), 100);
        let [why] = &given.unreadable[..] else { panic!("{given:?}") };
        assert!(given.frames.len() < 49 && why.contains("clip.mkv: ends after"), "{why}");
    }

    #[test]
    fn the_demo_clip_is_the_same_as_by_our_own_reader() {
        let mut ours = open(&demo_clip()).unwrap();
        let mut theirs = source::open(&format!("{}?decoder=opencv", demo_clip().display())).unwrap();
        let (mut a, mut b) = (Frame::default(), Frame::default());
        for n in 0..60 {
            assert!(
                matches!(ours.next(&mut a), Ok(Next::Frame))
                    && matches!(theirs.next(&mut b), Ok(Next::Frame))
            );
            assert!(a.pts.abs_diff(b.pts) < Duration::from_millis(1), "{n}: {:?} {:?}", a.pts, b.pts);
            let mean = mean_difference(&a.image, &b.image);
            assert!(mean < 2.0, "frame {n} differs by {mean} on average");
        }
    }

    fn mean_difference(a: &Image, b: &Image) -> f64 {
        assert_eq!((a.width(), a.height()), (b.width(), b.height()));
        let sum: u64 = a.data().iter().zip(b.data()).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
        sum as f64 / a.data().len() as f64
    }
}

/// What is recorded from a later key packet on decodes to the frames that the source gave, bit for bit.
fn replays(path: &Path, most: usize) {
    let mut source = open(path).unwrap();
    let (mut frame, mut frames, mut packets) = (Frame::default(), Vec::new(), Vec::new());
    // Nobody asked for packets yet.
    assert!(matches!(source.next(&mut frame), Ok(Next::Frame)));
    source.packets(&mut |_| panic!("a packet that nobody asked for"));
    let mut source = open(path).unwrap();
    assert!(source.keep_packets());
    while frames.len() < most && matches!(source.next(&mut frame), Ok(Next::Frame)) {
        frames.push((frame.pts, frame.image.clone()));
        source.packets(&mut |packet| packets.push(packet));
    }
    assert!(packets[0].gap && packets[0].key && packets[1..].iter().all(|p| !p.gap));
    let key = (1..packets.len()).find(|n| packets[*n].key).unwrap_or(0);
    let (mut decoder, mut same) = (Decoder::new(), 0);
    let mut check = |frame: &Frame| {
        if let Some((_, image)) =
            frames.iter().find(|(pts, _)| pts.abs_diff(frame.pts) < Duration::from_micros(9))
        {
            assert!(*image == frame.image, "{}: the frame at {:?}", path.display(), frame.pts);
            same += 1;
        }
    };
    for packet in &packets[key..] {
        if decoder.decode(packet, &mut frame).unwrap() {
            check(&frame);
        }
    }
    while decoder.finish(&mut frame).unwrap() {
        check(&frame);
    }
    assert!(same + 3 >= packets.len() - key && same > 20, "{same} of {} from packet {key}", packets.len());
}

#[test]
fn packets_of_files_decode_to_the_same_frames() {
    replays(&demo_clip(), 400);
    replays(&Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/haze/clip.avi"), 60);
}
