//! Models on disk, and sessions of them on one engine.

use std::{
    fs::File,
    io::{BufRead, BufReader, Seek},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use sha2::{Digest, Sha256};
use tapetum_runtime::{
    Error, ErrorKind, Result,
    backend::{Backend, LoadOptions, ModelSource, Precision, Session},
    contract::{Contract, SizePolicy},
};

use crate::{
    assemble::Progress,
    config::{PipelineFile, StageSpec},
    plan::Plan,
    prepare::hex,
    recorder::Recorder,
    runner::Runner,
    stage::Net,
};

/// Most regions of one frame in one run of a model.
const BATCH: usize = 8;

/// A model file, read but not loaded by an engine.
#[derive(Clone)]
pub(crate) struct OnDisk {
    pub path: PathBuf,
    /// 64 hexadecimal digits.
    pub sha256: String,
    pub contract: Contract,
    /// What the engine is told to compute in; `None`: what its options say.
    pub precision: Option<Precision>,
}

impl OnDisk {
    /// The file of `model` at `path`. A fused checkpoint carries its contract with the proof and the golden record.
    pub fn read(path: PathBuf, model: &crate::config::ModelFile) -> Result<Self> {
        if model.is_checkpoint {
            return Self::carrying_contract(path);
        }
        let (_, sha256) = digested(&path)?;
        let contract = model.contract.clone().ok_or_else(|| without_contract(&path))?;
        Ok(Self { sha256, contract, path, precision: None })
    }

    /// A file that this program made: its contract is in it.
    pub fn carrying_contract(path: PathBuf) -> Result<Self> {
        let (mut file, sha256) = digested(&path)?;
        let carried = Contract::from_onnx(&mut file).map_err(|e| e.at(path.display()))?;
        let contract = carried.ok_or_else(|| without_contract(&path))?;
        Ok(Self { sha256, contract, path, precision: None })
    }

    /// A file at `path` that was made of `fp32` in a smaller format. It means what `fp32` means here, where a contract file
    /// may have changed what is written into the model; only how it was made and checked is its own.
    pub fn made_of(fp32: &Self, path: PathBuf) -> Result<Self> {
        let made = Self::carrying_contract(path)?;
        let Contract { quantization, golden, .. } = made.contract;
        let contract = Contract { quantization, golden, ..fp32.contract.clone() };
        Ok(Self { contract, ..made })
    }

    /// What a session of it computes in, which was told to compute in `told`: a file in a smaller format is in that.
    pub fn runs_in(&self, told: Precision) -> Precision {
        self.contract.quantization.as_ref().map_or(told, |q| q.precision)
    }
}

/// The file, at its start, and its SHA-256.
fn digested(path: &Path) -> Result<(BufReader<File>, String)> {
    let unreadable = |e: std::io::Error| {
        Error::new(ErrorKind::Environment, format!("{}: {e}", path.display())).caused_by(e)
    };
    let mut file = BufReader::new(File::open(path).map_err(unreadable)?);
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
    Ok((file, hex(&digest.finalize())))
}

fn without_contract(path: &Path) -> Error {
    Error::bad_file(format!("{} carries no contract; delete it and run again", path.display()))
}

/// What an engine made of a pipeline.
pub(crate) struct Loaded<'a> {
    pub stages: Vec<Vec<Mutex<Runner<'a>>>>,
    /// By model; none where no stage runs it.
    pub ran: Vec<Option<Ran>>,
}

/// How a model runs, as the engine told.
#[derive(Clone, Default)]
pub(crate) struct Ran {
    pub nodes: Vec<(String, usize)>,
    pub precision: Precision,
}

/// Every instance of every stage, on one engine.
pub(crate) fn load<'a>(
    file: &'a PipelineFile,
    engine: &'static dyn Backend,
    plan: &Plan,
    models: &[OnDisk],
    recorders: &[Arc<Recorder>],
    tell: &mut dyn FnMut(Progress<'_>),
) -> Result<Loaded<'a>> {
    engine.probe()?;
    let mut ran = vec![None; models.len()];
    let mut stages = Vec::new();
    for (index, spec) in file.stages.iter().enumerate() {
        let (instances, threads) = crew(spec, plan);
        let mut runners = Vec::with_capacity(instances);
        for _ in 0..instances {
            let place = |e: Error| e.at(format!("stage {:?}", spec.name));
            let net = match spec.model {
                None => None,
                Some(at) => {
                    tell(Progress::Loading(&file.models[at].name, engine.full_name()));
                    let first = ran[at].is_none();
                    let session = session(engine, &models[at], file, at, threads, first).map_err(place)?;
                    ran[at].get_or_insert_with(|| Ran {
                        nodes: session.placement().to_vec(),
                        precision: models[at].runs_in(session.precision()),
                    });
                    let reads = spec.kind.reads;
                    // tract plans for each batch size anew, so it gets one region at a time.
                    let batch = if engine.name() == "tract" { 1 } else { BATCH };
                    let net = Net::new(session, &models[at].contract, batch, |o| reads(&o.kind));
                    let mut net = net.map_err(place)?;
                    if let Some(recorder) = recorders.get(at) {
                        net.record(Arc::clone(recorder));
                    }
                    Some(net)
                }
            };
            runners.push(Mutex::new(Runner::new(spec, index, spec.plan.build(net).map_err(place)?)));
        }
        stages.push(runners);
    }
    Ok(Loaded { stages, ran })
}

/// Instances of a stage, and threads inside a run of its model. A stage that only one worker may be in gets the threads
/// of all.
pub(crate) fn crew(spec: &StageSpec, plan: &Plan) -> (usize, usize) {
    let ordered = spec.every > 1 || spec.plan.ordered();
    if ordered { (1, plan.threads * plan.workers) } else { (plan.workers, plan.threads) }
}

/// Loads `model`, which is number `at` of `file`, and holds it against its golden record if it is to be checked.
pub(crate) fn session(
    engine: &'static dyn Backend,
    model: &OnDisk,
    file: &PipelineFile,
    at: usize,
    threads: usize,
    check: bool,
) -> Result<Box<dyn Session>> {
    let mut options = LoadOptions {
        threads: Some(threads),
        engines: file.engines.clone(),
        min_share: file.models[at].min_share,
        ..LoadOptions::default()
    };
    if let Some(precision) = model.precision {
        options.engines.compute_in(precision);
    }
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
