//! Keeps a camera going: which generation of its pipeline runs, which one loads, and when a failed one is tried again.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use tapetum_runtime::{
    Result,
    clock::{Clock, Tick},
};

use super::{CameraCore, Feed, Figures, Generation, Lateness, Progress, Watcher, lock};
use crate::{
    assemble::Options,
    recording::format::Ended,
    site::{
        config::CameraSpec,
        daemon::Level,
        event::Ids,
        live::Live,
        machine::Cap,
        message::{CameraNews, Message},
        outlets::Outlets,
        record::{Held, Media, Recorder},
        status::{CameraState, CameraStatus, Gaps},
    },
    source::recover::Phase,
};

/// After its models could not be loaded, how long until that is tried again.
const AGAIN: Duration = Duration::from_secs(60);

/// A camera that is gone for this long ends its events.
const GONE: Duration = Duration::from_secs(10);

/// One camera as the daemon holds it.
pub(in crate::site) struct Keeper {
    pub spec: Arc<CameraSpec>,
    core: Arc<CameraCore>,
    options: Options,
    shared: Shared,
    current: Option<Generation>,
    coming: Option<Generation>,
    /// Why the last one could not be loaded, and when to try again.
    refused: Option<(String, Tick)>,
    /// As last told.
    told: (CameraState, Option<String>, SystemTime),
    /// When it came to be in that state.
    since: Tick,
    progress: Progress,
    lateness: Lateness,
}

/// What the cameras of a site share.
#[derive(Clone)]
pub(in crate::site) struct Shared {
    pub site: Arc<str>,
    pub clock: Arc<dyn Clock>,
    pub outlets: Arc<Outlets>,
    pub ids: Arc<Ids>,
    pub media: Arc<Media>,
    pub max_age: Option<Duration>,
    pub cap: Arc<Cap>,
}

impl Shared {
    /// What keeps the events of a camera, if they are to be kept.
    fn recorder(&self, spec: &CameraSpec, source: &str) -> Option<Recorder> {
        let (record, events) = spec.record.as_ref().zip(spec.events.as_ref())?;
        Some(Recorder::new([&self.site, &spec.name, source], record, events.window, self.media.clone()))
    }
}

impl Keeper {
    /// Opens the source and begins to load the pipeline.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(spec: Arc<CameraSpec>, options: Options, shared: Shared) -> Result<Self> {
        let watcher = |events| Watcher::new(&spec.name, events, shared.ids.clone());
        let watcher = spec.events.as_ref().map(watcher);
        let feed = Feed::open(&spec)?;
        let recorder = shared.recorder(&spec, &feed.state.health().info.name);
        let core = Arc::new(CameraCore {
            name: spec.name.clone(),
            live: Arc::new(Live::default()),
            figures: Arc::new(Figures::default()),
            feed: Mutex::new(feed),
            held: Arc::new(Held::new(shared.outlets.clone(), shared.clock.clone())),
            clock: shared.clock.clone(),
            outlets: shared.outlets.clone(),
            watcher: Mutex::new(watcher),
            recorder: Mutex::new(recorder),
            max_age: Mutex::new(shared.max_age),
            cap: shared.cap.clone(),
            ended: Mutex::default(),
        });
        let coming = Some(Generation::start(&core, spec.clone(), options.clone())?);
        let told = (CameraState::Loading, None, SystemTime::now());
        let (since, progress, lateness) = (core.clock.now(), Progress::default(), Lateness::default());
        Ok(Self {
            spec,
            core,
            options,
            shared,
            current: None,
            coming,
            refused: None,
            told,
            since,
            progress,
            lateness,
        })
    }

    /// Where it lays its newest frame.
    pub fn live(&self) -> Arc<Live> {
        self.core.live.clone()
    }

    /// Begins to load another configuration of this camera; [`Keeper::switch`] puts it into force.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn prepare(&self, spec: Arc<CameraSpec>, options: Options) -> Result<Generation> {
        Generation::start(&self.core, spec, options)
    }

    /// From the next frame on `next`, which is loaded, is in force.
    ///
    /// # Errors
    /// The new source cannot be given a thread; the old configuration stays.
    pub fn switch(&mut self, mut next: Generation, options: Options) -> Result<()> {
        let spec = next.spec.clone();
        let other_source = spec.source != self.spec.source || spec.live != self.spec.live;
        let feed = if other_source { Some(Feed::open(&spec)?) } else { None };
        if let Some(mut old) = self.current.take() {
            old.give_way();
        }
        let other_feed = feed.is_some();
        if let Some(new) = feed {
            self.replace_feed(new);
        }
        let source = self.core.feed().state.health().info.name;
        let other_record = spec.record != self.spec.record || spec.events != self.spec.events;
        if other_record {
            // Also where the events are as before: what one of them shows goes by one configuration, and has one recording.
            self.core.end_events(Ended::Changed);
            let watcher = |events| Watcher::new(&spec.name, events, self.shared.ids.clone());
            *lock(&self.core.watcher) = spec.events.as_ref().map(watcher);
        }
        {
            let mut recorder = lock(&self.core.recorder);
            if other_record {
                if let Some(old) = &mut *recorder {
                    old.end(Ended::Changed);
                }
                *recorder = self.shared.recorder(&spec, &source);
            } else if let Some(recorder) = recorder.as_mut().filter(|_| other_feed) {
                recorder.comes_from(&source);
            }
        }
        next.take_over();
        (self.coming, self.refused) = (None, None);
        (self.current, self.spec, self.options) = (Some(next), spec, options);
        Ok(())
    }

    fn replace_feed(&self, new: Feed) {
        let mut feed = self.core.feed();
        let old = std::mem::replace(&mut *feed, new);
        old.stop.set();
        let health = old.state.health();
        feed.overtaken = old.overtaken + health.losses.overtaken;
        feed.received = old.received + health.pictures + health.unreadable;
        feed.past = health.faults.clone();
        feed.past.reconnects += old.past.reconnects;
        feed.past.stalls += old.past.stalls;
        feed.past.downtime += old.past.downtime;
        feed.gaps = old.gaps;
        feed.gaps += Gaps::of(&health);
    }

    /// To be called several times a second: takes over what has loaded, tries again what has failed, tells the outputs what
    /// has changed. Returns what a log should say.
    pub fn tick(&mut self) -> Option<(Level, String)> {
        let now = self.core.clock.now();
        match self.coming.as_ref().and_then(Generation::try_loaded) {
            None => {}
            Some(Ok(())) => {
                if let Some(mut loaded) = self.coming.take() {
                    loaded.take_over();
                    (self.current, self.refused) = (Some(loaded), None);
                }
            }
            Some(Err(e)) => {
                self.coming = None;
                self.refused = Some((e.to_string(), now + AGAIN));
            }
        }
        if self.coming.is_none()
            && self.refused.as_ref().is_some_and(|(_, when)| now >= *when)
            && let Ok(again) = Generation::start(&self.core, self.spec.clone(), self.options.clone())
        {
            self.coming = Some(again);
        }
        let said = self.tell();
        self.core.held.flush(false);
        if self.told.0 != CameraState::Streaming && now.saturating_sub(self.since) >= GONE {
            // Without frames nothing would end them.
            self.end_events();
        }
        let (last, _) = self.core.figures.progress();
        let pictures = self.core.feed().state.health().pictures;
        self.progress.look(self.told.0 == CameraState::Streaming, pictures, last, now);
        let late = self.late(now);
        said.or(late)
    }

    /// What a log should say of results that are late, all of them, or are no longer.
    fn late(&mut self, now: Tick) -> Option<(Level, String)> {
        let most = (*lock(&self.core.max_age))?.as_millis();
        let (delivered, late) = self.core.figures.late();
        let name = &self.core.name;
        Some(match self.lateness.look(delivered, late, now)? {
            true => {
                let what = "all results of the last 10 s were older when they were delivered";
                (Level::Warning, format!("camera {name}: max_age_ms is {most}: {what}"))
            }
            false => (Level::Info, format!("camera {name}: results are within max_age_ms = {most} again")),
        })
    }

    /// Whether its pipeline has loaded, or why it has not; `None` while it loads.
    pub fn settled(&self) -> Option<Result<(), String>> {
        match (&self.current, &self.coming, &self.refused) {
            (Some(_), ..) => Some(Ok(())),
            (None, None, Some((why, _))) => Some(Err(format!("camera {}: {why}", self.core.name))),
            _ => None,
        }
    }

    /// Tells the outputs when the camera comes or goes.
    fn tell(&mut self) -> Option<(Level, String)> {
        let (state, why) = self.state();
        if state == self.told.0 && why == self.told.1 {
            return None;
        }
        let online = state == CameraState::Streaming;
        let changed = state != self.told.0;
        let since = if changed { SystemTime::now() } else { self.told.2 };
        if changed {
            self.since = self.core.clock.now();
        }
        self.told = (state, why.clone(), since);
        let name = &self.core.name;
        let said = match &why {
            Some(why) => (Level::Warning, format!("camera {name}: {}: {why}", state.name())),
            None => (Level::Info, format!("camera {name}: {}", state.name())),
        };
        let news = CameraNews { camera: name.clone(), online, why, since };
        self.core.outlets.offer(&Message::Camera(Arc::new(news)));
        Some(said)
    }

    /// Why nothing gets through although frames come, if so.
    pub fn stuck(&self) -> Option<String> {
        let (last, longest) = self.core.figures.progress();
        // Where few frames are wanted, few get through.
        let fps = [self.spec.max_fps, self.core.cap.fps()].into_iter().flatten().reduce(f32::min);
        let interval = fps.map_or(Duration::ZERO, |fps| Duration::from_secs_f32(1.0 / fps));
        let held = self.progress.stuck(last, longest, interval)?;
        let name = &self.core.name;
        Some(format!("camera {name}: frames come, and none has got through for {} s", held.as_secs()))
    }

    /// What it was doing when it was looked after last.
    pub fn told(&self) -> CameraState {
        self.told.0
    }

    /// What an output that is new has to know besides events: the camera's state, as it was told last.
    pub fn news(&self) -> Message {
        let (state, why, since) = &self.told;
        let online = *state == CameraState::Streaming;
        let news = CameraNews { camera: self.core.name.clone(), online, why: why.clone(), since: *since };
        Message::Camera(Arc::new(news))
    }

    /// From the next frame on.
    pub fn set_max_age(&self, max_age: Option<Duration>) {
        *lock(&self.core.max_age) = max_age;
    }

    /// A model that could not be loaded is tried again now, as `options` say.
    pub fn try_again(&mut self, options: Options) {
        self.options = options;
        if let Some((_, when)) = &mut self.refused {
            *when = Tick::ZERO;
        }
    }

    fn state(&self) -> (CameraState, Option<String>) {
        if self.current.is_none() {
            return match (&self.refused, &self.coming) {
                (Some((why, _)), None) => (CameraState::Failed, Some(why.clone())),
                (why, _) => (CameraState::Loading, why.as_ref().map(|(why, _)| why.clone())),
            };
        }
        let health = self.core.feed().state.health();
        let last = health.faults.last.map(|(_, why)| why);
        match health.phase {
            Phase::Connecting { .. } => (CameraState::Connecting, last),
            Phase::Streaming { .. } => (CameraState::Streaming, None),
            Phase::Waiting { .. } => (CameraState::Waiting, last),
            Phase::Stopped => (CameraState::Stopped, lock(&self.core.ended).clone()),
        }
    }

    /// How it fares.
    pub fn status(&self) -> CameraStatus {
        let now = self.core.clock.now();
        let (health, overtaken, past, mut gaps) = {
            let feed = self.core.feed();
            (feed.state.health(), feed.overtaken, feed.past.clone(), feed.gaps)
        };
        gaps += Gaps::of(&health);
        let seen = self.core.figures.seen(now, overtaken + health.losses.overtaken);
        let (state, why) = self.state();
        let retry = match health.phase {
            Phase::Waiting { until, .. } if state == CameraState::Waiting => {
                Some(until.saturating_sub(health.now))
            }
            _ => self.refused.as_ref().map(|(_, when)| when.saturating_sub(now)),
        };
        let ms = |d: Duration| d.as_secs_f64();
        CameraStatus {
            name: self.core.name.clone(),
            source: health.info.name,
            remarks: health.remarks,
            state,
            why,
            since: self.told.2,
            retry_in_s: retry.map(ms),
            size: seen.size,
            fps: seen.fps,
            frames: seen.frames,
            gaps,
            reconnects: health.faults.reconnects + past.reconnects,
            stalls: health.faults.stalls + past.stalls,
            downtime_s: ms(health.faults.downtime + past.downtime),
            last_frame_age_s: seen.last_delivered.map(|at| ms(now.saturating_sub(at))),
            age: seen.age,
            late: seen.late,
            stages: seen.stages,
            events: lock(&self.core.watcher).as_ref().map_or([0; 2], Watcher::counts),
            digest: seen.digest,
        }
    }

    /// Whether frames are looked at, or would be if the camera gave any; else why not.
    pub fn ready(&self) -> Result<(), String> {
        match self.state() {
            (CameraState::Loading, _) => Err(format!("camera {}: its models are loading", self.core.name)),
            (CameraState::Failed, why) => {
                Err(format!("camera {}: {}", self.core.name, why.unwrap_or_default()))
            }
            _ => Ok(()),
        }
    }

    fn end_events(&self) {
        self.core.end_events(Ended::Stopped);
    }

    /// To be said if [`Keeper::stop`] takes too long.
    pub fn last_words(&self) -> impl FnOnce() + use<> {
        let core = self.core.clone();
        move || {
            core.end_events(Ended::Stopped);
            // What is still under way makes no new ones.
            *lock(&core.watcher) = None;
            core.held.flush(true);
        }
    }

    /// Tells it to stop; [`Keeper::stop`] waits for it.
    pub fn begin_stop(&self) {
        self.core.feed().stop.set();
    }

    /// Delivers what is on its way, and ends the events that go on. Returns its account for the log: where every frame went.
    pub fn stop(mut self) -> String {
        self.halt();
        self.tell();
        self.account()
    }

    fn halt(&mut self) {
        self.begin_stop();
        drop(self.coming.take());
        drop(self.current.take());
        self.end_events();
        self.core.held.flush(true);
    }

    /// What the source's thread has read, beside what became of it, which is counted elsewhere: they are equal, or a frame was
    /// lost without a word.
    fn account(&self) -> String {
        let (health, overtaken, before) = {
            let feed = self.core.feed();
            (feed.state.health(), feed.overtaken, feed.received)
        };
        let frames =
            self.core.figures.seen(self.core.clock.now(), overtaken + health.losses.overtaken).frames;
        let received = before + health.pictures + health.unreadable;
        let mut parts = vec![format!("{} delivered", frames.delivered)];
        parts.extend(frames.dropped.iter().map(|(reason, n)| format!("{n} {reason}")));
        parts.extend(frames.failed.iter().map(|(stage, n)| format!("{n} failed in {stage}")));
        parts.push(format!("{} in flight", frames.in_flight));
        parts.push(format!("{} in hand", received.saturating_sub(frames.captured)));
        format!("camera {}: {received} frames received: {}", self.core.name, parts.join(", "))
    }
}

impl Drop for Keeper {
    /// A camera that was added by a configuration that is then refused has told events already.
    fn drop(&mut self) {
        self.halt();
    }
}
