//! Threads around the [`Flow`]: one reads the source, workers run stages, the caller's delivers to the sinks.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tapetum_runtime::{
    Error, Result,
    clock::{Clock, Tick},
    latency::Histogram,
};

use crate::{
    Accounting, Cpu, Fate, Item, Restorations, SlotState, Summary,
    assemble::Pipeline,
    cpu,
    engine_fault::EngineFaults,
    flow::{Counts, Flow},
    sink::Sink,
    source::{Losses, Next, Source, StampFaults},
};

/// Everything a run needs besides the pipeline.
pub struct Run<'r> {
    /// Where frames come from.
    pub source: Box<dyn Source>,
    /// Where results go; each gets every frame, in order.
    pub sinks: Vec<Box<dyn Sink>>,
    /// Tells the time.
    pub clock: &'r dyn Clock,
    /// Set from outside to end the run: frames that are being worked on are delivered, waiting ones are given up.
    pub stop: &'r AtomicBool,
    /// Told after every delivered frame.
    pub watch: &'r mut dyn FnMut(&Item, Counts),
}

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// In figures.
    pub summary: Summary,
    /// Why the source was lost before its end, if it was.
    pub source_error: Option<Error>,
    /// What sinks could not write; such a sink got nothing more.
    pub sink_errors: Vec<Error>,
}

/// Runs `pipeline` until its source is over or `stop` is set. Everything that came in is accounted for when it returns.
pub fn run(pipeline: &Pipeline<'_>, run: Run<'_>) -> Outcome {
    let lanes = pipeline.lanes();
    let plan = pipeline.plan;
    let flow = Flow::new(plan.policy, plan.limits(), &lanes, || pipeline.item());
    let shared =
        Shared { flow: Mutex::new(flow), work: Condvar::new(), room: Condvar::new(), ready: Condvar::new() };
    let Run { source, sinks, clock, stop, watch } = run;
    let cpu_before = cpu::process();
    let mut delivery = Delivery::new(pipeline, sinks, clock);
    let (captured, worked) = std::thread::scope(|scope| {
        let capture = scope.spawn(|| capture(&shared, source, clock, stop));
        let workers: Vec<_> =
            (0..plan.workers).map(|_| scope.spawn(|| work(&shared, pipeline, clock))).collect();
        delivery.deliver_all(&shared, stop, watch);
        let worked: Duration = workers.into_iter().map(|w| w.join().unwrap_or_default()).sum();
        (capture.join(), worked)
    });
    let captured = captured.unwrap_or_else(|_| Captured {
        lost: Some(Error::internal("the source panicked")),
        ..Captured::default()
    });
    let break_up_time = pipeline.stages.iter().rev().find_map(|runners| {
        runners.first().and_then(|r| r.lock().unwrap_or_else(PoisonError::into_inner).conclusion())
    });
    let mut summary = Summary {
        frames: accounting(&shared.lock(), pipeline),
        elapsed: delivery.elapsed(),
        stages: std::mem::take(&mut delivery.stages),
        restored: std::mem::take(&mut delivery.restored),
        engine_faults: std::mem::take(&mut delivery.engine_faults),
        end_to_end: std::mem::take(&mut delivery.end_to_end),
        stamps: captured.stamps,
        losses: captured.losses,
        unreadable: captured.unreadable,
        break_up_time,
        cpu: Cpu {
            process: cpu::process().saturating_sub(cpu_before),
            executor: worked + captured.cpu + delivery.bookkeeping,
            sinks: delivery.in_sinks,
        },
        interrupted: stop.load(Ordering::SeqCst),
    };
    // A run that a broken sink ended was not interrupted by anybody.
    summary.interrupted &= !delivery.stopped_it;
    delivery.finish(&summary);
    Outcome { summary, source_error: captured.lost, sink_errors: delivery.errors }
}

struct Shared {
    flow: Mutex<Flow>,
    /// There may be work for a worker.
    work: Condvar,
    /// There may be a free item, or room in the queue.
    room: Condvar,
    /// A frame may be ready to be delivered.
    ready: Condvar,
}

impl Shared {
    /// Stages that panic do so outside of the lock, so what it guards is sound even if it is poisoned.
    fn lock(&self) -> MutexGuard<'_, Flow> {
        self.flow.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long threads sleep at most before they look at `stop` again.
const GLANCE: Duration = Duration::from_millis(50);

fn wait<'a>(condition: &Condvar, guard: MutexGuard<'a, Flow>) -> MutexGuard<'a, Flow> {
    condition.wait_timeout(guard, GLANCE).unwrap_or_else(PoisonError::into_inner).0
}

/// What the source's thread has to tell at the end.
#[derive(Default)]
struct Captured {
    stamps: StampFaults,
    losses: Losses,
    /// Why the source was lost before its end.
    lost: Option<Error>,
    /// The first reasons why frames could not be read.
    unreadable: Vec<String>,
    /// CPU time of the thread outside of the source.
    cpu: Duration,
}

/// Reasons why frames could not be read that are kept; all are counted.
const MOST_REASONS: usize = 20;

/// Reads the source to its end.
fn capture(shared: &Shared, mut source: Box<dyn Source>, clock: &dyn Clock, stop: &AtomicBool) -> Captured {
    let mut in_source = Duration::ZERO;
    let mut captured = Captured::default();
    'frames: while !stop.load(Ordering::SeqCst) {
        let mut item = loop {
            let mut flow = shared.lock();
            match flow.take_free() {
                Some(item) => break item,
                None if stop.load(Ordering::SeqCst) => break 'frames,
                None => drop(wait(&shared.room, flow)),
            }
        };
        item.reset();
        let before = cpu::thread();
        let next = catch_unwind(AssertUnwindSafe(|| source.next(&mut item.frame)));
        in_source += cpu::thread().saturating_sub(before);
        match next {
            Ok(Ok(Next::Frame)) => {
                item.offered = clock.now();
                if !offer(shared, item, stop) {
                    break;
                }
            }
            Ok(Ok(Next::Unreadable(why))) => {
                if captured.unreadable.len() < MOST_REASONS {
                    captured.unreadable.push(format!("frame {}: {why}", item.frame.seq));
                }
                shared.lock().unreadable(item);
            }
            Ok(Ok(Next::Idle)) => shared.lock().give_back(item),
            Ok(Ok(Next::End)) => {
                shared.lock().give_back(item);
                break;
            }
            Ok(Err(e)) => {
                shared.lock().give_back(item);
                captured.lost = Some(e);
                break;
            }
            Err(_) => {
                captured.lost = Some(Error::internal("the source panicked"));
                break;
            }
        }
    }
    shared.lock().close(stop.load(Ordering::SeqCst));
    shared.work.notify_all();
    shared.ready.notify_all();
    captured.stamps = source.stamps();
    captured.losses = source.losses();
    captured.cpu = cpu::thread().saturating_sub(in_source);
    captured
}

/// Hands `item` over, waiting for room if the policy is to wait. False if the run was told to stop instead.
fn offer(shared: &Shared, mut item: Box<Item>, stop: &AtomicBool) -> bool {
    let mut flow = shared.lock();
    loop {
        match flow.offer(item) {
            Ok(()) => {
                drop(flow);
                shared.work.notify_one();
                return true;
            }
            Err(back) if stop.load(Ordering::SeqCst) => {
                flow.give_back(back);
                return false;
            }
            Err(back) => {
                item = back;
                flow = wait(&shared.room, flow);
            }
        }
    }
}

/// Runs stages until the flow is finished. Returns the CPU time of this thread outside of the stages.
fn work(shared: &Shared, pipeline: &Pipeline<'_>, clock: &dyn Clock) -> Duration {
    let mut in_stages = Duration::ZERO;
    let mut flow = shared.lock();
    loop {
        let Some(mut work) = flow.next_work() else {
            if flow.finished() {
                break;
            }
            flow = wait(&shared.work, flow);
            continue;
        };
        drop(flow);
        shared.room.notify_one();
        let (cpu_before, from) = (cpu::thread(), clock.now());
        {
            // The flow gives each instance to one worker at a time: the lock is never waited for.
            let runner = &pipeline.stages[work.stage][work.instance];
            let mut runner = runner.lock().unwrap_or_else(PoisonError::into_inner);
            runner.run(&mut work.item, from);
            work.retire = runner.given_up();
        }
        work.item.slots[work.stage].took = clock.now().saturating_sub(from);
        in_stages += cpu::thread().saturating_sub(cpu_before);
        flow = shared.lock();
        flow.done(work);
        shared.ready.notify_one();
        shared.work.notify_one();
    }
    drop(flow);
    shared.work.notify_all();
    shared.ready.notify_all();
    cpu::thread().saturating_sub(in_stages)
}

/// Gives finished frames to the sinks, on the caller's thread.
struct Delivery<'a, 'p> {
    pipeline: &'a Pipeline<'p>,
    sinks: Vec<Box<dyn Sink>>,
    clock: &'a dyn Clock,
    stages: Vec<Histogram>,
    restored: Vec<Restorations>,
    engine_faults: Vec<EngineFaults>,
    end_to_end: Histogram,
    first: Option<Tick>,
    last: Tick,
    errors: Vec<Error>,
    /// Whether the last sink broke, which ended the run.
    stopped_it: bool,
    in_sinks: Duration,
    bookkeeping: Duration,
}

impl<'a, 'p> Delivery<'a, 'p> {
    fn new(pipeline: &'a Pipeline<'p>, sinks: Vec<Box<dyn Sink>>, clock: &'a dyn Clock) -> Self {
        Self {
            pipeline,
            sinks,
            clock,
            stages: vec![Histogram::default(); pipeline.stages.len()],
            restored: vec![Restorations::default(); pipeline.stages.len()],
            engine_faults: vec![EngineFaults::default(); pipeline.stages.len()],
            end_to_end: Histogram::default(),
            first: None,
            last: Tick::ZERO,
            errors: Vec::new(),
            stopped_it: false,
            in_sinks: Duration::ZERO,
            bookkeeping: Duration::ZERO,
        }
    }

    fn deliver_all(&mut self, shared: &Shared, stop: &AtomicBool, watch: &mut dyn FnMut(&Item, Counts)) {
        let before = cpu::thread();
        let mut watching = Duration::ZERO;
        let had_sinks = !self.sinks.is_empty();
        let mut flow = shared.lock();
        while !flow.finished() {
            let Some(mut item) = flow.next_delivery() else {
                flow = wait(&shared.ready, flow);
                continue;
            };
            drop(flow);
            item.finished = self.clock.now();
            self.record(&item);
            self.deliver(&item);
            if had_sinks && self.sinks.is_empty() && !stop.swap(true, Ordering::SeqCst) {
                self.stopped_it = true;
            }
            let counts = shared.lock().counts();
            let from = cpu::thread();
            watch(&item, counts);
            watching += cpu::thread().saturating_sub(from);
            flow = shared.lock();
            flow.delivered(item);
            shared.room.notify_one();
            // Room among the active frames is work, too.
            shared.work.notify_one();
        }
        drop(flow);
        shared.work.notify_all();
        self.bookkeeping = cpu::thread().saturating_sub(before + self.in_sinks + watching);
    }

    fn record(&mut self, item: &Item) {
        self.first.get_or_insert(item.offered);
        self.last = item.finished;
        for (slot, histogram) in item.slots.iter().zip(&mut self.stages) {
            if matches!(slot.state, SlotState::Done | SlotState::Failed) {
                histogram.record(slot.took);
            }
        }
        self.restored.iter_mut().enumerate().for_each(|(at, restored)| restored.add(item, at));
        for event in &item.engine_events {
            if let Some(faults) = self.engine_faults.get_mut(event.stage) {
                faults.add(event);
            }
        }
        if item.fate == Fate::Ok {
            self.end_to_end.record(item.finished.saturating_sub(item.offered));
        }
    }

    fn deliver(&mut self, item: &Item) {
        let before = cpu::thread();
        let (info, errors) = (&self.pipeline.info, &mut self.errors);
        self.sinks.retain_mut(|sink| match guarded(|| sink.deliver(item, info)) {
            Ok(()) => true,
            Err(e) => {
                errors.push(e.at(format!("sink {}", sink.name())));
                false
            }
        });
        self.in_sinks += cpu::thread().saturating_sub(before);
    }

    fn finish(&mut self, summary: &Summary) {
        for sink in &mut self.sinks {
            if let Err(e) = guarded(|| sink.finish(&self.pipeline.info, summary)) {
                self.errors.push(e.at(format!("sink {}", sink.name())));
            }
        }
    }

    fn elapsed(&self) -> Duration {
        self.last.saturating_sub(self.first.unwrap_or(self.last))
    }
}

/// A panic in a sink is an error of that sink.
fn guarded(step: impl FnOnce() -> Result<()>) -> Result<()> {
    catch_unwind(AssertUnwindSafe(step)).unwrap_or_else(|_| Err(Error::internal("it panicked")))
}

fn accounting(flow: &Flow, pipeline: &Pipeline<'_>) -> Accounting {
    let counts = flow.counts();
    let mut frames =
        Accounting { captured: counts.captured, delivered: counts.delivered, ..Accounting::default() };
    for (reason, n) in [("stale", counts.stale), ("stopped", counts.stopped)] {
        if n > 0 {
            frames.dropped.insert(reason, n);
        }
    }
    for (stage, &n) in pipeline.info.stages.iter().zip(flow.failed_in()).filter(|(_, n)| **n > 0) {
        frames.failed.insert(stage.name.clone(), n);
    }
    if counts.unreadable > 0 {
        frames.failed.insert("unreadable".to_owned(), counts.unreadable);
    }
    frames
}
