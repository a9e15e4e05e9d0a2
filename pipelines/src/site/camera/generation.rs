//! One configuration of a camera's pipeline, from loading its models to the last frame that it sees.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use tapetum_runtime::{Error, Result};

use super::{CameraCore, Lent, Publisher};
use crate::{
    RunInfo,
    assemble::{self, Options, Pipeline, Progress},
    executor::{self, Outcome, Run},
    recording::format::{ModelHead, RunHead},
    site::config::CameraSpec,
    source::Source,
    tune::Machine,
};

/// How long to wait before the pipeline is run again after it ended by itself, which only a broken invariant can make it do.
const PAUSE: Duration = Duration::from_secs(1);

/// A generation on its own thread: it loads, says so, waits for its turn, then runs until it is told to give way.
pub(crate) struct Generation {
    pub spec: Arc<CameraSpec>,
    turn: Option<SyncSender<()>>,
    loaded: Receiver<Result<()>>,
    give_way: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Generation {
    /// Begins to load.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(camera: &Arc<CameraCore>, spec: Arc<CameraSpec>, options: Options) -> Result<Self> {
        let (turn, my_turn) = sync_channel(1);
        let (say, loaded) = sync_channel(1);
        let give_way: Arc<AtomicBool> = Arc::default();
        let life = Life { camera: camera.clone(), spec: spec.clone(), give_way: give_way.clone() };
        let thread = std::thread::Builder::new()
            .name(format!("camera {}", spec.name))
            .spawn(move || life.live(&options, &say, &my_turn))
            .map_err(|e| Error::internal(format!("no thread for camera {}: {e}", spec.name)).caused_by(e))?;
        Ok(Self { spec, turn: Some(turn), loaded, give_way, thread: Some(thread) })
    }

    /// Waits until its models are loaded and checked.
    ///
    /// # Errors
    /// Why they cannot be.
    pub fn loaded(&self) -> Result<()> {
        self.loaded.recv().unwrap_or_else(|_| Err(Error::internal("loading the pipeline panicked")))
    }

    /// As [`Generation::loaded`], without waiting: `None` while it loads.
    pub fn try_loaded(&self) -> Option<Result<()>> {
        match self.loaded.try_recv() {
            Ok(outcome) => Some(outcome),
            Err(std::sync::mpsc::TryRecvError::Empty) => None,
            Err(_) => Some(Err(Error::internal("loading the pipeline panicked"))),
        }
    }

    /// It is to look at the camera's frames from now on.
    pub fn take_over(&mut self) {
        if let Some(turn) = self.turn.take() {
            // If its thread has died, the camera's status says so.
            turn.send(()).ok();
        }
    }

    /// Has it deliver what it is at and end; returns when it has.
    pub fn give_way(&mut self) {
        self.give_way.store(true, Ordering::SeqCst);
        self.turn = None;
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        self.give_way();
    }
}

/// What the thread has.
struct Life {
    camera: Arc<CameraCore>,
    spec: Arc<CameraSpec>,
    give_way: Arc<AtomicBool>,
}

impl Life {
    fn live(&self, options: &Options, say: &SyncSender<Result<()>>, my_turn: &Receiver<()>) {
        let source = self.camera.feed().state.health().info.name;
        let news = options.hub.as_ref().and_then(|hub| hub.news());
        let mut tell = |step: Progress<'_>| {
            if let Some(news) = news {
                news.step(step);
            }
        };
        let pipeline = match assemble::assemble(&self.spec.pipeline, options, &source, true, &mut tell) {
            Ok(pipeline) => pipeline,
            Err(e) => return say.send(Err(e)).unwrap_or_default(),
        };
        if say.send(Ok(())).is_err() || my_turn.recv().is_err() {
            // Rolled back: another camera's new generation could not be loaded.
            return;
        }
        self.camera.figures.begin(&pipeline.info);
        if let Some(news) = news {
            news.decided(&self.camera.name, &pipeline.info);
        }
        if let Some(watcher) = &mut *super::lock(&self.camera.watcher) {
            watcher.looks_at(&pipeline.info);
        }
        if let Some(recorder) = &mut *super::lock(&self.camera.recorder) {
            recorder.runs(self.run_head(&pipeline.info, options));
        }
        while !self.give_way.load(Ordering::SeqCst) {
            let outcome = self.run(&pipeline);
            self.camera.figures.end(&outcome.summary);
            if self.give_way.load(Ordering::SeqCst) || self.camera.feed().stop.is_set() {
                break;
            }
            // A live source does not end, and a sink of ours does not fail: something is broken, or a file is over.
            let why = outcome.source_error.or(outcome.sink_errors.into_iter().next());
            self.camera.ended(why.map(|e| e.to_string()));
            std::thread::sleep(PAUSE);
        }
    }

    /// What has to be known to run it again.
    fn run_head(&self, info: &RunInfo, options: &Options) -> RunHead {
        let file = &self.spec.pipeline;
        let models = info.stages.iter().filter_map(|stage| {
            let model = stage.model.as_ref()?;
            Some(ModelHead {
                stage: stage.name.clone(),
                network: model.network.clone(),
                sha256: model.sha256.clone(),
                engine: model.engine.clone(),
                engine_version: model.engine_version.clone(),
            })
        });
        let limits = options.hub.as_ref().map(|hub| hub.limits());
        RunHead {
            pipeline: info.pipeline.clone(),
            path: std::path::absolute(&file.path).unwrap_or_else(|_| file.path.clone()).display().to_string(),
            digest: info.digest.clone(),
            models: models.collect(),
            threads: limits.map_or(1, |limits| limits.threads),
            batch: limits.map_or(1, |limits| limits.batch),
            machine: Some(Machine::this()),
            text: file.text.clone(),
        }
    }

    fn run(&self, pipeline: &Pipeline<'_>) -> Outcome {
        let camera = &self.camera;
        let lent = Lent::new(
            camera.feed().source.clone(),
            self.give_way.clone(),
            camera.clone(),
            self.spec.max_fps,
            camera.cap.clone(),
        );
        executor::run(
            pipeline,
            Run {
                source: Box::new(lent) as Box<dyn Source>,
                sinks: vec![Box::new(Publisher::new(camera.clone()))],
                clock: &*camera.clock,
                // Told through the source, so that what is on its way is delivered.
                stop: &AtomicBool::new(false),
                watch: &mut |item, counts| {
                    let max_age = *super::lock(&camera.max_age);
                    camera.figures.delivered(item, counts, camera.clock.now(), max_age);
                },
            },
        )
    }
}
