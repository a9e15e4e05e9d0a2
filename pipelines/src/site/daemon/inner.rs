//! What the daemon's threads share.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use tapetum_runtime::{
    Error, Result,
    clock::{Clock, Monotonic, Tick},
};

use super::{Level, Tell, watch::Watch};
use crate::{
    assemble::Options,
    cpu,
    flow::Policy,
    hub::Hub,
    site::{
        camera::Keeper,
        config::{CameraSpec, SiteFile},
        event::Ids,
        http::{EventQuery, Page, Site},
        live::Live,
        message::Event,
        outlets::Outlets,
        status::{ConfigStatus, SiteStatus},
    },
};

/// How often the configuration's files are looked at.
const LOOK: Duration = Duration::from_secs(2);

pub(super) struct Inner {
    this: Weak<Self>,
    pub stop: AtomicBool,
    pub outlets: Arc<Outlets>,
    /// In force.
    pub file: Mutex<SiteFile>,
    pub cameras: Mutex<Vec<Keeper>>,
    pub config: Mutex<ConfigStatus>,
    pub clock: Arc<dyn Clock>,
    /// One configuration is taken in at a time.
    pub taking_in: AtomicBool,
    /// Another was asked for meanwhile: it is next.
    pub again: AtomicBool,
    hub: Arc<Hub>,
    ids: Arc<Ids>,
    cache: Option<PathBuf>,
    started: SystemTime,
    watch: Mutex<(Tick, Watch)>,
    tell: Tell,
}

/// What these locks guard is sound between any two statements.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    pub fn start(file: SiteFile, cache: Option<PathBuf>, tell: Tell) -> Result<Arc<Self>> {
        let clock: Arc<dyn Clock> = Arc::new(Monotonic::start());
        let outlets = Arc::new(Outlets::open(&file)?);
        let hub = Hub::new(file.limits.of_models(file.cameras.len()), clock.clone());
        let config = ConfigStatus {
            path: file.path.display().to_string(),
            sha256: file.sha256.clone(),
            loaded: SystemTime::now(),
            last_reload: None,
            reload_error: None,
        };
        let watch = Watch::new(&file);
        let ids = Arc::new(Ids::new()?);
        let inner = Arc::new_cyclic(|this| Self {
            this: this.clone(),
            stop: AtomicBool::new(false),
            outlets,
            cameras: Mutex::default(),
            config: Mutex::new(config),
            clock,
            taking_in: AtomicBool::new(false),
            again: AtomicBool::new(false),
            hub,
            ids: ids.clone(),
            cache,
            started: SystemTime::now(),
            watch: Mutex::new((Tick::ZERO, watch)),
            tell,
            file: Mutex::new(file.clone()),
        });
        for spec in &file.cameras {
            let keeper = inner.keeper(spec)?;
            lock(&inner.cameras).push(keeper);
        }
        Ok(inner)
    }

    /// A camera from its start.
    pub fn keeper(&self, spec: &CameraSpec) -> Result<Keeper> {
        let max_age = lock(&self.file).limits.max_age;
        let spec = Arc::new(spec.clone());
        Keeper::start(
            spec,
            self.options(),
            self.clock.clone(),
            self.outlets.clone(),
            self.ids.clone(),
            max_age,
        )
    }

    /// How the cameras' pipelines are loaded: on shared models, one frame at a time each, the newest first.
    pub fn options(&self) -> Options {
        Options {
            hub: Some(self.hub.clone()),
            workers: Some(1),
            queue: Some(Policy::Latest),
            cache: self.cache.clone(),
            ..Options::default()
        }
    }

    pub fn tell(&self, level: Level, what: &str) {
        (self.tell)(level, what);
    }

    /// Looks after the cameras, and after the files of the configuration.
    pub fn tick(&self) {
        for camera in lock(&self.cameras).iter_mut() {
            if let Some((level, what)) = camera.tick() {
                self.tell(level, &what);
            }
        }
        let now = self.clock.now();
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
            // What is wrong is in the status, and was told.
            self.reload().ok();
        }
    }

    /// What is watched from now on.
    pub fn watch(&self, watch: Watch) {
        lock(&self.watch).1 = watch;
    }

    /// Stops all cameras at once.
    pub fn stop_cameras(&self) {
        let cameras = std::mem::take(&mut *lock(&self.cameras));
        cameras.iter().for_each(Keeper::begin_stop);
        // Each waits for what it has on its way: side by side, that is the longest of these waits and not their sum.
        std::thread::scope(|scope| {
            for camera in cameras {
                scope.spawn(move || self.tell(Level::Info, &camera.stop()));
            }
        });
    }
}

impl Site for Inner {
    fn stuck(&self) -> Vec<String> {
        lock(&self.cameras).iter().filter_map(Keeper::stuck).collect()
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
            models: self.hub.status(),
            outputs,
            config: lock(&self.config).clone(),
            board: None,
            rss_bytes: resident(),
            cpu_s: cpu::process().as_secs_f64(),
        }
    }

    fn live(&self, camera: &str) -> Option<Arc<Live>> {
        lock(&self.cameras).iter().find(|c| c.spec.name == camera).map(Keeper::live)
    }

    fn events(&self, query: &EventQuery) -> Result<Page<Event>> {
        self.outlets.events(query)
    }

    fn event(&self, id: &str) -> Result<Option<Event>> {
        self.outlets.event(id)
    }

    fn media(&self) -> Option<&Path> {
        None
    }

    fn reload(&self) -> Result<()> {
        let Some(this) = self.this.upgrade() else { return Ok(()) };
        if self.taking_in.swap(true, Ordering::SeqCst) {
            return Err(Error::config(
                "another configuration is being taken in; try again when it is in force",
            ));
        }
        let path = lock(&self.file).path.clone();
        lock(&self.config).last_reload = Some(SystemTime::now());
        let spawned = SiteFile::read(&path).and_then(|file| {
            let thread = std::thread::Builder::new().name("reload".into());
            // As the files are now, not when it is in force: what changes in between is the next one.
            let watch = Watch::new(&file);
            let spawned = thread.spawn(move || this.take_in(file, watch));
            spawned.map_err(|e| Error::internal(format!("no thread to take it in: {e}")).caused_by(e))
        });
        spawned.map(|_| ()).inspect_err(|e| {
            lock(&self.config).reload_error = Some(e.to_string());
            self.taking_in.store(false, Ordering::SeqCst);
            self.tell(Level::Warning, &format!("the new configuration is not taken in:\n{e}"));
        })
    }
}

/// Resident memory of this process, in bytes.
fn resident() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * 4096)
}
