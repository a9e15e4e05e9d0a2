//! The daemon: the cameras of a site, kept going; a new configuration taken in without a stop.
//!
//! | part | what it does |
//! |---|---|
//! | [`Daemon`] | starts everything, and stops it within two seconds |
//! | `inner` | what its threads share; answers for health, metrics and the page |
//! | `reload` | builds a new configuration beside the one in force, then switches, or rolls back |
//! | `watch` | sees that a file of the configuration has changed |

mod inner;
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
    config::SiteFile,
    http::{self, Serving},
};
use inner::Inner;

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

/// For the outputs to bring to disk what they have, when the daemon ends.
const FAREWELL: Duration = Duration::from_millis(1000);

/// A running site.
pub struct Daemon {
    inner: Arc<Inner>,
    keeper: Option<JoinHandle<()>>,
    serving: Option<Serving>,
}

impl Daemon {
    /// Starts the site: opens the outputs, binds the HTTP side, and begins to open cameras and load models. A camera, a
    /// broker or a model that is not there does not keep it from starting. `cache`: where models and engines are kept; the
    /// usual place if `None`.
    ///
    /// # Errors
    /// An address that cannot be bound, a state folder that cannot be written, no threads.
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
        let serving = http::serve(&http, inner.clone())?;
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
        Ok(Self { inner, keeper: Some(keeper), serving: Some(serving) })
    }

    /// For health checks; see [`http::Site`].
    pub fn site(&self) -> Arc<dyn http::Site> {
        self.inner.clone()
    }

    /// Where the HTTP side listens.
    pub fn addresses(&self) -> &[std::net::SocketAddr] {
        self.serving.as_ref().map_or(&[], Serving::addresses)
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
        self.inner.stop_cameras();
        // Side by side, so that neither waits for the other's disk.
        let until = Instant::now() + FAREWELL;
        std::thread::scope(|scope| {
            scope.spawn(|| self.inner.media.stop(until.saturating_duration_since(Instant::now())));
            self.inner.outlets.stop(until);
        });
        drop(self.serving.take());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.end();
    }
}
