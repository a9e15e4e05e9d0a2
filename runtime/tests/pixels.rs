//! Pixels as cameras pack them: beside OpenCV and the standards' equations, and with buffers that do not fit.

use serde_json::Value;
use tapetum_runtime::{
    ErrorKind, Image, PixelFormat,
    pixels::{Corner, Encoding, Layout, MOST_SIDE, Matrix, Packing, Range},
    seed::Seeded,
};

const VALUES: &[u8] = include_bytes!("data/pixels/values.bin");

const ALL: [Packing; 9] = [
    Packing::Grey,
    Packing::Rgb,
    Packing::Bgr,
    Packing::Yuyv,
    Packing::Nv12,
    Packing::Bayer(Corner::Rg),
    Packing::Bayer(Corner::Gr),
    Packing::Bayer(Corner::Gb),
    Packing::Bayer(Corner::Bg),
];

fn packing(name: &str) -> Packing {
    let names = ["grey", "rgb", "bgr", "yuyv", "nv12", "bayer-rg", "bayer-gr", "bayer-gb", "bayer-bg"];
    ALL[names.iter().position(|n| *n == name).unwrap()]
}

fn layout(of: &Value) -> Layout {
    let [width, height, stride] = ["width", "height", "stride"].map(|key| of[key].as_u64().unwrap() as usize);
    let matrix = if of["matrix"] == "bt601" { Matrix::Bt601 } else { Matrix::Bt709 };
    let range = if of["range"] == "limited" { Range::Limited } else { Range::Full };
    let packing = packing(of["packing"].as_str().unwrap());
    Layout { packing, width, height, stride, encoding: Encoding { matrix, range } }
}

fn bytes(of: &Value) -> &'static [u8] {
    let [at, len] = [0, 1].map(|n| of[n].as_u64().unwrap() as usize);
    &VALUES[at..][..len]
}

#[test]
fn every_buffer_becomes_the_picture_that_opencv_makes_of_it() {
    let index: Value = serde_json::from_str(include_str!("data/pixels/index.json")).unwrap();
    let cases = index["cases"].as_array().unwrap();
    assert!(cases.len() > 80);
    let mut out = Image::default();
    for case in cases {
        let (name, layout, within) = (&case["name"], layout(case), case["within"].as_u64().unwrap() as u8);
        let (buffer, want) = (bytes(&case["buffer"]), bytes(&case["picture"]));
        assert_eq!(layout.bytes(), buffer.len(), "{name}");
        layout.unpack(buffer, &mut out).unwrap();
        assert_eq!((out.width(), out.height()), (layout.width, layout.height), "{name}");
        assert_eq!(out.data().len(), want.len(), "{name}");
        let off = |(a, b): (&u8, &u8)| a.abs_diff(*b);
        let most = out.data().iter().zip(want).map(off).max();
        assert!(most <= Some(within), "{name}: off by {most:?}\n{:?}\n{want:?}", out.data());
        // Off by one is for ties of rounding, which are few.
        let differ = out.data().iter().zip(want).filter(|(a, b)| a != b).count();
        assert!(differ * 50 <= want.len(), "{name}: {differ} of {} differ", want.len());
    }
}

#[test]
fn a_buffer_one_byte_short_is_refused_and_the_picture_left_alone() {
    for packing in ALL {
        for (width, height, gap) in [(2, 2, 0), (5, 3, 9), (8, 6, 0)] {
            let tight = Layout::tight(packing, width, height, Encoding::default()).unwrap();
            let layout = Layout { stride: tight.stride + gap, ..tight };
            let buffer = vec![100; layout.bytes()];
            let before = Image::new(1, 1, PixelFormat::Grey8, vec![3]).unwrap();
            let mut out = before.clone();
            let error = layout.unpack(&buffer[1..], &mut out).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BadInput);
            assert!(error.to_string().contains(&format!("{} of the {}", buffer.len() - 1, buffer.len())));
            assert_eq!(out, before);
            layout.unpack(&buffer, &mut out).unwrap();
            assert_eq!((out.width(), out.height()), (width, height));
        }
    }
}

#[test]
fn layouts_that_cannot_be_are_refused() {
    let refused = |packing, width, height, stride| {
        let layout = Layout { packing, width, height, stride, encoding: Encoding::default() };
        let error = layout.unpack(&[0; 4096], &mut Image::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadInput, "{layout:?}");
    };
    for packing in ALL {
        refused(packing, 0, 4, 64);
        refused(packing, 4, 0, 64);
        refused(packing, 8, 4, packing.row_bytes(8) - 1);
        refused(packing, MOST_SIDE + 1, 4, 4 * MOST_SIDE);
        refused(packing, usize::MAX, usize::MAX, usize::MAX);
        refused(packing, 4, 4, usize::MAX);
        assert!(Layout::tight(packing, usize::MAX, 4, Encoding::default()).is_err());
    }
    refused(Packing::Bayer(Corner::Rg), 1, 4, 64);
    refused(Packing::Bayer(Corner::Rg), 4, 1, 64);
}

/// Sizes, strides and lengths of every relation: an answer or an error, never a panic.
#[test]
fn nothing_that_a_driver_says_makes_it_panic() {
    let mut random = Seeded::new(7);
    let mut out = Image::default();
    let (mut done, mut refused) = (0, 0);
    for _ in 0..20_000 {
        let packing = ALL[random.below(ALL.len() as u64) as usize];
        let [width, height, gap, length] = [20, 20, 9, 1200].map(|n| random.below(n) as usize);
        let stride = (packing.row_bytes(width) + gap).saturating_sub(2);
        let layout = Layout { packing, width, height, stride, encoding: Encoding::default() };
        let buffer: Vec<u8> = (0..length).map(|_| random.below(256) as u8).collect();
        match layout.unpack(&buffer, &mut out) {
            Ok(()) => done += 1,
            Err(_) => refused += 1,
        }
    }
    assert!(done > 2000 && refused > 2000, "{done} done, {refused} refused");
}

#[test]
fn black_white_and_grey_are_what_the_range_says() {
    let grey = |y, range| {
        let encoding = Encoding { range, ..Encoding::default() };
        let layout = Layout::tight(Packing::Yuyv, 1, 1, encoding).unwrap();
        let mut out = Image::default();
        layout.unpack(&[y, 128, 0, 128], &mut out).unwrap();
        out.data().to_vec()
    };
    assert_eq!(grey(16, Range::Limited), [0; 3]);
    assert_eq!(grey(235, Range::Limited), [255; 3]);
    assert_eq!(grey(0, Range::Limited), [0; 3]);
    assert_eq!(grey(0, Range::Full), [0; 3]);
    assert_eq!(grey(77, Range::Full), [77; 3]);
    assert_eq!(grey(255, Range::Full), [255; 3]);
}
