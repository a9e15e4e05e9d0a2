//! What a whole run came to.

use std::{collections::BTreeMap, time::Duration};

use tapetum_runtime::{
    finding::{Finding, Tiles},
    latency::Histogram,
};

use crate::{
    Item, SlotState,
    engine_fault::EngineFaults,
    source::{Losses, StampFaults},
    stage::BreakUpTime,
};

/// A run in figures.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Where every frame went.
    pub frames: Accounting,
    /// From the first frame's arrival to the last one's delivery.
    pub elapsed: Duration,
    /// Time that each stage worked on a frame, in the pipeline's order; frames that it skipped are not in it.
    pub stages: Vec<Histogram>,
    /// What restorations did, in the pipeline's order; all zero for other stages.
    pub restored: Vec<Restorations>,
    /// What was done about engines that failed, in the pipeline's order.
    pub engine_faults: Vec<EngineFaults>,
    /// From a frame's arrival to its delivery.
    pub end_to_end: Histogram,
    /// Timestamps that the source mended.
    pub stamps: StampFaults,
    /// What the source lost, beside the frames that it gave.
    pub losses: Losses,
    /// Why frames could not be read; the first ones.
    pub unreadable: Vec<String>,
    /// Break-up times, if the pipeline measures them.
    pub break_up_time: Option<BreakUpTime>,
    /// CPU time of the run.
    pub cpu: Cpu,
    /// Whether the run was ended from outside (Ctrl-C) before its source was over.
    pub interrupted: bool,
}

/// What one stage restored in a whole run, and what work it was spared.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Restorations {
    /// Frames that it restored.
    pub frames: u64,
    /// What became of their tiles.
    pub tiles: Tiles,
    /// Frames of a network that prunes windows.
    pub pruned: u64,
    /// Σ over those of the share of windows kept, the mean over the network's decisions.
    pub kept: f64,
}

impl Restorations {
    /// Adds what stage `at` did on `item`.
    pub(crate) fn add(&mut self, item: &Item, at: usize) {
        let Some(slot) = item.slots.get(at).filter(|slot| slot.state == SlotState::Done) else { return };
        let Finding::Image(restored) = &slot.finding else { return };
        self.frames += 1;
        self.tiles.add(restored.tiles);
        let fractions = &restored.kept.fractions;
        if !fractions.is_empty() {
            self.pruned += 1;
            self.kept += fractions.iter().map(|f| f64::from(*f)).sum::<f64>() / fractions.len() as f64;
        }
    }

    /// Mean share of the windows that the network worked on; `None` if it prunes none.
    pub fn mean_kept(&self) -> Option<f64> {
        (self.pruned > 0).then(|| self.kept / self.pruned as f64)
    }
}

/// CPU time of a run; zero where the system does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cpu {
    /// All threads, those of the engines included.
    pub process: Duration,
    /// The executor itself: queues and bookkeeping.
    pub executor: Duration,
    /// The sinks.
    pub sinks: Duration,
}

/// Where every frame went: `captured = delivered + Σ dropped + Σ failed + in flight`, at every moment.
///
/// A frame on which a stage failed is delivered to the sinks with its failure, but counted under `failed`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accounting {
    /// Frames that the source gave, unreadable ones included.
    pub captured: u64,
    /// Frames that came through all stages and that the sinks took.
    pub delivered: u64,
    /// Frames given up before any stage, by reason.
    pub dropped: BTreeMap<&'static str, u64>,
    /// Frames that failed, by the stage's name, or `unreadable`.
    pub failed: BTreeMap<String, u64>,
}

impl Accounting {
    /// Frames that have neither been delivered nor given up.
    pub fn in_flight(&self) -> u64 {
        let gone = self.delivered + self.dropped.values().sum::<u64>() + self.failed.values().sum::<u64>();
        self.captured - gone
    }
}
