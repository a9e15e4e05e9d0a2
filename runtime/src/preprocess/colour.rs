//! The order and the number of channels.

use crate::contract::Colour;

/// BT.601 luma as OpenCV 5.0.0's `COLOR_RGB2GRAY` computes it: weights 0.299, 0.587, 0.114 in 15 bits, rounded half
/// up. The three weights sum to 2¹⁵, so grey stays as it is.
pub fn luma(r: u8, g: u8, b: u8) -> u8 {
    ((u32::from(r) * 9798 + u32::from(g) * 19235 + u32::from(b) * 3735 + (1 << 14)) >> 15) as u8
}

/// Makes the last plane of `planes` (a row each of red, green, blue and a spare) the luma of the first three.
pub(super) fn luma_row(planes: &mut [u8], width: usize) {
    let (rgb, to) = planes.split_at_mut(3 * width);
    let (r, gb) = rgb.split_at(width);
    let (g, b) = gb.split_at(width);
    for (((to, &r), &g), &b) in to.iter_mut().zip(r).zip(g).zip(b) {
        *to = luma(r, g, b);
    }
}

/// Which of the picture's planes becomes channel `channel` of the input. Plane 3 is the luma of a colour picture; a
/// grey picture is the same in every channel.
pub(super) fn plane(colour: Colour, channels: usize, channel: usize) -> usize {
    match (channels, colour) {
        (1, _) => 0,
        (_, Colour::Rgb) => channel,
        (_, Colour::Bgr) => 2 - channel,
        (_, Colour::Grey) => 3,
    }
}
