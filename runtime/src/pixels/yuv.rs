//! Luma and chroma to red, green and blue.
//!
//! In whole numbers of 2⁻²⁰, rounded half up once, as OpenCV 5.0.0's `cvtColor` does it: for BT.601 in limited range the result
//! is OpenCV's bit for bit; the other three differ in their constants alone. Chroma is not interpolated: a pixel takes that of
//! its group.

/// Which weights luma was made with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Matrix {
    /// ITU-R BT.601: webcams and whatever says nothing, of any size.
    #[default]
    Bt601,
    /// ITU-R BT.709: HDMI and HD sensors that say so.
    Bt709,
}

/// What 8 bits stand for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Range {
    /// Luma from 16 to 235, chroma from 16 to 240: video, and whatever says nothing.
    #[default]
    Limited,
    /// From 0 to 255: JPEG and cameras that say so.
    Full,
}

/// What luma and chroma mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Encoding {
    /// The weights.
    pub matrix: Matrix,
    /// The range.
    pub range: Range,
}

const SHIFT: i32 = 20;

/// The equation's constants, in 2⁻²⁰.
pub(super) struct Converter {
    black: i32,
    luma: i32,
    red_by_cr: i32,
    green_by_cb: i32,
    green_by_cr: i32,
    blue_by_cb: i32,
}

impl Encoding {
    pub(super) fn converter(self) -> Converter {
        let [luma, red_by_cr, green_by_cb, green_by_cr, blue_by_cb] = match (self.matrix, self.range) {
            // OpenCV's own, rounded from 1.164, 1.596, 0.391, 0.813, 2.018.
            (Matrix::Bt601, Range::Limited) => [1_220_542, 1_673_527, -409_993, -852_492, 2_116_026],
            (Matrix::Bt601, Range::Full) => [1 << SHIFT, 1_470_104, -360_853, -748_826, 1_858_077],
            (Matrix::Bt709, Range::Limited) => [1_220_945, 1_879_825, -223_607, -558_796, 2_215_014],
            (Matrix::Bt709, Range::Full) => [1 << SHIFT, 1_651_297, -196_424, -490_864, 1_945_738],
        };
        let black = match self.range {
            Range::Limited => 16,
            Range::Full => 0,
        };
        Converter { black, luma, red_by_cr, green_by_cb, green_by_cr, blue_by_cb }
    }
}

impl Converter {
    /// What a chroma pair adds to each colour, the rounding's half included.
    #[inline]
    fn chroma(&self, cb: u8, cr: u8) -> [i32; 3] {
        let (cb, cr) = (i32::from(cb) - 128, i32::from(cr) - 128);
        let half = 1 << (SHIFT - 1);
        [
            half + self.red_by_cr * cr,
            half + self.green_by_cb * cb + self.green_by_cr * cr,
            half + self.blue_by_cb * cb,
        ]
    }

    #[inline]
    fn pixel(&self, y: u8, chroma: [i32; 3], to: &mut [u8]) {
        // Below black is black, as in OpenCV.
        let y = (i32::from(y) - self.black).max(0) * self.luma;
        for (to, add) in to.iter_mut().zip(chroma) {
            *to = ((y + add) >> SHIFT).clamp(0, 255) as u8;
        }
    }
}

/// One row of Y0 Cb Y1 Cr.
pub(super) fn yuyv_row(convert: &Converter, row: &[u8], to: &mut [u8]) {
    for (to, group) in to.chunks_mut(6).zip(row.chunks_exact(4)) {
        let chroma = convert.chroma(group[1], group[3]);
        for (to, y) in to.chunks_exact_mut(3).zip([group[0], group[2]]) {
            convert.pixel(y, chroma, to);
        }
    }
}

/// A plane of luma and one of Cb Cr at half the size, rows of both `stride` bytes apart.
pub(super) fn nv12(
    convert: &Converter,
    luma: &[u8],
    chroma: &[u8],
    stride: usize,
    width: usize,
    to: &mut [u8],
) {
    for (y, (to, row)) in to.chunks_exact_mut(3 * width).zip(luma.chunks(stride)).enumerate() {
        let pairs = chroma.get(y / 2 * stride..).unwrap_or_default().chunks_exact(2);
        for ((to, lumas), pair) in to.chunks_mut(6).zip(row.chunks(2)).zip(pairs) {
            let chroma = convert.chroma(pair[0], pair[1]);
            for (to, y) in to.chunks_exact_mut(3).zip(lumas) {
                convert.pixel(*y, chroma, to);
            }
        }
    }
}
