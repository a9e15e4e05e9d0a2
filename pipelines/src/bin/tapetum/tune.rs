//! `tapetum tune`
//!
//! Not a mode of `quantize`: nothing need be quantized (fp32 on another engine may win), and what comes out is no model
//! but a choice for this machine.

use std::path::Path;
use std::sync::atomic::Ordering;

use clap::Args as ClapArgs;
use serde_json::json;
use tapetum::calibrate::{self, Recorded};
use tapetum::config::PipelineFile;
use tapetum::source;
use tapetum::tune::{
    self, Extent, Step,
    tuned::{Candidate, EngineMeasured, Tuned},
};
use tapetum_runtime::{Error, ErrorKind, Result};

use crate::progress::Spinner;
use crate::{outcome, play, print_json, quantize, table};

/// Arguments of `tapetum tune`.
#[derive(ClapArgs)]
pub struct Args {
    #[command(flatten)]
    pipeline: play::PipelineArgs,
    /// Frames to calibrate with and to judge by: video file, image folder or glob, synthetic:KIND, or a camera, which is
    /// recorded until Ctrl-C.
    #[arg(short, long, value_name = "SRC")]
    calibrate: String,
    /// Inputs kept of each model; half of them calibrate, the other half judges.
    #[arg(long, value_name = "N", default_value_t = calibrate::USUAL as u16, value_parser = clap::value_parser!(u16).range(2..=4096))]
    samples: u16,
    /// Runs of each candidate that are timed.
    #[arg(long, value_name = "N", default_value_t = tune::USUAL_ROUNDS as u16, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    rounds: u16,
    #[command(flatten)]
    engine: play::EngineArgs,
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<()> {
    if args.engine.precision.is_some() {
        return Err(Error::config("tune measures every precision; --precision is for run, bench and demo"));
    }
    let file = args.pipeline.read()?;
    let options = args.engine.options();
    let (recorded, source, live) = record(&file, &options, &args.calibrate, args.samples.into(), args.json)?;
    let spinner = Spinner::new(args.json);
    let mut say = |step: Step<'_>| show(&spinner, step);
    let extent =
        Extent { rounds: args.rounds.into(), precisions: None, threads: &[], stop: play::stop_flag()? };
    let (tuned, path) = tune::tune(&file, &options, &source, live, &recorded, &extent, &mut say)?;
    spinner.done();
    if args.json {
        let tuned = serde_json::to_value(&tuned)
            .map_err(|e| Error::internal(format!("the figures are not JSON: {e}")))?;
        return print_json(&json!({"file": path, "tuned": tuned}));
    }
    print(&tuned, &path, &file);
    Ok(())
}

/// Says what is being measured.
pub fn show(spinner: &Spinner, step: Step<'_>) {
    match step {
        Step::Preparing(step) => play::show(spinner, step),
        Step::Quantizing(model, precision, step) => {
            spinner.say(format!("{model}: {}: {}", precision.name(), quantize::doing(&step)));
        }
        Step::Measuring(model, engine, precision) => {
            spinner.say(format!("{model}: measuring {precision} on {engine}"));
        }
    }
}

/// Runs the pipeline in fp32 over a source; what its models got, the source's name, and whether it is live. A live one
/// does not end by itself: Ctrl-C ends the recording, and another one what comes then.
pub fn record(
    file: &PipelineFile,
    options: &tapetum::assemble::Options,
    source: &str,
    most: usize,
    quiet: bool,
) -> Result<(Vec<Recorded>, String, bool)> {
    let source = source::open(source)?;
    let info = source.info().clone();
    let recorders = calibrate::recorders(file, most);
    let pipeline = play::load(file, &calibrate::recording(options, &recorders), &info, quiet)?;
    let stop = play::stop_flag()?;
    if info.live {
        // Also where nothing else is said: nobody would know how to go on.
        eprintln!("recording what the models get of {}; Ctrl-C ends the recording", info.name);
    }
    let played = play::play(&pipeline, source, Vec::new(), quiet)?;
    outcome::verdict(&played, played.summary.frames.delivered)?;
    let recorded = calibrate::recorded(&recorders);
    if played.summary.interrupted {
        if !info.live || recorded.iter().all(|model| model.inputs.is_empty()) {
            return Err(Error::new(ErrorKind::Environment, "interrupted: nothing was measured"));
        }
        stop.store(false, Ordering::SeqCst);
    }
    if !quiet {
        for (model, recorded) in file.models.iter().zip(&recorded) {
            let (kept, runs) = (recorded.inputs.len(), table::thousands(recorded.runs));
            eprintln!("{}: {kept} inputs kept of {runs} runs", model.name);
        }
    }
    Ok((recorded, info.name, info.live))
}

/// Which engines were looked at, and why one was not measured.
pub fn print_engines(engines: &[EngineMeasured]) {
    for engine in engines {
        match (&engine.engine_version, &engine.why_not) {
            (_, Some(why)) => println!("  ✗ {:12} {why}", engine.engine),
            (version, None) => {
                println!("  ✓ {:12} {}", engine.engine, version.as_deref().unwrap_or_default())
            }
        }
    }
}

/// How a candidate stands beside fp32, or why it did not run: one line.
pub fn beside(candidate: &Candidate, gate: Option<f64>) -> String {
    let figures: Vec<String> = candidate.figures.iter().map(|f| f.told(gate)).collect();
    match (&candidate.why_not, figures.is_empty()) {
        (Some(why), true) => why.lines().next().unwrap_or_default().to_owned(),
        _ => figures.join(", "),
    }
}

fn print(tuned: &Tuned, path: &Path, file: &PipelineFile) {
    let threads = tuned.models.iter().map(|m| m.threads).max().unwrap_or(1);
    println!(
        "{} on {} ({} cores), threads in a run: {threads}",
        tuned.pipeline, tuned.machine.cpu, tuned.machine.cores
    );
    println!("reference: fp32 on {}", tuned.reference);
    print_engines(&tuned.engines);
    for model in &tuned.models {
        let runs = table::thousands(model.runs);
        println!("\n{}: ran {runs} times; judged and timed on {} held-back inputs", model.name, model.judged);
        let gate = tune::gate_of(file, &model.name);
        let head = ["", "engine", "precision", "ms", "beside fp32"].map(str::to_owned).to_vec();
        let picked = tuned.chosen.as_ref().and_then(|chosen| {
            Some((chosen.engine.as_str(), &chosen.models.iter().find(|m| m.name == model.name)?.precision))
        });
        let rows =
            model.candidates.iter().map(|c| row(c, picked == Some((c.engine.as_str(), &c.precision)), gate));
        print!("{}", table::render(&[head].into_iter().chain(rows).collect::<Vec<_>>(), &[3]));
    }
    match &tuned.chosen {
        Some(chosen) => {
            println!("\nchosen: {}, {:.0} ms for all runs", chosen.engine, chosen.total_ms);
            for model in &chosen.models {
                println!("  {}: {}; {}", model.name, model.precision, model.why);
            }
        }
        None => println!("\nnothing can be chosen: no engine runs every model"),
    }
    println!(
        "wrote {}; `run --engine auto --precision auto` with as many threads goes by it",
        path.display()
    );
}

fn row(candidate: &Candidate, picked: bool, gate: Option<f64>) -> Vec<String> {
    let mark = match (picked, candidate.passed) {
        (true, _) => "→",
        (false, true) => "✓",
        (false, false) => "✗",
    };
    let ms = candidate.ms_median.map_or("–".to_owned(), |ms| format!("{ms:.2}"));
    vec![mark.to_owned(), candidate.engine.clone(), candidate.precision.clone(), ms, beside(candidate, gate)]
}
