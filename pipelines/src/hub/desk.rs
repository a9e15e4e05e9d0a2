//! A camera's place at a shared model: a session whose run is done by somebody else.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tapetum_runtime::{
    Result, Tensor,
    backend::{Port, Precision, Profile, Session},
};

use super::{Shared, worker::Queue};
use crate::{engine_fault::EngineEvent, stage::engine::Post};

/// What goes to and fro between a camera and a worker.
#[derive(Default)]
pub(super) struct Paper {
    pub inputs: Vec<Tensor>,
    pub outputs: Vec<Tensor>,
    /// Set by the worker.
    pub outcome: Option<Result<()>>,
    /// What was done about the engine.
    pub events: Vec<EngineEvent>,
    /// The engine that ran it, if another one than at the start.
    pub engine: Option<Arc<str>>,
}

/// Where a worker lays the result.
#[derive(Default)]
pub(super) struct Tray {
    paper: Mutex<Paper>,
    done: Condvar,
}

impl Tray {
    pub fn lock(&self) -> MutexGuard<'_, Paper> {
        self.paper.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The worker is through with it.
    pub fn answer(&self, outcome: Result<()>) {
        self.lock().outcome = Some(outcome);
        self.done.notify_one();
    }
}

pub(super) struct Desk {
    queue: Arc<Queue>,
    tray: Arc<Tray>,
    post: Arc<Post>,
    /// Keeps the model loaded.
    _shared: Arc<Shared>,
}

impl Desk {
    pub fn new(queue: Arc<Queue>, post: Arc<Post>, shared: Arc<Shared>) -> Self {
        Self { queue, tray: Arc::default(), post, _shared: shared }
    }
}

impl Session for Desk {
    fn inputs(&self) -> &[Port] {
        &self.queue.ports.inputs
    }

    fn outputs(&self) -> &[Port] {
        &self.queue.ports.outputs
    }

    fn placement(&self) -> &[(String, usize)] {
        &self.queue.ports.placement
    }

    fn precision(&self) -> Precision {
        self.queue.ports.precision
    }

    fn profile(&self) -> Option<&Profile> {
        self.queue.ports.profile.as_ref()
    }

    fn run_into(&mut self, inputs: &[Tensor], outputs: &mut Vec<Tensor>) -> Result<()> {
        {
            let mut paper = self.tray.lock();
            copy(inputs, &mut paper.inputs)?;
            paper.outcome = None;
        }
        self.queue.ask(&self.tray);
        let mut paper = self.tray.lock();
        let outcome = loop {
            match paper.outcome.take() {
                Some(outcome) => break outcome,
                // Workers answer whatever happens, and outlive every desk.
                None => paper = self.tray.done.wait(paper).unwrap_or_else(PoisonError::into_inner),
            }
        };
        std::mem::swap(&mut paper.outputs, outputs);
        let mut slip = self.post.lock();
        let (stage, frame) = (slip.stage, slip.frame);
        slip.events.extend(paper.events.drain(..).map(|event| EngineEvent { stage, frame, ..event }));
        slip.engine.clone_from(&paper.engine);
        outcome
    }
}

/// Copies tensors into memory that is used again.
fn copy(from: &[Tensor], to: &mut Vec<Tensor>) -> Result<()> {
    to.resize_with(from.len(), || Tensor::full(&[0], 0f32));
    for (from, to) in from.iter().zip(to) {
        match from.f32s() {
            Ok(values) => to.fill_from(from.shape(), values)?,
            Err(_) => to.clone_from(from),
        }
    }
    Ok(())
}
