//! One loaded model for several cameras, whose regions are run together where that is possible.
//!
//! ```text
//!  camera ──► desk ─┐
//!  camera ──► desk ─┼─► queue of the model ──► worker with a session ──► back to the desks
//!  camera ──► desk ─┘    (first come, first served)   (takes what waits as one batch, within a bound of time)
//! ```
//!
//! A camera's worker has one request under way at a time, so first come, first served is a fair share. Over all models no
//! more runs go on at once than there are permits: more only take the cores from each other.

mod desk;
mod news;
mod permits;
mod worker;

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tapetum_runtime::{Error, Result, clock::Clock};

use crate::{
    load::Ran,
    site::{daemon::Tell, status::ModelStatus},
    stage::{Engine, engine::Post},
};
use desk::Desk;
pub(crate) use news::News;
use permits::Permits;
use worker::Queue;

/// How shared models are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Runs at once over all models, at least 1.
    pub runs: usize,
    /// Threads inside a run, at least 1.
    pub threads: usize,
    /// Most regions in one run, at least 1. Engines that plan for each batch size anew get one.
    pub batch: usize,
    /// How long a request waits at most for others to come along; zero: only what waits already is taken along.
    pub wait: Duration,
}

/// The shared models of a process.
pub struct Hub {
    limits: Mutex<Limits>,
    permits: Permits,
    clock: Arc<dyn Clock>,
    models: Mutex<Vec<Weak<Shared>>>,
    /// Told what becomes of the models, if anybody listens.
    news: Option<Arc<News>>,
    /// Held while a model loads, which may take minutes; `models` never is, so that the status can always be told.
    joining: Mutex<()>,
}

/// What makes two cameras' models one: the same file on the same engine, told the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    /// SHA-256 of the model file.
    pub sha256: String,
    /// The engine's full name.
    pub engine: &'static str,
    /// What the engine is told, and those that stand by.
    pub told: String,
}

/// A session with what a worker of the hub has to know of it.
pub(crate) struct Made {
    pub engine: Engine,
    pub post: Arc<Post>,
    pub ran: Ran,
    pub network: String,
}

/// Makes a session; called again when an engine was given up.
pub(crate) type Make = Box<dyn FnMut() -> Result<Made> + Send>;

/// One model with its workers. Their threads end when the last camera has left.
struct Shared {
    key: Key,
    ran: Ran,
    network: String,
    queue: Arc<Queue>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").field("limits", &self.limits()).finish_non_exhaustive()
    }
}

impl Hub {
    /// A hub without models.
    pub fn new(limits: Limits, clock: Arc<dyn Clock>) -> Arc<Self> {
        Self::with(limits, clock, None)
    }

    /// As [`Hub::new`]; `tell` hears what becomes of the models while they are loaded, then and later.
    pub fn telling(limits: Limits, clock: Arc<dyn Clock>, tell: Tell) -> Arc<Self> {
        Self::with(limits, clock, Some(Arc::new(News::new(tell))))
    }

    fn with(limits: Limits, clock: Arc<dyn Clock>, news: Option<Arc<News>>) -> Arc<Self> {
        let limits = Limits {
            runs: limits.runs.max(1),
            threads: limits.threads.max(1),
            batch: limits.batch.max(1),
            wait: limits.wait,
        };
        Arc::new(Self {
            limits: Mutex::new(limits),
            permits: Permits::new(limits.runs),
            clock,
            news,
            models: Mutex::default(),
            joining: Mutex::default(),
        })
    }

    /// Who hears what becomes of the models.
    pub(crate) fn news(&self) -> Option<&Arc<News>> {
        self.news.as_ref()
    }

    /// Those in force.
    pub fn limits(&self) -> Limits {
        *self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Other limits, as far as loaded models can follow: how many runs at once (more of them get their workers as cameras come),
    /// and how long a request waits. What is left are threads and batch of models that are loaded from now on.
    pub fn set_limits(&self, limits: Limits) {
        self.permits.set(limits.runs.max(1));
        let models: Vec<Arc<Shared>> = self.lock().iter().filter_map(Weak::upgrade).collect();
        models.iter().for_each(|shared| shared.queue.set_wait(limits.wait));
        *self.limits.lock().unwrap_or_else(PoisonError::into_inner) = limits;
    }

    /// A place at the model called `key` for one instance of a stage, whose runner listens at `post`. The first to come
    /// has it loaded by `make`, as do as many more as there may be runs at once; the others' `make` is dropped.
    ///
    /// # Errors
    /// What `make` gives.
    pub(crate) fn join(self: &Arc<Self>, key: Key, mut make: Make, post: Arc<Post>) -> Result<(Engine, Ran)> {
        // Who comes for the same model waits for it, and two loads at once would be no faster.
        let _joining = self.joining.lock().unwrap_or_else(PoisonError::into_inner);
        let known = {
            let mut models = self.lock();
            models.retain(|known| known.strong_count() > 0);
            models.iter().filter_map(Weak::upgrade).find(|known| known.key == key)
        };
        let shared = match known {
            Some(shared) => shared,
            None => {
                let first = make()?;
                let queue = Queue::new(&first.engine, self.limits());
                let (ran, network) = (first.ran.clone(), first.network.clone());
                let shared = Arc::new(Shared { key, ran, network, queue });
                self.employ(&shared, first, make)?;
                self.lock().push(Arc::downgrade(&shared));
                return Ok(self.seat(shared, post));
            }
        };
        if shared.queue.workers() < self.limits().runs {
            let made = make()?;
            self.employ(&shared, made, make)?;
        }
        Ok(self.seat(shared, post))
    }

    fn seat(&self, shared: Arc<Shared>, post: Arc<Post>) -> (Engine, Ran) {
        let (ran, queue) = (shared.ran.clone(), shared.queue.clone());
        let batch = queue.batch();
        (Engine::alone(Box::new(Desk::new(queue, post, shared)), batch), ran)
    }

    /// A worker's thread for `shared`.
    fn employ(self: &Arc<Self>, shared: &Arc<Shared>, made: Made, make: Make) -> Result<()> {
        let (hub, queue) = (self.clone(), shared.queue.clone());
        queue.add_worker();
        let thread = std::thread::Builder::new().name("model".into());
        let spawned = thread.spawn(move || worker::work(&queue, made, make, &hub.permits, &*hub.clock));
        spawned
            .map(|_| ())
            .map_err(|e| Error::internal(format!("no thread for a shared model: {e}")).caused_by(e))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<Shared>>> {
        self.models.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The models that are in use.
    pub fn status(&self) -> Vec<ModelStatus> {
        let models: Vec<Arc<Shared>> = self.lock().iter().filter_map(Weak::upgrade).collect();
        let one = |shared: &Arc<Shared>| {
            let figures = shared.queue.figures();
            ModelStatus {
                network: shared.network.clone(),
                sha256: shared.key.sha256.clone(),
                engine: figures.engine.to_string(),
                // This very list holds one.
                cameras: Arc::strong_count(shared).saturating_sub(1),
                queue: figures.waiting,
                runs: figures.runs,
                regions: figures.regions,
                took: crate::site::status::Latency(figures.took),
            }
        };
        models.iter().map(one).collect()
    }
}

/// Waits a little, however the lock came to be poisoned: what these locks guard is sound between any two statements.
fn wait<'a, T>(condition: &Condvar, guard: MutexGuard<'a, T>, at_most: Duration) -> MutexGuard<'a, T> {
    condition.wait_timeout(guard, at_most).unwrap_or_else(PoisonError::into_inner).0
}

#[cfg(test)]
mod tests;
