//! What has become of a camera's frames, over all generations of its pipeline.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tapetum_runtime::{clock::Tick, latency::Histogram};

use crate::{
    Accounting, Fate, Item, RunInfo, SlotState, Summary,
    flow::Counts,
    site::status::{Frames, Latency, StageStatus},
};

/// Over how long frames per second are counted.
const WINDOW: Duration = Duration::from_secs(10);

/// Kept by the thread that delivers, read by who asks for the status.
#[derive(Default)]
pub(crate) struct Figures(Mutex<State>);

#[derive(Default)]
struct State {
    /// Of the generations that have ended.
    past: Frames,
    /// Of the one that runs.
    now: Counts,
    /// Of `now.failed`, by stage.
    failed: Vec<u64>,
    /// Frames that came faster than they are looked at.
    over_rate: u64,
    /// Frames that were left out because the machine was too hot.
    too_hot: u64,
    age: Histogram,
    late: u64,
    stages: Vec<StageStatus>,
    digest: String,
    size: Option<(usize, usize)>,
    last_delivered: Option<Tick>,
    /// When the first frame was delivered or had failed.
    first_delivered: Option<Tick>,
    /// When frames were captured and delivered, counted at times within [`WINDOW`].
    window: VecDeque<(Tick, [u64; 2])>,
}

/// A copy for the status.
pub(crate) struct Seen {
    pub frames: Frames,
    pub age: Latency,
    pub late: u64,
    pub stages: Vec<StageStatus>,
    pub digest: String,
    pub size: Option<(usize, usize)>,
    pub last_delivered: Option<Tick>,
    /// Captured and delivered per second.
    pub fps: [f64; 2],
}

impl Figures {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A generation takes over. Stages that keep their name keep their figures.
    pub fn begin(&self, info: &RunInfo) {
        let mut state = self.lock();
        let mut old = std::mem::take(&mut state.stages);
        state.stages = info
            .stages
            .iter()
            .map(|stage| {
                let known = old.iter().position(|s| s.name == stage.name && s.kind == stage.kind);
                let took = known.map(|at| std::mem::take(&mut old[at].took)).unwrap_or_default();
                let passed_over = stage.model.iter().flat_map(|m| &m.passed_over);
                StageStatus {
                    name: stage.name.clone(),
                    kind: stage.kind,
                    engine: stage.model.as_ref().map(|m| m.engine.clone()),
                    passed_over: passed_over.map(|p| (p.engine.clone(), p.why.clone())).collect(),
                    decision: stage.model.as_ref().and_then(|m| m.decision.clone()),
                    engine_faults: 0,
                    last_engine_fault: None,
                    took,
                }
            })
            .collect();
        state.failed = vec![0; info.stages.len()];
        state.digest.clone_from(&info.digest);
        state.now = Counts::default();
    }

    /// The generation has ended, and every frame of it is accounted for.
    pub fn end(&self, summary: &Summary) {
        let mut state = self.lock();
        add(&mut state.past, &summary.frames);
        (state.now, state.failed) = (Counts::default(), Vec::new());
    }

    /// A frame was left out, for it came too soon after the one before.
    pub fn over_rate(&self) {
        self.lock().over_rate += 1;
    }

    /// A frame was left out, for the machine is too hot.
    pub fn too_hot(&self) {
        self.lock().too_hot += 1;
    }

    /// A frame was delivered or has failed.
    pub fn delivered(&self, item: &Item, counts: Counts, now: Tick, max_age: Option<Duration>) {
        let mut state = self.lock();
        let before = state.now;
        // This one is not yet in the flow's counts.
        state.now = Counts { delivered: counts.delivered + u64::from(item.fate == Fate::Ok), ..counts };
        if let Fate::Failed { stage, .. } = item.fate
            && let Some(failed) = state.failed.get_mut(stage)
        {
            *failed += 1;
        }
        let age = item.finished.saturating_sub(item.offered);
        if item.fate == Fate::Ok {
            state.age.record(age);
            state.late += u64::from(max_age.is_some_and(|most| age > most));
        }
        state.size = Some((item.frame.image.width(), item.frame.image.height()));
        state.last_delivered = Some(now);
        state.first_delivered.get_or_insert(now);
        for (status, slot) in state.stages.iter_mut().zip(&item.slots) {
            if matches!(slot.state, SlotState::Done | SlotState::Failed) {
                status.took.0.record(slot.took);
            }
            if let Some(engine) = &slot.engine
                && status.engine.as_deref() != Some(engine)
            {
                status.engine = Some(engine.to_string());
            }
        }
        for event in &item.engine_events {
            if let Some(status) = state.stages.get_mut(event.stage) {
                status.engine_faults += 1;
                status.last_engine_fault = Some(event.to_string());
            }
        }
        let came = counts.captured.saturating_sub(before.captured);
        state.window.push_back((now, [came, u64::from(item.fate == Fate::Ok)]));
        state.forget(now);
    }

    /// When the last frame was delivered or had failed, and the longest that one has taken.
    pub fn progress(&self) -> (Option<Tick>, Duration) {
        let state = self.lock();
        (state.last_delivered, state.age.quantile(1.0).unwrap_or_default())
    }

    /// Frames that were delivered so far, and how many of them late.
    pub fn late(&self) -> (u64, u64) {
        let state = self.lock();
        (state.past.delivered + state.now.delivered, state.late)
    }

    /// A copy. `overtaken`: pictures that the source dropped for newer ones before anybody took them.
    pub fn seen(&self, now: Tick, overtaken: u64) -> Seen {
        let mut state = self.lock();
        state.forget(now);
        let mut frames = state.past.clone();
        let counts = state.now;
        frames.captured += counts.captured + state.over_rate + state.too_hot + overtaken;
        frames.delivered += counts.delivered;
        // Every frame that is none of the others is on its way, also between two looks at the counters.
        for (reason, n) in [
            ("stale", counts.stale),
            ("stopped", counts.stopped),
            ("over_rate", state.over_rate),
            ("too_hot", state.too_hot),
            ("overtaken", overtaken),
        ] {
            count(&mut frames.dropped, reason, n);
        }
        count(&mut frames.failed, "unreadable", counts.unreadable);
        for (stage, n) in state.stages.iter().zip(&state.failed) {
            count(&mut frames.failed, &stage.name, *n);
        }
        let gone =
            frames.delivered + frames.dropped.values().sum::<u64>() + frames.failed.values().sum::<u64>();
        frames.in_flight = frames.captured.saturating_sub(gone);
        let sum = |at: usize| state.window.iter().map(|(_, n)| n[at]).sum::<u64>() as f64;
        // Of a camera that has just come, only as long as it has been there.
        let there = state.first_delivered.map_or(Duration::ZERO, |first| now.saturating_sub(first));
        let window = WINDOW.min(there.max(Duration::from_secs(1))).as_secs_f64();
        Seen {
            frames,
            age: Latency(state.age.clone()),
            late: state.late,
            stages: state.stages.clone(),
            digest: state.digest.clone(),
            size: state.size,
            last_delivered: state.last_delivered,
            fps: [sum(0), sum(1)].map(|n| n / window),
        }
    }
}

impl State {
    fn forget(&mut self, now: Tick) {
        while self.window.front().is_some_and(|(at, _)| now.saturating_sub(*at) > WINDOW) {
            self.window.pop_front();
        }
    }
}

fn count(map: &mut std::collections::BTreeMap<String, u64>, reason: &str, n: u64) {
    if n > 0 {
        *map.entry(reason.to_owned()).or_default() += n;
    }
}

fn add(frames: &mut Frames, more: &Accounting) {
    frames.captured += more.captured;
    frames.delivered += more.delivered;
    more.dropped.iter().for_each(|(reason, n)| count(&mut frames.dropped, reason, *n));
    more.failed.iter().for_each(|(reason, n)| count(&mut frames.failed, reason, *n));
}
