//! From a pipeline file to loaded stages: which engine runs the models, with how many threads.

use std::{
    fs::File,
    io::{BufRead, BufReader, Seek},
    num::NonZero,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use sha2::{Digest, Sha256};
use tapetum_models::fuse::Step;
use tapetum_runtime::{
    Error, ErrorKind, Result,
    backend::{self, Backend, LoadOptions, ModelSource, Precision, Session},
    contract::{Contract, SizePolicy},
};

use crate::{
    Item, ModelInfo, PassedOver, RunInfo, StageInfo,
    config::{Choice, PipelineFile, StageSpec},
    flow::{Lane, Limits, Policy},
    prepare::{self, hex},
    runner::Runner,
    stage::{Engine, Net, Supply, engine::Post},
};

/// Most regions of one frame in one run of a model.
const BATCH: usize = 8;

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

/// Threads over the whole pipeline.
///
/// Files want frames per second: one worker per core, each running a whole model on its own frame, so that nothing
/// waits for the slowest thread of a layer. Cameras want a young result: two workers that share the cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What happens when frames come faster than they are worked on.
    pub policy: Policy,
    /// Frames worked on at once.
    pub workers: usize,
    /// Threads inside each run of a model.
    pub threads: usize,
    /// Frames that may wait.
    pub waiting: usize,
}

impl Plan {
    fn new(file: &PipelineFile, options: &Options, live: bool) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let by_source = if live { Policy::Latest } else { Policy::Block };
        let policy = options.queue.or(file.queue).unwrap_or(by_source);
        let usual = if policy == Policy::Block { cores } else { cores.min(2) };
        let workers = options.workers.or(file.workers).unwrap_or(usual).max(1);
        let threads = options.threads.or(file.threads).unwrap_or((cores / workers).max(1));
        let waiting = file.queue_size.unwrap_or(if policy == Policy::Block { 4 } else { 1 });
        Self { policy, workers, threads, waiting }
    }

    pub(crate) fn limits(&self) -> Limits {
        let unfinished = if self.policy == Policy::Block { 2 * self.workers } else { self.workers };
        Limits { waiting: self.waiting, unfinished, active: 2 * self.workers + 2 }
    }
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
        models.push(Arc::new(OnDisk::read(prepared.path, model)?));
    }
    let mut passed_over = Vec::new();
    let engines = choice.names().iter().map(|name| backend::by_name(name)).collect::<Result<Vec<_>>>()?;
    for (at, name) in choice.names().iter().enumerate() {
        let engine = engines[at];
        match load(file, &engines[at..], &plan, &models, tell) {
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

/// A model file, read but not loaded by an engine.
struct OnDisk {
    path: PathBuf,
    sha256: String,
    contract: Contract,
}

impl OnDisk {
    fn read(path: PathBuf, model: &crate::config::ModelFile) -> Result<Self> {
        let unreadable = |e: std::io::Error| {
            Error::new(ErrorKind::Environment, format!("{}: {e}", path.display())).caused_by(e)
        };
        let mut file = BufReader::new(File::open(&path).map_err(unreadable)?);
        let mut digest = Sha256::new();
        loop {
            let bytes = file.fill_buf().map_err(unreadable)?;
            if bytes.is_empty() {
                break;
            }
            digest.update(bytes);
            let read = bytes.len();
            file.consume(read);
        }
        file.rewind().map_err(unreadable)?;
        // A fused checkpoint carries its contract with the proof and the golden record.
        let carried = match model.is_checkpoint {
            true => Contract::from_onnx(&mut file).map_err(|e| e.at(path.display()))?,
            false => model.contract.clone(),
        };
        let contract = carried.ok_or_else(|| {
            Error::bad_file(format!("{} carries no contract; delete it and run again", path.display()))
        })?;
        Ok(Self { sha256: hex(&digest.finalize()), contract, path })
    }
}

/// What an engine made of a pipeline.
struct Loaded<'a> {
    stages: Vec<Vec<Mutex<Runner<'a>>>>,
    /// By model; none where no stage runs it.
    ran: Vec<Option<Ran>>,
}

/// How a model runs, as the engine told.
#[derive(Clone, Default)]
struct Ran {
    nodes: Vec<(String, usize)>,
    precision: Precision,
}

/// Every instance of every stage, on the first of `engines`; the others stand by.
fn load<'a>(
    file: &'a PipelineFile,
    engines: &[&'static dyn Backend],
    plan: &Plan,
    models: &[Arc<OnDisk>],
    tell: &mut dyn FnMut(Progress<'_>),
) -> Result<Loaded<'a>> {
    let (&engine, others) =
        engines.split_first().ok_or_else(|| Error::internal("no engine to load the models on"))?;
    engine.probe()?;
    let mut ran = vec![None; models.len()];
    let mut stages = Vec::new();
    for (index, spec) in file.stages.iter().enumerate() {
        // A stage that only one worker may be in gets the threads of all.
        let (instances, threads) =
            if is_ordered(spec) { (1, plan.threads * plan.workers) } else { (plan.workers, plan.threads) };
        let mut runners = Vec::with_capacity(instances);
        for _ in 0..instances {
            let place = |e: Error| e.at(format!("stage {:?}", spec.name));
            let post = spec.model.map(|_| Post::new(index));
            let net = match spec.model {
                None => None,
                Some(at) => {
                    tell(Progress::Loading(&file.models[at].name, engine.full_name()));
                    let options = LoadOptions {
                        threads: Some(threads),
                        engines: file.engines.clone(),
                        min_share: file.models[at].min_share,
                        ..LoadOptions::default()
                    };
                    let first = ran[at].is_none();
                    let loaded = session(engine, &models[at], options.clone(), first).map_err(place)?;
                    ran[at].get_or_insert_with(|| Ran {
                        nodes: loaded.placement().to_vec(),
                        precision: loaded.precision(),
                    });
                    let reads = spec.kind.reads;
                    let model = models[at].clone();
                    let supply = Supply {
                        proves: model.contract.golden.is_some(),
                        load: Box::new(move |engine| session(engine, &model, options.clone(), true)),
                        engine,
                        others: others.to_vec(),
                        batch,
                    };
                    let post = post.clone().unwrap_or_else(|| Post::new(index));
                    let engine = Engine::supplied(loaded, supply, post);
                    Some(Net::new(engine, &models[at].contract, |o| reads(&o.kind)).map_err(place)?)
                }
            };
            runners.push(Mutex::new(Runner::new(spec, index, spec.plan.build(net).map_err(place)?, post)));
        }
        stages.push(runners);
    }
    Ok(Loaded { stages, ran })
}

/// Most regions in one run; tract plans for each batch size anew, so it gets one at a time.
fn batch(engine: &dyn Backend) -> usize {
    if engine.name() == "tract" { 1 } else { BATCH }
}

fn is_ordered(spec: &StageSpec) -> bool {
    spec.every > 1 || spec.plan.ordered()
}

/// Loads `model` and, if it is the first of its instances, holds it against its golden record.
fn session(
    engine: &'static dyn Backend,
    model: &OnDisk,
    mut options: LoadOptions,
    check: bool,
) -> Result<Box<dyn Session>> {
    let input = &model.contract.input;
    options.shapes = match input.size {
        SizePolicy::Fixed { height, width } if engine.name() == "tract" => {
            Some(vec![vec![1, input.colour.channels(), height, width]])
        }
        _ => None,
    };
    let place = |e: Error| e.at(format!("{} on {}", model.path.display(), engine.full_name()));
    let mut session = engine.load(ModelSource::Path(&model.path), &options).map_err(place)?;
    if let Some(golden) = model.contract.golden.as_ref().filter(|_| check) {
        golden.check(&mut *session).map_err(place)?;
    }
    Ok(session)
}

fn finish<'a>(
    file: &'a PipelineFile,
    engine: &'static dyn Backend,
    plan: Plan,
    models: &[Arc<OnDisk>],
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
