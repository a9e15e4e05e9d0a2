//! The outcome of a run, for people.

use tapetum::assemble::Pipeline;
use tapetum::engine_fault::EngineChange;
use tapetum::executor::Outcome;
use tapetum::{Accounting, Restorations, Summary};
use tapetum_runtime::latency::Histogram;
use tapetum_runtime::{Error, ErrorKind, Result};

use crate::table;

/// Stage times, frames and break-up times.
pub fn print(summary: &Summary, pipeline: &Pipeline<'_>) {
    let seconds = summary.elapsed.as_secs_f64();
    let done = summary.frames.delivered;
    if seconds > 0.0 {
        let frames = table::thousands(done);
        println!("{frames} frames in {seconds:.1} s: {:.1} frames/s", done as f64 / seconds);
    }
    println!("\nstage times, ms");
    let head = ["stage", "runs", "p50", "p90", "p99", "max"].map(str::to_owned).to_vec();
    let mut rows = vec![head];
    for (stage, histogram) in pipeline.info.stages.iter().zip(&summary.stages) {
        rows.push(times(&stage.name, histogram));
    }
    rows.push(times("arrival to delivery", &summary.end_to_end));
    print!("{}", table::render(&rows, &[1, 2, 3, 4, 5]));
    println!("\n{}", account(&summary.frames));
    for why in &summary.unreadable {
        println!("  unreadable: {why}");
    }
    for (stage, done) in pipeline.info.stages.iter().zip(&summary.restored).filter(|(_, d)| d.frames > 0) {
        println!("{}: {}", stage.name, spared(*done));
    }
    for (stage, faults) in pipeline.info.stages.iter().zip(&summary.engine_faults) {
        for event in faults.events.iter().filter(|e| e.change != EngineChange::Restarted) {
            println!("{}: {event}", stage.name);
        }
        if faults.restarts > 0 {
            let restarts = if faults.restarts == 1 { "restart" } else { "restarts" };
            println!("{}: {} {restarts} of its engine", stage.name, faults.restarts);
        }
    }
    let stamps = summary.stamps;
    if stamps.missing + stamps.backwards + stamps.jumps > 0 {
        println!(
            "timestamps mended: {} missing, {} that went back, {} that leapt",
            stamps.missing, stamps.backwards, stamps.jumps
        );
    }
    let lost = summary.losses;
    if lost.packets + lost.frames + lost.overtaken > 0 {
        println!(
            "source: {} packets and {} frames lost on the way, {} pictures overtaken by newer ones",
            lost.packets, lost.frames, lost.overtaken
        );
    }
    break_up_times(summary);
}

/// What a restoration did and was spared, in one line.
pub fn spared(done: Restorations) -> String {
    let tiles = done.tiles;
    let mut out = format!("{} of {} tiles run", table::thousands(tiles.run), table::thousands(tiles.total()));
    for (n, why) in [(tiles.sharp, "sharp"), (tiles.still, "still"), (tiles.reused, "as before")] {
        if n > 0 {
            out.push_str(&format!(", {} {why}", table::thousands(n)));
        }
    }
    if let Some(kept) = done.mean_kept() {
        out.push_str(&format!("; {:.1} % of the windows worked on", kept * 100.0));
    }
    out
}

/// The same for programs.
pub fn restored_json(done: Restorations) -> serde_json::Value {
    let t = done.tiles;
    serde_json::json!({
        "frames": done.frames,
        "tiles": {"run": t.run, "sharp": t.sharp, "still": t.still, "reused": t.reused},
        "mean_kept": done.mean_kept(),
    })
}

/// A stage's row: runs and percentiles in milliseconds.
pub fn times(name: &str, h: &Histogram) -> Vec<String> {
    let ms = |d: Option<std::time::Duration>| {
        d.map_or("–".to_owned(), |d| format!("{:.2}", d.as_secs_f64() * 1e3))
    };
    let max = (h.count() > 0).then(|| h.max());
    let quantiles = [0.5, 0.9, 0.99].map(|q| ms(h.quantile(q)));
    let mut row = vec![name.to_owned(), table::thousands(h.count())];
    row.extend(quantiles);
    row.push(ms(max));
    row
}

fn account(frames: &Accounting) -> String {
    let mut out = format!("frames: {} captured, {} delivered", frames.captured, frames.delivered);
    for (reason, n) in &frames.dropped {
        out.push_str(&format!(", {n} dropped ({reason})"));
    }
    for (place, n) in &frames.failed {
        out.push_str(&format!(", {n} failed ({place})"));
    }
    out
}

fn break_up_times(summary: &Summary) {
    let Some(but) = &summary.break_up_time else { return };
    println!("\nbreak-up time per blink interval");
    let mut rows =
        vec![["#", "first clear", "first broken", "break-up time", ""].map(str::to_owned).to_vec()];
    for (n, i) in but.intervals.iter().enumerate() {
        let time = match i.but_s {
            Some(but) => format!("{but:.2} ± {:.2} s", i.uncertainty_s),
            None => format!("> {:.2} s", i.lower_bound_s),
        };
        let broken = i.first_broken_s.map_or("not broken".to_owned(), |s| format!("{s:.2} s"));
        let note = if i.after_blink { "" } else { "its blink was not seen" };
        rows.push(vec![
            (n + 1).to_string(),
            format!("{:.2} s", i.first_clear_s),
            broken,
            time,
            note.to_owned(),
        ]);
    }
    if but.intervals.is_empty() {
        println!("  no interval with a clear frame");
        return;
    }
    print!("{}", table::render(&rows, &[1, 2, 3]));
    if let Some(mean) = but.mean_s() {
        let measured = but.intervals.iter().filter(|i| i.but_s.is_some()).count();
        println!("  mean of {measured} measured: {mean:.2} s");
    }
}

/// Turns what went wrong in a run into one error.
pub fn verdict(outcome: &Outcome, done: u64) -> Result<()> {
    let mut wrong: Vec<String> = outcome.sink_errors.iter().map(ToString::to_string).collect();
    let kind = match (&outcome.source_error, outcome.sink_errors.first()) {
        (Some(e), _) => {
            wrong.insert(0, format!("the source was lost after {done} frames: {e}"));
            e.kind()
        }
        (None, Some(e)) => e.kind(),
        (None, None) if outcome.summary.frames.captured > 0 && done == 0 => {
            wrong.push("not a single frame came through; see above".to_owned());
            ErrorKind::BadInput
        }
        (None, None) => return Ok(()),
    };
    // A source that breaks later is no wrong configuration.
    let kind = if kind == ErrorKind::InvalidConfig { ErrorKind::Environment } else { kind };
    Err(Error::new(kind, wrong.join("\n")))
}
