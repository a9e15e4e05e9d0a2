//! The `tapetum` program.
//!
//! Exit codes: 0 done, 1 the work failed, 2 wrong usage or configuration, 3 a replay came out otherwise.

mod bench;
mod check;
mod demo;
mod doctor;
mod fuse;
mod init;
mod inspect;
mod outcome;
mod play;
mod progress;
mod quantize;
mod replay;
mod restore;
mod run;
mod soak;
mod table;
mod tune;
mod verify;
mod warm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tapetum_runtime::{Error, ErrorKind, Result};

/// Embedded real-time vision inference: fuse training checkpoints into proven models, run pipelines of them.
#[derive(Parser)]
#[command(name = "tapetum", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Analyse the demo eye video: fuse the demo checkpoints, run TF-Collab, write results and a report.
    Demo(demo::Args),
    /// Run a pipeline on a video, images or a test pattern.
    Run(run::Args),
    /// Run a recorded event again, and tell what comes out otherwise than it did.
    Replay(replay::Args),
    /// Restore pictures or a video with one network: dehaze, deblur.
    Restore(restore::Args),
    /// Check a pipeline file: every mistake at once, with its place. Needs no camera, GPU or engine.
    Check(check::Args),
    /// Build and check a pipeline's engines ahead of time, so that it starts at once.
    Warm(warm::Args),
    /// Measure a pipeline: percentiles per stage and end to end, over repeated runs.
    Bench(bench::Args),
    /// Run a site for some time, at its rate or overloaded, and judge it: memory, accounting, ages, fair shares.
    Soak(soak::Args),
    /// What this machine can run, what is missing, and how to get it.
    Doctor(doctor::Args),
    /// Fold a training checkpoint (or an ONNX file in training form) into one proven ONNX model.
    Fuse(fuse::Args),
    /// Bring a model to int8 or fp16, calibrated and judged on your frames; refused below the gate, with the figure.
    Quantize(quantize::Args),
    /// Measure on this machine what `auto` chooses: per model the fastest precision that passes, per pipeline the engine.
    Tune(tune::Args),
    /// Show what a checkpoint or a model holds: tensors, layers, parameters, contract, proof.
    Inspect(inspect::Args),
    /// Run a model's proof again: its golden self-check, or the comparison with its checkpoint.
    Verify(verify::Args),
    /// Write a training checkpoint of a known network with weights made up from a seed (for benchmarks and tests).
    Init(init::Args),
}

fn main() -> ExitCode {
    end_quietly_on_closed_pipe();
    let cli = Cli::parse();
    let outcome = match cli.command {
        Command::Demo(args) => demo::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Replay(args) => return replay::run(&args).unwrap_or_else(|e| failed(&e)),
        Command::Restore(args) => restore::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Warm(args) => warm::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Soak(args) => soak::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Fuse(args) => fuse::run(&args),
        Command::Quantize(args) => quantize::run(&args),
        Command::Tune(args) => tune::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Init(args) => init::run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => failed(&e),
    }
}

fn failed(e: &Error) -> ExitCode {
    eprintln!("error: {e}");
    ExitCode::from(if e.kind() == ErrorKind::InvalidConfig { 2 } else { 1 })
}

/// `tapetum inspect FILE | head` ends the program without a word, as other programs do.
fn end_quietly_on_closed_pipe() {
    #[cfg(unix)]
    // SAFETY: sets a signal's disposition before any thread exists; SIG_DFL is always valid.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
    }
}

/// Prints one JSON object on standard output.
fn print_json(value: &serde_json::Value) -> Result<()> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|e| tapetum_runtime::Error::internal(format!("the report is not JSON: {e}")))?;
    println!("{text}");
    Ok(())
}
