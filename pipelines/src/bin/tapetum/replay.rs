//! `tapetum replay`

use std::{path::PathBuf, process::ExitCode};

use clap::Args as ClapArgs;
use tapetum::{
    config::{Choice, ModelChange},
    recording::read::Recording,
    replay::{self, Difference, Report, TOLERANCE, Verdict, Wishes},
};
use tapetum_runtime::{Error, Result};

use crate::{play, print_json, progress::Spinner};

/// Exit code where something came out otherwise.
const DIFFERENT: u8 = 3;

/// Frames whose differences are shown in text; all that are kept are in `--json`.
const SHOWN: usize = 5;

/// Arguments of `tapetum replay`.
#[derive(ClapArgs)]
pub struct Args {
    /// The event's id, or the folder of its recording.
    #[arg(value_name = "EVENT|FOLDER")]
    event: String,
    /// The site that has it.
    #[arg(long, value_name = "FILE", default_value = "/etc/tapetum/site.toml")]
    site: PathBuf,
    /// Another engine than the one that ran then.
    #[arg(long, value_name = "ENGINE[,ENGINE…]", value_parser = play::parse_choice)]
    engine: Option<Choice>,
    /// Another file for one of the models; may be given several times.
    #[arg(long = "model", value_name = "NAME=FILE", value_parser = play::parse_model)]
    models: Vec<ModelChange>,
    /// A number may be off by this share of itself (of 1 where it is smaller) to be equal within.
    #[arg(long, value_name = "SHARE", default_value_t = TOLERANCE, value_parser = parse_tolerance)]
    tolerance: f64,
    /// Write a video (Motion-JPEG) with what is found now drawn in.
    #[arg(long, value_name = "FILE.avi")]
    video: Option<PathBuf>,
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
}

fn parse_tolerance(text: &str) -> Result<f64, String> {
    let value = text.parse().ok().filter(|share: &f64| (0.0..=1.0).contains(share));
    value.ok_or_else(|| format!("{text:?} is no share from 0 to 1"))
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let wishes = Wishes {
        engine: args.engine.clone(),
        models: args.models.clone(),
        tolerance: args.tolerance,
        video: args.video.clone(),
        cache: None,
    };
    let folder = replay::find(&args.event, &args.site)?;
    let recording = Recording::open(&folder)?;
    let file = replay::pipeline(&recording, &wishes)?;
    let spinner = Spinner::new(args.json);
    let pipeline = replay::load(&recording, &file, &wishes, &mut |step| play::show(&spinner, step))?;
    spinner.done();
    let stop = play::stop_flag()?;
    let report = replay::replay(&recording, &file, &pipeline, &wishes, stop)?;
    if stop.load(std::sync::atomic::Ordering::SeqCst) {
        return Err(Error::new(
            tapetum_runtime::ErrorKind::Environment,
            "interrupted; nothing is told of a part",
        ));
    }
    if args.json {
        let value = serde_json::to_value(&report);
        print_json(&value.map_err(|e| Error::internal(format!("the report is not JSON: {e}")))?)?;
    } else {
        print(&recording, &report);
    }
    Ok(if report.verdict == Verdict::Different { ExitCode::from(DIFFERENT) } else { ExitCode::SUCCESS })
}

fn print(recording: &Recording, report: &Report) {
    let head = &recording.summary.head;
    println!(
        "{} of camera {}, {:.1} s of pipeline {}",
        report.events.join(", "),
        report.camera,
        recording.summary.seconds,
        head.run.pipeline
    );
    report.changes.iter().for_each(|change| println!("changed since: {change}"));
    report.remarks.iter().for_each(|remark| println!("note: {remark}"));
    for frame in report.differences.iter().take(SHOWN) {
        println!("frame {} at {:.3} s:", frame.seq, frame.pts_s);
        let most = 8;
        frame.differences.iter().take(most).for_each(|difference| println!("  {}", shown(difference)));
        let more = frame.differences.len().saturating_sub(most) as u64 + frame.others;
        if more > 0 {
            println!("  and {more} more");
        }
    }
    for (seq, why) in report.missing.iter().take(SHOWN) {
        println!("frame {seq}: {why}");
    }
    let others = (report.within + report.different).saturating_sub(SHOWN as u64);
    if others > 0 {
        println!("and {others} more frames; --json tells of {}", report.differences.len());
    }
    let Report { frames, identical, within, different, .. } = report;
    let missing = report.missing.len();
    let gone = if missing > 0 { format!("; {missing} could not be run as they were") } else { String::new() };
    let unjudged = match report.unjudged {
        0 => String::new(),
        n => format!("{n} as they were in all that is judged, "),
    };
    println!(
        "{frames} frames: {identical} identical, {unjudged}{within} equal within, {different} different{gone}"
    );
    let not_judged = || report.not_judged.join(", ");
    println!(
        "{}",
        match report.verdict {
            Verdict::Identical => "identical: every digest is the recorded one".to_owned(),
            Verdict::Unjudged => format!(
                "nothing that was judged differs; not judged, on {} frames whose digest is another: {}",
                report.unjudged,
                not_judged()
            ),
            Verdict::Within => {
                let of_judged = match report.unjudged {
                    0 => String::new(),
                    n => format!(" of what was judged; not judged, on {n} other frames: {}", not_judged()),
                };
                format!(
                    "equal within {:e}: the largest difference is {:.1e}; nothing but numbers differs{of_judged}",
                    report.tolerance, report.largest
                )
            }
            Verdict::Different => "different".to_owned(),
        }
    );
}

fn shown(difference: &Difference) -> String {
    let Difference { stage, field, then, now, by } = difference;
    let place = if stage.is_empty() { field.clone() } else { format!("{stage}: {field}") };
    let by = by.map(|by| format!(", by {by:.1e}")).unwrap_or_default();
    match (then.is_null(), now.is_null()) {
        (true, true) => format!("{place}{by}"),
        _ => format!("{place}: then {then}, now {now}{by}"),
    }
}
