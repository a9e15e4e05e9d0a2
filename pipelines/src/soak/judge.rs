//! From what was seen to figures and a verdict.

use std::{collections::BTreeMap, time::Duration};

use super::{
    CameraReport, Check, Options, Overload, Report, Sample, Series, Watched, fair,
    trend::{self, median},
    watch::{self, Account, Camera, quantile},
};
use crate::{site::config::SiteFile, tune::Machine};

/// Frames of one camera that may be on their way at once: a queue of one, one that is worked on, and those with source and
/// outputs.
const IN_FLIGHT: u64 = 8;
/// Pictures that the source's thread may have in its hands when it ends: the one that waits, and the one that takes its place.
const IN_HAND: u64 = 2;
/// A camera's delivered frames, of its fair share.
const FAIR: f64 = 0.9;
const JAIN: f64 = 0.98;
/// Results that may be late: what "the 99th percentile" leaves.
const LATE: f64 = 0.01;
/// The daemon is told to stop.
const STOP: Duration = Duration::from_secs(2);
/// Open files and threads that more at the end than at the start are no growth: the looks themselves come and go.
const MORE: f64 = 2.0;
/// Of [`Series`].
const POINTS: usize = 240;

pub(super) fn report(
    options: &Options,
    site: &SiteFile,
    asked: &[Option<f64>],
    overload: Option<Overload>,
    warm_up: Duration,
    watched: &Watched,
) -> Report {
    let empty = Vec::new();
    let (first, last) = (watched.samples.first(), watched.samples.last());
    let span = |of: fn(&Sample) -> f64| last.map_or(0.0, of) - first.map_or(0.0, of);
    let seconds = span(|s| s.at).max(1e-9);
    let (before, after) =
        (first.map_or(&empty, |s| &s.seen.cameras), last.map_or(&empty, |s| &s.seen.cameras));
    let mut cameras: Vec<CameraReport> = before
        .iter()
        .zip(after)
        .enumerate()
        .map(|(n, (before, after))| camera(before, after, asked.get(n).copied().flatten(), seconds))
        .collect();
    let delivered: f64 = cameras.iter().map(|camera| camera.delivered_fps).sum();
    let asked: Vec<f64> = cameras.iter().map(|camera| camera.asked_fps).collect();
    cameras.iter_mut().zip(fair::shares(&asked, delivered)).for_each(|(camera, fair)| camera.fair_fps = fair);
    // What is taken once when it is first needed (a cache that fills, a pool that is needed whole) is over by then; a leak is not.
    let second_half = &watched.samples[watched.samples.len() / 2..];
    let memory: Vec<_> = second_half.iter().map(|s| (s.at / 60.0, s.process.rss_kib as f64)).collect();
    let (cores, busy) = (span(|s| s.process.cpu_s) / seconds, span(|s| s.busy.as_secs_f64()) / seconds);
    let max_age_ms = site.limits.max_age.map(|age| age.as_secs_f64() * 1e3);
    let mut report = Report {
        site: site.name.clone(),
        date: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        tapetum: env!("CARGO_PKG_VERSION"),
        machine: Machine::this(),
        seconds,
        warm_up_s: warm_up.as_secs_f64(),
        overload,
        max_age_ms,
        delivered_fps: delivered,
        jain: fair::jain(&cameras.iter().map(of_share).collect::<Vec<_>>()),
        cameras,
        process: [first, last].map(|sample| sample.map(|s| s.process).unwrap_or_default()),
        memory: trend::trend(&memory),
        cores,
        cores_others: (busy - cores).max(0.0),
        stop_s: watched.stopped.as_ref().map(|stopped| stopped.took.as_secs_f64()),
        checks: Vec::new(),
        passed: false,
        series: series(&watched.samples),
    };
    report.checks = vec![
        accounting(watched),
        ages(&report),
        shares(&report),
        growth(&report, options.slope),
        handles(watched),
        interruptions(watched),
        outputs(watched),
        answers(watched),
        stop(watched),
    ];
    report.passed = report.checks.iter().all(|check| check.passed != Some(false));
    report
}

fn camera(before: &Camera, after: &Camera, asked: Option<f64>, seconds: f64) -> CameraReport {
    let since = |of: fn(&Camera) -> u64| of(after).saturating_sub(of(before));
    let mut frames: BTreeMap<String, u64> = BTreeMap::new();
    let mut count = |what: &str, n: u64| {
        frames.insert(what.to_owned(), n);
    };
    count("captured", since(|c| c.frames.captured));
    count("delivered", since(|c| c.frames.delivered));
    let of = |map: &BTreeMap<String, u64>, key: &str| map.get(key).copied().unwrap_or(0);
    for (reason, n) in &after.frames.dropped {
        count(&format!("dropped: {reason}"), n - of(&before.frames.dropped, reason).min(*n));
    }
    for (stage, n) in &after.frames.failed {
        count(&format!("failed: {stage}"), n - of(&before.frames.failed, stage).min(*n));
    }
    let captured = since(|c| c.frames.captured) as f64 / seconds;
    let over_rate = frames.get("dropped: over_rate").copied().unwrap_or(0) as f64 / seconds;
    CameraReport {
        name: after.name.clone(),
        asked_fps: asked.unwrap_or(captured - over_rate),
        fair_fps: 0.0,
        captured_fps: captured,
        delivered_fps: since(|c| c.frames.delivered) as f64 / seconds,
        frames,
        age_p50_ms: after.age.p50_ms,
        age_p99_ms: after.age.p99_ms,
        age_max_ms: after.age.max_ms,
        late: since(|c| c.late),
        engines: after.stages.iter().filter_map(|stage| stage.engine.clone()).collect(),
    }
}

/// What a camera got of its fair share.
fn of_share(camera: &CameraReport) -> f64 {
    match camera.fair_fps > 0.0 {
        true => camera.delivered_fps / camera.fair_fps,
        // Nobody got anything: only who asked for nothing has what is fair.
        false => f64::from(u8::from(camera.asked_fps <= 0.0)),
    }
}

fn check(name: &'static str, passed: bool, seen: String, wanted: impl Into<String>) -> Check {
    Check { name, passed: Some(passed), seen, wanted: wanted.into() }
}

/// Every frame is in one place at every look, and in the daemon's last account nothing is missing.
fn accounting(watched: &Watched) -> Check {
    let mut wrong: Vec<String> = Vec::new();
    let mut most = 0;
    for (n, sample) in watched.samples.iter().enumerate() {
        let before = n.checked_sub(1).and_then(|n| watched.samples.get(n));
        for (at, camera) in sample.seen.cameras.iter().enumerate() {
            let frames = &camera.frames;
            most = most.max(frames.in_flight);
            let back = before.and_then(|s| s.seen.cameras.get(at)).is_some_and(|before| {
                before.frames.captured > frames.captured || before.frames.gone() > frames.gone()
            });
            // The age of every delivered result is counted apart from the frames.
            let counted_apart = camera.age.n == frames.delivered;
            let whole = frames.captured == frames.gone() + frames.in_flight;
            if back || !whole || !counted_apart || frames.in_flight > IN_FLIGHT {
                wrong.push(format!(
                    "{} at {:.0} s: {frames:?}, {} ages",
                    camera.name, sample.at, camera.age.n
                ));
            }
        }
    }
    let log = watched.stopped.as_ref().map(|stopped| stopped.log.as_str()).unwrap_or_default();
    let (accounts, last) = (watch::accounts(log), watched.samples.last());
    let (mut received, mut delivered) = (0, 0);
    for camera in last.map(|s| s.seen.cameras.as_slice()).unwrap_or_default() {
        match accounts.get(&camera.name) {
            Some(account) if closed(account, camera) => {
                received += account.received;
                delivered += account.gone["delivered"];
            }
            Some(account) => wrong.push(format!("{} at the end: {account:?}", camera.name)),
            None => wrong.push(format!("{} gave no account at the end", camera.name)),
        }
    }
    let seen = match wrong.first() {
        None => format!(
            "{} looks, at most {most} frames of a camera in flight; at the end {received} received, {delivered} delivered, the \
             rest by reason, 0 missing",
            watched.samples.len()
        ),
        Some(first) => format!("{} times not, the first: {first}", wrong.len()),
    };
    let wanted =
        format!("received = delivered + dropped + failed + in flight (at most {IN_FLIGHT}; 0 at the end)");
    check("accounting", wrong.is_empty() && !watched.samples.is_empty(), seen, wanted)
}

/// Whether everything that the source's thread has counted went somewhere.
fn closed(account: &Account, last_seen: &Camera) -> bool {
    let of = |what: &str| account.gone.get(what).copied().unwrap_or(0);
    let sum: u64 = account.gone.values().sum();
    let grows = of("delivered") >= last_seen.frames.delivered;
    sum == account.received
        && of("in flight") == 0
        && of("in hand") <= IN_HAND
        && grows
        && account.gone.contains_key("delivered")
}

fn ages(report: &Report) -> Check {
    let worst = report.cameras.iter().filter_map(|c| c.age_p99_ms).fold(0.0, f64::max);
    let share =
        |c: &CameraReport| c.late as f64 / c.frames.get("delivered").copied().unwrap_or(0).max(1) as f64;
    let late = report.cameras.iter().map(share).fold(0.0, f64::max);
    let Some(most) = report.max_age_ms else {
        return Check {
            name: "result age",
            passed: None,
            seen: format!("p99 {worst:.0} ms at the slowest camera"),
            wanted: "the site has no [limits] max_age_ms".to_owned(),
        };
    };
    let seen = format!("p99 {worst:.0} ms and {:.2} % late at the slowest camera", late * 100.0);
    check("result age", late <= LATE, seen, format!("99 % of results within {most:.0} ms, at every camera"))
}

fn shares(report: &Report) -> Check {
    let least = report.cameras.iter().min_by(|a, b| of_share(a).total_cmp(&of_share(b)));
    let most = report.cameras.iter().map(of_share).fold(0.0, f64::max);
    let (name, low) = least.map_or(("nobody", 0.0), |camera| (camera.name.as_str(), of_share(camera)));
    let seen = format!("{low:.3} ({name}) to {most:.3} of the fair share, Jain {:.4}", report.jain);
    let wanted = format!("every camera at least {FAIR} of its fair share, Jain at least {JAIN}");
    check("fair shares", low >= FAIR && report.jain >= JAIN, seen, wanted)
}

fn growth(report: &Report, most: f64) -> Check {
    let wanted = format!("at most {most} KiB/min, or none that is told from 0");
    let Some(trend) = report.memory else {
        return Check { name: "memory", passed: None, seen: "too few looks for a slope".to_owned(), wanted };
    };
    let seen = format!(
        "{:+.1} KiB/min ({:+.1} to {:+.1}) in the second half, {:.1} → {:.1} MiB resident in all",
        trend.slope,
        trend.low,
        trend.high,
        report.process[0].rss_kib as f64 / 1024.0,
        report.process[1].rss_kib as f64 / 1024.0
    );
    check("memory", trend.slope <= most || trend.low <= 0.0, seen, wanted)
}

fn handles(watched: &Watched) -> Check {
    let part = watched.samples.len().div_ceil(10);
    let (head, tail) = (watched.samples.iter().take(part), watched.samples.iter().rev().take(part));
    let of = |samples: &mut dyn Iterator<Item = &Sample>| {
        let samples: Vec<&Sample> = samples.collect();
        let of = |one: fn(&Sample) -> u64| median(samples.iter().map(|s| one(s) as f64));
        [of(|s| s.process.files), of(|s| s.process.threads)]
    };
    let (from, to) = (of(&mut { head }), of(&mut { tail }));
    let seen = format!("files {:.0} → {:.0}, threads {:.0} → {:.0}", from[0], to[0], from[1], to[1]);
    let fits = from.iter().zip(to).all(|(from, to)| to <= from + MORE);
    check(
        "open files, threads",
        fits,
        seen,
        format!("at most {MORE} more in the last tenth than in the first"),
    )
}

fn interruptions(watched: &Watched) -> Check {
    let (first, last) = (watched.samples.first(), watched.samples.last());
    let sum = |sample: Option<&Sample>, of: fn(&Camera) -> u64| {
        sample.map_or(0, |sample| sample.seen.cameras.iter().map(of).sum::<u64>())
    };
    let since = |of: fn(&Camera) -> u64| sum(last, of).saturating_sub(sum(first, of));
    let figures = [
        (since(|c| c.reconnects), "reconnects"),
        (since(|c| c.stalls), "stalls"),
        (since(|c| c.frames.failed.values().sum()), "failed frames"),
        (since(|c| c.stages.iter().map(|stage| stage.engine_faults).sum()), "engine faults"),
    ];
    let told: Vec<String> = figures.iter().map(|(n, what)| format!("{n} {what}")).collect();
    let ended = if watched.died { "the daemon ended by itself; " } else { "" };
    let passed = !watched.died && figures.iter().all(|(n, _)| *n == 0);
    check("interruptions", passed, format!("{ended}{}", told.join(", ")), "none")
}

fn outputs(watched: &Watched) -> Check {
    let outputs = watched.samples.last().map(|s| s.seen.outputs.as_slice()).unwrap_or_default();
    let mut wrong = Vec::new();
    for output in outputs {
        if !output.up {
            wrong.push(format!("{} is down: {}", output.name, output.why.as_deref().unwrap_or("no reason")));
        }
        // Results may be dropped, and are counted; events may not.
        for (reason, n) in output.dropped.iter().filter(|(reason, _)| !reason.starts_with("result")) {
            wrong.push(format!("{} dropped {n}: {reason}", output.name));
        }
    }
    let seen =
        if wrong.is_empty() { format!("{} up, no event dropped", outputs.len()) } else { wrong.join("; ") };
    check("outputs", wrong.is_empty(), seen, "all up at the end, no event dropped")
}

fn answers(watched: &Watched) -> Check {
    let seen = format!(
        "{} of {} looks without an answer",
        watched.unanswered,
        watched.samples.len() as u64 + watched.unanswered
    );
    check("health over HTTP", watched.unanswered == 0, seen, "every look is answered within 5 s")
}

fn stop(watched: &Watched) -> Check {
    let wanted = format!("exit code 0 within {} s", STOP.as_secs());
    match &watched.stopped {
        None => check("stop", false, "it had to be killed".to_owned(), wanted),
        Some(stopped) => {
            let seen = format!("{:.2} s, {}", stopped.took.as_secs_f64(), stopped.status);
            check("stop", stopped.status.success() && stopped.took <= STOP, seen, wanted)
        }
    }
}

/// Figures of stretches of the samples.
fn series(samples: &[Sample]) -> Series {
    let mut series = Series::default();
    // A stretch has a beginning and an end; ages within fewer than five seconds say little about their 99th percentile.
    let step = (samples.len() / POINTS).max(5).min(samples.len().saturating_sub(1).max(1));
    let cameras = samples.first().map_or(0, |s| s.seen.cameras.len());
    series.fps = vec![Vec::new(); cameras];
    for pair in samples.iter().step_by(step).collect::<Vec<_>>().windows(2) {
        let (from, to) = (pair[0], pair[1]);
        let seconds = (to.at - from.at).max(1e-9);
        series.at_s.push(f64::midpoint(from.at, to.at));
        series.rss_mib.push(to.process.rss_kib as f64 / 1024.0);
        let total = |sample: &Sample| {
            let mut sum = vec![0; sample.seen.bounds.len()];
            let ages = sample.seen.cameras.iter().map(|camera| &camera.ages);
            ages.for_each(|ages| sum.iter_mut().zip(ages).for_each(|(sum, n)| *sum += n));
            sum
        };
        let (before, after) = (total(from), total(to));
        let age = |q| quantile(&to.seen.bounds, &before, &after, q);
        series.age_p50_ms.push(age(0.5));
        series.age_p99_ms.push(age(0.99));
        for (fps, (before, after)) in
            series.fps.iter_mut().zip(from.seen.cameras.iter().zip(&to.seen.cameras))
        {
            fps.push(after.frames.delivered.saturating_sub(before.frames.delivered) as f64 / seconds);
        }
        let busy = to.busy.saturating_sub(from.busy).as_secs_f64();
        series.cores_others.push(((busy - (to.process.cpu_s - from.process.cpu_s)) / seconds).max(0.0));
    }
    series
}
