//! Where a region of the frame lies in the network's input.

use crate::Rect;

/// Where the region lies in the network's input; maps coordinates back.
///
/// Coordinates are continuous: a pixel covers the unit square, so that its centre is at +0.5 and the edges of a box
/// are whole numbers if it covers whole pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Placement {
    /// The region, in frame pixels.
    pub roi: Rect,
    /// (width, height) of the network's input, in pixels.
    pub input: (usize, usize),
    /// Network pixels per frame pixel, horizontally.
    pub scale_x: f64,
    /// Network pixels per frame pixel, vertically.
    pub scale_y: f64,
    /// Where the left edge of the region is in the input, in network pixels; negative if it was cropped away.
    pub offset_x: f64,
    /// Where the upper edge of the region is in the input, in network pixels; negative if it was cropped away.
    pub offset_y: f64,
    /// The network pixels that hold picture, not padding or fill.
    pub valid: Rect,
}

impl Placement {
    /// From network pixels to frame pixels. Not cut to the frame.
    pub fn to_frame(&self, x: f32, y: f32) -> (f32, f32) {
        let x = self.roi.x as f64 + (f64::from(x) - self.offset_x) / self.scale_x;
        let y = self.roi.y as f64 + (f64::from(y) - self.offset_y) / self.scale_y;
        (x as f32, y as f32)
    }

    /// From frame pixels to network pixels. Not cut to the input.
    pub fn to_input(&self, x: f32, y: f32) -> (f32, f32) {
        let x = (f64::from(x) - self.roi.x as f64) * self.scale_x + self.offset_x;
        let y = (f64::from(y) - self.roi.y as f64) * self.scale_y + self.offset_y;
        (x as f32, y as f32)
    }
}
