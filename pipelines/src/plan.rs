//! How many frames are worked on at once, and with how many threads.

use std::num::NonZero;

use tapetum_runtime::backend::Cores;

use crate::{
    assemble::Options,
    config::PipelineFile,
    flow::{Limits, Policy},
};

/// Threads over the whole pipeline.
///
/// Files want frames per second: one worker per core, each running a whole model on its own frame, so that nothing
/// waits for the slowest thread of a layer. Cameras want a young result: two workers that share the cores.
///
/// Threads spin only where one worker takes frames as they come, and only while its model runs ([`Cores::InTurn`]): then
/// nothing else computes but the source, one frame ahead. Of several workers each needs the cores when its own thread
/// waits. A camera leaves most of the time between two frames idle; threads that spin through it take a core from the
/// rest for a millisecond or two of each result. Threads that spin on after a run ([`Cores::Own`]) are never planned:
/// the next stage's model needs their core, and where there is none the source does.
///
/// Models that pipelines share run with the threads of their hub, on cores that the others' models use, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What happens when frames come faster than they are worked on.
    pub policy: Policy,
    /// Frames worked on at once.
    pub workers: usize,
    /// Threads inside each run of a model.
    pub threads: usize,
    /// Who else computes on their cores.
    pub cores: Cores,
    /// Frames that may wait.
    pub waiting: usize,
}

/// What a session gets of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    pub threads: usize,
    pub cores: Cores,
}

impl Plan {
    pub(crate) fn new(file: &PipelineFile, options: &Options, live: bool) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self::on(cores, file, options, live)
    }

    /// As [`Plan::new`], for a machine with so many `cores`.
    fn on(cores: usize, file: &PipelineFile, options: &Options, live: bool) -> Self {
        let by_source = if live { Policy::Latest } else { Policy::Block };
        let policy = options.queue.or(file.queue).unwrap_or(by_source);
        let usual = if policy == Policy::Block { cores } else { cores.min(2) };
        let workers = options.workers.or(file.workers).unwrap_or(usual).max(1);
        // A shared model runs as its hub says, whoever asks; a tuning that is gone by must have been for that.
        let hub = options.hub.as_ref().map(|hub| hub.limits().threads);
        let own = || options.threads.or(file.threads).unwrap_or((cores / workers).max(1));
        let threads = hub.unwrap_or_else(own);
        let in_turn = workers == 1 && threads <= cores && !live && policy == Policy::Block && hub.is_none();
        let shared_with = if in_turn { Cores::InTurn } else { Cores::Shared };
        let waiting = file.queue_size.unwrap_or(if policy == Policy::Block { 4 } else { 1 });
        Self { policy, workers, threads, cores: shared_with, waiting }
    }

    /// What each session gets.
    pub(crate) fn share(&self) -> Share {
        Share { threads: self.threads, cores: self.cores }
    }

    pub(crate) fn limits(&self) -> Limits {
        let unfinished = if self.policy == Policy::Block { 2 * self.workers } else { self.workers };
        Limits { waiting: self.waiting, unfinished, active: 2 * self.workers + 2 }
    }
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::Arc, time::Duration};

    use tapetum_runtime::clock::Monotonic;

    use super::*;
    use crate::hub::{self, Hub};

    fn plan(cores: usize, options: &Options, live: bool) -> Plan {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tf-collab.toml");
        let file = PipelineFile::read(&file).unwrap();
        Plan::on(cores, &file, options, live)
    }

    #[test]
    fn files_get_a_worker_per_core_and_cameras_two_that_share_them() {
        let file = plan(8, &Options::default(), false);
        assert_eq!((file.workers, file.threads, file.policy), (8, 1, Policy::Block));
        let camera = plan(8, &Options::default(), true);
        assert_eq!((camera.workers, camera.threads, camera.policy), (2, 4, Policy::Latest));
    }

    #[test]
    fn threads_spin_where_one_worker_takes_frames_as_they_come() {
        let one = |threads| Options { workers: Some(1), threads, ..Options::default() };
        assert_eq!(plan(4, &one(None), false).share(), Share { threads: 4, cores: Cores::InTurn });
        assert_eq!(plan(4, &one(Some(2)), false).cores, Cores::InTurn);
    }

    #[test]
    fn threads_sleep_where_something_else_wants_their_core() {
        let with = |workers, threads, queue| Options {
            workers: Some(workers),
            threads: Some(threads),
            queue,
            ..Options::default()
        };
        // Another worker; more threads than cores; the time until a camera's next frame, however frames wait; a queue
        // that drops frames, so that there is none to wait for.
        assert_eq!(plan(4, &with(2, 2, None), false).cores, Cores::Shared);
        assert_eq!(plan(4, &with(1, 5, None), false).cores, Cores::Shared);
        assert_eq!(plan(4, &with(1, 4, None), true).cores, Cores::Shared);
        assert_eq!(plan(4, &with(1, 4, Some(Policy::Block)), true).cores, Cores::Shared);
        assert_eq!(plan(4, &with(1, 4, Some(Policy::Latest)), false).cores, Cores::Shared);
        assert_eq!(plan(4, &Options::default(), false).cores, Cores::Shared);
    }
    #[test]
    fn shared_models_run_with_the_threads_of_their_hub() {
        let limits = hub::Limits { runs: 4, threads: 3, batch: 8, wait: Duration::ZERO };
        let options = Options {
            hub: Some(Hub::new(limits, Arc::new(Monotonic::start()))),
            workers: Some(1),
            threads: Some(5),
            ..Options::default()
        };
        for live in [true, false] {
            assert_eq!(plan(8, &options, live).share(), Share { threads: 3, cores: Cores::Shared });
        }
    }
}
