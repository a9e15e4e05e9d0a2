//! Frames per second of the whole pipeline, in fp32, per engine and number of threads.

use std::{num::NonZero, sync::atomic::AtomicBool};

use serde::Serialize;
use tapetum_runtime::{Result, clock::Monotonic};

use super::Matrix;
use crate::{
    assemble::{self, Options, Progress},
    config::{Choice, PipelineFile, PrecisionChoice},
    executor::{self, Run},
    source,
    tune::Rounds,
};

/// One engine with one number of threads.
#[derive(Clone, Debug, Serialize)]
pub struct Rate {
    /// As asked for.
    pub engine: String,
    /// Threads inside a run of a model.
    pub threads: usize,
    /// Frames worked on at once: as many as leave each thread a core.
    pub workers: usize,
    /// Frames per second, of each run.
    pub fps: Vec<f64>,
    /// Why there is none.
    pub why_not: Option<String>,
}

impl Rate {
    /// The middle of the runs.
    pub fn median(&self) -> Option<f64> {
        let mut fps = self.fps.clone();
        fps.sort_by(f64::total_cmp);
        fps.get(fps.len().saturating_sub(1) / 2).copied()
    }
}

/// Runs `file` over the source `runs` times on each engine that `matrix` has measured, with each of its numbers of
/// threads, in turn, after one run of each that does not count. Put into `matrix`.
///
/// # Errors
/// The source cannot be opened again, it was interrupted. That an engine does not run the pipeline is no error.
pub fn rates(
    matrix: &mut Matrix,
    file: &PipelineFile,
    options: &Options,
    source: &str,
    runs: usize,
    stop: &AtomicBool,
    tell: &mut dyn FnMut(Progress<'_>),
) -> Result<()> {
    let rounds = Rounds { of_each: runs, stop };
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let mut loaded = Vec::new();
    for peak in &matrix.peaks {
        rounds.go_on()?;
        let workers = (cores / peak.threads).max(1);
        let own = Options {
            engine: Some(Choice::Exactly(peak.engine.clone())),
            precision: Some(PrecisionChoice::Fp32),
            workers: Some(workers),
            threads: Some(peak.threads),
            ..options.clone()
        };
        let info = source::open(source)?.info().clone();
        let pipeline = assemble::assemble(file, &own, &info.name, info.live, tell);
        let why_not = pipeline.as_ref().err().map(ToString::to_string);
        let (engine, threads) = (peak.engine.clone(), peak.threads);
        loaded.push((Rate { engine, threads, workers, fps: Vec::new(), why_not }, pipeline.ok()));
    }
    for round in 0..=runs {
        for (rate, slot) in &mut loaded {
            let Some(pipeline) = slot else { continue };
            rounds.go_on()?;
            let clock = Monotonic::start();
            let source = source::open(source)?;
            let run = Run { source, sinks: Vec::new(), clock: &clock, stop, watch: &mut |_, _| {} };
            let outcome = executor::run(pipeline, run);
            rounds.go_on()?;
            let (frames, seconds) = (outcome.summary.frames.delivered, outcome.summary.elapsed.as_secs_f64());
            let lost = outcome.source_error.map(|e| e.to_string());
            let why_not = lost.or_else(|| (frames == 0).then(|| "no frame came through".to_owned()));
            if why_not.is_some() {
                (*slot, rate.fps, rate.why_not) = (None, Vec::new(), why_not);
            } else if round > 0 {
                rate.fps.push(frames as f64 / seconds.max(1e-9));
            }
        }
    }
    matrix.rates = loaded.into_iter().map(|(rate, _)| rate).collect();
    Ok(())
}
