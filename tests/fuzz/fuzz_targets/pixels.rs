//! Any size, stride and bytes as a camera's buffer, in every packing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tapetum_runtime::{
    Image,
    pixels::{Corner, Encoding, Layout, Matrix, Packing, Range},
};

const PACKINGS: [Packing; 9] = [
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

fuzz_target!(|bytes: &[u8]| {
    let Some((&[kind, encoding, w0, w1, h0, h1, s0, s1], buffer)) = bytes.split_first_chunk() else { return };
    let matrix = if encoding & 1 == 0 { Matrix::Bt601 } else { Matrix::Bt709 };
    let range = if encoding & 2 == 0 { Range::Limited } else { Range::Full };
    let layout = Layout {
        packing: PACKINGS[usize::from(kind) % PACKINGS.len()],
        width: u16::from_le_bytes([w0, w1]).into(),
        height: u16::from_le_bytes([h0, h1]).into(),
        stride: u16::from_le_bytes([s0, s1]).into(),
        encoding: Encoding { matrix, range },
    };
    let mut image = Image::default();
    if layout.unpack(buffer, &mut image).is_ok() {
        assert_eq!((image.width(), image.height()), (layout.width, layout.height));
    }
});
