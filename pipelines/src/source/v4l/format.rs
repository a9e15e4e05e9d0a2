//! Pixel formats that can be read.

use tapetum_runtime::pixels::{Corner, Packing};

/// A pixel format: its word in options, the driver's code for it, how its bytes lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// As written in options.
    pub word: &'static str,
    /// V4L2's four characters.
    pub fourcc: [u8; 4],
    /// How the bytes lie; `None` for JPEG pictures.
    pub packing: Option<Packing>,
}

const fn format(word: &'static str, fourcc: &[u8; 4], packing: Option<Packing>) -> Format {
    Format { word, fourcc: *fourcc, packing }
}

/// Every format, the preferred first: those of which a pixel costs least to read while colour is whole, JPEG after them, as it has
/// lost something, then the mosaics of bare sensors, then grey, which has no colour.
pub const FORMATS: [Format; 11] = [
    format("rgb", b"RGB3", Some(Packing::Rgb)),
    format("bgr", b"BGR3", Some(Packing::Bgr)),
    format("yuyv", b"YUYV", Some(Packing::Yuyv)),
    format("nv12", b"NV12", Some(Packing::Nv12)),
    format("mjpeg", b"MJPG", None),
    format("jpeg", b"JPEG", None),
    format("bayer-rggb", b"RGGB", Some(Packing::Bayer(Corner::Rg))),
    format("bayer-grbg", b"GRBG", Some(Packing::Bayer(Corner::Gr))),
    format("bayer-gbrg", b"GBRG", Some(Packing::Bayer(Corner::Gb))),
    format("bayer-bggr", b"BA81", Some(Packing::Bayer(Corner::Bg))),
    format("grey", b"GREY", Some(Packing::Grey)),
];

impl Format {
    /// The format with this word.
    pub fn by_word(word: &str) -> Option<Self> {
        FORMATS.into_iter().find(|f| f.word == word)
    }

    /// The format with this code.
    pub fn by_fourcc(fourcc: [u8; 4]) -> Option<Self> {
        FORMATS.into_iter().find(|f| f.fourcc == fourcc)
    }

    /// Words of all formats.
    pub fn words() -> Vec<&'static str> {
        FORMATS.iter().map(|f| f.word).collect()
    }
}
