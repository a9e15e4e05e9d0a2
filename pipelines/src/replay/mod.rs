//! A recorded event once more: the same pictures through the same pipeline, and what comes out otherwise than it did.
//!
//! | part | what it does |
//! |---|---|
//! | [`find`] | an event's recording |
//! | [`replay`] | runs it and compares |
//! | [`changes`] | what is not as it was then: files, versions, the machine |
//! | [`compare`] | two results of a frame |
//! | `frames` | the recorded frames as a source |

pub mod changes;
pub mod compare;
mod find;
mod frames;
mod judge;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool},
};

use serde::Serialize;
use tapetum_runtime::{Error, Result, clock::Monotonic};

use crate::{
    assemble::{self, Options, Pipeline, Progress},
    config::{Choice, ModelChange, PipelineFile},
    executor::{self, Run},
    flow::Policy,
    recording::read::Recording,
    sink,
};

pub use find::find;
pub use judge::{Difference, FrameDifference, Verdict};

/// How it is run.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    /// Another engine than then.
    pub engine: Option<Choice>,
    /// Other files for some of the models.
    pub models: Vec<ModelChange>,
    /// A number may be off by so much of itself, or of 1 where it is smaller, to count as equal within.
    pub tolerance: f64,
    /// A video with what is found now drawn in.
    pub video: Option<PathBuf>,
    /// As [`Options::cache`].
    pub cache: Option<PathBuf>,
}

/// Usual [`Wishes::tolerance`].
pub const TOLERANCE: f64 = 1e-4;

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The recording's folder.
    pub recording: PathBuf,
    /// Its events.
    pub events: Vec<String>,
    /// As in the configuration.
    pub camera: String,
    /// What is not as it was then.
    pub changes: Vec<String>,
    /// What whoever reads the verdict should know.
    pub remarks: Vec<String>,
    /// By frame, whether it came out as it did.
    pub verdict: Verdict,
    /// Frames that were compared.
    pub frames: u64,
    /// Of these, to the last bit as they were.
    pub identical: u64,
    /// Of these, otherwise, but no number by more than the tolerance.
    pub within: u64,
    /// Of these, otherwise by more.
    pub different: u64,
    /// Of these, with another digest although nothing differs that is judged.
    pub unjudged: u64,
    /// What was not judged on those.
    pub not_judged: Vec<String>,
    /// Recorded frames that could not be run again, with why.
    pub missing: Vec<(u64, String)>,
    /// See [`Wishes::tolerance`].
    pub tolerance: f64,
    /// The largest difference of a number, as a share of itself or of 1.
    pub largest: f64,
    /// The first frames that came out otherwise, with all that differs on them.
    pub differences: Vec<FrameDifference>,
}

/// The pipeline file of `recording`, with what is wished of its models. Paths in it are relative to where it was.
///
/// # Errors
/// As [`PipelineFile::read_with`]: a model's file is gone, for example.
pub fn pipeline(recording: &Recording, wishes: &Wishes) -> Result<PipelineFile> {
    let path = PathBuf::from(&recording.summary.head.run.path);
    PipelineFile::parse_with(recording.pipeline.clone(), &path, &wishes.models)
}

/// Loads `file` as it ran then, or on the engine that is wished for.
///
/// # Errors
/// As [`assemble::assemble`].
pub fn load<'f>(
    recording: &Recording,
    file: &'f PipelineFile,
    wishes: &Wishes,
    tell: &mut dyn FnMut(Progress<'_>),
) -> Result<Pipeline<'f>> {
    let head = &recording.summary.head;
    let options = Options {
        engine: wishes.engine.clone().or_else(|| changes::engine(head)),
        workers: Some(1),
        threads: Some(head.run.threads.max(1)),
        queue: Some(Policy::Block),
        cache: wishes.cache.clone(),
        ..Options::default()
    };
    assemble::assemble(file, &options, &head.source, false, tell)
}

/// Runs `recording` through `pipeline`, which is [`load`]ed from `file`, and compares. Ends early when `stop` is set.
///
/// # Errors
/// The recording cannot be read, or the video not be written.
pub fn replay(
    recording: &Recording,
    file: &PipelineFile,
    pipeline: &Pipeline<'_>,
    wishes: &Wishes,
    stop: &AtomicBool,
) -> Result<Report> {
    let matched = frames::Matched::of(recording, file)?;
    if matched.frames.is_empty() {
        let what = "none of its frames was looked at, or none has a picture: there is nothing to run again";
        return Err(Error::bad_file(what).at(recording.folder.display()));
    }
    let head = &recording.summary.head;
    let mut remarks = matched.remarks.clone();
    let remembering: Vec<String> =
        file.stages.iter().filter(|s| s.plan.ordered()).map(|s| s.name.clone()).collect();
    if !remembering.is_empty() {
        remarks.push(format!(
            "what {} found is not judged: it depends on frames before the recording, too",
            remembering.join(", ")
        ));
    }
    if !head.exact {
        remarks.push(
            "the source gave no encoded pictures: they were encoded as JPEG for the recording, so results are nearly those of \
             then, not exactly"
                .to_owned(),
        );
    }
    let judge = judge::Judge::new(&recording.frames, remembering.clone(), wishes.tolerance);
    let judge = Arc::new(Mutex::new(judge));
    let mut sinks: Vec<Box<dyn sink::Sink>> = vec![Box::new(judge::Bench::new(judge.clone()))];
    if let Some(path) = &wishes.video {
        sinks.push(sink::overlay(path));
    }
    let clock = Monotonic::start();
    let source = frames::Frames::new(recording, &matched)?;
    let run = Run { source: Box::new(source), sinks, clock: &clock, stop, watch: &mut |_, _| {} };
    let outcome = executor::run(pipeline, run);
    if let Some(e) = outcome.source_error.or(outcome.sink_errors.into_iter().next()) {
        return Err(e);
    }
    let judge = std::mem::take(&mut *judge.lock().unwrap_or_else(PoisonError::into_inner));
    let missing = matched.missing;
    let mut not_judged = Vec::new();
    if judge.unjudged > 0 {
        not_judged.push(format!("what {} found", remembering.join(", ")));
        not_judged.extend(judge.pixels.iter().map(|stage| format!("pixels of {stage}")));
    }
    Ok(Report {
        recording: recording.folder.clone(),
        events: recording.summary.events.iter().map(|event| event.id.clone()).collect(),
        camera: head.camera.clone(),
        changes: changes::changes(recording, file, pipeline),
        remarks,
        verdict: judge.verdict(!missing.is_empty()),
        frames: judge.frames,
        identical: judge.identical,
        within: judge.within,
        different: judge.different,
        unjudged: judge.unjudged,
        not_judged,
        missing,
        tolerance: wishes.tolerance,
        largest: judge.largest,
        differences: judge.differences,
    })
}
