//! Pillow's `BILINEAR` on 8 bits: a triangle that widens with the scale, so that downscaling does not alias.
//!
//! The arithmetic is Pillow 13.0.0's: weights are computed in `f64`, normalised, rounded to 22 bits; each pass is
//! rounded to 8 bits. Which pass comes first is seen in the result. That Pillow goes down first if and only if the
//! height shrinks and `H − h > 2 (W − w)` was found by trying: 1200 pairs of sizes, none different.

use super::{
    view::{Target, View, deinterleave},
    wide::wide,
};

/// Bits behind the point of a weight: 32, less 8 of the pixel, less 2 of room.
const BITS: u32 = 22;

/// The taps of every position of one axis.
#[derive(Default)]
struct Axis {
    /// First source position and the number of taps.
    spans: Vec<(usize, usize)>,
    /// `stride` weights for each position.
    weights: Vec<i32>,
    stride: usize,
    /// Weights of one position before rounding.
    exact: Vec<f64>,
}

impl Axis {
    fn plan(&mut self, from: usize, size: usize, start: usize, len: usize) {
        let scale = from as f64 / size as f64;
        // The triangle's half width, and the factor from source pixels to the unit triangle.
        let support = scale.max(1.0);
        let shrink = 1.0 / support;
        self.stride = (support.ceil() as usize * 2 + 1).min(from);
        self.spans.clear();
        self.weights.clear();
        self.weights.resize(len * self.stride, 0);
        for (v, weights) in (start..start + len).zip(self.weights.chunks_exact_mut(self.stride)) {
            let centre = (v as f64 + 0.5) * scale;
            // Casts of negative numbers give 0, which is the bound.
            let first = (centre - support + 0.5) as usize;
            let end = ((centre + support + 0.5) as usize).min(from);
            self.exact.clear();
            let place = |x: usize| (x as f64 + first as f64 - centre + 0.5) * shrink;
            self.exact.extend((0..end - first).map(|x| (1.0 - place(x).abs()).max(0.0)));
            let sum: f64 = self.exact.iter().sum();
            for (to, exact) in weights.iter_mut().zip(&self.exact) {
                let share = if sum == 0.0 { *exact } else { exact / sum };
                *to = (0.5 + share * f64::from(1u32 << BITS)) as i32;
            }
            // Weights of 0 at the ends change nothing and cost a row each.
            let used = weights.iter().rposition(|&w| w != 0).map_or(1, |last| last + 1);
            let skip = weights[..used].iter().take_while(|&&w| w == 0).count().min(used - 1);
            weights.copy_within(skip..used, 0);
            self.spans.push((first + skip, used - skip));
        }
    }

    /// First source position and the weights from there on.
    fn taps(&self, v: usize) -> (usize, &[i32]) {
        let (first, taps) = self.spans[v];
        (first, &self.weights[v * self.stride..][..taps])
    }
}

#[derive(Default)]
pub(super) struct Antialiased {
    columns: Axis,
    rows: Axis,
    down_first: bool,
    /// Across first: the last source rows, resampled across; row `y` is at `y % rows.stride`.
    ring: Vec<u8>,
    /// Across first: the next source row that is not in the ring yet.
    next: usize,
    /// Down first: one row of the result's height and the source's width.
    line: Vec<u8>,
    sums: Vec<i32>,
}

impl Antialiased {
    pub(super) fn plan(&mut self, from: (usize, usize), channels: usize, target: &Target) {
        let (size, window) = (target.size, target.window);
        self.columns.plan(from.0, size.0, window.x, window.width);
        self.rows.plan(from.1, size.1, window.y, window.height);
        // H − h > 2 (W − w), without signs.
        self.down_first = size.1 < from.1 && from.1 + 2 * size.0 > size.1 + 2 * from.0;
        if self.down_first {
            self.line.resize(from.0 * channels, 0);
            self.sums.resize(from.0 * channels, 0);
        } else {
            self.ring.resize(self.rows.stride * window.width * channels, 0);
            self.sums.resize(window.width * channels, 0);
        }
    }

    /// To be called before the first row of a picture.
    pub(super) fn begin(&mut self) {
        self.next = 0;
    }

    pub(super) fn row(&mut self, view: &View, y: usize, planes: &mut [u8]) {
        let channels = view.channels();
        let (first, weights) = self.rows.taps(y);
        if self.down_first {
            down(|n| view.row(first + n), weights, &mut self.sums, &mut self.line);
            across(&self.line, channels, &self.columns, planes);
            return;
        }
        let (len, rows) = (planes.len(), self.rows.stride);
        // Rows above the first are needed by no later position either.
        for y in self.next.max(first)..first + weights.len() {
            across(view.row(y), channels, &self.columns, &mut self.ring[y % rows * len..][..len]);
        }
        self.next = self.next.max(first + weights.len());
        down(|n| &self.ring[(first + n) % rows * len..][..len], weights, &mut self.sums, planes);
    }
}

/// One source row, resampled across into planes.
fn across(row: &[u8], channels: usize, axis: &Axis, planes: &mut [u8]) {
    let width = axis.spans.len();
    if row.len() == width * channels && axis.weights.len() == width {
        deinterleave(row, channels, planes);
    } else if channels == 1 {
        for (x, to) in planes.iter_mut().enumerate() {
            let (first, weights) = axis.taps(x);
            let taps = row[first..first + weights.len()].iter().zip(weights);
            *to = cut(taps.fold(HALF, |sum, (&v, &w)| plus(sum, v, w)));
        }
    } else {
        let (r, gb) = planes.split_at_mut(width);
        let (g, b) = gb.split_at_mut(width);
        for (x, ((r, g), b)) in r.iter_mut().zip(g).zip(b).enumerate() {
            let (first, weights) = axis.taps(x);
            // Two taps are what growing a picture mostly takes.
            if let [a, c] = *weights {
                let pair = &row[3 * first..3 * first + 6];
                let mix = |n: usize| cut(plus(plus(HALF, pair[n], a), pair[n + 3], c));
                [*r, *g, *b] = [mix(0), mix(1), mix(2)];
                continue;
            }
            let mut sums = [HALF; 3];
            for (pixel, &w) in
                row[3 * first..3 * (first + weights.len())].as_chunks::<3>().0.iter().zip(weights)
            {
                for (sum, &v) in sums.iter_mut().zip(pixel) {
                    *sum = plus(*sum, v, w);
                }
            }
            [*r, *g, *b] = sums.map(cut);
        }
    }
}

const HALF: i32 = 1 << (BITS - 1);

/// One tap more. The weights of a position sum to 2²², give or take half a unit each, so that sums stay below 2³¹;
/// it wraps only so that builds that check for overflow have a loop that vectorises.
#[inline(always)]
fn plus(sum: i32, value: u8, weight: i32) -> i32 {
    sum.wrapping_add(i32::from(value).wrapping_mul(weight))
}

/// The pixel of a sum.
#[inline(always)]
fn cut(sum: i32) -> u8 {
    (sum >> BITS).min(255) as u8
}

/// Rows by their weights.
fn down<'a>(row: impl Fn(usize) -> &'a [u8], weights: &[i32], sums: &mut [i32], to: &mut [u8]) {
    match *weights {
        [_] => to.copy_from_slice(row(0)),
        [a, b] => two(row(0), row(1), a, b, to),
        _ => {
            sums.fill(HALF);
            for (n, &weight) in weights.iter().enumerate() {
                add(row(n), weight, sums);
            }
            finish(sums, to);
        }
    }
}

wide! {
    fn two(upper: &[u8], lower: &[u8], a: i32, b: i32, to: &mut [u8]) {
        for ((to, &u), &l) in to.iter_mut().zip(upper).zip(lower) {
            *to = cut(plus(plus(HALF, u, a), l, b));
        }
    }
}

wide! {
    fn add(row: &[u8], weight: i32, sums: &mut [i32]) {
        for (sum, &v) in sums.iter_mut().zip(row) {
            *sum = plus(*sum, v, weight);
        }
    }
}

wide! {
    fn finish(sums: &[i32], to: &mut [u8]) {
        for (to, &sum) in to.iter_mut().zip(sums) {
            *to = cut(sum);
        }
    }
}
