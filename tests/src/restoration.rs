//! Pipelines of one restoration, for the suites and measurements that need to see each of its pictures.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use tapetum::assemble::{Options, assemble};
use tapetum::config::{Choice, PipelineFile};
use tapetum::executor::{Outcome, Run, run};
use tapetum::source;
use tapetum::{Fate, SlotState};
use tapetum_models::fuse::{FuseOptions, fuse};
use tapetum_runtime::clock::Monotonic;
use tapetum_runtime::finding::{Finding, Restored};
use tapetum_runtime::{Error, Result};

use crate::goldens;

/// The golden checkpoint `net`, fused into `folder`.
///
/// # Panics
/// If the golden is not there: the suite cannot mean anything then.
pub fn fused(net: &str, folder: &Path) -> PathBuf {
    let files = ["checkpoint.pth", "checkpoint.safetensors"].map(|f| goldens::folder().join(net).join(f));
    let checkpoint = files.iter().find(|path| path.is_file()).expect("a golden checkpoint");
    let model = folder.join(format!("{net}.onnx"));
    fuse(checkpoint, &model, &FuseOptions::default(), &mut |_| {}).expect("goldens fuse");
    model
}

/// A pipeline that restores with `model`; `keys` are further lines of its stage.
///
/// # Errors
/// Every mistake in `keys`.
pub fn pipeline(model: &Path, keys: &str) -> Result<PipelineFile> {
    let text = format!(
        "[pipeline]\nname = \"restore\"\nworkers = 1\n[model.net]\nfile = {model:?}\n\
         [[stage]]\nname = \"clear\"\nkind = \"restore\"\nmodel = \"net\"\n{keys}\n"
    );
    PipelineFile::parse(text, Path::new("restore.toml"))
}

/// What a run restored.
pub struct Ran {
    /// Of every delivered frame, in order; the error's text where it failed.
    pub frames: Vec<std::result::Result<Restored, String>>,
    /// Everything else.
    pub outcome: Outcome,
}

/// Runs `file` on the source `spec` with `engine`.
///
/// # Errors
/// The pipeline cannot be put together.
pub fn restore(file: &PipelineFile, engine: &str, spec: &str) -> Result<Ran> {
    let options = Options { engine: Some(Choice::Exactly(engine.to_owned())), ..Options::default() };
    let pipeline = assemble(file, &options, spec, false, &mut |_| {})?;
    let mut frames = Vec::new();
    let outcome = run(
        &pipeline,
        Run {
            source: source::open(spec)?,
            sinks: Vec::new(),
            clock: &Monotonic::start(),
            stop: &AtomicBool::new(false),
            watch: &mut |item, _| {
                frames.push(match (&item.fate, &item.slots[0].state, &item.slots[0].finding) {
                    (Fate::Failed { why, .. }, _, _) => Err(why.clone()),
                    (Fate::Ok, SlotState::Done, Finding::Image(restored)) => Ok(restored.clone()),
                    (_, state, _) => Err(format!("{state:?}")),
                });
            },
        },
    );
    match &outcome.source_error {
        Some(e) => Err(Error::internal(format!("{spec}: {e}"))),
        None => Ok(Ran { frames, outcome }),
    }
}
