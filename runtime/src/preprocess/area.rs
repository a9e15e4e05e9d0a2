//! OpenCV's `INTER_AREA` on 8 bits: the mean of the covered pixels.
//!
//! OpenCV 5.0.0 has four ways, and the result shows which: 2 × 2 in integers rounded half up; whole factors as an
//! integer sum times an `f32`; other factors as `f32` sums, row by row in this order; and if a side grows, two taps as
//! in [`super::resize`] with weights by the covered length.

use super::{
    resize::{Taps, TwoTap},
    view::{Target, View},
    wide::wide,
};

#[derive(Default)]
pub(super) struct Area {
    way: Way,
    two_tap: TwoTap,
    columns: Axis,
    rows: Axis,
    /// Whole factors: sums of whole pixels.
    counts: Vec<u32>,
    /// Other factors: the row summed last, and the sum of rows.
    line: Vec<f32>,
    held: Option<usize>,
    sums: Vec<f32>,
}

#[derive(Clone, Copy, Default)]
enum Way {
    #[default]
    Grow,
    /// By whole factors, with the window's corner.
    Whole {
        across: usize,
        down: usize,
        x: usize,
        y: usize,
    },
    Shares,
}

impl Area {
    pub(super) fn plan(&mut self, from: (usize, usize), channels: usize, target: &Target) {
        let window = target.window;
        let scale = |from: usize, to: usize| 1.0 / (to as f64 / from as f64);
        let (sx, sy) = (scale(from.0, target.size.0), scale(from.1, target.size.1));
        let (across, down) = (sx.round_ties_even(), sy.round_ties_even());
        let whole = (sx - across).abs() < f64::EPSILON && (sy - down).abs() < f64::EPSILON;
        let len = window.width * channels;
        self.way = if sx < 1.0 || sy < 1.0 {
            Way::Grow
        } else if whole && across * down < f64::from(1 << 23) {
            Way::Whole { across: across as usize, down: down as usize, x: window.x, y: window.y }
        } else {
            // Beyond 2²³ pixels an integer sum of 31 bits overflows (in OpenCV it does).
            Way::Shares
        };
        match self.way {
            Way::Grow => self.two_tap.plan(from, channels, target, Taps::Covered),
            Way::Whole { .. } => self.counts.resize(len, 0),
            Way::Shares => {
                self.columns.plan(from.0, sx, window.x, window.width);
                self.rows.plan(from.1, sy, window.y, window.height);
                self.line.resize(len, 0.0);
                self.sums.resize(len, 0.0);
            }
        }
    }

    /// To be called before the first row of a picture.
    pub(super) fn begin(&mut self) {
        self.two_tap.begin();
        self.held = None;
    }

    pub(super) fn row(&mut self, view: &View, y: usize, planes: &mut [u8]) {
        match self.way {
            Way::Grow => self.two_tap.row(view, y, planes),
            Way::Whole { across, down, x, y: top } => {
                self.counts.fill(0);
                for n in 0..down {
                    count(view.row((top + y) * down + n), view.channels(), across, x, &mut self.counts);
                }
                let share = 1.0 / (across * down) as f32;
                for (to, &sum) in planes.iter_mut().zip(&self.counts) {
                    *to = match (across, down) {
                        (2, 2) => ((sum + 2) >> 2) as u8,
                        _ => rounded(sum as f32 * share),
                    };
                }
            }
            Way::Shares => {
                for (n, &(row, share)) in self.rows.shares(y).iter().enumerate() {
                    // The row at an edge belongs to two positions.
                    if self.held != Some(row) {
                        sum_across(view.row(row), view.channels(), &self.columns, &mut self.line);
                        self.held = Some(row);
                    }
                    add(&self.line, share, n == 0, &mut self.sums);
                }
                finish(&self.sums, planes);
            }
        }
    }
}

/// Which source positions each position covers, and how much of it they are.
#[derive(Default)]
struct Axis {
    shares: Vec<(usize, f32)>,
    /// Where each position's shares end.
    ends: Vec<usize>,
}

impl Axis {
    fn plan(&mut self, from: usize, scale: f64, start: usize, len: usize) {
        /// OpenCV's bound below which a covered part is not counted.
        const LEAST: f64 = 1e-3;
        self.shares.clear();
        self.ends.clear();
        for v in start..start + len {
            let left = v as f64 * scale;
            let right = left + scale;
            let covered = scale.min(from as f64 - left);
            let last = (right.floor() as usize).min(from - 1);
            let first = (left.ceil() as usize).min(last);
            if first as f64 - left > LEAST {
                self.shares.push((first - 1, ((first as f64 - left) / covered) as f32));
            }
            self.shares.extend((first..last).map(|at| (at, (1.0 / covered) as f32)));
            if right - last as f64 > LEAST {
                self.shares.push((last, ((right - last as f64).min(1.0).min(covered) / covered) as f32));
            }
            self.ends.push(self.shares.len());
        }
    }

    fn shares(&self, v: usize) -> &[(usize, f32)] {
        let start = if v == 0 { 0 } else { self.ends[v - 1] };
        &self.shares[start..self.ends[v]]
    }
}

/// Adds blocks of `factor` pixels of one row, from output column `start` on, to the planes.
fn count(row: &[u8], channels: usize, factor: usize, start: usize, planes: &mut [u32]) {
    let width = planes.len() / channels;
    let row = &row[start * factor * channels..];
    for (c, plane) in planes.chunks_exact_mut(width).enumerate() {
        for (sum, block) in plane.iter_mut().zip(row.chunks_exact(factor * channels)) {
            *sum += block[c..].iter().step_by(channels).map(|&v| u32::from(v)).sum::<u32>();
        }
    }
}

/// One row, summed by shares into planes.
fn sum_across(row: &[u8], channels: usize, axis: &Axis, planes: &mut [f32]) {
    let width = axis.ends.len();
    for (c, plane) in planes.chunks_exact_mut(width).enumerate() {
        for (x, to) in plane.iter_mut().enumerate() {
            let shares = axis.shares(x).iter();
            *to = shares.fold(0.0, |sum, &(at, share)| sum + f32::from(row[at * channels + c]) * share);
        }
    }
}

/// Rounded to even at a half, for values of 0 to 255: the sum has no bits left behind the point.
#[inline(always)]
fn rounded(value: f32) -> u8 {
    const SHIFT: f32 = (1u32 << 23) as f32;
    // Accumulated shares may end a little above 255.
    ((value + SHIFT).to_bits() & 0x1ff).min(255) as u8
}

wide! {
    fn add(line: &[f32], share: f32, first: bool, sums: &mut [f32]) {
        if first {
            for (sum, &v) in sums.iter_mut().zip(line) {
                *sum = share * v;
            }
        } else {
            for (sum, &v) in sums.iter_mut().zip(line) {
                *sum += share * v;
            }
        }
    }
}

wide! {
    fn finish(sums: &[f32], to: &mut [u8]) {
        for (to, &sum) in to.iter_mut().zip(sums) {
            *to = rounded(sum);
        }
    }
}
