//! From a pipeline file to loaded stages: which engine runs the models, with how many threads.

use std::{path::PathBuf, sync::Mutex};

use sha2::{Digest, Sha256};
use tapetum_models::fuse::Step;
use tapetum_runtime::{
    Error, ErrorKind, Result,
    backend::{self, Backend},
};

pub use crate::plan::Plan;
use crate::{
    Item, ModelInfo, PassedOver, RunInfo, StageInfo,
    config::{Choice, PipelineFile, StageSpec},
    flow::{Lane, Policy},
    load::{self, Loaded, OnDisk, Ran},
    prepare::{self, hex},
    runner::Runner,
};

/// What the caller decides over the pipeline file's head.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Engine to use instead of the file's.
    pub engine: Option<Choice>,
    /// Workers instead of the file's.
    pub workers: Option<usize>,
    /// Threads inside each run of a model instead of the file's.
    pub threads: Option<usize>,
    /// Queue policy instead of the file's.
    pub queue: Option<Policy>,
    /// Where fused checkpoints are kept; [`prepare::cache_dir`] if `None`.
    pub cache: Option<PathBuf>,
}

/// Told while a pipeline is put together.
pub enum Progress<'a> {
    /// A checkpoint is being fused: the model's name and how far it is.
    Fusing(&'a str, Step<'a>),
    /// A checkpoint was fused and proven just now.
    Fused(&'a str, &'a tapetum_models::fuse::Fused),
    /// A model is being loaded by an engine.
    Loading(&'a str, &'static str),
}

/// A pipeline whose models are loaded.
pub struct Pipeline<'a> {
    /// Names, labels and provenance.
    pub info: RunInfo,
    /// How many workers and threads were planned.
    pub plan: Plan,
    pub(crate) stages: Vec<Vec<Mutex<Runner<'a>>>>,
}

/// Prepares and loads the models of `file` and builds its stages.
///
/// # Errors
/// The engine asked for cannot run the models: [`ErrorKind::Environment`] or [`ErrorKind::Unsupported`] with the reason
/// of every engine that was tried; [`ErrorKind::ProofFailed`] if a model does not give what it gave when it was made.
pub fn assemble<'a>(
    file: &'a PipelineFile,
    options: &Options,
    source: &str,
    live: bool,
    tell: &mut dyn FnMut(Progress<'_>),
) -> Result<Pipeline<'a>> {
    let plan = Plan::new(file, options, live);
    let default = Choice::Exactly(backend::BACKENDS.first().map_or("", |b| b.name()).to_owned());
    let choice = options.engine.as_ref().or(file.engine.as_ref()).unwrap_or(&default);
    any_is_there(choice)?;
    let cache = match &options.cache {
        Some(cache) => cache.clone(),
        None if file.models.iter().any(|m| m.is_checkpoint) => prepare::cache_dir()?,
        None => PathBuf::new(),
    };
    let mut models = Vec::new();
    for model in &file.models {
        let prepared =
            prepare::prepare(model, &cache, &mut |step| tell(Progress::Fusing(&model.name, step)))?;
        if let Some(fused) = &prepared.fused {
            tell(Progress::Fused(&model.name, fused));
        }
        models.push(OnDisk::read(prepared.path, model)?);
    }
    let mut passed_over = Vec::new();
    for name in choice.names() {
        let engine = backend::by_name(name)?;
        match load::load(file, engine, &plan, &models, tell) {
            Ok(loaded) => return finish(file, engine, plan, &models, loaded, passed_over, source),
            Err(e) if matches!(e.kind(), ErrorKind::Environment | ErrorKind::Unsupported) => {
                passed_over.push(PassedOver { engine: name.clone(), why: e.to_string() });
            }
            Err(e) => return Err(e),
        }
    }
    Err(none_can(&passed_over))
}

/// Told before any model is fused, which takes its time.
fn any_is_there(choice: &Choice) -> Result<()> {
    let mut missing = Vec::new();
    for name in choice.names() {
        match backend::by_name(name)?.find() {
            Ok(_) => return Ok(()),
            Err(e) => missing.push(PassedOver { engine: name.clone(), why: e.to_string() }),
        }
    }
    Err(none_can(&missing))
}

fn none_can(passed_over: &[PassedOver]) -> Error {
    let tried: Vec<String> = passed_over.iter().map(|p| format!("{}: {}", p.engine, p.why)).collect();
    let message = match tried.as_slice() {
        [only] => only.clone(),
        _ => format!("none of the engines asked for can run this pipeline:\n  {}", tried.join("\n  ")),
    };
    Error::new(ErrorKind::Environment, message)
}

fn finish<'a>(
    file: &'a PipelineFile,
    engine: &'static dyn Backend,
    plan: Plan,
    models: &[OnDisk],
    loaded: Loaded<'a>,
    passed_over: Vec<PassedOver>,
    source: &str,
) -> Result<Pipeline<'a>> {
    let mut digest = Sha256::new();
    digest.update(&file.text);
    models.iter().for_each(|m| digest.update(&m.sha256));
    let engine_version = engine.probe()?;
    let stage = |spec: &StageSpec| StageInfo {
        name: spec.name.clone(),
        kind: spec.kind.name,
        labels: spec.labels.clone(),
        model: spec.model.map(|at| {
            let network = &models[at].contract.network;
            let Ran { nodes, precision } = loaded.ran[at].clone().unwrap_or_default();
            let variant = network.variant.as_ref().map(|v| format!(" {v}")).unwrap_or_default();
            ModelInfo {
                sha256: models[at].sha256.clone(),
                network: format!("{}{variant}", network.name),
                engine: format!("{}/{}", engine.full_name(), precision.name()),
                engine_version: engine_version.clone(),
                nodes,
                passed_over: passed_over.clone(),
            }
        }),
    };
    let info = RunInfo {
        pipeline: file.name.clone(),
        digest: hex(&digest.finalize()),
        source: source.to_owned(),
        stages: file.stages.iter().map(stage).collect(),
        ..RunInfo::default()
    };
    Ok(Pipeline { info, plan, stages: loaded.stages })
}

impl Pipeline<'_> {
    /// How each stage may be run.
    pub(crate) fn lanes(&self) -> Vec<Lane> {
        // A stage with one instance although there are more workers is an ordered one.
        let lane = |instances: usize| Lane { instances, ordered: instances == 1 };
        self.stages.iter().map(|runners| lane(runners.len())).collect()
    }

    /// An item with a slot per stage.
    pub(crate) fn item(&self) -> Box<Item> {
        let blanks = self.stages.iter().filter_map(|runners| {
            let runner = runners.first()?.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            Some(runner.blank())
        });
        Box::new(Item::new(blanks))
    }
}
