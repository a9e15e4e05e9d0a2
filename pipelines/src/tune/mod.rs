//! The fastest precision that passes, per model, and the engine that needs the least time, on this machine.
//!
//! [`tune`] makes for each model what the engines here can run (fp32, bf16 or fp16 by an option, an int8 or fp16 file),
//! holds each on the very engine against fp32 on inputs that the model really got and that nothing was calibrated with,
//! times all of them in turn, and keeps every figure ([`tuned`]). What is chosen follows from the figures
//! ([`mod@choose`]), so a run that allows fewer engines or sets another gate chooses anew from the same measurement
//! ([`recall`]).
//!
//! | File | Holds |
//! |---|---|
//! | `engine` | what an engine runs with |
//! | `ladder` | which precisions an engine can be asked for |
//! | `files` | int8 and fp16 files of a model, in the cache |
//! | `measure` | candidates beside fp32, and their times |
//! | `memory` | what a session takes |
//! | `work` | multiply-accumulates of the inputs |
//! | `tuned` | everything measured, as it is kept |
//! | `choose` | from figures to a choice |
//! | `machine` | which machine timings belong to |
//! | `store` | where tunings are kept, and which of them holds |
//! | `recall` | what a run makes of them |

mod choose;
mod engine;
mod files;
mod ladder;
mod machine;
mod measure;
mod memory;
mod recall;
mod store;
pub mod tuned;
mod work;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, atomic::AtomicBool};

use tapetum_models::quantize;
use tapetum_runtime::{
    Error, Result, Tensor,
    backend::{self, Backend, EngineOptions, KeepEngines, Precision},
};

pub use choose::{Allowed, choose};
pub use ladder::PRECISIONS;
pub use machine::Machine;
pub(crate) use measure::Rounds;
pub(crate) use recall::{Recalled, command, in_fp32, recall};
use tuned::{EngineMeasured, ModelMeasured, Tuned, VERSION};

use crate::{
    assemble::{self, Options, Plan, Progress},
    calibrate::Recorded,
    config::PipelineFile,
    engine_cache::Event,
    load,
    loader::{Loader, Stock},
    models::{self, OnDisk},
    plan::Share,
};

/// Runs of each candidate that are usually timed.
pub const USUAL_ROUNDS: usize = 21;

/// Told while candidates are made and measured.
pub enum Step<'a> {
    /// Models are prepared.
    Preparing(Progress<'a>),
    /// The model of this name is brought to a smaller format.
    Quantizing(&'a str, Precision, quantize::Step<'a>),
    /// The model of this name is judged and timed on this engine in this precision.
    Measuring(&'a str, &'a str, &'a str),
}

/// How much is measured.
pub struct Extent<'a> {
    /// Runs of each candidate that are timed.
    pub rounds: usize,
    /// Only these precisions (the names of [`PRECISIONS`]); `None`: all that an engine has.
    pub precisions: Option<&'a [String]>,
    /// Threads inside a run, each in turn; empty: what a run of the pipeline would give each model.
    pub threads: &'a [usize],
    /// Set to end it; what was measured until then is not kept.
    pub stop: &'a AtomicBool,
}

/// Measures the models of `file`, which got `recorded` inputs (in their order), on every engine that `options` allow, and
/// keeps the figures in the cache. Returns them with the file they are in.
///
/// # Errors
/// No engine of those allowed can run here, a model cannot be prepared, the cache cannot be written, it was interrupted.
/// That a candidate cannot be made or does not run is no error: it is among the figures.
pub fn tune(
    file: &PipelineFile,
    options: &Options,
    source: &str,
    live: bool,
    recorded: &[Recorded],
    extent: &Extent<'_>,
    tell: &mut dyn FnMut(Step<'_>),
) -> Result<(Tuned, PathBuf)> {
    let Figures { engines, reference, models, .. } = figures(file, options, live, recorded, extent, tell)?;
    let choice = assemble::choice(file, options);
    let cache = options.cache()?;
    let mut tuned = Tuned {
        version: VERSION,
        tapetum: env!("CARGO_PKG_VERSION").to_owned(),
        date: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        pipeline: file.name.clone(),
        source: source.to_owned(),
        machine: Machine::this(),
        engine_options: engine_options(&file.engines),
        reference,
        engines,
        models: models.into_iter().map(|(model, _)| model).collect(),
        chosen: None,
    };
    let gate = |name: &str| gate_of(file, name);
    let allowed = Allowed { engines: choice.names(), lower: true, gate: &gate };
    tuned.chosen = choose(&tuned, &allowed).ok();
    let path = store::save(&tuned, &cache)?;
    Ok((tuned, path))
}

/// What was measured, on which engines.
pub(crate) struct Figures {
    pub engines: Vec<EngineMeasured>,
    /// Those of them that run here.
    pub there: Vec<Named>,
    /// What ran in fp32 as the reference.
    pub reference: String,
    /// In the order of the pipeline file, with the threads of each candidate.
    pub models: Vec<(ModelMeasured, Vec<usize>)>,
}

/// Measures as [`tune`], and keeps nothing but the files that were made.
pub(crate) fn figures(
    file: &PipelineFile,
    options: &Options,
    live: bool,
    recorded: &[Recorded],
    extent: &Extent<'_>,
    tell: &mut dyn FnMut(Step<'_>),
) -> Result<Figures> {
    let plan = Plan::new(file, options, live);
    let cache = options.cache()?;
    let choice = assemble::choice(file, options);
    assemble::any_is_there(&choice)?;
    let models = models::on_disk(file, options.cache.as_deref(), &mut |step| tell(Step::Preparing(step)))?;
    let stock = Stock::new(file, models.clone(), Some(&cache));
    let (engines, there) = engines(choice.names(), &file.engines)?;
    let reference = reference()?;
    let mut measured = Vec::with_capacity(models.len());
    for (at, model) in models.iter().enumerate() {
        let nothing = Recorded::default();
        let recorded = recorded.get(at).unwrap_or(&nothing);
        let share = share_of(file, at, &plan);
        let job = Job { file, at, model, stock: &stock, recorded, share, cache: &cache, extent };
        let name = &file.models[at].name;
        measured.push(job.measure(&there, reference, tell).map_err(|e| e.at(format!("model {name:?}")))?);
    }
    let reference = format!("{} ({})", reference.full_name(), reference.probe()?);
    Ok(Figures { engines, there, reference, models: measured })
}

/// The gate that `file` says for the model of this name.
pub fn gate_of(file: &PipelineFile, name: &str) -> Option<f64> {
    file.models.iter().find(|m| m.name == name)?.gate
}

/// The options of all engines but the precision, which is what is looked for.
fn engine_options(options: &EngineOptions) -> String {
    let mut options = options.clone();
    options.compute_in(Precision::Fp32);
    // What is kept of an engine does not change it.
    options.keep = KeepEngines::Auto;
    format!("{options:?}")
}

/// What a session of model `at` gets: as in the first stage that runs it.
fn share_of(file: &PipelineFile, at: usize, plan: &Plan) -> Share {
    let stage = file.stages.iter().find(|s| s.model == Some(at));
    stage.map_or(plan.share(), |stage| load::crew(stage, plan).1)
}

/// An engine, and how it was asked for.
pub(crate) type Named = (String, &'static dyn Backend);

/// Every engine of `names`, and those of them that run here. They are probed in this order: the first that is there
/// decides which ONNX Runtime is loaded, here as in a run.
fn engines(names: &[String], options: &EngineOptions) -> Result<(Vec<EngineMeasured>, Vec<Named>)> {
    let (mut told, mut there) = (Vec::new(), Vec::new());
    for name in names {
        let engine = backend::by_name(name)?;
        let probe = engine.probe();
        let why_not = probe.as_ref().err().map(ToString::to_string);
        let mut runs_with = BTreeMap::new();
        if why_not.is_none() {
            runs_with = engine::runs_with(engine, options);
            there.push((name.clone(), engine));
        }
        told.push(EngineMeasured { engine: name.clone(), engine_version: probe.ok(), runs_with, why_not });
    }
    Ok((told, there))
}

/// What calibrates and gives the reference: plain fp32 on the CPU, the faster engine where it is there.
fn reference() -> Result<&'static dyn Backend> {
    let there = |name: &str| backend::by_name(name).ok().filter(|engine| engine.probe().is_ok());
    let none = || Error::unsupported("this build has no engine for the CPU, so nothing can be judged");
    there("ort").or_else(|| there("tract")).ok_or_else(none)
}

/// One model to be measured.
struct Job<'a> {
    file: &'a PipelineFile,
    at: usize,
    model: &'a OnDisk,
    stock: &'a Arc<Stock>,
    recorded: &'a Recorded,
    share: Share,
    cache: &'a Path,
    extent: &'a Extent<'a>,
}

impl Job<'_> {
    fn measure(
        &self,
        engines: &[Named],
        reference: &'static dyn Backend,
        tell: &mut dyn FnMut(Step<'_>),
    ) -> Result<(ModelMeasured, Vec<usize>)> {
        let wanted = &self.file.models[self.at];
        let name = wanted.name.as_str();
        // Every second input calibrates, as `quantize` splits them; the others judge.
        let held_back: Vec<&[Tensor]> =
            self.recorded.inputs.iter().skip(1).step_by(2).map(Vec::as_slice).collect();
        let mut measured = ModelMeasured {
            name: name.to_owned(),
            sha256: self.model.sha256.clone(),
            runs: self.recorded.runs,
            judged: held_back.len(),
            threads: self.share.threads,
            macs: work::mean_macs(&self.model.path, &held_back),
            candidates: Vec::new(),
        };
        let Some(first) = held_back.first() else { return Ok((measured, Vec::new())) };
        let planned = [self.share.threads];
        let threads = if self.extent.threads.is_empty() { &planned[..] } else { self.extent.threads };
        let mut made =
            files::Files::new(self.model, &self.recorded.inputs, wanted.gate, reference, self.cache);
        let loaded = engines.iter().map(|(name, backend)| {
            Ok((name, Loader::new(*backend, self.stock.clone(), false, &mut |_| {})?))
        });
        let loaded = loaded.collect::<Result<Vec<_>>>()?;
        let wants = |rung: &ladder::Rung| {
            self.extent.precisions.is_none_or(|wanted| wanted.iter().any(|name| name == rung.name()))
        };
        let (mut attempts, mut threads_of_each) = (Vec::new(), Vec::new());
        for (engine_name, engine) in &loaded {
            for rung in ladder::rungs(engine.backend().name(), &self.file.engines).into_iter().filter(wants) {
                let model = match rung.has_file {
                    false => Ok(self.model.clone()),
                    true => made.file(rung.precision, &mut |step| {
                        tell(Step::Quantizing(name, rung.precision, step));
                    })?,
                };
                for why in made.damaged() {
                    tell(Step::Preparing(Progress::Engine(name, "", Event::Said(&why))));
                }
                for &threads in threads {
                    let (at, model) = (self.at, model.clone());
                    let share = Share { threads, ..self.share };
                    let on_disk = model.as_ref().ok().filter(|_| rung.has_file).map(|m| made.relative(m));
                    let load = move || {
                        let model = OnDisk { precision: Some(rung.told), ..model? };
                        let opened = engine.session_of(at, &model, share, &mut |_| {});
                        opened.map(|opened| opened.session).map_err(|e| e.to_string())
                    };
                    threads_of_each.push(threads);
                    attempts.push(measure::Attempt {
                        engine: engine.backend(),
                        name: engine_name,
                        precision: rung.name(),
                        file: on_disk,
                        load: Box::new(load),
                    });
                }
            }
        }
        let pixels: usize = first.first().map_or(&[][..], Tensor::shape).iter().skip(2).product();
        let working_set = self.model.contract.working_set.unwrap_or(0) * pixels as u64;
        let fp32 = OnDisk { precision: Some(Precision::Fp32), ..self.model.clone() };
        let own = Loader::new(reference, self.stock.clone(), false, &mut |_| {})?;
        let mut session = own.session_of(self.at, &fp32, self.share, &mut |_| {})?.session;
        let beside = measure::Reference::new(&mut *session, &self.model.contract, &held_back)?;
        drop(session);
        let mut say = |engine: &str, precision: &str| tell(Step::Measuring(name, engine, precision));
        let rounds = measure::Rounds { of_each: self.extent.rounds, stop: self.extent.stop };
        measured.candidates =
            measure::measure(attempts, &beside, wanted.gate, &rounds, working_set, &mut say)?;
        Ok((measured, threads_of_each))
    }
}
