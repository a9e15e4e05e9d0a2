//! Taking in a new configuration: one at a time, and the last that was asked for is taken in for certain.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Instant, SystemTime},
};

use tapetum_runtime::{Error, Result};

use super::{
    Level,
    inner::{Inner, lock},
    watch::Watch,
};
use crate::site::config::{SiteFile, named};

/// Whose turn it is.
#[derive(Default)]
pub(super) struct Turn {
    /// One is being taken in.
    busy: bool,
    /// Another was asked for meanwhile: it is next.
    again: bool,
}

/// The turn of one configuration; over when it is dropped, however that comes.
struct Busy(Arc<Inner>);

impl Inner {
    /// Reads the configuration and takes it in, in the background.
    pub fn reload_later(&self) {
        let Some(busy) = self.begin() else { return };
        let inner = busy.0.clone();
        let thread = std::thread::Builder::new().name("reload".into());
        let spawned = thread.spawn(move || {
            // What is wrong is in the status, and was told.
            if let Ok(file) = busy.0.read_new() {
                busy.0.take_in(file);
            }
        });
        if let Err(e) = spawned {
            inner.refused(&Error::internal(format!("no thread to take it in: {e}")));
        }
    }

    /// As [`Inner::reload_later`], but what is wrong with the files is told here and now. One that has to wait for its turn is read
    /// when that comes.
    pub fn reload_now(&self) -> Result<()> {
        let Some(busy) = self.begin() else { return Ok(()) };
        let file = busy.0.read_new()?;
        let inner = busy.0.clone();
        let thread = std::thread::Builder::new().name("reload".into());
        let spawned = thread.spawn(move || busy.0.take_in(file));
        spawned.map(drop).map_err(|e| {
            let e = Error::internal(format!("no thread to take it in: {e}"));
            inner.refused(&e);
            e
        })
    }

    /// None: another is being taken in, and this one is next.
    fn begin(&self) -> Option<Busy> {
        let this = self.this.upgrade().filter(|this| !this.stop.load(Ordering::SeqCst))?;
        let mut turn = lock(&self.turn);
        if turn.busy {
            turn.again = true;
            return None;
        }
        turn.busy = true;
        let mut config = lock(&self.config);
        (config.reloading, config.last_reload) = (true, Some(SystemTime::now()));
        Some(Busy(this))
    }

    fn read_new(&self) -> Result<SiteFile> {
        let path = lock(&self.file).path.clone();
        // As the files are now, not when they are in force: what changes in between is the next one. Those of a configuration
        // that is refused are watched, too: it may be one of them that gets mended.
        self.watch(Watch::new(named::files(&path)));
        SiteFile::read(&path).inspect_err(|e| self.refused(e))
    }

    fn take_in(self: &Arc<Self>, new: SiteFile) {
        let from = Instant::now();
        let sha256 = new.sha256.clone();
        match self.change(new) {
            Ok(did) => {
                let what = if did.is_empty() { "nothing in it is new".to_owned() } else { did.join(", ") };
                {
                    let mut config = lock(&self.config);
                    (config.sha256, config.loaded) = (sha256, SystemTime::now());
                    (config.reload_error, config.reload_did) = (None, did);
                }
                let took = from.elapsed().as_secs_f32();
                self.tell(
                    Level::Info,
                    &format!("the new configuration is in force after {took:.1} s: {what}"),
                );
            }
            Err(e) => self.refused(&e),
        }
    }

    fn refused(&self, e: &Error) {
        lock(&self.config).reload_error = Some(e.to_string());
        self.tell(Level::Warning, &format!("the new configuration is not taken in:\n{e}"));
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let inner = &self.0;
        if std::thread::panicking() {
            inner.refused(&Error::internal("a fault in the daemon while it was taken in"));
        }
        let again = {
            let mut turn = lock(&inner.turn);
            turn.busy = false;
            lock(&inner.config).reloading = turn.again;
            std::mem::take(&mut turn.again)
        };
        if again {
            inner.reload_later();
        }
    }
}
