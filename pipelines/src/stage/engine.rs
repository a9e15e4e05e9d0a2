//! A model's session that is restarted, or moved to another engine, when its engine fails.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tapetum_runtime::{
    Error, Result, Tensor,
    backend::{Backend, Port, Precision, Profile, Session},
    clock::Tick,
};

use crate::{
    engine_fault::{Action, EngineChange, EngineEvent, Faults, Successor, is_fault},
    models::shown_precision,
};

/// Loads the model on an engine and sees, where the model has a golden record, that it runs.
pub type Load = Box<dyn FnMut(&'static dyn Backend) -> Result<Box<dyn Session>> + Send>;

/// What a model may be loaded from again.
pub struct Supply {
    /// Loads it.
    pub load: Load,
    /// Whether `load` runs it to see.
    pub proves: bool,
    /// The engine that has it.
    pub engine: &'static dyn Backend,
    /// Those that may have it when that one is given up, the preferred first.
    pub others: Vec<&'static dyn Backend>,
    /// What the model file was made in, if not in fp32.
    pub made_in: Option<Precision>,
    /// Most regions in one run, by engine.
    pub batch: fn(&dyn Backend) -> usize,
}

/// One worker's session, with what is done when it fails.
pub struct Engine {
    /// `None` once it cannot be run again.
    session: Option<Box<dyn Session>>,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    batch: usize,
    name: Arc<str>,
    rescue: Option<Rescue>,
}

struct Rescue {
    supply: Supply,
    faults: Faults,
    post: Arc<Post>,
    /// The last fault, in words.
    why: String,
    given_up: bool,
}

impl Engine {
    /// A session that is run as it is; its errors are the caller's. `batch`: most regions in one run.
    pub fn alone(session: Box<dyn Session>, batch: usize) -> Self {
        let (inputs, outputs) = (session.inputs().to_vec(), session.outputs().to_vec());
        Self { session: Some(session), inputs, outputs, batch, name: "".into(), rescue: None }
    }

    /// A session that came from `supply`, told of frames and telling of faults through `post`.
    pub(crate) fn supplied(session: Box<dyn Session>, supply: Supply, post: Arc<Post>) -> Self {
        let name = name_of(supply.engine, &*session, supply.made_in);
        let engine = Self::alone(session, (supply.batch)(supply.engine));
        let faults = Faults::default();
        Self {
            name,
            rescue: Some(Rescue { supply, faults, post, why: String::new(), given_up: false }),
            ..engine
        }
    }

    /// The model's inputs.
    pub fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    /// The model's outputs.
    pub fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    /// The shapes that the engine was built for, if it takes no others.
    pub fn profile(&self) -> Option<&Profile> {
        self.session.as_ref()?.profile()
    }

    /// As results state it, for example `ort:cpu/fp32`; empty if it is run as it is.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// How many nodes of the model each provider got; see [`Session::placement`].
    pub fn placement(&self) -> &[(String, usize)] {
        self.session.as_ref().map_or(&[], |session| session.placement())
    }

    /// What it computes in.
    pub fn precision(&self) -> Precision {
        self.session.as_ref().map_or(Precision::Fp32, |session| session.precision())
    }

    /// Most regions in one run.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Runs the model. After a fault of the engine this may take as long as loading the model takes, and the run is done
    /// once more on the session that came of it.
    ///
    /// # Errors
    /// As [`Session::run_into`]; at once if the engine was given up.
    pub fn run_into(&mut self, inputs: &[Tensor], outputs: &mut Vec<Tensor>) -> Result<()> {
        let mut again = false;
        loop {
            let error = match self.attempt(inputs, outputs, again) {
                Ok(()) => return Ok(()),
                Err(e) => e,
            };
            let Some(rescue) = self.rescue.as_mut().filter(|r| is_fault(&error) && !r.given_up) else {
                return Err(error);
            };
            let now = rescue.post.lock().now;
            match rescue.faults.decide(now, !rescue.supply.others.is_empty()) {
                Action::Leave => return Err(error),
                Action::Restart => self.restart(now, inputs),
                Action::NextEngine => self.move_on(),
                Action::GiveUp => self.give_up(),
            }
            again = true;
        }
    }

    /// One run on the session as it is. `again`: not the first on this frame.
    fn attempt(&mut self, inputs: &[Tensor], outputs: &mut Vec<Tensor>, again: bool) -> Result<()> {
        let Some(session) = &mut self.session else {
            let why = self.rescue.as_ref().map_or("it panicked", |r| &r.why);
            return Err(Error::internal(format!("{} does not run: {why}", self.name)));
        };
        let (outcome, usable) = match catch_unwind(AssertUnwindSafe(|| session.run_into(inputs, outputs))) {
            Ok(outcome) => (outcome, true),
            Err(panic) => (Err(panicked(&*panic)), false),
        };
        if !usable {
            // What it left half done must not be seen by the next run.
            self.session = None;
        }
        if let Some(rescue) = &mut self.rescue {
            match &outcome {
                Ok(()) => rescue.faults.ran(),
                Err(e) if is_fault(e) => {
                    rescue.faults.failed(usable, again);
                    rescue.why = e.to_string();
                }
                Err(_) => {}
            }
        }
        outcome
    }

    /// `inputs`: those that the model is to be run on.
    fn restart(&mut self, now: Tick, inputs: &[Tensor]) {
        // A device's memory may not hold two.
        self.session = None;
        let Some(rescue) = &mut self.rescue else { return };
        let mut loaded = rescue.load(rescue.supply.engine, &self.outputs);
        let proven =
            rescue.supply.proves || loaded.as_mut().is_ok_and(|session| runs(&mut **session, inputs));
        rescue.faults.restarted(now, loaded.is_ok(), proven);
        match loaded {
            Ok(session) => {
                rescue.tell(EngineChange::Restarted, &self.name, rescue.why.clone());
                self.session = Some(session);
            }
            Err(e) => {
                rescue.tell(EngineChange::NotRestarted, &self.name, e.to_string());
                rescue.why = e.to_string();
            }
        }
    }

    /// To the first of the other engines that takes the model; none: given up.
    fn move_on(&mut self) {
        self.session = None;
        let Some(rescue) = &mut self.rescue else { return };
        while !rescue.supply.others.is_empty() {
            let engine = rescue.supply.others.remove(0);
            match rescue.load(engine, &self.outputs) {
                Ok(session) => {
                    self.name = name_of(engine, &*session, rescue.supply.made_in);
                    self.batch = (rescue.supply.batch)(engine);
                    rescue.supply.engine = engine;
                    rescue.faults = Faults::default();
                    let version = engine.probe().unwrap_or_else(|_| engine.full_name().to_owned());
                    let successor = Successor { version, nodes: session.placement().to_vec() };
                    let why = rescue.why.clone();
                    rescue.tell_of(EngineChange::TookOver, &self.name, why, Some(successor));
                    rescue.post.lock().engine = Some(self.name.clone());
                    self.session = Some(session);
                    return;
                }
                Err(e) => rescue.tell(EngineChange::PassedOver, engine.full_name(), e.to_string()),
            }
        }
        self.give_up();
    }

    fn give_up(&mut self) {
        self.session = None;
        if let Some(rescue) = &mut self.rescue {
            rescue.given_up = true;
            rescue.post.lock().given_up = true;
            rescue.tell(EngineChange::GivenUp, &self.name, rescue.why.clone());
        }
    }
}

impl Rescue {
    /// A session with the `outputs` that the stage was built for.
    fn load(&mut self, engine: &'static dyn Backend, outputs: &[Port]) -> Result<Box<dyn Session>> {
        let load = &mut self.supply.load;
        let session =
            catch_unwind(AssertUnwindSafe(|| load(engine))).unwrap_or_else(|p| Err(panicked(&*p)))?;
        let same = session.outputs().len() == outputs.len()
            && session.outputs().iter().zip(outputs).all(|(a, b)| a.name == b.name && a.dtype == b.dtype);
        if !same {
            return Err(Error::internal(format!("{} gives other outputs", engine.full_name())));
        }
        Ok(session)
    }

    fn tell(&self, change: EngineChange, engine: &str, why: String) {
        self.tell_of(change, engine, why, None);
    }

    fn tell_of(&self, change: EngineChange, engine: &str, why: String, successor: Option<Successor>) {
        let mut slip = self.post.lock();
        let (stage, frame) = (slip.stage, slip.frame);
        slip.events.push(EngineEvent { stage, frame, change, engine: engine.into(), why, successor });
    }
}

/// `ort:cpu/fp32`.
fn name_of(engine: &dyn Backend, session: &dyn Session, made_in: Option<Precision>) -> Arc<str> {
    format!("{}/{}", engine.full_name(), shown_precision(made_in, session.precision())).into()
}

/// Whether `session` runs at all: on inputs like these, but black.
fn runs(session: &mut dyn Session, inputs: &[Tensor]) -> bool {
    let black: Vec<Tensor> = inputs.iter().map(|t| Tensor::full(t.shape(), 0f32)).collect();
    catch_unwind(AssertUnwindSafe(|| session.run(&black).is_ok())).unwrap_or(false)
}

fn panicked(panic: &(dyn Any + Send)) -> Error {
    Error::internal(format!("the engine panicked: {}", crate::runner::words_of(panic)))
}

/// Between a stage's runner, which knows the frame and the time, and its engine, several layers below.
pub(crate) struct Post(Mutex<Slip>);

/// What lies in a [`Post`].
pub(crate) struct Slip {
    /// Index of the stage.
    pub stage: usize,
    /// When the frame at hand was begun.
    pub now: Tick,
    /// Its number.
    pub frame: u64,
    /// What was done since they were last taken.
    pub events: Vec<EngineEvent>,
    /// The engine that took over, if one did.
    pub engine: Option<Arc<str>>,
    /// Whether every further run will fail.
    pub given_up: bool,
}

impl Post {
    /// For an instance of stage `stage`.
    pub(crate) fn new(stage: usize) -> Arc<Self> {
        let (now, events) = (Tick::ZERO, Vec::new());
        Arc::new(Self(Mutex::new(Slip { stage, now, frame: 0, events, engine: None, given_up: false })))
    }

    /// A worker's own instance: never waited for.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Slip> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
