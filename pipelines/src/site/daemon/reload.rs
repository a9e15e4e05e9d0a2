//! Taking in a new configuration: what has changed is loaded beside what runs; when all of it is sound, cameras switch between
//! two frames; if any of it is not, nothing has happened.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime},
};

use tapetum_runtime::{Error, Result};

use super::{
    Level,
    inner::{Inner, lock},
    watch::{Watch, fingerprint},
};
use crate::site::{
    camera::{Generation, Keeper},
    config::{CameraSpec, SiteFile},
    http::Site,
};

/// How often a camera that is new is asked whether it has loaded.
const GLANCE: Duration = Duration::from_millis(50);

/// A configuration that is loaded and waits to come into force.
#[derive(Default)]
struct Built {
    changed: Vec<Generation>,
    added: Vec<Keeper>,
}

impl Inner {
    /// Takes `new` in; returns when it is in force.
    pub(super) fn take_in(self: &Arc<Self>, new: SiteFile, watch: Watch) {
        let outcome = self.build(&new).map(|built| self.switch(new, watch, built));
        let mut config = lock(&self.config);
        match outcome {
            Ok(what) => {
                config.reload_error = None;
                drop(config);
                self.tell(Level::Info, &format!("the new configuration is in force: {what}"));
            }
            Err(e) => {
                config.reload_error = Some(e.to_string());
                drop(config);
                self.tell(Level::Warning, &format!("the new configuration is not taken in: {e}"));
            }
        }
        self.taking_in.store(false, Ordering::SeqCst);
        if self.again.swap(false, Ordering::SeqCst) {
            // What is wrong with it is in the status, and was told.
            self.reload().ok();
        }
    }

    /// Loads what is new beside what runs.
    fn build(self: &Arc<Self>, new: &SiteFile) -> Result<Built> {
        let fixed = {
            let old = lock(&self.file);
            [
                ("[site]", old.name != new.name || old.state != new.state),
                ("[limits]", old.limits != new.limits),
                ("[output]", old.outputs != new.outputs),
                ("[http]", old.http != new.http),
            ]
        };
        if let Some((table, _)) = fixed.iter().find(|(_, differs)| *differs) {
            let what = format!(
                "{table} has changed, which takes a restart; cameras alone are taken in while it runs"
            );
            return Err(Error::config(what));
        }
        let mut built = Built::default();
        for spec in &new.cameras {
            let cameras = lock(&self.cameras);
            match cameras.iter().find(|camera| camera.spec.name == spec.name) {
                Some(camera) if same(&camera.spec, spec) => {}
                Some(camera) => built.changed.push(camera.prepare(Arc::new(spec.clone()), self.options())?),
                None => {
                    drop(cameras);
                    built.added.push(self.keeper(spec)?);
                }
            }
        }
        for generation in &built.changed {
            generation.loaded().map_err(|e| e.at(format!("camera {}", generation.spec.name)))?;
        }
        for camera in &mut built.added {
            loop {
                if self.stop.load(Ordering::SeqCst) {
                    return Err(Error::internal("the daemon is ending"));
                }
                camera.tick();
                match camera.settled() {
                    None => std::thread::sleep(GLANCE),
                    Some(Ok(())) => break,
                    Some(Err(why)) => return Err(Error::config(why)),
                }
            }
        }
        Ok(built)
    }

    fn switch(self: &Arc<Self>, new: SiteFile, watch: Watch, built: Built) -> String {
        let mut gone = Vec::new();
        let (changed, added) = (built.changed.len(), built.added.len());
        {
            let mut cameras = lock(&self.cameras);
            for generation in built.changed {
                if let Some(camera) = cameras.iter_mut().find(|c| c.spec.name == generation.spec.name)
                    && let Err(e) = camera.switch(generation, self.options())
                {
                    self.tell(Level::Warning, &format!("camera {} stays as it was: {e}", camera.spec.name));
                }
            }
            let mut old = std::mem::take(&mut *cameras);
            old.extend(built.added);
            for spec in &new.cameras {
                if let Some(at) = old.iter().position(|c| c.spec.name == spec.name) {
                    cameras.push(old.swap_remove(at));
                }
            }
            gone.append(&mut old);
        }
        let removed = gone.len();
        gone.into_iter().for_each(|camera| self.tell(Level::Info, &camera.stop()));
        self.watch(watch);
        {
            let mut config = lock(&self.config);
            config.sha256.clone_from(&new.sha256);
            config.loaded = SystemTime::now();
        }
        *lock(&self.file) = new;
        format!("{changed} cameras changed, {added} added, {removed} removed")
    }
}

/// Whether nothing is to be done for a camera.
fn same(old: &CameraSpec, new: &CameraSpec) -> bool {
    old.source == new.source
        && old.live == new.live
        && old.max_fps == new.max_fps
        && old.events == new.events
        && fingerprint(old) == fingerprint(new)
}
