//! How many frames are worked on at once, and with how many threads.

use std::num::NonZero;

use crate::{
    assemble::Options,
    config::PipelineFile,
    flow::{Limits, Policy},
};

/// Threads over the whole pipeline.
///
/// Files want frames per second: one worker per core, each running a whole model on its own frame, so that nothing
/// waits for the slowest thread of a layer. Cameras want a young result: two workers that share the cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What happens when frames come faster than they are worked on.
    pub policy: Policy,
    /// Frames worked on at once.
    pub workers: usize,
    /// Threads inside each run of a model.
    pub threads: usize,
    /// Frames that may wait.
    pub waiting: usize,
}

impl Plan {
    pub(crate) fn new(file: &PipelineFile, options: &Options, live: bool) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let by_source = if live { Policy::Latest } else { Policy::Block };
        let policy = options.queue.or(file.queue).unwrap_or(by_source);
        let usual = if policy == Policy::Block { cores } else { cores.min(2) };
        let workers = options.workers.or(file.workers).unwrap_or(usual).max(1);
        let threads = options.threads.or(file.threads).unwrap_or((cores / workers).max(1));
        let waiting = file.queue_size.unwrap_or(if policy == Policy::Block { 4 } else { 1 });
        Self { policy, workers, threads, waiting }
    }

    pub(crate) fn limits(&self) -> Limits {
        let unfinished = if self.policy == Policy::Block { 2 * self.workers } else { self.workers };
        Limits { waiting: self.waiting, unfinished, active: 2 * self.workers + 2 }
    }
}
