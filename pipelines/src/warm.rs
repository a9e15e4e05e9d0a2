//! Building and checking the engines of a pipeline ahead of time.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tapetum_runtime::{
    Error, ErrorKind, Result,
    backend::{self, Backend},
};

use crate::{
    PassedOver,
    assemble::{self, Options, Progress},
    config::{Choice, PipelineFile, PrecisionChoice},
    engine_cache::{Opened, Origin},
    loader::{Loader, Stock},
    models::{self, OnDisk},
    plan::Plan,
    tune::{self, Recalled},
};

/// One model on one engine, loaded and checked.
pub struct Warmed {
    /// Its name in the pipeline file.
    pub model: String,
    /// For example `ort:openvino/fp32`; `int8` where that is what its file was made in.
    pub engine: String,
    /// When the tuning was measured that chose it; `None`: nothing was left to a tuning, or none holds.
    pub tuned: Option<String>,
    /// Where its engine came from when it was first opened.
    pub origin: Origin,
    /// Why nothing was kept of an engine that is to be kept; then it is among [`Outcome::failed`] too.
    pub lost: Option<String>,
    /// The greatest error of the golden self-check, as a share of the greatest output; `None` if it carries no record.
    pub golden: Option<f32>,
    /// What loading and checking takes from now on.
    pub start: Duration,
    /// The part of it that is checking.
    pub checking: Duration,
}

/// What warming came to.
pub struct Outcome {
    /// Models that did not pass or could not be kept, with the reason.
    pub failed: Vec<(String, Error)>,
    /// Engines that cannot run here.
    pub passed_over: Vec<PassedOver>,
    /// Why no tuning holds, if engine or precision were left to one.
    pub untuned: Option<String>,
    /// What measures: for a file as source, then for a camera where that is planned otherwise.
    pub to_measure: Vec<String>,
}

/// Builds, keeps and checks every model that a stage of `file` runs: what a tuning chose, where engine or precision are left
/// to one that holds; else on the first engine of the list that can, or on `all` that can. Each is told by `done`. A kept
/// engine is opened a second time, as the next start will.
///
/// # Errors
/// A checkpoint cannot be fused, or no engine of the list can run here.
pub fn warm(
    file: &PipelineFile,
    options: &Options,
    all: bool,
    tell: &mut dyn FnMut(Progress<'_>),
    done: &mut dyn FnMut(&Warmed),
) -> Result<Outcome> {
    let choice = assemble::choice(file, options);
    assemble::any_is_there(&choice)?;
    let mut models = models::on_disk(file, options.cache.as_deref(), tell)?;
    let precision = options.precision.or(file.precision);
    let lower = precision == Some(PrecisionChoice::Auto);
    let cache = options.cache.as_deref();
    let mut to_measure =
        [false, true].map(|live| tune::command(file, options, &Plan::new(file, options, live))).to_vec();
    to_measure.dedup();
    let mut work = Work {
        file,
        plan: Plan::new(file, options, false),
        outcome: Outcome { failed: Vec::new(), passed_over: Vec::new(), untuned: None, to_measure },
        done,
        tell,
    };
    if precision == Some(PrecisionChoice::Fp32) {
        tune::in_fp32(&mut models);
    }
    let mut ran = false;
    if lower || choice == Choice::Auto {
        match recalled(file, options, &choice, lower, &models) {
            Err(why) => work.outcome.untuned = Some(why),
            Ok(all) => {
                for Recalled { name, engine, models, decisions } in all {
                    let date = decisions.first().and_then(|decision| decision.tuned.clone());
                    match work.on(engine, &Stock::new(file, models, cache), date)? {
                        None => ran = true,
                        Some(e) => {
                            work.outcome.untuned = Some(format!("{name} cannot run what was chosen: {e}"))
                        }
                    }
                }
            }
        }
        if lower {
            tune::in_fp32(&mut models);
        }
    }
    let stock = Stock::new(file, models, cache);
    for name in choice.names() {
        if ran && !all {
            break;
        }
        match work.on(backend::by_name(name)?, &stock, None)? {
            Some(e) => {
                work.outcome.passed_over.push(PassedOver { engine: name.clone(), why: e.to_string() });
            }
            None => ran = true,
        }
    }
    if ran { Ok(work.outcome) } else { Err(assemble::none_can(&work.outcome.passed_over)) }
}

/// What the tunings that hold say: the one for a file as source and the one for a camera, which plan their threads
/// differently, or whichever of them there is.
fn recalled(
    file: &PipelineFile,
    options: &Options,
    choice: &Choice,
    lower: bool,
    models: &[OnDisk],
) -> Result<Vec<Recalled>, String> {
    let cache = options.cache().map_err(|e| e.to_string())?;
    let mut found: Vec<Recalled> = Vec::new();
    let mut none = None;
    for live in [false, true] {
        let plan = Plan::new(file, options, live);
        match tune::recall(file, choice, lower, &plan, models, &cache) {
            Err(why) => _ = none.get_or_insert(why),
            Ok(one) => {
                let facts = |r: &Recalled| {
                    let of_models = r.models.iter().map(|m| (m.sha256.clone(), m.precision));
                    (r.name.clone(), of_models.collect::<Vec<_>>())
                };
                if !found.iter().any(|other| facts(other) == facts(&one)) {
                    found.push(one);
                }
            }
        }
    }
    match none {
        Some(why) if found.is_empty() => Err(why),
        _ => Ok(found),
    }
}

/// One call of [`warm`].
struct Work<'w> {
    file: &'w PipelineFile,
    plan: Plan,
    outcome: Outcome,
    tell: &'w mut dyn FnMut(Progress<'_>),
    done: &'w mut dyn FnMut(&Warmed),
}

impl Work<'_> {
    /// Every model of `stock` that a stage runs, on `engine`; or why that cannot run here.
    fn on(
        &mut self,
        engine: &'static dyn Backend,
        stock: &Arc<Stock>,
        tuned: Option<String>,
    ) -> Result<Option<Error>> {
        let cannot = |e: &Error| matches!(e.kind(), ErrorKind::Environment | ErrorKind::Unsupported);
        let loader = match Loader::new(engine, stock.clone(), true, self.tell) {
            Err(e) if cannot(&e) => return Ok(Some(e)),
            loader => loader?,
        };
        for at in 0..stock.len() {
            if !self.file.stages.iter().any(|stage| stage.model == Some(at)) {
                continue;
            }
            let name = &self.file.models[at].name;
            match one(&loader, at, stock.model(at), &self.plan, name, self.tell) {
                Ok(warmed) => {
                    if let Some(why) = &warmed.lost {
                        let message = format!("{} could not be kept: {why}", warmed.engine);
                        self.outcome.failed.push((name.clone(), Error::new(ErrorKind::Environment, message)));
                    }
                    (self.done)(&Warmed { tuned: tuned.clone(), ..warmed });
                }
                Err(e) if cannot(&e) => return Ok(Some(e)),
                Err(e) => self.outcome.failed.push((name.clone(), e)),
            }
        }
        Ok(None)
    }
}

fn one(
    loader: &Loader,
    at: usize,
    model: &OnDisk,
    plan: &Plan,
    name: &str,
    tell: &mut dyn FnMut(Progress<'_>),
) -> Result<Warmed> {
    let begun = Instant::now();
    let Opened { session, mut golden, mut checking, origin, lost } =
        loader.session(at, plan.share(), tell)?;
    let mut start = begun.elapsed();
    let precision = models::shown_precision(model.made_in(), session.precision());
    let full = format!("{}/{precision}", loader.backend().full_name());
    drop(session);
    if matches!(origin, Origin::Built { .. }) {
        let begun = Instant::now();
        let again = loader.session(at, plan.share(), tell)?;
        start = begun.elapsed();
        (golden, checking) = (again.golden, again.checking);
        if !matches!(again.origin, Origin::Found { .. }) {
            return Err(Error::internal("the engine does not take what it built itself just now")
                .at(format!("{} on {full}", model.path.display())));
        }
    }
    Ok(Warmed { model: name.to_owned(), engine: full, tuned: None, origin, lost, golden, start, checking })
}
