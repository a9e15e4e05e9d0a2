//! `tapetum restore`

mod compare;
mod output;
mod panels;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use clap::Args as ClapArgs;
use serde_json::json;
use tapetum::config::{Choice, PipelineFile, PrecisionChoice};
use tapetum::source;
use tapetum::{Restorations, Summary};
use tapetum_runtime::{Error, Result};

use crate::{outcome, play, print_json, table};
use compare::{Comparison, Truth};
use output::{Output, Target};

/// Arguments of `tapetum restore`.
#[derive(ClapArgs)]
pub struct Args {
    /// A picture, a folder or glob of pictures, or a video.
    input: String,
    /// The network: an ONNX file with a contract, or a training checkpoint, which is fused and proven first.
    #[arg(long, value_name = "MODEL")]
    net: PathBuf,
    /// Contract file for a network that brings none.
    #[arg(long, value_name = "FILE.toml")]
    contract: Option<PathBuf>,
    /// Where to write: a picture, a folder or an .avi, as the input is. [default: beside the input, with -restored]
    #[arg(short, long, value_name = "OUT")]
    out: Option<PathBuf>,
    /// What it should have become: a picture, a folder with the same names, or a video. Prints PSNR and SSIM.
    #[arg(long, value_name = "TRUTH")]
    compare: Option<PathBuf>,
    /// Write input and result (and the truth, if it is there) beside each other.
    #[arg(long)]
    side_by_side: bool,
    /// Most memory for a run of the network, in MiB; larger pictures are restored in tiles. [default: 1024]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    memory_mib: Option<u32>,
    /// Restore in tiles of this side, in pixels.
    #[arg(long, value_name = "SIDE", value_parser = clap::value_parser!(u32).range(16..=1 << 14))]
    tile: Option<u32>,
    /// Pixels that neighbouring tiles have in common. [default: 64, at most a quarter of a tile]
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(0..=1 << 13))]
    overlap: Option<u32>,
    /// Leave tiles as they are whose Laplacian has at least this variance.
    #[arg(long, value_name = "VARIANCE")]
    skip_sharp: Option<f32>,
    /// Leave tiles as they are where no 8×8 block changed by more than this since the frame before.
    #[arg(long, value_name = "STEPS")]
    skip_still: Option<f32>,
    /// A static camera: use a tile's result again while no sample differs by more than this.
    #[arg(long, value_name = "STEPS")]
    reuse_within: Option<u8>,
    #[command(flatten)]
    engine: play::EngineArgs,
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<()> {
    if args.engine.engine == Some(Choice::Auto) || args.engine.precision == Some(PrecisionChoice::Auto) {
        return Err(Error::config(
            "auto is chosen by `tapetum tune`, which takes a pipeline file: write one with a stage of kind \"restore\"",
        ));
    }
    let file = PipelineFile::parse(pipeline(args), Path::new("restore"))?;
    let source = source::open(&args.input)?;
    let info = source.info().clone();
    let target = Target::new(&args.input, args.out.as_deref())?;
    let comparison = match &args.compare {
        None => None,
        Some(truth) => Some(Arc::new(Mutex::new(Comparison::new(Truth::open(truth, target.inputs())?)))),
    };
    let mut options = args.engine.options();
    // One picture at a time with all cores: that needs the least memory.
    options.workers = options.workers.or(Some(1));
    let mut pipeline = play::load(&file, &options, &info, args.json)?;
    pipeline.info.pipeline = "restore".to_owned();
    let out = target.shown();
    let sink = Output::new(target, args.side_by_side, comparison.clone())?;
    if !args.json {
        print!("{}", play::describe(&pipeline, &info));
    }
    let outcome = play::play(&pipeline, source, vec![Box::new(sink)], args.json)?;
    let compared = comparison.map(|c| c.lock().unwrap_or_else(std::sync::PoisonError::into_inner).rows());
    let model = pipeline.info.stages.first().and_then(|s| s.model.as_ref());
    let done = outcome.summary.restored.first().copied().unwrap_or_default();
    if args.json {
        print_json(&json!({
            "network": model.map(|m| &m.network),
            "engine": model.map(|m| &m.engine),
            "out": out,
            "failed": outcome.summary.frames.failed,
            "unreadable": outcome.summary.unreadable,
            "seconds": outcome.summary.elapsed.as_secs_f64(),
            "restored": outcome::restored_json(done),
            "compared": compared.as_deref().map(compare::to_json),
        }))?;
    } else {
        tell(&outcome.summary, done, &out);
        if let Some(rows) = &compared {
            println!("\n{}", compare::to_text(rows));
        }
    }
    outcome::verdict(&outcome, outcome.summary.frames.delivered)?;
    let failed: u64 = outcome.summary.frames.failed.values().sum();
    if failed > 0 {
        return Err(Error::bad_input(format!("{failed} of the frames were not restored; see above")));
    }
    Ok(())
}

/// The pipeline that the arguments speak of, as a pipeline file would say it.
fn pipeline(args: &Args) -> String {
    let is_model = args.net.extension().is_some_and(|e| e.eq_ignore_ascii_case("onnx"));
    let key = if is_model { "file" } else { "checkpoint" };
    // JSON's strings are TOML's basic strings.
    let quoted = |path: &Path| json!(path.to_string_lossy()).to_string();
    let mut text = format!("[pipeline]\nname = \"restore\"\n[model.net]\n{key} = {}\n", quoted(&args.net));
    if let Some(contract) = &args.contract {
        text.push_str(&format!("contract = {}\n", quoted(contract)));
    }
    text.push_str("[[stage]]\nname = \"restored\"\nkind = \"restore\"\nmodel = \"net\"\n");
    let mut key = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            text.push_str(&format!("{name} = {value}\n"));
        }
    };
    key("memory_mib", args.memory_mib.map(|v| v.to_string()));
    key("tile", args.tile.map(|v| v.to_string()));
    key("overlap", args.overlap.map(|v| v.to_string()));
    key("skip_sharp", args.skip_sharp.map(|v| format!("{v:?}")));
    key("skip_still", args.skip_still.map(|v| format!("{v:?}")));
    key("reuse_within", args.reuse_within.map(|v| v.to_string()));
    text
}

fn tell(summary: &Summary, done: Restorations, out: &str) {
    let seconds = summary.elapsed.as_secs_f64();
    println!("{} restored in {seconds:.1} s → {out}", count(done.frames, "frame"));
    for why in &summary.unreadable {
        println!("  unreadable: {why}");
    }
    println!("{}", outcome::spared(done));
}

fn count(n: u64, what: &str) -> String {
    format!("{} {what}{}", table::thousands(n), if n == 1 { "" } else { "s" })
}
