//! The daemon: the cameras of a site, kept going; a new configuration taken in without a stop.
//!
//! | part | what it does |
//! |---|---|
//! | [`Daemon`] | starts everything, and stops it within two seconds |
//! | `inner` | what its threads share; answers for health, metrics and the page |
//! | `reload` | takes in a new configuration, one after the other |
//! | `build` | builds it beside the one in force, then switches, or rolls back |
//! | [`Health`] | how it fares, for who asks often |
//! | `lock` | one daemon to a state folder |
//! | `watch` | sees that a file of the configuration has changed |

mod build;
mod health;
mod inner;
mod lock;
mod reload;
mod watch;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tapetum_runtime::{Error, Result};

use super::{
    config::{SiteFile, named::looks},
    http,
};
pub use health::Health;
use inner::{Inner, lock};

/// How grave what is told is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// It is as it should be.
    Info,
    /// Something does not go as it should, and the daemon goes on.
    Warning,
}

/// What is told while the daemon runs: to a log, one line each, no secrets.
pub type Tell = Arc<dyn Fn(Level, &str) + Send + Sync>;

/// How often cameras are looked after.
const TICK: Duration = Duration::from_millis(100);

/// For the cameras to deliver what is on its way, when the daemon ends.
const CAMERAS: Duration = Duration::from_millis(600);

/// For the outputs to bring to disk what they have, when the daemon ends.
const FAREWELL: Duration = Duration::from_millis(1000);

/// A running site.
pub struct Daemon {
    inner: Arc<Inner>,
    keeper: Option<JoinHandle<()>>,
}

impl Daemon {
    /// Starts the site: opens the outputs, binds the HTTP side, and begins to open cameras and load models. A camera or
    /// a broker that is not there does not keep it from starting. `cache`: where models and engines are kept; the
    /// usual place if `None`.
    ///
    /// # Errors
    /// An address that cannot be bound, a state folder that cannot be made or that another daemon has, no threads.
    pub fn start(file: SiteFile, cache: Option<PathBuf>, tell: Tell) -> Result<Self> {
        Self::start_below(Path::new("/"), file, cache, tell)
    }

    /// As [`Daemon::start`], on a machine whose sensors and device tree lie below `root`: for tests.
    ///
    /// # Errors
    /// As there.
    pub fn start_below(root: &Path, file: SiteFile, cache: Option<PathBuf>, tell: Tell) -> Result<Self> {
        let http = file.http.clone();
        let inner = Inner::start(root, file, cache, tell)?;
        let files = looks(http.files());
        *lock(&inner.serving) = Some((http::serve(&http, inner.clone())?, files));
        let theirs = inner.clone();
        let keeper = std::thread::Builder::new()
            .name("keeper".into())
            .spawn(move || {
                while !theirs.stop.load(Ordering::SeqCst) {
                    theirs.tick();
                    std::thread::sleep(TICK);
                }
            })
            .map_err(|e| Error::internal(format!("no thread to keep the cameras: {e}")).caused_by(e))?;
        Ok(Self { inner, keeper: Some(keeper) })
    }

    /// For health checks; see [`http::Site`].
    pub fn site(&self) -> Arc<dyn http::Site> {
        self.inner.clone()
    }

    /// Where the HTTP side listens.
    pub fn addresses(&self) -> Vec<std::net::SocketAddr> {
        lock(&self.inner.serving).as_ref().map_or_else(Vec::new, |(serving, _)| serving.addresses().to_vec())
    }

    /// How it fares.
    pub fn health(&self) -> Health {
        Health::of(&self.inner)
    }

    /// Takes in the configuration anew, in the background; [`Health::reloading`] until that is over.
    pub fn reload(&self) {
        self.inner.reload_later();
    }

    /// Ends everything: frames on their way are delivered, events that go on are ended, everything that was acknowledged is
    /// on disk. Takes less than two seconds.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if self.inner.stop.swap(true, Ordering::SeqCst) {
            return;
        }
        if let Some(keeper) = self.keeper.take() {
            keeper.join().ok();
        }
        let switching = lock(&self.inner.switching);
        self.inner.stop_cameras(CAMERAS);
        drop(switching);
        // Taken out first: who still asks for something needs the lock.
        let serving = lock(&self.inner.serving).take();
        // Side by side, so that none waits for another's disk.
        let until = Instant::now() + FAREWELL;
        std::thread::scope(|scope| {
            scope.spawn(|| drop(serving));
            scope.spawn(|| self.inner.media.stop(until.saturating_duration_since(Instant::now())));
            self.inner.outlets.stop(until);
        });
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.end();
    }
}
