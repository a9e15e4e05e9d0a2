//! `tapetum bench`
//!
//! | File | Measures |
//! |---|---|
//! | `run` | one configuration, as it would run |
//! | `matrix` | engines, precisions and threads beside each other |

mod matrix;
mod run;

use std::path::PathBuf;

use clap::Args as ClapArgs;
use tapetum::{calibrate, matrix::by_threads_asked_for, tune};
use tapetum_runtime::Result;

use crate::play;

/// Arguments of `tapetum bench`.
#[derive(ClapArgs)]
pub struct Args {
    #[command(flatten)]
    pipeline: play::PipelineArgs,
    /// Video file, image folder or glob, or synthetic:KIND.
    #[arg(short, long, value_name = "SRC")]
    source: String,
    /// Runs that are measured, after one that is not.
    #[arg(short, long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1000))]
    runs: u16,
    #[command(flatten)]
    engine: play::EngineArgs,
    #[command(flatten)]
    matrix: MatrixArgs,
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
}

/// Flags of the comparison.
#[derive(ClapArgs)]
#[command(next_help_heading = "Comparing engines, precisions and threads")]
struct MatrixArgs {
    /// Compare these engines, model by model and as a whole; all: every one that can run here.
    #[arg(long, value_name = "all|ENGINE,ENGINE…", conflicts_with_all = ["engine", "precision", "threads", "workers", "queue"])]
    engines: Option<String>,
    /// Only these precisions, for example fp32,int8; otherwise all that an engine has.
    #[arg(long, value_name = "PRECISION,…", value_delimiter = ',', requires = "engines",
          value_parser = clap::builder::PossibleValuesParser::new(tune::PRECISIONS))]
    precisions: Vec<String>,
    /// Threads inside a run, each in turn, for example 1,2,4; otherwise what a run would give each model.
    #[arg(long, value_name = "N,…", value_delimiter = ',', requires = "engines",
          value_parser = clap::value_parser!(u16).range(1..=256))]
    thread_counts: Vec<u16>,
    /// Inputs kept of each model; half of them calibrate, the other half judges and is timed.
    #[arg(long, value_name = "N", default_value_t = calibrate::USUAL as u16, requires = "engines",
          value_parser = clap::value_parser!(u16).range(2..=4096))]
    samples: u16,
    /// Runs of each candidate that are timed.
    #[arg(long, value_name = "N", default_value_t = tune::USUAL_ROUNDS as u16, requires = "engines",
          value_parser = clap::value_parser!(u16).range(1..=10_000))]
    rounds: u16,
    /// Folder for bench.json, bench.md and bench.svg.
    #[arg(short, long, value_name = "DIR", requires = "engines")]
    out: Option<PathBuf>,
}

pub fn run(args: &Args) -> Result<()> {
    let mut file = args.pipeline.read()?;
    match &args.matrix.engines {
        Some(engines) => {
            by_threads_asked_for(&mut file);
            matrix::run(args, &file, engines)
        }
        None => run::run(args, &file),
    }
}
