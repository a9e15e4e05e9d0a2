//! From a pipeline file to loaded stages: which engine runs the models, with how many threads.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
};

use sha2::{Digest, Sha256};
use tapetum_models::fuse::Step;
use tapetum_runtime::{
    Error, ErrorKind, Result,
    backend::{self, Backend, Precision},
};

pub use crate::plan::Plan;
use crate::{
    Decision, Item, ModelInfo, PassedOver, RunInfo, StageInfo,
    config::{Choice, PipelineFile, PrecisionChoice, StageSpec},
    engine_cache::Event,
    flow::{Lane, Policy},
    hub::Hub,
    load::{self, Loaded, Ran},
    loader::{Loader, Stock},
    models::{self, OnDisk},
    prepare::{self, hex},
    recorder::Recorder,
    runner::Runner,
    tune::{self, Recalled},
};

/// What the caller decides over the pipeline file's head.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Engine to use instead of the file's.
    pub engine: Option<Choice>,
    /// Engines where neither this nor the file says any; else the build's first.
    pub usual: Option<Choice>,
    /// Precision instead of the file's.
    pub precision: Option<PrecisionChoice>,
    /// Workers instead of the file's.
    pub workers: Option<usize>,
    /// Threads inside each run of a model instead of the file's.
    pub threads: Option<usize>,
    /// Queue policy instead of the file's.
    pub queue: Option<Policy>,
    /// Where fused checkpoints and built engines are kept; [`crate::prepare::cache_dir`] if `None`.
    pub cache: Option<PathBuf>,
    /// By model, what is told of its inputs; none outside of calibration.
    pub recorders: Vec<Arc<Recorder>>,
    /// Shares the models with the other pipelines that are loaded through it; each has its own if `None`.
    pub hub: Option<Arc<Hub>>,
}

impl Options {
    /// The folder for what is kept.
    ///
    /// # Errors
    /// As [`prepare::cache_dir`].
    pub(crate) fn cache(&self) -> Result<PathBuf> {
        self.cache.clone().map_or_else(prepare::cache_dir, Ok)
    }
}

/// Told while a pipeline is put together.
pub enum Progress<'a> {
    /// A checkpoint is being fused: the model's name and how far it is.
    Fusing(&'a str, Step<'a>),
    /// A checkpoint was fused and proven just now.
    Fused(&'a str, &'a tapetum_models::fuse::Fused),
    /// A model is being loaded by an engine.
    Loading(&'a str, &'static str),
    /// What becomes of an engine that is built or taken from the cache: the model's name, the engine's, and what.
    Engine(&'a str, &'static str, Event<'a>),
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
    let choice = choice(file, options);
    any_is_there(&choice)?;
    let precision = options.precision.or(file.precision);
    let lower = precision == Some(PrecisionChoice::Auto);
    let tuned = lower || choice == Choice::Auto;
    let mut models = models::on_disk(file, options.cache.as_deref(), tell)?;
    let mut assembly =
        Assembly { file, options, plan, source, passed_over: Vec::new(), decisions: Vec::new() };
    if precision == Some(PrecisionChoice::Fp32) {
        tune::in_fp32(&mut models);
    }
    if tuned {
        let why = match tune::recall(file, &choice, lower, &plan, &models, &options.cache()?) {
            Ok(Recalled { name, engine, models, decisions }) => {
                assembly.decisions = decisions;
                // What was tuned for this engine was not judged on another: it has no successor.
                match assembly.on(engine, &[], &models, tell) {
                    Ok(pipeline) => return Ok(pipeline),
                    Err(e) if is_passed_over(&e) => format!("{name} cannot run what was chosen: {e}"),
                    Err(e) => return Err(e),
                }
            }
            Err(why) => why,
        };
        assembly.untuned(&why, &models);
        if lower {
            tune::in_fp32(&mut models);
        }
    }
    let engines = choice.names().iter().map(|name| backend::by_name(name)).collect::<Result<Vec<_>>>()?;
    for (at, name) in choice.names().iter().enumerate() {
        // Only who gave a list has named a successor.
        let others = if choice == Choice::Auto { &[] } else { &engines[at + 1..] };
        match assembly.on(engines[at], others, &models, tell) {
            Ok(pipeline) => return Ok(pipeline),
            Err(e) if is_passed_over(&e) => {
                assembly.passed_over.push(PassedOver { engine: name.clone(), why: e.to_string() });
            }
            Err(e) => return Err(e),
        }
    }
    Err(none_can(&assembly.passed_over))
}

/// Whether it is the engine that cannot, so that the next may.
fn is_passed_over(e: &Error) -> bool {
    matches!(e.kind(), ErrorKind::Environment | ErrorKind::Unsupported)
}

/// The engines asked for.
pub(crate) fn choice(file: &PipelineFile, options: &Options) -> Choice {
    let default = || Choice::Exactly(backend::BACKENDS.first().map_or("", |b| b.name()).to_owned());
    let said = options.engine.as_ref().or(file.engine.as_ref()).or(options.usual.as_ref());
    said.cloned().unwrap_or_else(default)
}

/// Told before any model is fused, which takes its time.
pub(crate) fn any_is_there(choice: &Choice) -> Result<()> {
    let mut missing = Vec::new();
    for name in choice.names() {
        match backend::by_name(name)?.find() {
            Ok(_) => return Ok(()),
            Err(e) => missing.push(PassedOver { engine: name.clone(), why: e.to_string() }),
        }
    }
    Err(none_can(&missing))
}

pub(crate) fn none_can(passed_over: &[PassedOver]) -> Error {
    let tried: Vec<String> = passed_over.iter().map(|p| format!("{}: {}", p.engine, p.why)).collect();
    let message = match tried.as_slice() {
        [only] => only.clone(),
        _ => format!("none of the engines asked for can run this pipeline:\n  {}", tried.join("\n  ")),
    };
    Error::new(ErrorKind::Environment, message)
}

/// A pipeline that is being put together.
struct Assembly<'a, 'o> {
    file: &'a PipelineFile,
    options: &'o Options,
    plan: Plan,
    source: &'o str,
    passed_over: Vec<PassedOver>,
    /// By model; none where nothing was left to a tuning.
    decisions: Vec<Decision>,
}

impl<'a> Assembly<'a, '_> {
    /// No tuning holds, for the reason `why`.
    fn untuned(&mut self, why: &str, models: &[OnDisk]) {
        let why = format!("{why}; to measure: {}", tune::command(self.file, self.options, &self.plan));
        let one =
            |model: &OnDisk| Decision { tuned: None, why: why.clone(), fp32_sha256: model.sha256.clone() };
        self.decisions = models.iter().map(one).collect();
    }

    /// Loads `models` on `engine`; `others` stand by.
    fn on(
        &self,
        engine: &'static dyn Backend,
        others: &[&'static dyn Backend],
        models: &[OnDisk],
        tell: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Pipeline<'a>> {
        let stock = Stock::new(self.file, models.to_vec(), self.options.cache.as_deref());
        let loader = Loader::new(engine, stock.clone(), false, tell)?;
        let recorders = &self.options.recorders;
        let loaded = load::load(
            self.file,
            &loader,
            others,
            &stock,
            &self.plan,
            self.options.hub.as_ref(),
            recorders,
            tell,
        )?;
        self.finish(engine, models, loaded)
    }

    fn finish(
        &self,
        engine: &'static dyn Backend,
        models: &[OnDisk],
        loaded: Loaded<'a>,
    ) -> Result<Pipeline<'a>> {
        let mut digest = Sha256::new();
        digest.update(&self.file.text);
        for model in models {
            digest.update(&model.sha256);
            if let Some(precision) = model.precision.filter(|p| *p != Precision::Fp32) {
                digest.update(precision.name());
            }
        }
        let engine_version = engine.probe()?;
        let stage = |spec: &StageSpec| StageInfo {
            name: spec.name.clone(),
            kind: spec.kind.name,
            labels: spec.labels.clone(),
            model: spec.model.map(|at| {
                let network = &models[at].contract.network;
                let Ran { nodes, precision, origin } = loaded.ran[at].clone().unwrap_or_default();
                let variant = network.variant.as_ref().map(|v| format!(" {v}")).unwrap_or_default();
                let decision = self.decisions.get(at).cloned();
                let untuned = decision.as_ref().is_some_and(|d| d.tuned.is_none());
                let note = if untuned { " (untuned)" } else { "" };
                ModelInfo {
                    sha256: models[at].sha256.clone(),
                    network: format!("{}{variant}", network.name),
                    engine: format!("{}/{}{note}", engine.full_name(), precision),
                    engine_version: engine_version.clone(),
                    nodes,
                    origin,
                    passed_over: self.passed_over.clone(),
                    decision,
                }
            }),
        };
        let info = RunInfo {
            pipeline: self.file.name.clone(),
            digest: hex(&digest.finalize()),
            source: self.source.to_owned(),
            stages: self.file.stages.iter().map(stage).collect(),
            ..RunInfo::default()
        };
        Ok(Pipeline { info, plan: self.plan, stages: loaded.stages })
    }
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
