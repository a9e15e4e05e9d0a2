//! The page.

use std::fmt::{self, Write};

use base64::{display::Base64Display, engine::general_purpose::STANDARD};

use super::{
    super::{markup::Escaped, summary::fps},
    chart,
    frames::{Frames, Kept, Why},
    series::Series,
};
use crate::{RunInfo, StageInfo, Summary, stage::Interval};

type Stages<'a> = (Option<&'a StageInfo>, Option<&'a StageInfo>);

/// The whole page; `stages` are those whose classes and masks were watched.
pub(super) fn page(
    run: &RunInfo,
    summary: &Summary,
    stages: Stages<'_>,
    series: &Series,
    frames: &Frames,
) -> String {
    let mut out = String::new();
    // Writing into a string does not fail.
    sections(&mut out, run, summary, stages, series, frames).ok();
    out
}

fn sections(
    out: &mut String,
    run: &RunInfo,
    summary: &Summary,
    (classes, mask): Stages<'_>,
    series: &Series,
    frames: &Frames,
) -> fmt::Result {
    let name = Escaped(&run.pipeline);
    write!(
        out,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><title>{name}</title><style>{}</style></head><body>",
        include_str!("style.css")
    )?;
    write!(out, "<h1>{name}</h1><p class=\"dim\">{}</p>", Escaped(&run.source))?;
    if let Some(notice) = &run.notice {
        write!(out, "<p class=\"notice\">{}</p>", Escaped(notice))?;
    }
    headline(out, summary)?;
    if let Some(stage) = classes.filter(|_| !series.points.is_empty()) {
        write!(out, "<h2>Classes over time: {}</h2>", Escaped(&stage.name))?;
        chart::classes(out, stage, series);
    }
    if let Some(stage) = mask.filter(|_| !series.points.is_empty()) {
        write!(out, "<h2>Area over time: {}</h2>", Escaped(&stage.name))?;
        out.push_str("<p class=\"dim\"><span class=\"key\" style=\"background:#d55e00\"></span>pixels (left, solid) <span class=\"key\" style=\"background:#0072b2\"></span>% of the crop (right, dashed)</p>");
        chart::area(out, series, summary);
    }
    let intervals = summary.break_up_time.as_ref().map_or(&[][..], |times| &times.intervals);
    if summary.break_up_time.is_some() {
        interval_table(out, intervals)?;
    }
    key_frames(out, intervals, frames)?;
    latency(out, run, summary)?;
    accounting(out, summary)?;
    provenance(out, run, summary)?;
    out.write_str("</body></html>\n")
}

fn headline(out: &mut String, summary: &Summary) -> fmt::Result {
    write!(out, "<p>{} frames in {:.1} s", summary.frames.delivered, summary.elapsed.as_secs_f64())?;
    if let Some(fps) = fps(summary) {
        write!(out, " ({fps:.1} frames/s)")?;
    }
    if let Some(times) = &summary.break_up_time {
        let measured: Vec<f64> = times.intervals.iter().filter_map(|i| i.but_s).collect();
        let n = measured.len();
        match times.mean_s() {
            Some(mean) => {
                write!(out, "; mean break-up time <strong>{mean:.2} s</strong>")?;
                if n > 1 {
                    let squares: f64 = measured.iter().map(|v| (v - mean).powi(2)).sum();
                    write!(out, " ± {:.2} s (standard deviation)", (squares / (n - 1) as f64).sqrt())?;
                }
            }
            None => out.write_str("; no break-up was seen")?,
        }
        write!(out, ", measured in {n} of {} intervals", times.intervals.len())?;
    }
    if summary.interrupted {
        out.write_str("; the run was interrupted")?;
    }
    out.write_str("</p>")
}

fn interval_table(out: &mut String, intervals: &[Interval]) -> fmt::Result {
    out.write_str("<h2>Intervals between blinks</h2><div class=\"wide\"><table><tr><th class=\"n\">#<th class=\"n\">opened<th class=\"n\">first clear<th class=\"n\">first broken<th class=\"n\">break-up time<th>after a blink</tr>")?;
    for (at, i) in intervals.iter().enumerate() {
        write!(
            out,
            "<tr><td class=\"n\">{}<td class=\"n\">{:.2} s<td class=\"n\">{:.2} s",
            at + 1,
            i.opened_s,
            i.first_clear_s
        )?;
        match i.first_broken_s {
            Some(s) => write!(out, "<td class=\"n\">{s:.2} s")?,
            None => out.write_str("<td class=\"n\">–")?,
        }
        match i.but_s {
            Some(s) => write!(out, "<td class=\"n\">{s:.2} ± {:.2} s", i.uncertainty_s)?,
            None => write!(out, "<td class=\"n\">&gt; {:.2} s", i.lower_bound_s)?,
        }
        write!(out, "<td>{}</tr>", if i.after_blink { "yes" } else { "no: the film may be older" })?;
    }
    out.write_str("</table></div>")
}

/// Of the frames kept, those that the intervals speak of; without intervals, those of greatest area.
fn key_frames(out: &mut String, intervals: &[Interval], frames: &Frames) -> fmt::Result {
    let spoken = |kept: &Kept| {
        let at = |s: Option<f64>| s.is_some_and(|s| (s - kept.seconds).abs() < 1e-4);
        match kept.why {
            Why::FirstClear => intervals.iter().any(|i| at(Some(i.first_clear_s))),
            Why::FirstBroken => intervals.iter().any(|i| at(i.first_broken_s)),
            Why::GreatestArea => true,
        }
    };
    let mut shown: Vec<_> = frames.kept.iter().filter(|kept| spoken(kept)).collect();
    if shown.is_empty() {
        return Ok(());
    }
    shown.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
    out.write_str("<h2>Key frames</h2>")?;
    if frames.full {
        out.write_str(
            "<p class=\"dim\">Of the beginning of the video: there were more than this page holds.</p>",
        )?;
    }
    out.write_str("<div class=\"frames\">")?;
    for kept in shown {
        let why = match kept.why {
            Why::FirstClear => "first clear",
            Why::FirstBroken => "first broken",
            Why::GreatestArea => "greatest area",
        };
        let picture = Base64Display::new(&kept.jpeg, &STANDARD);
        write!(
            out,
            "<figure><img alt=\"{why}\" src=\"data:image/jpeg;base64,{picture}\"><figcaption>{:.2} s: {why}",
            kept.seconds
        )?;
        if kept.area > 0 {
            write!(out, ", {} px", kept.area)?;
        }
        out.write_str("</figcaption></figure>")?;
    }
    out.write_str("</div>")
}

fn latency(out: &mut String, run: &RunInfo, summary: &Summary) -> fmt::Result {
    out.write_str("<h2>Latency</h2><div class=\"wide\"><table><tr><th>stage<th class=\"n\">p50<th class=\"n\">p90<th class=\"n\">p99<th class=\"n\">max<th class=\"n\">runs</tr>")?;
    let stages = run.stages.iter().map(|s| s.name.as_str()).zip(&summary.stages);
    for (name, times) in stages.chain([("end to end", &summary.end_to_end)]) {
        write!(out, "<tr><td>{}", Escaped(name))?;
        for q in [0.5, 0.9, 0.99, 1.0] {
            let time = if q < 1.0 { times.quantile(q) } else { (times.count() > 0).then(|| times.max()) };
            match time {
                Some(time) => write!(out, "<td class=\"n\">{:.2} ms", time.as_secs_f64() * 1e3)?,
                None => out.write_str("<td class=\"n\">–")?,
            }
        }
        write!(out, "<td class=\"n\">{}</tr>", times.count())?;
    }
    out.write_str("</table></div>")
}

fn accounting(out: &mut String, summary: &Summary) -> fmt::Result {
    let frames = &summary.frames;
    write!(
        out,
        "<h2>Frames</h2><table><tr><td>captured<td class=\"n\">{}</tr><tr><td>delivered<td class=\"n\">{}</tr>",
        frames.captured, frames.delivered
    )?;
    let failed = frames.failed.iter().map(|(why, n)| ("failed", why.as_str(), n));
    for (what, why, n) in frames.dropped.iter().map(|(why, n)| ("dropped", *why, n)).chain(failed) {
        write!(out, "<tr><td>{what}: {}<td class=\"n\">{n}</tr>", Escaped(why))?;
    }
    let faults = [
        ("timestamps missing", summary.stamps.missing),
        ("timestamps backwards", summary.stamps.backwards),
        ("timestamps that leapt", summary.stamps.jumps),
        ("packets lost before us", summary.losses.packets),
        ("frames lost before us", summary.losses.frames),
        ("pictures overtaken by newer ones", summary.losses.overtaken),
    ];
    for (what, n) in faults.into_iter().filter(|(_, n)| *n > 0) {
        write!(out, "<tr><td>{what}<td class=\"n\">{n}</tr>")?;
    }
    out.write_str("</table>")
}

fn provenance(out: &mut String, run: &RunInfo, summary: &Summary) -> fmt::Result {
    write!(
        out,
        "<h2>Provenance</h2><p>Pipeline <code>{}</code></p><div class=\"wide\"><table><tr><th>stage<th>network<th>engine<th>model (SHA-256)</tr>",
        Escaped(&run.digest)
    )?;
    for (at, stage) in run.stages.iter().enumerate() {
        let Some(model) = &stage.model else { continue };
        write!(
            out,
            "<tr><td>{}<td>{}<td>{} ({})",
            Escaped(&stage.name),
            Escaped(&model.network),
            Escaped(&model.engine),
            Escaped(&model.engine_version)
        )?;
        let nodes = model.nodes_shown();
        write!(out, "<br><span class=\"dim\">{}</span>", Escaped(&nodes))?;
        for passed in &model.passed_over {
            write!(
                out,
                "<br><span class=\"dim\">not {}: {}</span>",
                Escaped(&passed.engine),
                Escaped(&passed.why)
            )?;
        }
        for event in summary.engine_faults.get(at).iter().flat_map(|faults| &faults.events) {
            write!(out, "<br>{}", Escaped(&event.to_string()))?;
        }
        write!(out, "<td><code>{}</code></tr>", Escaped(&model.sha256))?;
    }
    out.write_str("</table></div>")
}
