//! What the daemon's threads share.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::{Duration, Instant, SystemTime},
};

use tapetum_runtime::{
    Result,
    clock::{Clock, Monotonic, Tick},
};

use super::{Level, Tell, lock::StateLock, reload::Turn, watch::Watch};
use crate::{
    assemble::Options,
    cpu,
    flow::Policy,
    hub::{Hub, Limits},
    site::{
        camera::{Keeper, Shared},
        config::{
            CameraSpec, SiteFile,
            named::{self, Looks},
        },
        event::{EventPage, EventQuery, Ids},
        http::{Serving, Site},
        live::Live,
        machine::Machine,
        message::Event,
        outlets::Outlets,
        record::Media,
        status::{ConfigStatus, SiteStatus},
    },
};

/// How often the configuration's files are looked at.
const LOOK: Duration = Duration::from_secs(2);

/// The cameras were not looked after for this long: something stands still.
const STUCK: Duration = Duration::from_secs(20);

pub(super) struct Inner {
    pub this: Weak<Self>,
    pub stop: AtomicBool,
    pub outlets: Arc<Outlets>,
    pub media: Arc<Media>,
    /// In force.
    pub file: Mutex<SiteFile>,
    pub cameras: Mutex<Vec<Keeper>>,
    pub config: Mutex<ConfigStatus>,
    pub clock: Arc<dyn Clock>,
    /// One configuration is taken in at a time.
    pub turn: Mutex<Turn>,
    /// Held while a configuration comes into force.
    pub switching: Mutex<()>,
    /// The models that cameras share.
    pub hub: Mutex<Arc<Hub>>,
    /// The board and how hot it is.
    pub machine: Machine,
    /// The HTTP side, and the files that it has read, as they were.
    pub serving: Mutex<Option<(Serving, Looks)>>,
    /// When the cameras were last looked after.
    ticked: Mutex<Tick>,
    /// Nobody else has the state folder.
    _state: StateLock,
    ids: Arc<Ids>,
    cache: Option<PathBuf>,
    started: SystemTime,
    watch: Mutex<(Tick, Watch)>,
    /// Why no media are written, as last told.
    media_told: Mutex<Option<String>>,
    tell: Tell,
}

/// What these locks guard is sound between any two statements.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    /// `root` is where the machine's files lie: `/`, but for tests.
    pub fn start(root: &Path, file: SiteFile, cache: Option<PathBuf>, tell: Tell) -> Result<Arc<Self>> {
        let clock: Arc<dyn Clock> = Arc::new(Monotonic::start());
        let state = StateLock::take(&file.state)?;
        let media = Arc::new(Media::start(&file.media)?);
        let outlets = Arc::new(Outlets::open(&file)?);
        let machine = Machine::new(root, file.board.clone(), file.limits.hot_fps);
        tell(Level::Info, &machine.words());
        let limits = file.limits.of_models(file.cameras.len(), machine.threads());
        let hub = Hub::telling(limits, clock.clone(), tell.clone());
        let config = ConfigStatus {
            path: file.path.display().to_string(),
            sha256: file.sha256.clone(),
            loaded: SystemTime::now(),
            last_reload: None,
            reload_error: None,
            reload_did: Vec::new(),
            reloading: false,
        };
        let watch = Watch::new(named::files(&file.path));
        let ids = Arc::new(Ids::new()?);
        let inner = Arc::new_cyclic(|this| Self {
            this: this.clone(),
            stop: AtomicBool::new(false),
            outlets,
            media,
            cameras: Mutex::default(),
            config: Mutex::new(config),
            clock,
            turn: Mutex::default(),
            switching: Mutex::default(),
            hub: Mutex::new(hub),
            machine,
            serving: Mutex::default(),
            ticked: Mutex::default(),
            _state: state,
            ids: ids.clone(),
            cache,
            started: SystemTime::now(),
            watch: Mutex::new((Tick::ZERO, watch)),
            media_told: Mutex::default(),
            tell,
            file: Mutex::new(file.clone()),
        });
        for spec in &file.cameras {
            let keeper = inner.keeper(spec, inner.options(), file.limits.max_age)?;
            lock(&inner.cameras).push(keeper);
        }
        Ok(inner)
    }

    /// A camera from its start.
    pub fn keeper(&self, spec: &CameraSpec, options: Options, max_age: Option<Duration>) -> Result<Keeper> {
        let shared = Shared {
            site: lock(&self.file).name.as_str().into(),
            clock: self.clock.clone(),
            outlets: self.outlets.clone(),
            ids: self.ids.clone(),
            media: self.media.clone(),
            max_age,
            cap: self.machine.cap(),
        };
        Keeper::start(Arc::new(spec.clone()), options, shared)
    }

    /// How the cameras' pipelines are loaded: on shared models, one frame at a time each, the newest first.
    pub fn options(&self) -> Options {
        self.options_on(&lock(&self.hub))
    }

    pub fn options_on(&self, hub: &Arc<Hub>) -> Options {
        Options {
            hub: Some(hub.clone()),
            workers: Some(1),
            queue: Some(Policy::Latest),
            cache: self.cache.clone(),
            usual: self.machine.engines(),
            ..Options::default()
        }
    }

    pub fn tell(&self, level: Level, what: &str) {
        (self.tell)(level, what);
    }

    /// For models that are loaded beside those in force.
    pub fn new_hub(&self, limits: Limits) -> Arc<Hub> {
        Hub::telling(limits, self.clock.clone(), self.tell.clone())
    }

    /// Looks after the cameras, and after the files of the configuration.
    pub fn tick(&self) {
        for camera in lock(&self.cameras).iter_mut() {
            if let Some((level, what)) = camera.tick() {
                self.tell(level, &what);
            }
        }
        self.tell_media();
        let now = self.clock.now();
        if let Some((level, what)) = self.machine.tick(now) {
            self.tell(level, &what);
        }
        let changed = {
            let mut watch = lock(&self.watch);
            let due = now.saturating_sub(watch.0) >= LOOK;
            if due {
                watch.0 = now;
            }
            due && watch.1.changed()
        };
        if changed {
            self.tell(Level::Info, "a file of the configuration has changed; it is taken in");
            self.reload_later();
        }
        *lock(&self.ticked) = self.clock.now();
    }

    /// Tells when the media folder begins to fail, and when it is well again.
    fn tell_media(&self) {
        let status = self.media.status();
        let why = status.why;
        let mut told = lock(&self.media_told);
        if *told == why {
            return;
        }
        match &why {
            Some(why) if status.up => self.tell(Level::Warning, &format!("media: {why}")),
            Some(why) => self.tell(Level::Warning, &format!("no snapshots and recordings: {why}")),
            None => self.tell(Level::Info, "snapshots and recordings are written again"),
        }
        *told = why;
    }

    /// What is watched from now on.
    pub fn watch(&self, watch: Watch) {
        lock(&self.watch).1 = watch;
    }

    /// Stops all cameras at once, in `within` at the latest: of a camera that still waits for a model then, events are ended, and
    /// what it has under way is lost.
    pub fn stop_cameras(&self, within: Duration) {
        let until = Instant::now() + within;
        let cameras = std::mem::take(&mut *lock(&self.cameras));
        cameras.iter().for_each(Keeper::begin_stop);
        let (say, said) = mpsc::sync_channel(cameras.len());
        let mut left = Vec::new();
        // Each waits for what it has on its way: side by side, that is the longest of these waits and not their sum.
        for (at, camera) in cameras.into_iter().enumerate() {
            left.push(Some(camera.last_words()));
            let say = say.clone();
            let stop = move || {
                say.send((at, camera.stop())).ok();
            };
            // Without a thread it was stopped when that was dropped.
            std::thread::Builder::new().name("stop".into()).spawn(stop).ok();
        }
        drop(say);
        while let Ok((at, account)) = said.recv_timeout(until.saturating_duration_since(Instant::now())) {
            self.tell(Level::Info, &account);
            left[at] = None;
        }
        left.into_iter().flatten().for_each(|last_words| last_words());
    }
}

impl Site for Inner {
    fn stuck(&self) -> Vec<String> {
        let ticked = *lock(&self.ticked);
        let since = self.clock.now().saturating_sub(ticked);
        let late = (since >= STUCK)
            .then(|| format!("the cameras have not been looked after for {} s", since.as_secs()));
        late.into_iter().chain(lock(&self.cameras).iter().filter_map(Keeper::stuck)).collect()
    }

    fn status(&self) -> SiteStatus {
        let (cameras, mut not_ready) = {
            let cameras = lock(&self.cameras);
            let not_ready: Vec<String> = cameras.iter().filter_map(|c| c.ready().err()).collect();
            (cameras.iter().map(Keeper::status).collect(), not_ready)
        };
        let outputs = self.outlets.status();
        not_ready.extend(
            outputs
                .iter()
                .filter(|o| !o.up)
                .map(|o| format!("output {}: {}", o.name, o.why.as_deref().unwrap_or("it is down"))),
        );
        let media = self.media.status();
        // What is told beside that it can be written keeps nobody from being ready.
        not_ready.extend(media.why.iter().filter(|_| !media.up).map(|why| format!("media: {why}")));
        not_ready.extend(self.outlets.trouble());
        if lock(&self.file).cameras.is_empty() {
            not_ready.push("the configuration names no camera".to_owned());
        }
        if self.stop.load(Ordering::SeqCst) {
            not_ready.push("it is ending".to_owned());
        }
        SiteStatus {
            site: lock(&self.file).name.clone(),
            version: env!("CARGO_PKG_VERSION"),
            started: self.started,
            uptime_s: self.clock.now().as_secs_f64(),
            not_ready,
            cameras,
            models: lock(&self.hub).clone().status(),
            outputs,
            media: Some(media),
            config: lock(&self.config).clone(),
            board: self.machine.status(),
            rss_bytes: resident(),
            cpu_s: cpu::process().as_secs_f64(),
        }
    }

    fn live(&self, camera: &str) -> Option<Arc<Live>> {
        lock(&self.cameras).iter().find(|c| c.spec.name == camera).map(Keeper::live)
    }

    fn events(&self, query: &EventQuery) -> Result<EventPage> {
        self.outlets.events(query)
    }

    fn event(&self, id: &str) -> Result<Option<Event>> {
        self.outlets.event(id)
    }

    fn media(&self) -> Option<&Path> {
        Some(self.media.dir())
    }

    fn reload(&self) -> Result<()> {
        self.reload_now()
    }
}

/// Resident memory of this process, in bytes.
fn resident() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * 4096)
}
