//! Quality measures: beside scikit-image and numpy, and at the edges.

use serde_json::Value;
use tapetum_runtime::{
    ErrorKind, Image, PixelFormat,
    quality::{Flicker, FlickerReport, mse, psnr, ssim},
    seed::Seeded,
};

const PICTURES: &[u8] = include_bytes!("data/quality/pictures.bin");

fn index() -> Value {
    serde_json::from_str(include_str!("data/quality/index.json")).unwrap()
}

/// The picture that the index describes.
fn picture(of: &Value) -> Image {
    let [width, height, channels, offset] =
        ["width", "height", "channels", "offset"].map(|key| of[key].as_u64().unwrap() as usize);
    let format = if channels == 1 { PixelFormat::Grey8 } else { PixelFormat::Rgb8 };
    Image::new(width, height, format, PICTURES[offset..][..width * height * channels].to_vec()).unwrap()
}

fn noise(seed: u64, width: usize, height: usize, format: PixelFormat) -> Image {
    let mut seeded = Seeded::new(seed);
    let bytes = (0..width * height * format.channels()).map(|_| (seeded.bits() >> 56) as u8).collect();
    Image::new(width, height, format, bytes).unwrap()
}

#[test]
fn every_pair_has_the_librarys_values() {
    let index = index();
    let pairs = index["pairs"].as_array().unwrap();
    assert!(pairs.len() > 80);
    for pair in pairs {
        let (name, a, b) = (pair["name"].as_str().unwrap(), picture(&pair["a"]), picture(&pair["b"]));
        let want = |key: &str| pair[key].as_f64();
        assert!((mse(&a, &b).unwrap() - want("mse").unwrap()).abs() <= 1e-9, "{name}");
        let [there, back] = [psnr(&a, &b).unwrap(), psnr(&b, &a).unwrap()];
        assert_eq!(there, back, "{name}");
        match want("psnr") {
            Some(want) => assert!((there - want).abs() <= 1e-9, "{name}: {there} dB, want {want}"),
            None => assert_eq!(there, f64::INFINITY, "{name}"),
        }
        let [there, back] = [ssim(&a, &b).unwrap(), ssim(&b, &a).unwrap()];
        let want = want("ssim").unwrap();
        assert!((there - want).abs() <= 1e-9 && (back - want).abs() <= 1e-9, "{name}: {there}, want {want}");
        if a == b {
            assert_eq!(there, 1.0, "{name}");
        }
    }
}

#[test]
fn every_video_flickers_as_much_as_by_plain_arithmetic() {
    let index = index();
    let videos = index["videos"].as_array().unwrap();
    assert!(videos.len() > 10);
    for video in videos {
        let name = video["name"].as_str().unwrap();
        let frames = |key: &str| video[key].as_array().unwrap().iter().map(picture).collect::<Vec<_>>();
        let mut flicker = Flicker::new(video["threshold"].as_u64().unwrap() as u8);
        for (captured, restored) in frames("captured").iter().zip(&frames("restored")) {
            flicker.frame(captured, restored).unwrap();
        }
        let want = &video["report"];
        let Some(have) = flicker.report() else {
            assert!(want.is_null(), "{name}: nothing, want {want}");
            continue;
        };
        assert_eq!(Some(have.frames), want["frames"].as_u64(), "{name}");
        for (key, have) in
            [("static_fraction", have.static_fraction), ("before", have.before), ("after", have.after)]
        {
            let want = want[key].as_f64().unwrap();
            assert!((have - want).abs() <= 1e-12, "{name}: {key} is {have}, want {want}");
        }
    }
}

#[test]
fn grey_is_three_equal_channels() {
    let widened = |grey: &Image| {
        let bytes = grey.data().iter().flat_map(|&v| [v; 3]).collect();
        Image::new(grey.width(), grey.height(), PixelFormat::Rgb8, bytes).unwrap()
    };
    let [a, b] = [1, 2].map(|seed| noise(seed, 101, 20, PixelFormat::Grey8));
    assert_eq!(mse(&a, &b).unwrap(), mse(&widened(&a), &widened(&b)).unwrap());
    assert!((ssim(&a, &b).unwrap() - ssim(&widened(&a), &widened(&b)).unwrap()).abs() < 1e-14);
    let report = |pairs: [(&Image, &Image); 2]| {
        let mut flicker = Flicker::new(60);
        pairs.iter().for_each(|(captured, restored)| flicker.frame(captured, restored).unwrap());
        flicker.report().unwrap()
    };
    let (wide_a, wide_b) = (widened(&a), widened(&b));
    assert_eq!(report([(&a, &b), (&b, &a)]), report([(&wide_a, &b), (&wide_b, &a)]));
    assert_eq!(report([(&a, &b), (&b, &a)]), report([(&a, &wide_b), (&b, &wide_a)]));
}

#[test]
fn pictures_that_cannot_be_compared_are_refused_with_both() {
    let rgb = noise(1, 20, 12, PixelFormat::Rgb8);
    for measure in [mse, psnr, ssim] {
        for (other, words) in [
            (noise(1, 20, 12, PixelFormat::Grey8), "20×12 Rgb8 and 20×12 Grey8"),
            (noise(1, 12, 20, PixelFormat::Rgb8), "20×12 Rgb8 and 12×20 Rgb8"),
        ] {
            let error = measure(&rgb, &other).unwrap_err();
            assert!(error.kind() == ErrorKind::BadInput && error.to_string().contains(words), "{error}");
        }
        let nothing = Image::default();
        assert!(measure(&nothing, &nothing).unwrap_err().to_string().contains("0×0 Rgb8 hold no pixel"));
    }
    for (width, height) in [(10, 40), (40, 10), (1, 1)] {
        let small = noise(1, width, height, PixelFormat::Grey8);
        let error = ssim(&small, &small).unwrap_err();
        let words = format!("window of 11×11 pixels does not fit into pictures of {width}×{height}");
        assert!(error.kind() == ErrorKind::BadInput && error.to_string().contains(&words), "{error}");
        assert_eq!(psnr(&small, &small).unwrap(), f64::INFINITY);
    }
}

#[test]
fn a_frame_of_two_sizes_is_refused_and_leaves_no_trace() {
    let [a, b] = [1, 2].map(|seed| noise(seed, 8, 4, PixelFormat::Rgb8));
    let mut flicker = Flicker::new(255);
    flicker.frame(&a, &b).unwrap();
    assert_eq!(flicker.report(), None);
    let error = flicker.frame(&a, &noise(1, 4, 8, PixelFormat::Rgb8)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadInput);
    assert!(error.to_string().contains("8×4 cannot be compared with a restored one of 4×8"), "{error}");
    flicker.frame(&a, &b).unwrap();
    let still = FlickerReport { frames: 2, static_fraction: 1.0, before: 0.0, after: 0.0 };
    assert_eq!(flicker.report(), Some(still));
}

/// `cargo test --workspace --test quality -- --ignored --nocapture` prints milliseconds of one call.
#[test]
#[ignore = "measures, judges nothing"]
fn time_of_a_4k_frame() {
    let [a, b] = [1, 2].map(|seed| noise(seed, 3840, 2160, PixelFormat::Rgb8));
    let mut flicker = Flicker::new(8);
    let time = |name: &str, call: &mut dyn FnMut()| {
        let took = (0..5).map(|_| {
            let start = std::time::Instant::now();
            call();
            start.elapsed().as_secs_f64() * 1e3
        });
        eprintln!("{name}: best {:.1} ms", took.fold(f64::INFINITY, f64::min));
    };
    time("psnr", &mut || drop(psnr(&a, &b)));
    time("ssim", &mut || drop(ssim(&a, &b)));
    time("flicker", &mut || drop(flicker.frame(&a, &b)));
}
