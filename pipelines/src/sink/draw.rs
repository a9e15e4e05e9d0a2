//! Draws what was found onto a frame.

use std::fmt::{self, Write};

use jpeg_encoder::{ColorType, Encoder, EncodingError, SamplingFactor};
use tapetum_runtime::{
    Image, PixelFormat, Rect,
    finding::{Boxes, Finding, Kept, Mask, MaskPart},
};

use super::{
    font,
    look::{self, Label},
    palette::{self, Rgb},
};
use crate::{Fate, Item, RunInfo, StageInfo};

const WHITE: Rgb = [255; 3];

/// A picture to draw on. Keeps its memory.
#[derive(Default)]
pub(crate) struct Canvas {
    width: usize,
    height: usize,
    /// Pixels of the frame per pixel of the canvas, in each direction.
    shrink: usize,
    rgb: Vec<u8>,
    text: String,
}

impl Canvas {
    /// Width and height.
    pub fn size(&self) -> (usize, usize) {
        (self.width, self.height)
    }

    /// Draws the frame of `item` (restored, if a stage did that) with all findings, shrunk by a whole number so that neither side exceeds `most`.
    pub fn paint(&mut self, item: &Item, run: &RunInfo, most: usize) {
        self.picture(item.image_for(item.slots.len()), most);
        let found = || (0..run.stages.len()).filter_map(|at| Some((&run.stages[at], item.found(at)?)));
        for (stage, finding) in found() {
            match finding {
                Finding::Mask(mask) => self.mask(mask),
                Finding::Boxes(boxes) => self.boxes(stage, boxes),
                Finding::Image(restored) => self.kept(&restored.kept),
                _ => {}
            }
        }
        self.corners(item, found);
    }

    /// The canvas as JPEG, added to `out`.
    pub fn jpeg(&self, out: &mut Vec<u8>, quality: u8) -> Result<(), EncodingError> {
        let side = |n| u16::try_from(n).unwrap_or(u16::MAX);
        let mut encoder = Encoder::new(out, quality);
        encoder.set_sampling_factor(SamplingFactor::R_4_2_0);
        encoder.encode(&self.rgb, side(self.width), side(self.height), ColorType::Rgb)
    }

    /// Draws `image` alone, shrunk as in [`Canvas::paint`].
    pub fn picture(&mut self, image: &Image, most: usize) {
        let (width, height, channels) = (image.width(), image.height(), image.format().channels());
        self.shrink = width.max(height).div_ceil(most).max(1);
        let k = self.shrink;
        (self.width, self.height) = (width / k, height / k);
        self.rgb.clear();
        self.rgb.resize(self.width * self.height * 3, 0);
        for (y, row) in self.rgb.chunks_exact_mut((self.width * 3).max(1)).enumerate() {
            for (x, pixel) in row.chunks_exact_mut(3).enumerate() {
                let mut sum = [0_usize; 3];
                for line in y * k..(y + 1) * k {
                    let from = &image.row(line)[x * k * channels..(x + 1) * k * channels];
                    for source in from.chunks_exact(channels) {
                        for (c, sum) in sum.iter_mut().enumerate() {
                            let grey = image.format() == PixelFormat::Grey8;
                            *sum += usize::from(source[if grey { 0 } else { c }]);
                        }
                    }
                }
                for (to, sum) in pixel.iter_mut().zip(sum) {
                    *to = (sum / (k * k)) as u8;
                }
            }
        }
    }

    fn mask(&mut self, mask: &Mask) {
        for part in look::parts(mask) {
            self.classes(part.rect, 80, |x, y| class_at(part, x, y));
        }
    }

    /// The windows that a restoration worked on.
    fn kept(&mut self, kept: &Kept) {
        let (width, height) = kept.size;
        let inside = |x: usize, y: usize| x < width && y < height;
        // Fainter than a mask: whoever looks wants to see what became of the picture there.
        self.classes(Rect { x: 0, y: 0, width, height }, 40, |x, y| {
            if inside(x, y) { kept.map.get(y * width + x).copied().unwrap_or(0) } else { 0 }
        });
    }

    /// The classes in `rect` at `alpha` of 255, their contours in full colour; class 0 is not drawn.
    fn classes(&mut self, rect: Rect, alpha: u32, class_at: impl Fn(usize, usize) -> u8) {
        let k = self.shrink;
        let [left, top, right, bottom] = rect.xyxy().map(|edge| edge.div_ceil(k));
        for y in top..bottom.min(self.height) {
            for x in left..right.min(self.width) {
                let class = class_at(x * k, y * k);
                if class == 0 {
                    continue;
                }
                let (column, row) = ((x * k) as isize, (y * k) as isize);
                let k = k as isize;
                let edge = [(-k, 0), (k, 0), (0, -k), (0, k)].iter().any(|(dx, dy)| {
                    usize::try_from(column + dx)
                        .ok()
                        .zip(usize::try_from(row + dy).ok())
                        .is_none_or(|(x, y)| class_at(x, y) != class)
                });
                self.blend(x, y, palette::of_class(class.into()), if edge { 255 } else { alpha });
            }
        }
    }

    fn boxes(&mut self, stage: &StageInfo, boxes: &Boxes) {
        for found in &boxes.0 {
            let colour = palette::of_box(found.label);
            let [x1, y1, x2, y2] = found.xyxy.map(|v| (v / self.shrink as f32).round() as isize);
            let (right, bottom) = (self.width as isize - 1, self.height as isize - 1);
            for x in x1.max(0)..=x2.min(right) {
                self.dot(x, y1, colour);
                self.dot(x, y2, colour);
            }
            for y in y1.max(0)..=y2.min(bottom) {
                self.dot(x1, y, colour);
                self.dot(x2, y, colour);
            }
            let (_, line) = self.letter(1);
            self.say(format_args!("{}", Label::of(stage, found.label)));
            self.write(x1.max(0) as usize, (y1.max(0) as usize).saturating_sub(line), 1, colour);
        }
    }

    /// Classes at the top left, measures at the top right, time and number at the bottom left.
    fn corners<'a, I>(&mut self, item: &Item, found: impl Fn() -> I)
    where
        I: Iterator<Item = (&'a StageInfo, &'a Finding)>,
    {
        let scale = self.scale();
        let (_, line) = self.letter(scale);
        let (mut left, mut right) = (line / 2, line / 2);
        for (stage, finding) in found() {
            match finding {
                Finding::Class(class) => {
                    let prob = class.probs.get(class.label).copied().unwrap_or(f32::NAN) * 100.0;
                    self.say(format_args!("{} {prob:.0} %", Label::of(stage, class.label)));
                    self.write(line / 2, left, scale, palette::of_label(class.label));
                    left += line;
                }
                Finding::Measure(values) => {
                    for (name, value) in values {
                        let Some(value) = value else { continue };
                        match name.strip_suffix("_s") {
                            Some(name) => self.say(format_args!("{name} {value:.2} s")),
                            None if value.fract() == 0.0 => self.say(format_args!("{name} {value:.0}")),
                            None => self.say(format_args!("{name} {value:.3}")),
                        }
                        self.text = self.text.replace('_', " ");
                        let width = self.text.chars().count() * self.letter(scale).0 + line / 2;
                        self.write(self.width.saturating_sub(width), right, scale, WHITE);
                        right += line;
                    }
                }
                _ => {}
            }
        }
        if let Fate::Failed { .. } = item.fate {
            self.say(format_args!("failed"));
            self.write(line / 2, left, scale, palette::of_class(1));
        }
        let seconds = item.frame.pts.as_secs_f64();
        self.say(format_args!("{seconds:.3} s  frame {}", item.frame.seq));
        self.write(line / 2, self.height.saturating_sub(line + line / 2), scale, WHITE);
    }

    /// Pixels of the canvas per pixel of a letter.
    fn scale(&self) -> usize {
        match self.height {
            0..240 => 1,
            240..960 => 2,
            _ => 3,
        }
    }

    /// The room of a letter and of a line.
    fn letter(&self, scale: usize) -> (usize, usize) {
        ((font::SIZE.0 + 1) * scale, (font::SIZE.1 + 4) * scale)
    }

    fn say(&mut self, text: fmt::Arguments<'_>) {
        self.text.clear();
        // Writing into a string does not fail.
        self.text.write_fmt(text).ok();
    }

    /// Writes what was said, on a dark plate.
    fn write(&mut self, x: usize, y: usize, scale: usize, colour: Rgb) {
        let text = std::mem::take(&mut self.text);
        let (advance, line) = self.letter(scale);
        for row in y..y + line {
            for column in x..x + advance * text.chars().count() + 2 * scale {
                self.blend(column, row, [0; 3], 170);
            }
        }
        for (at, letter) in text.chars().enumerate() {
            for (row, bits) in font::rows(letter).into_iter().enumerate() {
                for column in (0..font::SIZE.0).filter(|column| bits >> (font::SIZE.0 - 1 - column) & 1 == 1)
                {
                    let left = x + at * advance + (column + 1) * scale + scale / 2;
                    let top = y + (row + 2) * scale;
                    for (dx, dy) in (0..scale * scale).map(|i| (i % scale, i / scale)) {
                        self.blend(left + dx, top + dy, colour, 255);
                    }
                }
            }
        }
        self.text = text;
    }

    fn dot(&mut self, x: isize, y: isize, colour: Rgb) {
        if let (Ok(x), Ok(y)) = (usize::try_from(x), usize::try_from(y)) {
            self.blend(x, y, colour, 255);
        }
    }

    /// Lays `colour` over a pixel; what lies outside is left out.
    fn blend(&mut self, x: usize, y: usize, colour: Rgb, alpha: u32) {
        if x >= self.width || y >= self.height {
            return;
        }
        let at = (y * self.width + x) * 3;
        for (to, colour) in self.rgb[at..at + 3].iter_mut().zip(colour) {
            *to = ((u32::from(*to) * (255 - alpha) + u32::from(colour) * alpha) / 255) as u8;
        }
    }
}

/// The class of a pixel of the frame; 0 outside of the part.
fn class_at(part: &MaskPart, x: usize, y: usize) -> u8 {
    let inside = |v: usize, start: usize, length: usize| v.checked_sub(start).filter(|v| *v < length);
    inside(x, part.rect.x, part.rect.width)
        .zip(inside(y, part.rect.y, part.rect.height))
        .and_then(|(x, y)| part.classes.get(y * part.rect.width + x).copied())
        .unwrap_or(0)
}
