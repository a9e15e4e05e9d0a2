//! `tapetum run`

use std::path::PathBuf;

use clap::Args as ClapArgs;
use tapetum::source;
use tapetum_runtime::{Error, Result};

use crate::{outcome, play};

/// Arguments of `tapetum run`.
#[derive(ClapArgs)]
pub struct Args {
    #[command(flatten)]
    pipeline: play::PipelineArgs,
    /// Video file, image folder or glob, synthetic:KIND, rtsp://CAMERA, or loop:FILE.
    #[arg(short, long, value_name = "SRC")]
    source: String,
    /// Folder for the results; created if need be.
    #[arg(short, long, value_name = "DIR", default_value = "out")]
    out: PathBuf,
    /// What to write; may be given several times. [default: jsonl, masks]
    #[arg(long = "sink", value_name = "SINK")]
    sinks: Vec<String>,
    #[command(flatten)]
    engine: play::EngineArgs,
    /// Print the summary as one JSON object instead of text.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<()> {
    let file = args.pipeline.read()?;
    let source = source::open(&args.source)?;
    let mut names = args.sinks.clone();
    if names.is_empty() {
        names = ["jsonl", "masks"].map(str::to_owned).to_vec();
    }
    let info = source.info().clone();
    let mut pipeline = play::load(&file, &args.engine.options(), &info, args.json)?;
    let sinks = play::sinks(&names, &args.out, &mut pipeline)?;
    if !args.json {
        print!("{}", play::describe(&pipeline, &info));
        source.remarks().iter().for_each(|remark| println!("  camera: {remark}"));
    }
    let outcome = play::play(&pipeline, source, sinks, args.json)?;
    if args.json {
        let summary = args.out.join("summary.json");
        match std::fs::read_to_string(&summary) {
            Ok(text) => println!("{}", text.trim_end()),
            Err(e) => {
                return Err(Error::config(format!(
                    "{}: {e}; --json needs the sink jsonl",
                    summary.display()
                )));
            }
        }
    } else {
        outcome::print(&outcome.summary, &pipeline);
        for path in play::written(&args.out) {
            println!("wrote {}", path.display());
        }
        if outcome.summary.interrupted {
            println!("interrupted: what was delivered is complete");
        }
    }
    outcome::verdict(&outcome, outcome.summary.frames.delivered)
}
