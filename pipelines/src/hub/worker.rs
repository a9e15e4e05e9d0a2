//! The queue of one shared model, and the threads that work it off.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tapetum_runtime::{
    Error, Result, Tensor,
    backend::{Port, Precision, Profile},
    clock::{Clock, Tick},
    latency::Histogram,
};

use super::{Limits, Made, Make, desk::Tray, permits::Permits, wait};
use crate::engine_fault::EngineEvent;

/// How long a worker sleeps before it looks again.
const GLANCE: Duration = Duration::from_millis(50);

/// After an engine was given up, how long until the model is loaded anew.
const REVIVAL: Duration = Duration::from_secs(60);

/// What waits for one model.
pub(super) struct Queue {
    pub ports: Ports,
    batch: usize,
    state: Mutex<State>,
    arrived: Condvar,
}

/// What the model takes and gives.
pub(super) struct Ports {
    pub inputs: Vec<Port>,
    pub outputs: Vec<Port>,
    pub placement: Vec<(String, usize)>,
    pub precision: Precision,
    pub profile: Option<Profile>,
    /// Whether several requests may be one run.
    open: bool,
}

#[derive(Default)]
struct State {
    /// How long a request waits at most for others to come along.
    wait: Duration,
    waiting: VecDeque<Arc<Tray>>,
    workers: usize,
    closed: bool,
    figures: Figures,
}

/// What a queue has come to.
#[derive(Clone, Default)]
pub(super) struct Figures {
    pub engine: Arc<str>,
    pub waiting: usize,
    pub runs: u64,
    pub regions: u64,
    pub took: Histogram,
}

impl Queue {
    pub fn new(engine: &crate::stage::Engine, limits: Limits) -> Arc<Self> {
        let open_at_0 = |ports: &[Port]| ports.iter().all(|port| port.shape.first() == Some(&None));
        let ports = Ports {
            inputs: engine.inputs().to_vec(),
            outputs: engine.outputs().to_vec(),
            placement: engine.placement().to_vec(),
            precision: engine.precision(),
            profile: engine.profile().cloned(),
            open: open_at_0(engine.inputs()) && open_at_0(engine.outputs()),
        };
        let figures = Figures { engine: engine.name().clone(), ..Figures::default() };
        let state = State { figures, wait: limits.wait, ..State::default() };
        Arc::new(Self {
            ports,
            batch: engine.batch().min(limits.batch),
            state: Mutex::new(state),
            arrived: Condvar::new(),
        })
    }

    /// Most regions in one run.
    pub fn batch(&self) -> usize {
        self.batch
    }

    pub fn set_wait(&self, wait: Duration) {
        self.lock().wait = wait;
    }

    pub fn workers(&self) -> usize {
        self.lock().workers
    }

    pub fn add_worker(&self) {
        self.lock().workers += 1;
    }

    /// No camera is left.
    pub fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_all();
    }

    pub fn ask(&self, tray: &Arc<Tray>) {
        self.lock().waiting.push_back(tray.clone());
        self.arrived.notify_one();
    }

    pub fn figures(&self) -> Figures {
        let state = self.lock();
        Figures { waiting: state.waiting.len(), ..state.figures.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something is there. False: the queue is closed.
    fn await_one(&self) -> bool {
        let mut state = self.lock();
        while state.waiting.is_empty() {
            if state.closed {
                return false;
            }
            state = wait(&self.arrived, state, GLANCE);
        }
        true
    }

    /// Takes the oldest request and those behind it that can be run with it, waiting for more within the bound. Nothing if
    /// another worker was faster.
    fn take(&self, batch: usize, trays: &mut Vec<Arc<Tray>>, clock: &dyn Clock) {
        trays.clear();
        let from = clock.now();
        let mut state = self.lock();
        let Some(first) = state.waiting.pop_front() else { return };
        let (shapes, mut regions) = shapes_of(&first);
        trays.push(first);
        if !self.ports.open {
            return;
        }
        loop {
            while let Some(next) = state.waiting.front() {
                let (other, more) = shapes_of(next);
                if other != shapes || regions + more > batch {
                    return;
                }
                regions += more;
                trays.extend(state.waiting.pop_front());
            }
            let left = state.wait.saturating_sub(clock.now().saturating_sub(from));
            if left.is_zero() || regions >= batch {
                return;
            }
            state = wait(&self.arrived, state, left);
        }
    }
}

/// Shapes of a request's inputs without their first extents, and that of the first.
fn shapes_of(tray: &Tray) -> (Vec<Vec<usize>>, usize) {
    let paper = tray.lock();
    let rest = |t: &Tensor| t.shape().get(1..).unwrap_or_default().to_vec();
    let rows = paper.inputs.first().and_then(|t| t.shape().first().copied()).unwrap_or(1);
    (paper.inputs.iter().map(rest).collect(), rows)
}

/// Runs what waits in `queue` until that is closed.
pub(super) fn work(queue: &Queue, made: Made, mut make: Make, permits: &Permits, clock: &dyn Clock) {
    let mut made = Some(made);
    let (mut revived, mut why) = (clock.now(), String::new());
    let (mut trays, mut scratch) = (Vec::new(), Scratch::default());
    while queue.await_one() {
        let permit = permits.take();
        let most = made.as_ref().map_or(1, |made| made.engine.batch().min(queue.batch));
        queue.take(most, &mut trays, clock);
        if trays.is_empty() {
            continue;
        }
        if made.as_ref().is_none_or(|made| made.post.lock().given_up)
            && clock.now().saturating_sub(revived) >= REVIVAL
        {
            // The device may be back. The old session goes first: its memory may be what is missing.
            drop(made.take());
            revived = clock.now();
            made = guarded(&mut make).map_err(|e| why = e.to_string()).ok();
        }
        let from = clock.now();
        let events = match &mut made {
            Some(made) => run(made, &trays, &mut scratch, from),
            None => {
                let gone = || Error::internal(format!("its model is gone and cannot be loaded again: {why}"));
                trays.iter().for_each(|tray| tray.answer(Err(gone())));
                continue;
            }
        };
        drop(permit);
        let regions: usize = trays.iter().map(|tray| shapes_of(tray).1).sum();
        {
            let mut state = queue.lock();
            let figures = &mut state.figures;
            figures.runs += 1;
            figures.regions += regions as u64;
            figures.took.record(clock.now().saturating_sub(from));
            if let Some(made) = &made {
                figures.engine.clone_from(made.engine.name());
            }
        }
        // Whoever was answered may go on and ask again from here on.
        for (tray, outcome) in trays.drain(..).zip(scratch.outcomes.drain(..)) {
            {
                let mut paper = tray.lock();
                paper.events.extend(events.iter().cloned());
                paper.engine = made.as_ref().and_then(|made| made.post.lock().engine.clone());
            }
            tray.answer(outcome);
        }
    }
}

/// What a worker uses again.
#[derive(Default)]
struct Scratch {
    inputs: Vec<Tensor>,
    outputs: Vec<Tensor>,
    /// One per request.
    outcomes: Vec<Result<()>>,
}

/// Runs the requests, together if they are several. Returns what was done about the engine.
fn run(made: &mut Made, trays: &[Arc<Tray>], scratch: &mut Scratch, now: Tick) -> Vec<EngineEvent> {
    made.post.lock().now = now;
    scratch.outcomes.clear();
    let together = trays.len() > 1 && guarded(|| run_together(made, trays, scratch)).is_ok();
    if together {
        scratch.outcomes.extend(trays.iter().map(|_| Ok(())));
    } else {
        // Also when the batch failed: one camera's frame must not fail the others'.
        for tray in trays {
            let mut paper = tray.lock();
            let paper = &mut *paper;
            let outcome = guarded(|| made.engine.run_into(&paper.inputs, &mut paper.outputs));
            scratch.outcomes.push(outcome);
        }
    }
    std::mem::take(&mut made.post.lock().events)
}

/// One run on all inputs one behind the other.
fn run_together(made: &mut Made, trays: &[Arc<Tray>], scratch: &mut Scratch) -> Result<()> {
    let count = made.engine.inputs().len();
    scratch.inputs.resize_with(count, || Tensor::full(&[0], 0f32));
    let mut rows = Vec::with_capacity(trays.len());
    for (at, input) in scratch.inputs.iter_mut().enumerate() {
        rows.clear();
        let mut shape = Vec::new();
        for tray in trays {
            let paper = tray.lock();
            let part = paper.inputs.get(at).map(Tensor::shape).unwrap_or_default();
            shape = part.to_vec();
            rows.push(part.first().copied().unwrap_or(0));
        }
        if let Some(first) = shape.first_mut() {
            *first = rows.iter().sum();
        }
        let mut rest = input.reset::<f32>(&shape);
        for tray in trays {
            let paper = tray.lock();
            let values = paper.inputs.get(at).map(Tensor::f32s).transpose()?.unwrap_or_default();
            let (mine, others) = rest.split_at_mut(values.len().min(rest.len()));
            mine.copy_from_slice(&values[..mine.len()]);
            rest = others;
        }
    }
    made.engine.run_into(&scratch.inputs, &mut scratch.outputs)?;
    let all: usize = rows.iter().sum();
    for (at, output) in scratch.outputs.iter().enumerate() {
        let values = output.f32s()?;
        if output.shape().first() != Some(&all) {
            let message = format!("output {at} is {:?} for {all} regions", output.shape());
            return Err(Error::internal(message));
        }
        let each = values.len() / all.max(1);
        let mut from = 0;
        for (tray, rows) in trays.iter().zip(&rows) {
            let mut paper = tray.lock();
            let mut shape = output.shape().to_vec();
            shape[0] = *rows;
            paper.outputs.resize_with(scratch.outputs.len(), || Tensor::full(&[0], 0f32));
            paper.outputs[at].fill_from(&shape, &values[from..from + rows * each])?;
            from += rows * each;
        }
    }
    Ok(())
}

/// A panic is an error of this run.
fn guarded<T>(step: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(step)).unwrap_or_else(|panic| {
        Err(Error::internal(format!("the model panicked: {}", crate::runner::words_of(&*panic))))
    })
}
