//! Every instance of every stage, with its model on one engine.

use std::sync::{Arc, Mutex};

use tapetum_runtime::{Error, Result, backend::Backend};

use crate::{
    assemble::Progress,
    config::{PipelineFile, StageSpec},
    engine_cache::{Opened, Origin},
    loader::{Loader, Stock},
    models::shown_precision,
    plan::{Plan, Share},
    recorder::Recorder,
    runner::Runner,
    shapes::BATCH,
    stage::{Engine, Net, Supply, engine::Post},
};

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
    /// As results state it, for example `int8+bf16`.
    pub precision: String,
    /// Where the first of its sessions came from.
    pub origin: Origin,
}

/// Loads and checks what every instance of every stage needs, on `loader`'s engine; `others` stand by. `recorders`: by
/// model, told of every input.
pub(crate) fn load<'a>(
    file: &'a PipelineFile,
    loader: &Loader,
    others: &[&'static dyn Backend],
    stock: &Arc<Stock>,
    plan: &Plan,
    recorders: &[Arc<Recorder>],
    tell: &mut dyn FnMut(Progress<'_>),
) -> Result<Loaded<'a>> {
    let mut ran = vec![None; stock.len()];
    let mut stages = Vec::new();
    for (index, spec) in file.stages.iter().enumerate() {
        let (instances, share) = crew(spec, plan);
        let mut runners = Vec::with_capacity(instances);
        for _ in 0..instances {
            let place = |e: Error| e.at(format!("stage {:?}", spec.name));
            let post = spec.model.map(|_| Post::new(index));
            let net = match spec.model.zip(post.clone()) {
                None => None,
                Some((at, post)) => {
                    let Opened { session, origin, .. } = loader.session(at, share, tell).map_err(place)?;
                    ran[at].get_or_insert_with(|| Ran {
                        nodes: session.placement().to_vec(),
                        precision: shown_precision(stock.model(at).made_in(), session.precision()),
                        origin,
                    });
                    let reads = spec.kind.reads;
                    let contract = &stock.model(at).contract;
                    let again = stock.clone();
                    let supply = Supply {
                        proves: contract.golden.is_some(),
                        load: Box::new(move |backend| {
                            let loader = Loader::new(backend, again.clone(), false, &mut |_| {})?;
                            Ok(loader.session(at, share, &mut |_| {})?.session)
                        }),
                        engine: loader.backend(),
                        others: others.to_vec(),
                        made_in: stock.model(at).made_in(),
                        batch,
                    };
                    let engine = Engine::supplied(session, supply, post);
                    let mut net = Net::new(engine, contract, |o| reads(&o.kind)).map_err(place)?;
                    if let Some(recorder) = recorders.get(at) {
                        net.record(Arc::clone(recorder));
                    }
                    Some(net)
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

/// Instances of a stage, and what each session of its model gets. A stage that only one worker may be in gets the threads
/// of all.
pub(crate) fn crew(spec: &StageSpec, plan: &Plan) -> (usize, Share) {
    let ordered = spec.every > 1 || spec.plan.ordered();
    let Share { threads, cores } = plan.share();
    if ordered { (1, Share { threads: threads * plan.workers, cores }) } else { (plan.workers, plan.share()) }
}
