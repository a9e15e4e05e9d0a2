//! Building and checking the engines of a pipeline ahead of time.

use std::time::{Duration, Instant};

use tapetum_runtime::{Error, ErrorKind, Result, backend};

use crate::{
    PassedOver,
    assemble::{self, Options, Progress},
    config::{Choice, PipelineFile},
    engine_cache::{Opened, Origin},
    loader::{Loader, Stock},
    models::{self, OnDisk},
    plan::Plan,
};

/// One model on one engine, loaded and checked.
pub struct Warmed {
    /// Its name in the pipeline file.
    pub model: String,
    /// For example `ort:openvino/fp32`.
    pub engine: String,
    /// Where its engine came from when it was first opened.
    pub origin: Origin,
    /// The greatest error of the golden self-check, as a share of the greatest output; `None` if it carries no record.
    pub golden: Option<f32>,
    /// What loading and checking takes from now on.
    pub start: Duration,
    /// The part of it that is checking.
    pub checking: Duration,
}

/// What warming came to.
pub struct Outcome {
    /// Models that did not pass, with the reason.
    pub failed: Vec<(String, Error)>,
    /// Engines that cannot run here.
    pub passed_over: Vec<PassedOver>,
}

/// Builds, keeps and checks every model that a stage of `file` runs, on the first engine of the list that can, or on
/// `all` that can; each is told by `done`. A kept engine is opened a second time, as the next start will.
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
    let default = Choice::Exactly(backend::BACKENDS.first().map_or("", |b| b.name()).to_owned());
    let choice = options.engine.as_ref().or(file.engine.as_ref()).unwrap_or(&default);
    assemble::any_is_there(choice)?;
    let models = models::on_disk(file, options.cache.as_deref(), tell)?;
    let plan = Plan::new(file, options, false);
    let stock = Stock::new(file, models, options.cache.as_deref());
    let mut outcome = Outcome { failed: Vec::new(), passed_over: Vec::new() };
    let mut ran = false;
    for name in choice.names() {
        let cannot = |e: &Error| matches!(e.kind(), ErrorKind::Environment | ErrorKind::Unsupported);
        let loader = Loader::new(backend::by_name(name)?, stock.clone(), true, tell);
        let mut why = None;
        match loader {
            Err(e) if cannot(&e) => why = Some(e),
            Err(e) => return Err(e),
            Ok(loader) => {
                for at in 0..stock.len() {
                    if !file.stages.iter().any(|stage| stage.model == Some(at)) {
                        continue;
                    }
                    match one(&loader, at, stock.model(at), &plan, &file.models[at].name, tell) {
                        Ok(warmed) => done(&warmed),
                        Err(e) if cannot(&e) => {
                            why = Some(e);
                            break;
                        }
                        Err(e) => outcome.failed.push((file.models[at].name.clone(), e)),
                    }
                }
            }
        }
        match why {
            Some(e) => outcome.passed_over.push(PassedOver { engine: name.clone(), why: e.to_string() }),
            None => ran = true,
        }
        if ran && !all {
            break;
        }
    }
    if ran { Ok(outcome) } else { Err(assemble::none_can(&outcome.passed_over)) }
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
    let Opened { session, mut golden, mut checking, origin } = loader.session(at, plan.share(), tell)?;
    let mut start = begun.elapsed();
    let full = format!("{}/{}", loader.backend().full_name(), session.precision().name());
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
    Ok(Warmed { model: name.to_owned(), engine: full, origin, golden, start, checking })
}
