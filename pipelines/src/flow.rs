//! Which frame is worked on next, and where every frame went: the executor's rules as a state machine without threads.
//!
//! ```text
//!  source ──► waiting (bounded; a named policy when full) ──► active (in the order of admission) ──► delivered, in order
//! ```
//!
//! A free worker takes the *oldest* active frame that has something to do; if there is none it admits the next waiting
//! one. So stages run in parallel on different frames, a slow stage is worked on by as many workers as it has lanes,
//! and no core idles while there is work. (Threads tied to stages would: next to a stage of 60 ms one of 6 ms mostly
//! waits.) A stage that is *ordered* sees frames one at a time in their order.
//!
//! Nothing here knows the time or a thread; the executor wraps it in a lock, the tests in a simulation. Items are
//! made once and go round: in steady state nothing is allocated.

use std::collections::VecDeque;

use crate::{Fate, Item};

/// What happens to a new frame when the queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// The source waits: nothing is lost. For files.
    Block,
    /// The oldest waiting frame is dropped and counted: the newest is worth more. For cameras.
    Latest,
}

/// How a stage may be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lane {
    /// Workers that may be in this stage at once, each with its own instance. At least 1.
    pub instances: usize,
    /// Whether the stage must see frames in order, one at a time.
    pub ordered: bool,
}

/// Bounds of a [`Flow`], each at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Frames that wait.
    pub waiting: usize,
    /// Frames that stages still have to do with.
    pub unfinished: usize,
    /// Frames admitted and not yet delivered.
    pub active: usize,
}

/// One stage to be run on one frame.
pub struct Work {
    /// The frame.
    pub item: Box<Item>,
    /// Index of the stage.
    pub stage: usize,
    /// Index of the stage's instance, which is this worker's until [`Flow::done`].
    pub instance: usize,
    /// Set before [`Flow::done`] if the instance fails on every frame: it gets no more, unless it is the last.
    pub retire: bool,
    /// Which admitted frame it is; for [`Flow::done`].
    ticket: u64,
}

/// Frames by where they went; see [`crate::Accounting`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Given by the source.
    pub captured: u64,
    /// Came through and was taken by the sinks.
    pub delivered: u64,
    /// Given up because newer ones came, under [`Policy::Latest`].
    pub stale: u64,
    /// Still waiting when the run was told to stop.
    pub stopped: u64,
    /// Could not be read.
    pub unreadable: u64,
    /// A stage failed on it.
    pub failed: u64,
    /// Came in and has not left.
    pub in_flight: u64,
}

/// An admitted frame.
struct Active {
    ticket: u64,
    /// The stage that it is in or comes to next.
    stage: usize,
    /// `None` while a worker has it.
    item: Option<Box<Item>>,
}

/// The state machine.
pub struct Flow {
    policy: Policy,
    limits: Limits,
    lanes: Vec<Lane>,
    /// Instances of each stage that no worker has.
    idle: Vec<Vec<usize>>,
    /// How many instances of each stage get frames.
    alive: Vec<usize>,
    #[expect(clippy::vec_box, reason = "the box goes from thread to thread and comes back here as it is")]
    free: Vec<Box<Item>>,
    waiting: VecDeque<Box<Item>>,
    active: VecDeque<Active>,
    next_ticket: u64,
    delivering: usize,
    closed: bool,
    /// `in_flight` is filled in when they are asked for.
    counts: Counts,
    /// Of `counts.failed`, per stage.
    failed: Vec<u64>,
}

impl Flow {
    /// A flow through stages with the given lanes. `make` makes an item; it is called once for each item there will
    /// ever be.
    pub fn new(policy: Policy, limits: Limits, lanes: &[Lane], make: impl FnMut() -> Box<Item>) -> Self {
        let limits = Limits {
            waiting: limits.waiting.max(1),
            unfinished: limits.unfinished.max(1),
            active: limits.active.max(limits.unfinished).max(1),
        };
        // One more is with the source, one with the sinks.
        let items = limits.waiting + limits.active + 2;
        let alive: Vec<usize> =
            lanes.iter().map(|l| if l.ordered { 1 } else { l.instances.max(1) }).collect();
        let idle = alive.iter().map(|n| (0..*n).collect());
        Self {
            policy,
            limits,
            idle: idle.collect(),
            alive,
            lanes: lanes.to_vec(),
            free: std::iter::repeat_with(make).take(items).collect(),
            waiting: VecDeque::with_capacity(limits.waiting),
            active: VecDeque::with_capacity(limits.active),
            next_ticket: 0,
            delivering: 0,
            closed: false,
            counts: Counts::default(),
            failed: vec![0; lanes.len()],
        }
    }

    /// An item for the source to fill. `None`: all are in use; ask again after the next delivery.
    pub fn take_free(&mut self) -> Option<Box<Item>> {
        self.free.pop()
    }

    /// Whether [`Flow::offer`] would take a frame now.
    pub fn has_room(&self) -> bool {
        self.policy == Policy::Latest || self.waiting.len() < self.limits.waiting
    }

    /// A frame of the source comes in.
    ///
    /// # Errors
    /// The item itself, if there is no room ([`Policy::Block`]): offer it again later.
    pub fn offer(&mut self, item: Box<Item>) -> Result<(), Box<Item>> {
        if !self.has_room() {
            return Err(item);
        }
        if self.waiting.len() >= self.limits.waiting
            && let Some(oldest) = self.waiting.pop_front()
        {
            self.counts.stale += 1;
            self.free.push(oldest);
        }
        self.counts.captured += 1;
        self.waiting.push_back(item);
        Ok(())
    }

    /// The source could not read a frame; `item` comes back.
    pub fn unreadable(&mut self, item: Box<Item>) {
        self.counts.captured += 1;
        self.counts.unreadable += 1;
        self.free.push(item);
    }

    /// Takes back an item that the source did not fill.
    pub fn give_back(&mut self, item: Box<Item>) {
        self.free.push(item);
    }

    /// The source gives nothing more. With `drop_waiting`, frames that no stage has seen are given up and counted.
    pub fn close(&mut self, drop_waiting: bool) {
        self.closed = true;
        if drop_waiting {
            self.counts.stopped += self.waiting.len() as u64;
            self.free.extend(self.waiting.drain(..));
        }
    }

    /// What a free worker is to do now, if anything.
    pub fn next_work(&mut self) -> Option<Work> {
        let last = self.lanes.len();
        for at in 0..self.active.len() {
            let stage = self.active[at].stage;
            if stage == last || self.active[at].item.is_none() {
                continue;
            }
            if self.may_enter(stage, at)
                && let Some(item) = self.active[at].item.take()
            {
                return self.enter(stage, item, self.active[at].ticket);
            }
        }
        let unfinished = self.active.iter().filter(|a| a.stage < last).count();
        let full = self.active.len() >= self.limits.active || unfinished >= self.limits.unfinished;
        // A frame that could not be worked on at once is better off waiting, where a newer one may replace it.
        if full || (last > 0 && !self.may_enter(0, self.active.len())) {
            return None;
        }
        let item = self.waiting.pop_front()?;
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        if last == 0 {
            self.active.push_back(Active { ticket, stage: 0, item: Some(item) });
            return None;
        }
        self.active.push_back(Active { ticket, stage: 0, item: None });
        self.enter(0, item, ticket)
    }

    /// Whether the active frame at `at` may enter `stage` now.
    fn may_enter(&self, stage: usize, at: usize) -> bool {
        let earlier_are_through = || self.active.range(..at).all(|a| a.stage > stage);
        !self.idle[stage].is_empty() && (!self.lanes[stage].ordered || earlier_are_through())
    }

    /// Hands out an instance of `stage`, of which there must be an idle one.
    fn enter(&mut self, stage: usize, item: Box<Item>, ticket: u64) -> Option<Work> {
        self.idle[stage].pop().map(|instance| Work { item, stage, instance, retire: false, ticket })
    }

    /// A worker has run its stage. Whether it failed stands in the item's [`Fate`].
    pub fn done(&mut self, work: Work) {
        // An instance that fails at once would draw frames away from those that work. The last one stays, for frames
        // must fail rather than wait for ever.
        if work.retire && self.alive[work.stage] > 1 {
            self.alive[work.stage] -= 1;
        } else {
            self.idle[work.stage].push(work.instance);
        }
        let last = self.lanes.len();
        // Tickets are consecutive, so the place follows from the first.
        let first = self.active.front().map_or(0, |a| a.ticket);
        let Some(active) = self.active.get_mut((work.ticket - first) as usize) else { return };
        active.stage = if work.item.fate == Fate::Ok { work.stage + 1 } else { last };
        active.item = Some(work.item);
    }

    /// The next frame in order, if all stages are through with it.
    pub fn next_delivery(&mut self) -> Option<Box<Item>> {
        let front = self.active.front()?;
        if front.stage < self.lanes.len() || front.item.is_none() {
            return None;
        }
        self.delivering += 1;
        self.active.pop_front()?.item
    }

    /// The sinks have taken `item`.
    pub fn delivered(&mut self, item: Box<Item>) {
        self.delivering -= 1;
        match item.fate {
            Fate::Ok => self.counts.delivered += 1,
            Fate::Failed { stage, .. } => {
                self.counts.failed += 1;
                self.failed[stage] += 1;
            }
        }
        self.free.push(item);
    }

    /// Whether everything that came in has left, and nothing more will come.
    pub fn finished(&self) -> bool {
        self.closed && self.in_flight() == 0
    }

    fn in_flight(&self) -> u64 {
        (self.waiting.len() + self.active.len() + self.delivering) as u64
    }

    /// Where the frames went so far.
    pub fn counts(&self) -> Counts {
        Counts { in_flight: self.in_flight(), ..self.counts }
    }

    /// How many frames failed in each stage.
    pub fn failed_in(&self) -> &[u64] {
        &self.failed
    }
}
