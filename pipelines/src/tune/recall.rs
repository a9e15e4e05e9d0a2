//! What a run makes of an earlier tuning.

use std::path::Path;

use tapetum_runtime::backend::{self, Backend, EngineOptions, Precision};

use super::{
    Machine,
    choose::{Allowed, candidate, choose},
    engine, engine_options, gate_of, ladder, share_of, store,
    tuned::Tuned,
};
use crate::{
    Decision,
    assemble::{self, Options, Plan},
    config::{Choice, PipelineFile},
    models::OnDisk,
};

/// What is to run.
pub(crate) struct Recalled {
    /// As asked for.
    pub name: String,
    pub engine: &'static dyn Backend,
    /// In the order of the pipeline file.
    pub models: Vec<OnDisk>,
    /// Why, by model.
    pub decisions: Vec<Decision>,
}

/// What the newest tuning that holds says about `models` of `file`, which are in fp32. `lower`: another precision than
/// what the file says is wanted.
///
/// # Errors
/// For people: why there is nothing to go by.
pub(crate) fn recall(
    file: &PipelineFile,
    choice: &Choice,
    lower: bool,
    plan: &Plan,
    models: &[OnDisk],
    cache: &Path,
) -> Result<Recalled, String> {
    let of = |(at, model): (usize, &OnDisk)| {
        (file.models[at].name.clone(), model.sha256.clone(), share_of(file, at, plan).threads)
    };
    let wanted = store::Wanted {
        pipeline: file.name.clone(),
        models: models.iter().enumerate().map(of).collect(),
        engines: choice.names().to_vec(),
        machine: Machine::this(),
        engine_options: engine_options(&file.engines),
    };
    let mut first = None;
    for (tuned, _) in store::find(&wanted, cache)? {
        match apply(&tuned, file, choice, lower, models, cache) {
            Ok(recalled) => return Ok(recalled),
            Err(why) => _ = first.get_or_insert(format!("the tuning of {} does not hold: {why}", tuned.date)),
        }
    }
    Err(first.unwrap_or_else(|| "nothing is recorded".to_owned()))
}

fn apply(
    tuned: &Tuned,
    file: &PipelineFile,
    choice: &Choice,
    lower: bool,
    models: &[OnDisk],
    cache: &Path,
) -> Result<Recalled, String> {
    let gate = |name: &str| gate_of(file, name);
    let chosen = choose(tuned, &Allowed { engines: choice.names(), lower, gate: &gate })?;
    let engine = backend::by_name(&chosen.engine).map_err(|e| e.to_string())?;
    same_version(tuned, &chosen.engine, engine, choice, &file.engines)?;
    let mut recalled =
        Recalled { name: chosen.engine.clone(), engine, models: Vec::new(), decisions: Vec::new() };
    for ((model, measured), picked) in models.iter().zip(&tuned.models).zip(&chosen.models) {
        let mut decided = model.clone();
        if lower {
            let rung = ladder::rung(engine.name(), &picked.precision, &file.engines);
            let rung = rung.ok_or_else(|| format!("{} has no {} here", chosen.engine, picked.precision))?;
            let file = candidate(measured, &chosen.engine, &picked.precision).and_then(|c| c.file.as_ref());
            if let (true, Some(file)) = (rung.has_file, file) {
                let path = cache.join(&file.path);
                decided = OnDisk::made_of(model, path.clone()).map_err(|e| e.to_string())?;
                if decided.sha256 != file.sha256 {
                    return Err(format!("{} is not the file that was measured", path.display()));
                }
            } else if rung.has_file {
                return Err(format!("model {:?} has no {} file", picked.name, picked.precision));
            }
            decided.precision = Some(rung.told);
        }
        recalled.models.push(decided);
        recalled.decisions.push(Decision {
            tuned: Some(tuned.date.clone()),
            why: picked.why.clone(),
            fp32_sha256: model.sha256.clone(),
        });
    }
    Ok(recalled)
}

/// What `engine` runs with must be what was measured. As in tuning, the first engine of the choice that is there decides
/// which ONNX Runtime is loaded; for an engine that is part of this program none is.
fn same_version(
    tuned: &Tuned,
    name: &str,
    engine: &'static dyn Backend,
    choice: &Choice,
    options: &EngineOptions,
) -> Result<(), String> {
    if name.starts_with("ort") {
        let others = choice.names().iter().filter(|n| n.starts_with("ort"));
        others.filter_map(|n| backend::by_name(n).ok()).find(|other| other.probe().is_ok());
    }
    let now = engine.probe().map_err(|e| e.to_string())?;
    let measured = tuned.engines.iter().find(|e| e.engine == name);
    match measured.and_then(|e| Some((e.engine_version.as_deref()?, &e.runs_with))) {
        Some((then, runs_with)) if then == now => {
            // The same ONNX Runtime may have another library of its provider beside it, and another driver.
            engine::difference(runs_with, &engine::runs_with(engine, options))
                .map_or(Ok(()), |what| Err(format!("{name}: {what}")))
        }
        then => Err(format!("{name} was {} then, it is {now} now", then.map_or("unknown", |(then, _)| then))),
    }
}

/// The command whose tuning holds for a run of `file` as `plan` says. It names the plan, for the one that fits what it
/// measures on may be another: files and cameras are planned differently, and shared models once more.
pub(crate) fn command(file: &PipelineFile, options: &Options, plan: &Plan) -> String {
    let (path, Plan { workers, threads, .. }) = (file.path.display(), plan);
    let mut out = format!("tapetum tune {path} --calibrate SRC --workers {workers} --threads {threads}");
    let choice = assemble::choice(file, options);
    if choice != assemble::choice(file, &Options::default()) {
        out += &format!(" --engine {}", choice.words());
    }
    out
}

/// Every model in fp32, whatever the options of the engines say.
pub(crate) fn in_fp32(models: &mut [OnDisk]) {
    models.iter_mut().for_each(|model| model.precision = Some(Precision::Fp32));
}
