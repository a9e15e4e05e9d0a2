//! Every instance of every stage, with its model on one engine.

use std::sync::{Arc, Mutex};

use tapetum_runtime::{
    Error, Result,
    backend::{Backend, Session},
};

use crate::{
    assemble::Progress,
    config::{PipelineFile, StageSpec},
    engine_cache::{Opened, Origin},
    hub::{Hub, Key, Made, Make, News},
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

/// Loads and checks what every instance of every stage needs, on `loader`'s engine; `others` stand by. With a `hub`, models
/// are shared with the other pipelines that load through it. `recorders`: by model, told of every input.
#[expect(clippy::too_many_arguments, reason = "one call, each of another kind")]
pub(crate) fn load<'a>(
    file: &'a PipelineFile,
    loader: &Loader,
    others: &[&'static dyn Backend],
    stock: &Arc<Stock>,
    plan: &Plan,
    hub: Option<&Arc<Hub>>,
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
                    let news = hub.and_then(|hub| hub.news());
                    let model = Model { backend: loader.backend(), others, stock, at, share, news };
                    let (engine, how) = match hub {
                        None => model.own(loader, post, tell),
                        Some(hub) => hub.join(model.key(), model.again(), post),
                    }
                    .map_err(place)?;
                    ran[at].get_or_insert(how);
                    let reads = spec.kind.reads;
                    let contract = &stock.model(at).contract;
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

/// A model that is to be loaded.
struct Model<'m> {
    backend: &'static dyn Backend,
    others: &'m [&'static dyn Backend],
    stock: &'m Arc<Stock>,
    at: usize,
    share: Share,
    /// Who hears of it when it is loaded by another thread, or again.
    news: Option<&'m Arc<News>>,
}

impl Model<'_> {
    /// On a session that nobody else runs.
    fn own(
        &self,
        loader: &Loader,
        post: Arc<Post>,
        tell: &mut dyn FnMut(Progress<'_>),
    ) -> Result<(Engine, Ran)> {
        let Opened { session, origin, .. } = loader.session(self.at, self.share, tell)?;
        let ran = ran(self.stock, self.at, &*session, origin);
        Ok((Engine::supplied(session, self.supply(), post), ran))
    }

    /// What it may be loaded from again.
    fn supply(&self) -> Supply {
        let (again, at, share, news) = (self.stock.clone(), self.at, self.share, self.news.cloned());
        Supply {
            proves: self.stock.model(at).contract.golden.is_some(),
            load: Box::new(move |backend| {
                let mut tell = telling(news.as_ref());
                let loader = Loader::new(backend, again.clone(), false, &mut tell)?;
                Ok(loader.session(at, share, &mut tell)?.session)
            }),
            engine: self.backend,
            others: self.others.to_vec(),
            made_in: self.stock.model(at).made_in(),
            batch,
        }
    }

    /// Two models with equal keys may be one.
    fn key(&self) -> Key {
        let others: Vec<&str> = self.others.iter().map(|b| b.full_name()).collect();
        Key {
            sha256: self.stock.model(self.at).sha256.clone(),
            engine: self.backend.full_name(),
            told: format!("{} {others:?}", self.stock.told(self.at)),
        }
    }

    /// Makes sessions of it from now on.
    fn again(&self) -> Make {
        let (backend, others, stock) = (self.backend, self.others.to_vec(), self.stock.clone());
        let (at, share, news) = (self.at, self.share, self.news.cloned());
        Box::new(move || {
            let (post, mut tell) = (Post::new(0), telling(news.as_ref()));
            let model = Model { backend, others: &others, stock: &stock, at, share, news: news.as_ref() };
            let loader = Loader::new(backend, stock.clone(), false, &mut tell)?;
            let (engine, ran) = model.own(&loader, post.clone(), &mut tell)?;
            let network = stock.model(at).contract.network.name.clone();
            Ok(Made { engine, post, ran, network })
        })
    }
}

/// Hands on what a load tells, if anybody listens.
fn telling(news: Option<&Arc<News>>) -> impl FnMut(Progress<'_>) {
    move |step| {
        if let Some(news) = news {
            news.step(step);
        }
    }
}

fn ran(stock: &Stock, at: usize, session: &dyn Session, origin: Origin) -> Ran {
    Ran {
        nodes: session.placement().to_vec(),
        precision: shown_precision(stock.model(at).made_in(), session.precision()),
        origin,
    }
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
