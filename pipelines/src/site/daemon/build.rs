//! A new configuration: what has changed is built beside what runs; when all of it is sound, everything switches, cameras between
//! two frames; if any of it is not, nothing has happened.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tapetum_runtime::{Error, Result};

use super::{
    Level,
    inner::{Inner, lock},
};
use crate::{
    assemble::Options,
    hub::{Hub, Limits},
    site::{
        camera::{Generation, Keeper},
        config::{
            SiteFile,
            named::{Looks, looks},
        },
        http::{Serving, serve_beside},
        outlets::Change,
    },
};

/// How often a camera that is new is asked whether it has loaded.
const GLANCE: Duration = Duration::from_millis(50);

/// A configuration that is loaded and waits to come into force. Dropped, nothing has happened.
struct Built {
    limits: Limits,
    /// If models have to be loaded anew for the limits.
    hub: Option<Arc<Hub>>,
    changed: Vec<Generation>,
    added: Vec<Keeper>,
    outputs: Change,
    /// If the HTTP side has changed: the new one, which serves already.
    http: Option<(Serving, Looks)>,
}

impl Inner {
    /// Takes `new` in; returns when it is in force, with what has changed, in words.
    pub(super) fn change(self: &Arc<Self>, new: SiteFile) -> Result<Vec<String>> {
        self.refuse_what_takes_a_restart(&new)?;
        let did = self.build(&new).and_then(|built| self.switch(new, built));
        if did.is_err() {
            // What brokers keep of cameras that were tried is taken back.
            self.outlets.cameras();
        }
        did
    }

    fn refuse_what_takes_a_restart(&self, new: &SiteFile) -> Result<()> {
        let old = lock(&self.file);
        let [name, state, board, media] = &new.places;
        let mut told = Vec::new();
        if old.name != new.name {
            told.push(format!(
                "{name}: the site's name {:?} becomes {:?}, and topics have it in them: this takes a restart",
                old.name, new.name
            ));
        }
        if old.state != new.state {
            told.push(format!(
                "{state}: the state folder {} becomes {}: this takes a restart",
                old.state.display(),
                new.state.display()
            ));
        }
        if old.board != new.board {
            told.push(format!("{board}: another board takes a restart: threads and engines stand on it"));
        }
        if old.media != new.media {
            told.push(format!("{media}: [media] has changed, which takes a restart"));
        }
        if told.is_empty() { Ok(()) } else { Err(Error::config(told.join("\n"))) }
    }

    /// Loads and opens what is new beside what runs.
    fn build(self: &Arc<Self>, new: &SiteFile) -> Result<Built> {
        let (limits, hub) = self.models_for(new);
        let options = hub.as_ref().map_or_else(|| self.options(), |hub| self.options_on(hub));
        let (changed, mut added) = self.load(new, &options, hub.is_some())?;
        for generation in &changed {
            generation.loaded().map_err(|e| e.at(format!("camera {}", generation.spec.name)))?;
        }
        for camera in &mut added {
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
        let outputs = self.outlets.prepare(new)?;
        Ok(Built { limits, hub, changed, added, outputs, http: self.http_for(new)? })
    }

    /// How models are to be run, and those that have to be loaded anew for it: sessions have their threads and batch from their
    /// loading, and more runs at once need more sessions. All else takes effect on loaded models.
    fn models_for(&self, new: &SiteFile) -> (Limits, Option<Arc<Hub>>) {
        let limits = new.limits.of_models(new.cameras.len(), self.machine.threads());
        let had = lock(&self.hub).limits();
        let asked = lock(&self.file).limits != new.limits;
        let anew =
            asked && (had.threads != limits.threads || had.batch != limits.batch || limits.runs > had.runs);
        (limits, anew.then(|| self.new_hub(limits)))
    }

    /// Begins to load what has changed, and the cameras that are new; all of them if models are loaded anew.
    fn load(&self, new: &SiteFile, options: &Options, all: bool) -> Result<(Vec<Generation>, Vec<Keeper>)> {
        let (mut changed, mut added) = (Vec::new(), Vec::new());
        for spec in &new.cameras {
            let cameras = lock(&self.cameras);
            match cameras.iter().find(|camera| camera.spec.name == spec.name) {
                Some(camera)
                    if camera.spec.same(spec) && (!all || matches!(camera.settled(), Some(Err(_)))) => {}
                Some(camera) => changed.push(camera.prepare(Arc::new(spec.clone()), options.clone())?),
                None => {
                    drop(cameras);
                    added.push(self.keeper(spec, options.clone(), new.limits.max_age)?);
                }
            }
        }
        Ok((changed, added))
    }

    /// The HTTP side, if it is another one; it serves already, beside the old one.
    fn http_for(self: &Arc<Self>, new: &SiteFile) -> Result<Option<(Serving, Looks)>> {
        let files = looks(new.http.files());
        let serving = lock(&self.serving);
        let Some((old, had)) = &*serving else { return Ok(None) };
        if lock(&self.file).http == new.http && *had == files {
            return Ok(None);
        }
        let opened = serve_beside(&new.http, self.clone(), Some(old)).map_err(|e| e.at("[http]"))?;
        Ok(Some((opened, files)))
    }

    fn switch(self: &Arc<Self>, new: SiteFile, built: Built) -> Result<Vec<String>> {
        // Whoever ends the daemon waits for this.
        let _switching = lock(&self.switching);
        if self.stop.load(Ordering::SeqCst) {
            return Err(Error::internal("the daemon is ending"));
        }
        let news = || lock(&self.cameras).iter().map(Keeper::news).collect();
        let ending = || self.stop.load(Ordering::SeqCst);
        // The only step that may still refuse, so it is the first.
        let (mut did, failed) = self.outlets.switch(built.outputs, &news, &ending)?;
        failed.iter().for_each(|what| self.tell(Level::Warning, what));
        did.extend(failed);
        let anew = built.hub.is_some();
        if let Some(hub) = built.hub {
            *lock(&self.hub) = hub;
            did.push("models loaded anew for [limits]".to_owned());
        } else {
            lock(&self.hub).set_limits(built.limits);
            if lock(&self.file).limits != new.limits {
                did.push("[limits] changed".to_owned());
            }
        }
        did.extend(self.switch_cameras(&new, built.changed, built.added, anew));
        self.outlets.cameras();
        if let Some(http) = built.http {
            let shown: Vec<String> = http.0.addresses().iter().map(ToString::to_string).collect();
            let old = lock(&self.serving).replace(http);
            // Half a second for what is being answered.
            drop(old);
            did.push("[http] changed".to_owned());
            self.tell(Level::Info, &format!("to be seen at {}", shown.join(", ")));
        }
        *lock(&self.file) = new;
        Ok(did)
    }

    fn switch_cameras(
        &self,
        new: &SiteFile,
        changed: Vec<Generation>,
        added: Vec<Keeper>,
        anew: bool,
    ) -> Vec<String> {
        let mut did = Vec::new();
        let said = |names: Vec<&str>, what: &str| {
            (!names.is_empty()).then(|| {
                format!("{}{} {what}", if names.len() > 1 { "cameras " } else { "camera " }, names.join(", "))
            })
        };
        did.extend(said(changed.iter().map(|g| g.spec.name.as_str()).collect(), "changed"));
        did.extend(said(added.iter().map(|c| c.spec.name.as_str()).collect(), "added"));
        let gone = {
            let mut cameras = lock(&self.cameras);
            for camera in cameras.iter_mut() {
                camera.set_max_age(new.limits.max_age);
                if anew && matches!(camera.settled(), Some(Err(_))) {
                    camera.try_again(self.options());
                }
            }
            for generation in changed {
                // Each waits for its frame, and who is told to stop has no time for that.
                if self.stop.load(Ordering::SeqCst) {
                    break;
                }
                if let Some(camera) = cameras.iter_mut().find(|c| c.spec.name == generation.spec.name)
                    && let Err(e) = camera.switch(generation, self.options())
                {
                    self.tell(Level::Warning, &format!("camera {} stays as it was: {e}", camera.spec.name));
                }
            }
            let mut old = std::mem::take(&mut *cameras);
            old.extend(added);
            for spec in &new.cameras {
                if let Some(at) = old.iter().position(|c| c.spec.name == spec.name) {
                    cameras.push(old.swap_remove(at));
                }
            }
            old
        };
        did.extend(said(gone.iter().map(|c| c.spec.name.as_str()).collect(), "removed"));
        gone.into_iter().for_each(|camera| self.tell(Level::Info, &camera.stop()));
        did
    }
}
