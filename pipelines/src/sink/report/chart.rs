//! Charts as inline SVG.

use std::fmt::Write;

use super::{
    super::{markup::Escaped, palette},
    series::Series,
};
use crate::{StageInfo, Summary};

const WIDTH: f64 = 900.0;
const LEFT: f64 = 50.0;
const RIGHT: f64 = 55.0;

struct Axis {
    start: f64,
    end: f64,
}

impl Axis {
    fn of(series: &Series) -> Self {
        let start = series.points.first().map_or(0.0, |p| p.seconds);
        let end = series.points.last().map_or(1.0, |p| p.seconds);
        Self { start, end: end.max(start + 1e-3) }
    }

    fn x(&self, seconds: f64) -> f64 {
        let share = ((seconds - self.start) / (self.end - self.start)).clamp(0.0, 1.0);
        LEFT + share * (WIDTH - LEFT - RIGHT)
    }

    fn ticks(&self, out: &mut String, y: f64) {
        let span = self.end - self.start;
        let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * 10f64.powf((span / 10.0).log10().floor()));
        let step = step.into_iter().find(|s| span / s <= 10.0).unwrap_or(span);
        let mut at = (self.start / step).ceil() * step;
        while at <= self.end {
            let (x, digits) = (self.x(at), usize::from(step < 1.0) * 2);
            write!(out, r#"<text x="{x:.1}" y="{y}" text-anchor="middle">{at:.digits$} s</text>"#).ok();
            at += step;
        }
    }
}

pub(super) fn colour(label: usize) -> String {
    let [r, g, b] = palette::of_label(label);
    format!("#{r:02x}{g:02x}{b:02x}")
}

/// Runs of equal classes, one row per class, so that colour is not all that tells them apart.
pub(super) fn classes(out: &mut String, stage: &StageInfo, series: &Series) {
    let axis = Axis::of(series);
    let rows = stage.labels.len();
    let height = 24 * rows + 22;
    write!(out, r#"<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="Classes over time">"#).ok();
    for (row, label) in stage.labels.iter().enumerate() {
        let y = 24 * row + 16;
        write!(out, r#"<text x="{}" y="{y}" text-anchor="end">{}</text>"#, LEFT - 6.0, Escaped(label)).ok();
    }
    let mut at = 0;
    while let Some(first) = series.points.get(at) {
        let length = series.points[at..].iter().take_while(|p| p.class == first.class).count();
        let end = series.points.get(at + length).or(series.points.last()).map_or(axis.end, |p| p.seconds);
        at += length;
        if let Some(class) = first.class.filter(|class| *class < rows) {
            let (x, y) = (axis.x(first.seconds), 24 * class + 3);
            let width = (axis.x(end) - x).max(0.7);
            let colour = colour(class);
            write!(out, r#"<rect x="{x:.2}" y="{y}" width="{width:.2}" height="18" fill="{colour}"/>"#).ok();
        }
    }
    axis.ticks(out, height as f64 - 6.0);
    out.push_str("</svg>");
}

/// Area over time, with the intervals behind it.
pub(super) fn area(out: &mut String, series: &Series, summary: &Summary) {
    const BOTTOM: f64 = 180.0;
    let axis = Axis::of(series);
    let most = series.points.iter().map(|p| p.area).max().unwrap_or(0).max(1) as f64;
    let most_share = series.points.iter().map(|p| p.share).fold(0.0, f64::max).max(1e-9);
    write!(out, r#"<svg viewBox="0 0 {WIDTH} 205" role="img" aria-label="Area over time">"#).ok();
    for interval in summary.break_up_time.iter().flat_map(|b| &b.intervals) {
        let (x, end) = (axis.x(interval.opened_s), axis.x(interval.closed_s.unwrap_or(axis.end)));
        let width = end - x;
        write!(
            out,
            r##"<rect x="{x:.2}" y="16" width="{width:.2}" height="164" fill="#808080" opacity=".14"/>"##
        )
        .ok();
        for (name, seconds) in [("clear", Some(interval.first_clear_s)), ("broken", interval.first_broken_s)]
        {
            let Some(seconds) = seconds else { continue };
            let x = axis.x(seconds);
            let dash = if name == "clear" { "3 3" } else { "none" };
            write!(out, r##"<path d="M{x:.2} 16V180" stroke="#808080" stroke-dasharray="{dash}"/><text x="{x:.2}" y="12" text-anchor="middle">{name}</text>"##).ok();
        }
    }
    for (curve, colour, dash) in [(0, "#d55e00", "none"), (1, "#0072b2", "5 3")] {
        out.push_str("<path fill=\"none\" stroke-width=\"1.5\" d=\"");
        for (at, p) in series.points.iter().enumerate() {
            let share = if curve == 0 { p.area as f64 / most } else { p.share / most_share };
            let (x, y) = (axis.x(p.seconds), BOTTOM - share * 160.0);
            write!(out, "{}{x:.2} {y:.1}", if at == 0 { 'M' } else { 'L' }).ok();
        }
        write!(out, r#"" stroke="{colour}" stroke-dasharray="{dash}"/>"#).ok();
    }
    let (left, right) = (LEFT - 6.0, WIDTH - RIGHT + 6.0);
    write!(out, r#"<text x="{left}" y="24" text-anchor="end">{most:.0} px</text><text x="{left}" y="180" text-anchor="end">0</text>"#).ok();
    write!(
        out,
        r#"<text x="{right}" y="24">{:.2} %</text><text x="{right}" y="180">0 %</text>"#,
        most_share * 100.0
    )
    .ok();
    axis.ticks(out, 200.0);
    out.push_str("</svg>");
}
