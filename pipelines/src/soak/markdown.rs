//! The report as text with tables.

use std::fmt::Write;

use super::{Check, Report};

/// `report` as Markdown.
pub fn markdown(report: &Report) -> String {
    let verdict = if report.passed { "passed" } else { "FAILED" };
    let what = match &report.overload {
        None => "at its own rate".to_owned(),
        Some(overload) => format!("asked for {} times what the machine can do", overload.times),
    };
    let mut out = format!("# Site {}, {what}: {verdict}\n\n", cell(&report.site));
    let m = &report.machine;
    writeln!(
        out,
        "{:.1} min after {:.0} s of warm-up, {} cameras, {:.1} frames/s delivered; {}, {} cores, of which the daemon used {:.2} and \
         everything else on the machine {:.2}; tapetum {}, {}.\n",
        report.seconds / 60.0,
        report.warm_up_s,
        report.cameras.len(),
        report.delivered_fps,
        cell(&m.cpu),
        m.cores,
        report.cores,
        report.cores_others,
        report.tapetum,
        report.date
    )
    .ok();
    out.push_str("| | check | seen | wanted |\n|---|---|---|---|\n");
    for check in &report.checks {
        writeln!(
            out,
            "| {} | {} | {} | {} |",
            word(check),
            check.name,
            cell(&check.seen),
            cell(&check.wanted)
        )
        .ok();
    }
    if let Some(overload) = &report.overload {
        let steps = overload.steps.iter().map(|s| format!("{:.0} → {:.1}", s.asked_fps, s.delivered_fps));
        writeln!(
            out,
            "\nWhat the machine can do, in frames/s of all cameras (asked → delivered): {}. The most is {:.1}; asked for: {:.0}.",
            steps.collect::<Vec<_>>().join(", "),
            overload.capacity_fps,
            overload.asked_fps
        )
        .ok();
    }
    cameras(&mut out, report);
    out.push_str(
        "\nReceived is what the source's thread has read; a loop that has no time to be read at all leaves frames out, as a camera \
         does, and these were never received. Ages are from the source handing the frame over to delivery, since the daemon's \
         start. The memory's slope (of the second half) is the median of the slopes between all pairs of medians of equal stretches, with its 95 % \
         interval.\n",
    );
    out
}

fn cameras(out: &mut String, report: &Report) {
    out.push_str(
        "\n| camera | asked fps | received | delivered | fair share | of it | age p50 ms | p99 | max | late | dropped and failed | engine |\n\
         |---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|---|\n",
    );
    for camera in &report.cameras {
        let ms = |ms: Option<f64>| ms.map_or("–".to_owned(), |ms| format!("{ms:.0}"));
        let lost = camera.frames.iter().filter(|(what, n)| what.contains(':') && **n > 0);
        let lost: Vec<String> = lost.map(|(what, n)| format!("{what} {n}")).collect();
        let mut engines = camera.engines.clone();
        engines.dedup();
        writeln!(
            out,
            "| {} | {:.1} | {:.2} | {:.2} | {:.2} | {:.3} | {} | {} | {} | {} | {} | {} |",
            cell(&camera.name),
            camera.asked_fps,
            camera.captured_fps,
            camera.delivered_fps,
            camera.fair_fps,
            if camera.fair_fps > 0.0 { camera.delivered_fps / camera.fair_fps } else { 1.0 },
            ms(camera.age_p50_ms),
            ms(camera.age_p99_ms),
            ms(camera.age_max_ms),
            camera.late,
            lost.join(", "),
            engines.join(", ")
        )
        .ok();
    }
}

/// For people.
fn word(check: &Check) -> &'static str {
    match check.passed {
        Some(true) => "pass",
        Some(false) => "**FAIL**",
        None => "not judged",
    }
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
