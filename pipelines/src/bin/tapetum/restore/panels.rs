//! Pictures beside each other.

use tapetum_runtime::{Image, PixelFormat};

/// Columns of white between two pictures.
const GAP: usize = 8;

/// Puts `pictures` of one height beside each other, in colour; a lower one is filled up with white.
pub fn beside(pictures: &[&Image], out: &mut Image) {
    let width = pictures.iter().map(|p| p.width()).sum::<usize>() + GAP * pictures.len().saturating_sub(1);
    let height = pictures.iter().map(|p| p.height()).max().unwrap_or(0);
    let bytes = out.reset(width, height, PixelFormat::Rgb8);
    bytes.fill(255);
    let mut left = 0;
    let mut colour = Image::default();
    for picture in pictures {
        colour.crop_from(picture, picture.rect(), PixelFormat::Rgb8);
        for y in 0..colour.height() {
            let from = (y * width + left) * 3;
            bytes[from..from + colour.width() * 3].copy_from_slice(colour.row(y));
        }
        left += colour.width() + GAP;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grey_and_colour_stand_side_by_side() {
        let grey = Image::new(2, 1, PixelFormat::Grey8, vec![7, 9]).unwrap();
        let colour = Image::new(1, 2, PixelFormat::Rgb8, vec![1, 2, 3, 4, 5, 6]).unwrap();
        let mut out = Image::default();
        beside(&[&grey, &colour], &mut out);
        assert_eq!((out.width(), out.height()), (11, 2));
        assert_eq!(out.row(0)[..6], [7, 7, 7, 9, 9, 9]);
        assert_eq!((&out.row(1)[..6], &out.row(1)[30..]), (&[255; 6][..], &[4, 5, 6][..]));
    }
}
