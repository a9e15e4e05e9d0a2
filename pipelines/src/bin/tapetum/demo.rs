//! `tapetum demo`

use std::path::{Path, PathBuf};

use clap::Args as ClapArgs;
use tapetum::config::PipelineFile;
use tapetum::source;
use tapetum_runtime::{Error, Result, backend};

use crate::{outcome, play};

/// What must be said wherever the demo's results are shown.
const NOTICE: &str = "The demo networks were trained on synthetic frames only: not for clinical use.";

/// Arguments of `tapetum demo`.
#[derive(ClapArgs)]
pub struct Args {
    /// Folder for the results; created if need be.
    #[arg(short, long, value_name = "DIR", default_value = "out")]
    out: PathBuf,
    /// Folder with tf-collab.toml and demo/. [default: pipelines, found from here upwards or where this was built]
    #[arg(long, value_name = "DIR")]
    pipelines: Option<PathBuf>,
    #[command(flatten)]
    engine: play::EngineArgs,
}

pub fn run(args: &Args) -> Result<()> {
    let folder = match &args.pipelines {
        Some(folder) => folder.clone(),
        None => find()?,
    };
    println!("TF-Collab: break-up time of the tear film, from an eye video.");
    println!("{NOTICE}\n");
    let file = PipelineFile::read(&folder.join("tf-collab.toml"))?;
    let source = source::open(&folder.join("demo").join("dev_a.mp4").to_string_lossy())?;
    let info = source.info().clone();
    let mut pipeline = play::load(&file, &args.engine.options(), &info, false)?;
    pipeline.info.notice = Some(NOTICE.to_owned());
    let names = ["jsonl", "masks", "overlay", "report"].map(str::to_owned);
    let sinks = play::sinks(&names, &args.out, &mut pipeline)?;
    print!("{}", play::describe(&pipeline, &info));
    let outcome = play::play(&pipeline, source, sinks, false)?;
    outcome::print(&outcome.summary, &pipeline);
    println!();
    for path in play::written(&args.out) {
        println!("wrote {}", path.display());
    }
    println!("{NOTICE}");
    let embedded =
        pipeline.info.stages.iter().filter_map(|s| s.model.as_ref()).any(|m| m.engine.starts_with("tract"));
    if embedded && args.engine.engine.is_none() && backend::by_name("ort").is_ok_and(|b| b.probe().is_ok()) {
        println!("ONNX Runtime is on this machine: `tapetum demo --engine ort` is several times faster.");
    }
    outcome::verdict(&outcome, outcome.summary.frames.delivered)
}

/// The folder `pipelines`: below the current folder or one above it, beside the program, or where this was built.
fn find() -> Result<PathBuf> {
    let complete = |folder: &PathBuf| folder.join("tf-collab.toml").is_file() && folder.join("demo").is_dir();
    let here = std::env::current_dir().unwrap_or_default();
    let above =
        std::iter::once(PathBuf::from("pipelines")).chain(here.ancestors().map(|a| a.join("pipelines")));
    let program = std::env::current_exe().ok();
    let beside = program.iter().filter_map(|p| Some(p.parent()?.parent()?.join("share/tapetum/pipelines")));
    let built = std::iter::once(Path::new(env!("CARGO_MANIFEST_DIR")).to_owned());
    above.chain(beside).chain(built).find(complete).ok_or_else(|| {
        Error::config(
            "no folder `pipelines` with tf-collab.toml and demo/ from here upwards; say --pipelines DIR",
        )
    })
}
