//! The matrix as a picture: the time of a run, per model and candidate.

use std::fmt::Write;

use super::{Matrix, ModelRows, Row};
use crate::sink::{markup::Escaped, palette};

const WIDTH: f64 = 960.0;
const MARGIN: f64 = 24.0;
const ROW: f64 = 22.0;
/// Right of the bars, for the figures.
const FIGURES: f64 = 284.0;
/// Of a letter, on average.
const LETTER: f64 = 6.4;

const STYLE: &str = "text{font:12px system-ui,sans-serif;fill:#222}.h{font-size:18px;font-weight:600}\
                     .m{font-size:14px;font-weight:600}.dim{fill:#666}.grid{stroke:#e2e2e2}.tail{stroke:#444;stroke-width:1.2}\
                     .no{fill:#b3261e}";

/// `matrix` as one SVG picture. A bar is the median, the line on it goes to the 99th percentile; each model has its own scale.
pub fn chart(matrix: &Matrix) -> String {
    let rows = matrix.models.iter().flat_map(|m| &m.rows);
    let longest = rows.map(|row| label(row).chars().count()).max().unwrap_or(0);
    let left = MARGIN + (longest as f64 * LETTER + 14.0).min(WIDTH / 2.0 - MARGIN);
    let mut body = String::new();
    let m = &matrix.machine;
    let mut y = MARGIN + 16.0;
    write!(
        body,
        r#"<text class="h" x="{MARGIN}" y="{y}">{}: time of a run</text>"#,
        Escaped(&matrix.pipeline)
    )
    .ok();
    y += 20.0;
    let what = format!(
        "{}, {} cores; {}; {}",
        m.cpu,
        m.cores,
        matrix.source,
        matrix.date.get(..10).unwrap_or_default()
    );
    write!(body, r#"<text class="dim" x="{MARGIN}" y="{y}">{}</text>"#, Escaped(shortened(&what, 140))).ok();
    y += 12.0;
    for model in &matrix.models {
        y = panel(&mut body, model, matrix, left, y);
    }
    y += 26.0;
    let legend = "bar: median · line: to the 99th percentile · pale and dashed: refused, too far from fp32 · %: of the engine's fp32 \
                  matrix product with as many threads";
    write!(body, r#"<text class="dim" x="{MARGIN}" y="{y}">{legend}</text>"#).ok();
    y += MARGIN - 4.0;
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}" viewBox="0 0 {WIDTH} {y}" role="img" aria-label="Time of a run per model, engine, precision and threads"><style>{STYLE}</style><rect width="100%" height="100%" fill="#fff"/>{body}</svg>
"##
    )
}

/// Draws one model from `y` on; where it ends.
fn panel(out: &mut String, model: &ModelRows, matrix: &Matrix, left: f64, mut y: f64) -> f64 {
    y += 24.0;
    let macs = model
        .macs
        .map(|macs| format!(" ({:.1} M multiply-accumulates)", macs as f64 / 1e6))
        .unwrap_or_default();
    write!(
        out,
        r#"<text class="m" x="{MARGIN}" y="{y}">{}<tspan class="dim" font-weight="400">{macs}</tspan></text>"#,
        Escaped(shortened(&model.name, 60))
    )
    .ok();
    y += 10.0;
    let longest = model.rows.iter().filter_map(|row| row.candidate.ms_p99.or(row.candidate.ms_median));
    let axis = Axis { left, right: WIDTH - MARGIN - FIGURES, most: longest.fold(0.0, f64::max) };
    let bottom = y + model.rows.len() as f64 * ROW;
    if model.rows.is_empty() {
        y += 16.0;
        write!(
            out,
            r#"<text class="dim" x="{MARGIN}" y="{y}">never ran on this source: not measured</text>"#
        )
        .ok();
        return y;
    }
    axis.grid(out, y, bottom);
    for row in &model.rows {
        bar(out, row, matrix, &axis, y);
        y += ROW;
    }
    bottom + 18.0
}

fn bar(out: &mut String, row: &Row, matrix: &Matrix, axis: &Axis, y: f64) {
    let c = &row.candidate;
    let middle = y + ROW / 2.0;
    let text_y = middle + 4.0;
    write!(
        out,
        r#"<text x="{:.1}" y="{text_y:.1}" text-anchor="end">{}</text>"#,
        axis.left - 8.0,
        Escaped(label(row))
    )
    .ok();
    let Some(ms) = c.ms_median else {
        let why = c.why_not.as_deref().unwrap_or_default().lines().next().unwrap_or_default();
        let room = (WIDTH - MARGIN - axis.left) / LETTER;
        let told = shortened(&format!("not run: {why}"), room as usize);
        write!(
            out,
            r#"<text class="dim" x="{:.1}" y="{text_y:.1}">{}</text>"#,
            axis.left + 4.0,
            Escaped(told)
        )
        .ok();
        return;
    };
    let colour = colour(matrix, &c.engine);
    let how = match c.passed {
        true => format!(r#"fill="{colour}""#),
        false => format!(r#"fill="{colour}" fill-opacity="0.2" stroke="{colour}" stroke-dasharray="3 2""#),
    };
    let (x, width) = (axis.left, (axis.x(ms) - axis.left).max(1.0));
    write!(
        out,
        r#"<rect x="{x:.1}" y="{:.1}" width="{width:.1}" height="{:.1}" {how}/>"#,
        y + 4.0,
        ROW - 8.0
    )
    .ok();
    let end = axis.x(c.ms_p99.unwrap_or(ms).max(ms));
    write!(
        out,
        r#"<path class="tail" fill="none" d="M{:.1} {middle:.1}H{end:.1}M{end:.1} {:.1}v6"/>"#,
        axis.x(ms),
        middle - 3.0
    )
    .ok();
    let share = row.peak_share.map(|share| format!(", {:.0} %", share * 100.0)).unwrap_or_default();
    let figure = c
        .figures
        .iter()
        .filter(|f| !f.passes(None) || c.passed)
        .min_by(|a, b| a.value.unwrap_or(f64::INFINITY).total_cmp(&b.value.unwrap_or(f64::INFINITY)));
    let figure = figure.and_then(|f| Some(format!("{} {:.4}", f.metric, f.value?)));
    let refused = if c.passed { "" } else { "refused, " };
    let told = figure.map(|figure| format!(", {refused}{figure}")).unwrap_or_default();
    let class = if c.passed { "dim" } else { "no" };
    write!(
        out,
        r#"<text x="{:.1}" y="{text_y:.1}">{}<tspan class="{class}">{share}{}</tspan></text>"#,
        axis.right + 12.0,
        milliseconds(ms),
        Escaped(shortened(&told, 32))
    )
    .ok();
}

/// Milliseconds from `left` to `right`.
struct Axis {
    left: f64,
    right: f64,
    most: f64,
}

impl Axis {
    fn x(&self, ms: f64) -> f64 {
        self.left + (ms / self.most.max(1e-6)).clamp(0.0, 1.0) * (self.right - self.left)
    }

    fn grid(&self, out: &mut String, top: f64, bottom: f64) {
        let magnitude = 10f64.powf((self.most.max(1e-6) / 5.0).log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * magnitude).into_iter().find(|s| self.most / s <= 6.0);
        let step = step.unwrap_or(self.most.max(1e-6));
        let digits = (-step.log10().floor()).max(0.0) as usize;
        let count = (self.most / step).floor() as usize;
        for n in 0..=count.min(20) {
            let ms = n as f64 * step;
            let x = self.x(ms);
            let unit = if n == 0 { " ms" } else { "" };
            write!(out, r#"<path class="grid" d="M{x:.1} {top:.1}V{bottom:.1}"/>"#).ok();
            write!(
                out,
                r#"<text class="dim" x="{x:.1}" y="{:.1}" text-anchor="middle">{ms:.digits$}{unit}</text>"#,
                bottom + 14.0
            )
            .ok();
        }
    }
}

fn label(row: &Row) -> String {
    let threads = if row.threads == 1 { "thread" } else { "threads" };
    format!("{} {}, {} {threads}", row.candidate.engine, row.candidate.precision, row.threads)
}

/// Three digits that count.
fn milliseconds(ms: f64) -> String {
    match ms {
        ..1.0 => format!("{ms:.3} ms"),
        ..10.0 => format!("{ms:.2} ms"),
        ..100.0 => format!("{ms:.1} ms"),
        _ => format!("{ms:.0} ms"),
    }
}

/// Each engine has its own, in the order in which they were asked for.
fn colour(matrix: &Matrix, engine: &str) -> String {
    // Of those that are told from white; yellow is not.
    const DARK: [usize; 6] = [0, 3, 5, 2, 4, 6];
    let at = matrix.engines.iter().position(|e| e.engine == engine).unwrap_or(0);
    let [r, g, b] = palette::of_label(DARK[at % DARK.len()]);
    format!("#{r:02x}{g:02x}{b:02x}")
}

fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::{super::tests::matrix, *};

    #[test]
    fn every_candidate_is_drawn_and_the_refused_are_marked() {
        let picture = chart(&matrix());
        for part in [
            "eyes &lt;&amp;&gt;: time of a run",
            "tract fp32, 1 thread<",
            "tract fp32, 2 threads<",
            "refused, mask IoU 0.9000",
            "not run: no such operator: A|B &lt;c&gt; &amp; more<",
        ] {
            assert!(picture.contains(part), "{part:?} is not in\n{picture}");
        }
        assert_eq!(picture.matches("stroke-dasharray").count(), 1);
        assert!(!picture.contains("<c>") && !picture.contains("second line"));
        // Twice the time is twice the length; the longest tail ends at the axis' end.
        let widths: Vec<f64> = picture
            .split("<rect x=")
            .skip(1)
            .filter_map(|r| r.split("width=\"").nth(1)?.split('"').next()?.parse().ok())
            .collect();
        assert_eq!(widths.len(), 3);
        assert!(
            (widths[0] / widths[1] - 2.0).abs() < 0.02 && (widths[2] / widths[0] - 2.0).abs() < 0.02,
            "{widths:?}"
        );
    }

    #[test]
    fn a_matrix_of_nothing_is_a_picture_still() {
        let mut empty = matrix();
        empty.models[0].rows.clear();
        let picture = chart(&empty);
        assert!(
            picture.contains("never ran on this source")
                && !picture.contains("NaN")
                && !picture.contains("inf")
        );
    }
}
