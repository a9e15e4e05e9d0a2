//! From a frame to a tensor: beside OpenCV, Pillow and numpy, and at the edges.

use serde_json::Value;
use sha2::{Digest, Sha256};
use tapetum_runtime::{
    ErrorKind, Image, PixelFormat, Rect,
    contract::{Colour, Filter, InputContract, PadRule, ResizeRule, SizePolicy},
    preprocess::{Placement, Preprocess},
    seed::Seeded,
};

/// The vectors' picture of `seed`: one byte of SplitMix64 each.
fn picture(seed: u64, width: usize, height: usize, channels: usize) -> Image {
    let format = if channels == 1 { PixelFormat::Grey8 } else { PixelFormat::Rgb8 };
    let mut seeded = Seeded::new(seed);
    let bytes = (0..width * height * channels).map(|_| (seeded.bits() >> 56) as u8).collect();
    Image::new(width, height, format, bytes).unwrap()
}

fn contract(size: (usize, usize), resize: ResizeRule) -> InputContract {
    InputContract {
        name: "image".into(),
        size: SizePolicy::Fixed { height: size.1, width: size.0 },
        resize,
        colour: Colour::Rgb,
        scale: 1.0 / 255.0,
        mean: vec![0.0; 3],
        std: vec![1.0; 3],
        pad: PadRule::None,
    }
}

fn stretch(size: (usize, usize), filter: Filter) -> InputContract {
    contract(size, ResizeRule::Stretch { filter })
}

fn run(contract: &InputContract, image: &Image, roi: Rect) -> (Vec<f32>, Placement) {
    let mut preprocess = Preprocess::new(contract).unwrap();
    let (h, w) = preprocess.input_size(roi.width, roi.height).unwrap();
    let mut out = vec![f32::NAN; preprocess.channels() * h * w];
    let placement = preprocess.run(image, roi, &mut out).unwrap();
    (out, placement)
}

#[test]
fn every_vector_is_met_bit_for_bit() {
    let index: Value = serde_json::from_str(include_str!("data/preprocess/index.json")).unwrap();
    let values = include_bytes!("data/preprocess/values.bin");
    let mut wrong = Vec::new();
    let cases = index["cases"].as_array().unwrap();
    for case in cases {
        let number = |v: &Value| v.as_u64().unwrap() as usize;
        let name = case["name"].as_str().unwrap();
        let contract: InputContract = serde_json::from_value(case["contract"].clone()).unwrap();
        let [width, height, channels] = ["width", "height", "channels"].map(|key| number(&case[key]));
        let image = picture(case["seed"].as_u64().unwrap(), width, height, channels);
        let [x, y, w, h] = [0, 1, 2, 3].map(|n| number(&case["roi"][n]));
        let (out, placement) = run(&contract, &image, Rect { x, y, width: w, height: h });
        let shape = [0, 1, 2].map(|n| number(&case["shape"][n]));
        assert_eq!(out.len(), shape.iter().product::<usize>(), "{name}");
        assert_eq!(placement.input, (shape[2], shape[1]), "{name}");
        let bytes: Vec<u8> = match case["element"].as_str().unwrap() {
            "u8" => out.iter().map(|&v| v as u8).collect(),
            _ => out.iter().flat_map(|v| v.to_le_bytes()).collect(),
        };
        if let Some(want) = case["sha256"].as_str() {
            let have: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
            if have != want {
                wrong.push(format!("{name}: other bytes"));
            }
            continue;
        }
        let want = &values[number(&case["offset"])..][..bytes.len()];
        let differ = bytes.iter().zip(want).filter(|(a, b)| a != b).count();
        if differ > 0 {
            wrong.push(format!("{name}: {differ} of {} bytes differ", bytes.len()));
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn one_instance_takes_sizes_in_any_order_and_gives_the_same() {
    let mut seeded = Seeded::new(7);
    let rules = [Filter::Nearest, Filter::Bilinear, Filter::BilinearAntialiased, Filter::Area];
    for filter in rules {
        let contract = stretch((24, 20), filter);
        let mut preprocess = Preprocess::new(&contract).unwrap();
        let mut out = vec![0.0; 3 * 24 * 20];
        for n in 0..60 {
            let mut within = |least: u64, most: u64| (least + seeded.below(most - least)) as usize;
            let (width, height) = (within(1, 70), within(1, 70));
            let image = picture(n, width, height, if n % 5 == 0 { 1 } else { 3 });
            let (x, y) = (within(0, width as u64), within(0, height as u64));
            let (w, h) = (within(1, (width - x) as u64 + 1), within(1, (height - y) as u64 + 1));
            let roi = Rect { x, y, width: w, height: h };
            out.fill(f32::NAN);
            preprocess.run(&image, roi, &mut out).unwrap();
            assert_eq!(out, run(&contract, &image, roi).0, "{filter:?} {roi:?} of {width}×{height}");
        }
    }
}

#[test]
fn a_single_pixel_fills_any_input() {
    let image = Image::new(1, 1, PixelFormat::Rgb8, vec![10, 20, 30]).unwrap();
    for filter in [Filter::Nearest, Filter::Bilinear, Filter::BilinearAntialiased, Filter::Area] {
        let (out, placement) = run(&stretch((5, 3), filter), &image, image.rect());
        let want: Vec<f32> = [10.0, 20.0, 30.0].iter().flat_map(|v| [v / 255.0f32; 15]).collect();
        assert_eq!(out, want, "{filter:?}");
        assert_eq!(placement.to_frame(5.0, 3.0), (1.0, 1.0));
    }
}

#[test]
fn coordinates_go_there_and_back() {
    let rules = [
        ResizeRule::None,
        ResizeRule::Stretch { filter: Filter::Nearest },
        ResizeRule::Letterbox { filter: Filter::Nearest, fill: 114 },
        ResizeRule::ShorterSideCrop { filter: Filter::Nearest, shorter_side: 40 },
    ];
    let mut seeded = Seeded::new(3);
    for n in 0..200 {
        let mut within = |least: u64, most: u64| (least + seeded.below(most - least)) as usize;
        let (width, height) = (within(2, 300), within(2, 300));
        let (x, y) = (within(0, width as u64 - 1), within(0, height as u64 - 1));
        let roi = Rect { x, y, width: width - x, height: height - y };
        let mut contract = contract((32, 24), rules[n % rules.len()]);
        if rules[n % rules.len()] == ResizeRule::None {
            contract.size = SizePolicy::Multiple { of: 16, min_height: 32, min_width: 32 };
            contract.pad = PadRule::ZeroCentred { multiple: 16 };
        }
        let (_, p) = run(
            &contract,
            &Image::new(width, height, PixelFormat::Grey8, vec![0; width * height]).unwrap(),
            roi,
        );
        for _ in 0..20 {
            let (x, y) = (seeded.uniform(-10.0, 400.0), seeded.uniform(-10.0, 400.0));
            let (u, v) = p.to_input(x, y);
            let (a, b) = p.to_frame(u, v);
            // f32 between the two: its rounding at the input's scale, taken back to the frame's.
            let close = |a: f32, b: f32, u: f32, scale: f64| {
                f64::from((a - b).abs()) <= 1e-6 * (f64::from(u.abs()) + 400.0 * scale) / scale + 1e-4
            };
            assert!(
                close(a, x, u, p.scale_x) && close(b, y, v, p.scale_y),
                "{x}, {y} -> {u}, {v} -> {a}, {b}: {p:?}"
            );
        }
        let right = |r: Rect| ((r.x + r.width) as f32, (r.y + r.height) as f32);
        if !matches!(contract.resize, ResizeRule::ShorterSideCrop { .. }) {
            let (x, y) = p.to_frame(p.valid.x as f32, p.valid.y as f32);
            assert!((x - roi.x as f32).abs() < 1e-3 && (y - roi.y as f32).abs() < 1e-3, "{p:?}");
            let (far, valid) = (right(roi), right(p.valid));
            let (x, y) = p.to_frame(valid.0, valid.1);
            assert!((x - far.0).abs() < 1e-3 && (y - far.1).abs() < 1e-3, "{p:?}");
        }
    }
}

#[test]
fn a_region_outside_and_a_wrong_buffer_are_refused_with_the_numbers() {
    let image = picture(1, 20, 10, 3);
    let mut preprocess = Preprocess::new(&stretch((8, 8), Filter::Bilinear)).unwrap();
    let mut out = vec![0.0; 3 * 64];
    let rect = |x, y, width, height| Rect { x, y, width, height };
    let regions = [
        (rect(0, 0, 0, 5), "holds no pixel"),
        (rect(3, 3, 5, 0), "holds no pixel"),
        (rect(15, 0, 6, 5), "6×5 at (15, 0) of a 20×10 image does not lie in it"),
        (rect(0, usize::MAX, 1, 2), "does not lie in it"),
    ];
    for (roi, words) in regions {
        let error = preprocess.run(&image, roi, &mut out).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadInput);
        assert!(error.to_string().contains(words), "{error}");
    }
    let error = preprocess.run(&image, image.rect(), &mut out[1..]).unwrap_err();
    assert_eq!(error.to_string(), "[3, 8, 8] does not hold 191 values");
    assert!(preprocess.run(&Image::default(), Rect::default(), &mut out).is_err());
}

#[test]
fn a_size_that_the_model_does_not_take_is_refused_with_the_rule() {
    let mut contract = contract((8, 8), ResizeRule::None);
    let refused = |contract: &InputContract, width, height| {
        let error = Preprocess::new(contract).unwrap().input_size(width, height).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadInput);
        error.to_string()
    };
    assert!(refused(&contract, 9, 8).contains("a region of 9×8 gives an input of 9×8"));
    assert!(refused(&contract, 9, 8).contains("8×8 only"));
    assert!(refused(&contract, 0, 8).contains("0×8"));
    contract.size = SizePolicy::Multiple { of: 16, min_height: 32, min_width: 64 };
    assert!(refused(&contract, 63, 32).contains("multiples of 16 from 64×32 on"));
    contract.pad = PadRule::ReflectRightBottom { multiple: 16 };
    let size = |contract: &InputContract, w, h| Preprocess::new(contract).unwrap().input_size(w, h).unwrap();
    assert_eq!(size(&contract, 63, 33), (48, 64));
    assert!(refused(&contract, usize::MAX, 5).contains("without a bound"));
    contract.size =
        SizePolicy::Range { min_height: 32, min_width: 32, max_height: 64, max_width: 100, multiple: 16 };
    assert!(refused(&contract, 40, 65).contains("to 100×64"));
    contract.pad = PadRule::None;
    contract.resize = ResizeRule::Stretch { filter: Filter::Area };
    assert_eq!(size(&contract, 5000, 33), (48, 96));
    contract.size = SizePolicy::Multiple { of: 16, min_height: 32, min_width: 64 };
    assert_eq!(size(&contract, 17, 100), (112, 64));
}

#[test]
fn a_contract_that_contradicts_itself_is_refused() {
    let good = stretch((8, 8), Filter::Area);
    let refused = |change: fn(&mut InputContract)| {
        let mut contract = good.clone();
        change(&mut contract);
        let error = Preprocess::new(&contract).err().expect("refused");
        assert_eq!(error.kind(), ErrorKind::BadFile);
    };
    refused(|c| c.mean.truncate(1));
    refused(|c| c.std[1] = 0.0);
    refused(|c| c.size = SizePolicy::Fixed { height: 0, width: 8 });
    refused(|c| c.size = SizePolicy::Multiple { of: 0, min_height: 1, min_width: 1 });
    refused(|c| c.pad = PadRule::ZeroCentred { multiple: 0 });
    refused(|c| c.resize = ResizeRule::ShorterSideCrop { filter: Filter::Area, shorter_side: 7 });
    refused(|c| {
        c.size = SizePolicy::Multiple { of: 8, min_height: 8, min_width: 8 };
        c.resize = ResizeRule::Letterbox { filter: Filter::Area, fill: 0 };
    });
}

/// `cargo test --workspace --test preprocess -- --ignored --nocapture` prints milliseconds of one call.
#[test]
#[ignore = "measures, judges nothing"]
fn time_of_the_usual_sizes() {
    let image = picture(1, 640, 480, 3);
    let crop = Rect { x: 152, y: 169, width: 223, height: 224 };
    let cases = [
        ("whole", image.rect(), (224, 224)),
        ("whole", image.rect(), (320, 240)),
        ("crop", crop, (512, 512)),
    ];
    for filter in [Filter::Nearest, Filter::Bilinear, Filter::BilinearAntialiased, Filter::Area] {
        for (name, roi, size) in cases {
            let mut preprocess = Preprocess::new(&stretch(size, filter)).unwrap();
            let mut out = vec![0.0; 3 * size.0 * size.1];
            let mut times: Vec<f64> = (0..100)
                .map(|_| {
                    let start = std::time::Instant::now();
                    preprocess.run(&image, roi, &mut out).unwrap();
                    start.elapsed().as_secs_f64() * 1e3
                })
                .collect();
            times.sort_by(f64::total_cmp);
            let (w, h) = (roi.width, roi.height);
            eprintln!(
                "{filter:?} {name} {w}×{h} -> {size:?}: median {:.3} ms, best {:.3} ms",
                times[50], times[0]
            );
        }
    }
}
