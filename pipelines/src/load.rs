//! Every instance of every stage, with its model on one engine.

use std::sync::{Arc, Mutex};

use tapetum_runtime::{Error, Result, backend::Precision};

use crate::{
    assemble::Progress,
    config::{PipelineFile, StageSpec},
    engine::Engine,
    engine_cache::{Opened, Origin},
    models::OnDisk,
    plan::Plan,
    recorder::Recorder,
    runner::Runner,
    shapes::BATCH,
    stage::Net,
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
    pub precision: Precision,
    /// Where the first of its sessions came from.
    pub origin: Origin,
}

/// Loads and checks what every instance of every stage needs.
pub(crate) fn load<'a>(
    file: &'a PipelineFile,
    engine: &Engine<'_>,
    plan: &Plan,
    models: &[OnDisk],
    recorders: &[Arc<Recorder>],
    tell: &mut dyn FnMut(Progress<'_>),
) -> Result<Loaded<'a>> {
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
                    let Opened { session, origin, .. } =
                        engine.session(at, &models[at], threads, tell).map_err(place)?;
                    ran[at].get_or_insert_with(|| Ran {
                        nodes: session.placement().to_vec(),
                        precision: models[at].runs_in(session.precision()),
                        origin,
                    });
                    let reads = spec.kind.reads;
                    // tract plans for each batch size anew, so it gets one region at a time.
                    let batch = if engine.backend().name() == "tract" { 1 } else { BATCH };
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
