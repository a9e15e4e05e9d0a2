//! The report as a picture: memory, age of results and frames per second over time.

use std::fmt::Write;

use super::Report;
use crate::sink::{markup::Escaped, palette};

const WIDTH: f64 = 960.0;
const MARGIN: f64 = 24.0;
/// Left of the panels, for the figures of the axis.
const LEFT: f64 = 76.0;
/// Right of them, for the names of the lines.
const RIGHT: f64 = 836.0;
const PANEL: f64 = 150.0;

const STYLE: &str = "text{font:12px system-ui,sans-serif;fill:#222}.h{font-size:18px;font-weight:600}\
                     .m{font-size:14px;font-weight:600}.dim{fill:#666}.grid{stroke:#e2e2e2}.bound{stroke:#b3261e;stroke-dasharray:6 3}\
                     .no{fill:#b3261e}.line{fill:none;stroke-width:1.4;stroke-linejoin:round}";

/// One line of a panel.
struct Line {
    name: String,
    colour: String,
    dashed: bool,
    values: Vec<Option<f64>>,
}

/// `report` as one SVG picture.
pub fn chart(report: &Report) -> String {
    let mut body = String::new();
    let mut y = MARGIN + 16.0;
    let verdict = if report.passed { "passed" } else { "FAILED" };
    let what = match &report.overload {
        None => "own rate".to_owned(),
        Some(overload) => format!("{} times what the machine can do", overload.times),
    };
    let class = if report.passed { "h" } else { "h no" };
    write!(
        body,
        r#"<text class="{class}" x="{MARGIN}" y="{y}">{}: {what}, {verdict}</text>"#,
        Escaped(&report.site)
    )
    .ok();
    y += 20.0;
    let told = format!(
        "{}, {} cores; {} cameras, {:.1} frames/s delivered; {:.1} min, {}",
        report.machine.cpu,
        report.machine.cores,
        report.cameras.len(),
        report.delivered_fps,
        report.seconds / 60.0,
        report.date.get(..10).unwrap_or_default()
    );
    write!(body, r#"<text class="dim" x="{MARGIN}" y="{y}">{}</text>"#, Escaped(told)).ok();
    for panel in panels(report) {
        y = panel.draw(&mut body, report, y + 30.0);
    }
    y += MARGIN - 4.0;
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}" viewBox="0 0 {WIDTH} {y}" role="img" aria-label="Memory, age of results and frames per second over time"><style>{STYLE}</style><rect width="100%" height="100%" fill="#fff"/>{body}</svg>
"##
    )
}

struct Panel {
    title: String,
    lines: Vec<Line>,
    bound: Option<f64>,
}

fn panels(report: &Report) -> Vec<Panel> {
    let series = &report.series;
    let some = |values: &[f64]| values.iter().copied().map(Some).collect::<Vec<_>>();
    let line = |name: &str, colour: usize, values: Vec<Option<f64>>| Line {
        name: name.to_owned(),
        colour: colour_of(colour),
        dashed: false,
        values,
    };
    let slope = report
        .memory
        .map(|t| format!(", second half {:+.1} KiB/min ({:+.1} to {:+.1})", t.slope, t.low, t.high));
    let memory = Panel {
        title: format!("resident memory, MiB{}", slope.unwrap_or_default()),
        lines: vec![line("daemon", 0, some(&series.rss_mib))],
        bound: None,
    };
    let ages = Panel {
        title: "age of results, ms, all cameras".to_owned(),
        lines: vec![line("p99", 1, series.age_p99_ms.clone()), line("p50", 0, series.age_p50_ms.clone())],
        bound: report.max_age_ms,
    };
    let mut cameras: Vec<Line> = report
        .cameras
        .iter()
        .zip(&series.fps)
        .enumerate()
        .map(|(n, (camera, fps))| line(&camera.name, n, some(fps)))
        .collect();
    // The colours come round; the second time they are dashed.
    cameras.iter_mut().enumerate().for_each(|(n, line)| line.dashed = n >= DARK.len());
    let frames =
        Panel { title: "delivered frames per second, by camera".to_owned(), lines: cameras, bound: None };
    let others = Panel {
        title: "cores that everything else on the machine used".to_owned(),
        lines: vec![line("others", 5, some(&series.cores_others))],
        bound: None,
    };
    vec![memory, ages, frames, others]
}

impl Panel {
    /// Draws it from `y` on; where it ends.
    fn draw(&self, out: &mut String, report: &Report, mut y: f64) -> f64 {
        write!(out, r#"<text class="m" x="{MARGIN}" y="{y}">{}</text>"#, Escaped(&self.title)).ok();
        y += 12.0;
        let (top, bottom) = (y, y + PANEL);
        let values = self.lines.iter().flat_map(|line| line.values.iter().flatten());
        // The bound is drawn where it does not press the lines flat.
        let highest = values.fold(0.0, |most: f64, v| most.max(*v));
        let bound = self.bound.filter(|bound| *bound <= highest * 4.0);
        let most = highest.max(bound.unwrap_or(0.0)).max(1e-6) * 1.08;
        let length = report.seconds.max(1.0);
        let x_of = |s: f64| LEFT + (s / length).clamp(0.0, 1.0) * (RIGHT - LEFT);
        let y_of = |v: f64| bottom - (v / most).clamp(0.0, 1.0) * PANEL;
        grid(out, most, &y_of);
        time(out, length, top, bottom, &x_of);
        if let Some(bound) = bound {
            let y = y_of(bound);
            write!(out, r#"<path class="bound" d="M{LEFT} {y:.1}H{RIGHT}"/>"#).ok();
            write!(
                out,
                r#"<text class="no" x="{:.1}" y="{:.1}">bound {bound:.0}</text>"#,
                RIGHT + 8.0,
                y + 4.0
            )
            .ok();
        }
        for line in &self.lines {
            line.draw(out, &report.series.at_s, &x_of, &y_of);
        }
        self.names(out, top, bottom, &y_of);
        bottom + 18.0
    }

    /// Beside the ends of the lines, as far as there is room.
    fn names(&self, out: &mut String, top: f64, bottom: f64, y_of: &dyn Fn(f64) -> f64) {
        let end = |line: &Line| line.values.iter().rev().find_map(|v| *v).map_or(bottom, y_of);
        let mut order: Vec<(f64, &Line)> = self.lines.iter().map(|line| (end(line), line)).collect();
        order.sort_by(|a, b| a.0.total_cmp(&b.0));
        let room = (order.len() as f64 - 1.0).max(0.0) * 14.0;
        let mut at = top + 4.0;
        for (wanted, line) in order {
            at = wanted.min(bottom - room).max(at);
            write!(
                out,
                r#"<text x="{:.1}" y="{:.1}" style="fill:{}">{}</text>"#,
                RIGHT + 8.0,
                at + 4.0,
                line.colour,
                Escaped(line.name.chars().take(16).collect::<String>())
            )
            .ok();
            at += 14.0;
        }
    }
}

impl Line {
    fn draw(&self, out: &mut String, at: &[f64], x_of: &dyn Fn(f64) -> f64, y_of: &dyn Fn(f64) -> f64) {
        let mut path = String::new();
        let mut pen_up = true;
        for (at, value) in at.iter().zip(&self.values) {
            let Some(value) = value else {
                pen_up = true;
                continue;
            };
            write!(path, "{}{:.1} {:.1}", if pen_up { 'M' } else { 'L' }, x_of(*at), y_of(*value)).ok();
            pen_up = false;
        }
        let dashes = if self.dashed { r#" stroke-dasharray="4 2""# } else { "" };
        write!(out, r#"<path class="line" stroke="{}"{dashes} d="{path}"/>"#, self.colour).ok();
    }
}

fn grid(out: &mut String, most: f64, y_of: &dyn Fn(f64) -> f64) {
    let step = step(most, 5.0);
    let digits = (-step.log10().floor()).max(0.0) as usize;
    for n in 0..=((most / step) as usize).min(12) {
        let value = n as f64 * step;
        let y = y_of(value);
        write!(out, r#"<path class="grid" d="M{LEFT} {y:.1}H{RIGHT}"/>"#).ok();
        write!(
            out,
            r#"<text class="dim" x="{:.1}" y="{:.1}" text-anchor="end">{value:.digits$}</text>"#,
            LEFT - 8.0,
            y + 4.0
        )
        .ok();
    }
}

fn time(out: &mut String, length: f64, top: f64, bottom: f64, x_of: &dyn Fn(f64) -> f64) {
    let (unit, per) = if length >= 120.0 { ("min", 60.0) } else { ("s", 1.0) };
    let step = step(length / per, 10.0);
    for n in 0..=((length / per / step) as usize).min(20) {
        let x = x_of(n as f64 * step * per);
        write!(out, r#"<path class="grid" d="M{x:.1} {top:.1}V{bottom:.1}"/>"#).ok();
        let unit = if n == 0 { unit } else { "" };
        write!(
            out,
            r#"<text class="dim" x="{x:.1}" y="{:.1}" text-anchor="middle">{} {unit}</text>"#,
            bottom + 14.0,
            n as f64 * step
        )
        .ok();
    }
}

/// 1, 2 or 5 times a power of ten, so that at most about `parts` fit into `most`.
fn step(most: f64, parts: f64) -> f64 {
    let magnitude = 10f64.powf((most / parts).log10().floor());
    let fits =
        [1.0, 2.0, 5.0, 10.0].map(|m| m * magnitude).into_iter().find(|step| most / step <= parts + 0.5);
    fits.unwrap_or(magnitude * 10.0)
}

/// Of those that are told from white; yellow is not.
const DARK: [usize; 6] = [0, 3, 5, 2, 4, 6];

fn colour_of(n: usize) -> String {
    let [r, g, b] = palette::of_label(DARK[n % DARK.len()]);
    format!("#{r:02x}{g:02x}{b:02x}")
}
