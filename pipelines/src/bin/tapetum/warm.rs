//! `tapetum warm`

use clap::Args as ClapArgs;
use serde_json::json;
use tapetum::engine_cache::Origin;
use tapetum::warm::{self, Warmed};
use tapetum_runtime::{Error, ErrorKind, Result};

use crate::progress::Spinner;
use crate::{play, print_json, table};

/// Arguments of `tapetum warm`.
#[derive(ClapArgs)]
pub struct Args {
    #[command(flatten)]
    pipeline: play::PipelineArgs,
    /// For every engine of the list that can run, not only for the first.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    engine: play::EngineArgs,
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<()> {
    let file = args.pipeline.read()?;
    let spinner = Spinner::new(args.json);
    let mut warmed = Vec::new();
    let outcome = warm::warm(
        &file,
        &args.engine.options(),
        args.all,
        &mut |step| play::show(&spinner, step),
        &mut |one| {
            if args.json {
                warmed.push(object(one));
            } else {
                spinner.result(&line(one));
            }
        },
    )?;
    spinner.done();
    if args.json {
        let failed: Vec<_> = outcome
            .failed
            .iter()
            .map(|(model, why)| json!({"model": model, "why": why.to_string()}))
            .collect();
        let passed_over: Vec<_> =
            outcome.passed_over.iter().map(|p| json!({"engine": p.engine, "why": p.why})).collect();
        print_json(&json!({
            "pipeline": file.name, "models": warmed, "failed": failed, "passed_over": passed_over,
            "untuned": outcome.untuned,
        }))?;
    } else {
        outcome.passed_over.iter().for_each(|p| println!("passed over {}: {}", p.engine, p.why));
        if let Some(why) = &outcome.untuned {
            println!("untuned: {why}; to measure: {}", outcome.to_measure.join("; for cameras: "));
        }
    }
    match outcome.failed.as_slice() {
        [] => Ok(()),
        failed => {
            let lines: Vec<String> = failed.iter().map(|(model, why)| format!("{model}: {why}")).collect();
            Err(Error::new(ErrorKind::ProofFailed, lines.join("\n  ")))
        }
    }
}

/// `segmenter on ort:cpu/fp32: built in 0.3 s, checked to 2e-7 in 0.04 s, 2.6 MiB kept; starts in 0.14 s`.
fn line(warmed: &Warmed) -> String {
    let checked = match warmed.golden {
        Some(error) => format!("checked to {error:.0e} in {:.2} s", warmed.checking.as_secs_f64()),
        None => "no golden record: not self-checked".to_owned(),
    };
    let start = warmed.start.as_secs_f64();
    let (what, kept) = match warmed.origin {
        Origin::Built { seconds, bytes } => {
            (format!("built in {seconds:.1} s"), format!(", {} kept", table::bytes(bytes)))
        }
        Origin::Found { bytes } => ("found in the cache".to_owned(), format!(", {}", table::bytes(bytes))),
        Origin::Unkept if warmed.lost.is_some() => ("could not be kept".to_owned(), String::new()),
        Origin::Unkept => ("nothing to keep".to_owned(), String::new()),
    };
    let tuned =
        warmed.tuned.as_ref().map(|date| format!(" (chosen by the tuning of {date})")).unwrap_or_default();
    format!("{} on {}{tuned}: {what}, {checked}{kept}; starts in {start:.2} s", warmed.model, warmed.engine)
}

fn object(warmed: &Warmed) -> serde_json::Value {
    let (origin, seconds, bytes) = match warmed.origin {
        Origin::Built { seconds, bytes } => ("built", Some(seconds), Some(bytes)),
        Origin::Found { bytes } => ("found", None, Some(bytes)),
        Origin::Unkept => ("unkept", None, None),
    };
    json!({
        "model": warmed.model, "engine": warmed.engine, "tuned": warmed.tuned, "origin": origin, "build_seconds": seconds,
        "bytes": bytes, "golden_error": warmed.golden, "start_seconds": warmed.start.as_secs_f64(),
        "check_seconds": warmed.golden.map(|_| warmed.checking.as_secs_f64()),
    })
}
