//! OpenCV's `INTER_LINEAR` on 8 bits: two taps per axis, whatever the scale.
//!
//! The arithmetic is OpenCV 5.0.0's (`modules/imgproc/src/resize.cpp`): weights are rounded to 11 bits, rows are
//! interpolated first and keep 15 bits, and the two products of the columns are cut to 16 bits *each* before they are
//! added and rounded. Horizontally a tap outside has weight 0; vertically it is the edge row with its weight, which
//! the cutting makes a different sum.

use super::{
    view::{Target, View},
    wide::wide,
};

/// Which positions the taps are at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Taps {
    /// Pixel centres on pixel centres.
    Centres,
    /// What `INTER_AREA` does when a side grows: weights by the covered length.
    Covered,
}

/// One output position: taps at `at` and `at + 1`, weights of 11 bits.
#[derive(Clone, Copy)]
struct Tap {
    at: isize,
    weights: [i16; 2],
}

#[derive(Default)]
pub(super) struct TwoTap {
    columns: Vec<Tap>,
    rows: Vec<Tap>,
    /// Two source rows, interpolated horizontally, planes one after the other, 15 bits.
    lines: [Vec<i16>; 2],
    /// Which rows those are.
    held: [Option<usize>; 2],
}

impl TwoTap {
    pub(super) fn plan(&mut self, from: (usize, usize), channels: usize, target: &Target, taps: Taps) {
        let window = target.window;
        axis(&mut self.columns, from.0, target.size.0, window.x, window.width, taps);
        for tap in &mut self.columns {
            // A tap outside has weight 0. So that both taps can always be read, the last pixel is the second tap of
            // the last pair with all the weight, which is the same number.
            if tap.at < 0 {
                *tap = Tap { at: 0, weights: [ONE, 0] };
            } else if tap.at >= from.0 as isize - 1 {
                *tap = Tap { at: from.0 as isize - 2, weights: [0, ONE] };
            }
            tap.at *= channels as isize;
        }
        axis(&mut self.rows, from.1, target.size.1, window.y, window.height, taps);
        self.lines.iter_mut().for_each(|line| line.resize(window.width * channels, 0));
    }

    /// To be called before the first row of a picture.
    pub(super) fn begin(&mut self) {
        self.held = [None; 2];
    }

    pub(super) fn row(&mut self, view: &View, y: usize, planes: &mut [u8]) {
        let Tap { at, weights } = self.rows[y];
        let last = view.size().1 as isize - 1;
        let [upper, lower] = [at.clamp(0, last) as usize, (at + 1).clamp(0, last) as usize];
        if self.held[0] != Some(upper) && self.held[1] == Some(upper) {
            self.lines.swap(0, 1);
            self.held.swap(0, 1);
        }
        for (n, row) in [upper, lower].into_iter().enumerate() {
            if self.held[n] != Some(row) {
                across(view.row(row), view.channels(), &self.columns, &mut self.lines[n]);
                self.held[n] = Some(row);
            }
        }
        down(&self.lines[0], &self.lines[1], weights, planes);
    }
}

/// 1 in the weights' fixed point.
const ONE: i16 = 1 << 11;

/// Fills `to` with the taps of the output positions `start..start + len` of an axis that goes from `from` to `size`
/// pixels.
fn axis(to: &mut Vec<Tap>, from: usize, size: usize, start: usize, len: usize, taps: Taps) {
    // The inverse of the inverse: that is how OpenCV has it, and it is not always `from / size`.
    let inverse = size as f64 / from as f64;
    let scale = 1.0 / inverse;
    to.clear();
    to.extend((start..start + len).map(|v| {
        let v = v as f64;
        let (at, part) = match taps {
            Taps::Centres => {
                let place = ((v + 0.5) * scale - 0.5) as f32;
                (place.floor() as isize, place - place.floor())
            }
            Taps::Covered => {
                let at = (v * scale).floor();
                let part = ((v + 1.0) - (at + 1.0) * inverse) as f32;
                (at as isize, if part <= 0.0 { 0.0 } else { part - part.floor() })
            }
        };
        let weight = |part: f32| (part * f32::from(ONE)).round_ties_even() as i16;
        Tap { at, weights: [weight(1.0 - part), weight(part)] }
    }));
}

/// One row, interpolated horizontally into planes.
fn across(row: &[u8], channels: usize, taps: &[Tap], to: &mut [i16]) {
    let width = taps.len();
    if row.len() == channels {
        // A single column has no second tap.
        for (plane, &value) in to.chunks_exact_mut(width).zip(row) {
            plane.fill(i16::from(value) << 7);
        }
    } else if channels == 1 {
        for (to, tap) in to.iter_mut().zip(taps) {
            let at = tap.at as usize;
            *to = mix(row[at], row[at + 1], tap.weights);
        }
    } else {
        let (r, gb) = to.split_at_mut(width);
        let (g, b) = gb.split_at_mut(width);
        for (((tap, r), g), b) in taps.iter().zip(r).zip(g).zip(b) {
            let at = tap.at as usize;
            let pair = &row[at..at + 6];
            *r = mix(pair[0], pair[3], tap.weights);
            *g = mix(pair[1], pair[4], tap.weights);
            *b = mix(pair[2], pair[5], tap.weights);
        }
    }
}

/// Two pixels by their weights: 8 + 11 bits, of which the upper 15 are kept.
#[inline(always)]
fn mix(left: u8, right: u8, [a, b]: [i16; 2]) -> i16 {
    ((i32::from(left) * i32::from(a) + i32::from(right) * i32::from(b)) >> 4) as i16
}

wide! {
    /// Two rows by their weights.
    fn down(upper: &[i16], lower: &[i16], weights: [i16; 2], to: &mut [u8]) {
        let (a, b) = (i32::from(weights[0]), i32::from(weights[1]));
        for ((to, &u), &l) in to.iter_mut().zip(upper).zip(lower) {
            *to = ((((i32::from(u) * a) >> 16) + ((i32::from(l) * b) >> 16) + 2) >> 2) as u8;
        }
    }
}
