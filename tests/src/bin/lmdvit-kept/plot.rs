//! The table as a picture.

use std::fmt::Write;

use super::{Row, SLACK};

const LEFT: f64 = 60.0;
const TOP: f64 = 40.0;
const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 300.0;
/// The largest share that is drawn.
const MOST: f64 = 1.2;

fn x(fraction: f64) -> f64 {
    LEFT + fraction * WIDTH
}

fn y(share: f64) -> f64 {
    TOP + (1.0 - share.min(MOST) / MOST) * HEIGHT
}

/// Time as a share of that with all windows kept, over the kept fraction: measured, allowed, and without pruning.
pub fn svg(title: &str, rows: &[Row], without: &Row) -> String {
    let all = rows.last().map_or(1.0, |row| row.p50);
    let (right, bottom) = (LEFT + WIDTH, TOP + HEIGHT);
    let mut out = String::new();
    write!(
        out,
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 600 400" font-family="sans-serif" font-size="12" fill="#222"><title>Time over kept windows</title><rect width="600" height="400" fill="#fff"/><text x="{LEFT}" y="22" font-size="14">{title}</text>"##
    )
    .ok();
    for share in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let at = y(share);
        write!(
            out,
            r##"<path d="M{LEFT} {at:.1}H{right}" stroke="#ddd"/><text x="{}" y="{:.1}" text-anchor="end">{share}</text>"##,
            LEFT - 6.0,
            at + 4.0
        )
        .ok();
    }
    for row in rows {
        let at = x(row.fraction);
        write!(
            out,
            r#"<text x="{at:.1}" y="{}" text-anchor="middle">{}</text>"#,
            bottom + 18.0,
            row.fraction
        )
        .ok();
    }
    let (middle, centre, below) = (LEFT + WIDTH / 2.0, TOP + HEIGHT / 2.0, bottom + 40.0);
    write!(
        out,
        r#"<text x="{middle}" y="{below}" text-anchor="middle">fraction of windows kept</text><text x="16" y="{centre}" transform="rotate(-90 16 {centre})" text-anchor="middle">time, all kept = 1</text>"#
    )
    .ok();
    // The bound, which leaves the picture where it says nothing any more.
    write!(
        out,
        r##"<path d="M{:.1} {:.1}L{:.1} {:.1}" stroke="#0072b2" stroke-dasharray="5 3"/><text x="{:.1}" y="{:.1}" fill="#0072b2" text-anchor="end">allowed: {SLACK} + fraction</text>"##,
        x(0.0),
        y(SLACK),
        x(MOST - SLACK).min(right),
        y((SLACK + 1.0).min(MOST)),
        x(0.52),
        y(0.8)
    )
    .ok();
    let dense = y(without.p50 / all);
    write!(
        out,
        r##"<path d="M{LEFT} {dense:.1}H{right}" stroke="#808080" stroke-dasharray="2 3"/><text x="{}" y="{:.1}" fill="#606060">without pruning: {:.0} ms</text>"##,
        LEFT + 6.0,
        dense - 5.0,
        without.p50
    )
    .ok();
    let points: Vec<String> =
        rows.iter().map(|r| format!("{:.1} {:.1}", x(r.fraction), y(r.p50 / all))).collect();
    write!(out, r##"<path d="M{}" fill="none" stroke="#d55e00" stroke-width="2"/>"##, points.join("L")).ok();
    for row in rows {
        let (cx, cy) = (x(row.fraction), y(row.p50 / all));
        let (shift, anchor) = if row.fraction < 1.0 { (8.0, "start") } else { (-8.0, "end") };
        write!(
            out,
            r##"<circle cx="{cx:.1}" cy="{cy:.1}" r="4" fill="#d55e00"/><text x="{:.1}" y="{:.1}" text-anchor="{anchor}">{:.0} ms</text>"##,
            cx + shift,
            cy + 16.0,
            row.p50
        )
        .ok();
    }
    out.push_str("</svg>\n");
    out
}
