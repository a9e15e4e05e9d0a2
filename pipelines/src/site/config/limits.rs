//! `[limits]`: what the cameras share.

use std::{num::NonZero, time::Duration};

use tapetum_runtime::settings::{Reader, Table};

use crate::{config::positive, hub};

/// What all cameras together may take.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SiteLimits {
    /// Model runs at once; `None`: as many as there are cameras or cores, whichever is less.
    pub runs: Option<usize>,
    /// Threads inside a model run; `None`: the cores divided by the runs.
    pub threads: Option<usize>,
    /// Most regions of several cameras in one run of a model.
    pub batch: Option<usize>,
    /// How long a region waits at most for those of other cameras.
    pub batch_wait: Duration,
    /// A result that is older than this when it is delivered is late. Late results are counted, and the log tells of a camera when all of its results are.
    pub max_age: Option<Duration>,
    /// Most frames per second of each camera that are looked at while the machine is too hot; `None`: as many as ever.
    pub hot_fps: Option<f32>,
}

/// Keys of `[limits]`.
pub(super) const KEYS: &[&str] = &["runs", "threads", "batch", "batch_wait_ms", "max_age_ms", "hot_fps"];

/// Longest wait for a batch.
const LONGEST_WAIT_MS: usize = 1000;

impl SiteLimits {
    pub(super) fn read<'t>(reader: &mut Reader<'t>, root: &Table<'t>) -> Self {
        let Some(table) = reader.table(root, "limits", KEYS) else { return Self::default() };
        let wait = reader.count(&table, "batch_wait_ms").unwrap_or(0);
        if wait > LONGEST_WAIT_MS {
            let what = format!("batch_wait_ms must be from 0 to {LONGEST_WAIT_MS}, this is {wait}");
            reader.note(table.place("batch_wait_ms"), what);
        }
        let hot_fps = reader.number(&table, "hot_fps");
        if hot_fps.is_some_and(|fps| !(0.01..=1000.0).contains(&fps)) {
            reader.note(table.place("hot_fps"), "hot_fps must be from 0.01 to 1000");
        }
        Self {
            runs: positive(reader, &table, "runs", 64),
            threads: positive(reader, &table, "threads", 256),
            batch: positive(reader, &table, "batch", 64),
            batch_wait: Duration::from_millis(wait.min(LONGEST_WAIT_MS) as u64),
            max_age: positive(reader, &table, "max_age_ms", 3_600_000)
                .map(|ms| Duration::from_millis(ms as u64)),
            hot_fps,
        }
    }

    /// How shared models are run for so many cameras. `threads`: what the board leaves to the engines; all cores if `None`.
    pub fn of_models(&self, cameras: usize, threads: Option<usize>) -> hub::Limits {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let cores = threads.map_or(cores, |threads| threads.min(cores));
        let runs = self.runs.unwrap_or(cores.min(cameras)).max(1);
        hub::Limits {
            runs,
            threads: self.threads.unwrap_or(cores / runs).max(1),
            batch: self.batch.unwrap_or(8),
            wait: self.batch_wait,
        }
    }
}
