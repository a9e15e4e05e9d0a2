//! Other outputs while cameras run.
//!
//! An output whose table and files are as they were is left alone. One that is new is opened beside those in force. One that has
//! what an old one has (its spool, its database, its name at a broker) is checked, and opened when the old one has let go: there are
//! never two writers on a file. What comes meanwhile is kept, in its order.

use std::{
    sync::{Arc, PoisonError, RwLockWriteGuard},
    thread::sleep,
    time::{Duration, Instant},
};

use tapetum_runtime::{Error, Result};

use super::{Outlets, Set, Slot, between::Between, place_of};
use crate::site::{
    config::{SiteFile, named::looks},
    message::{Event, Message},
    output::{self, Output, OutputSpec, Place},
};

/// For what an output has in memory to be on disk before it gives way.
const FLUSH: Duration = Duration::from_secs(5);

/// For what an output that goes still has to say, if the other side takes it.
const DRAIN: Duration = Duration::from_secs(5);

/// For events on their way to be handed on.
const SETTLE: Duration = Duration::from_secs(1);

/// For one try to end an output.
const STOP: Duration = Duration::from_secs(1);

const GLANCE: Duration = Duration::from_millis(20);

/// Outputs that are ready to come into force. Dropped, those that are new end.
pub(in crate::site) struct Change {
    place: Place,
    coming: Vec<Coming>,
}

enum Coming {
    /// As it was.
    Kept(Slot),
    /// New, at work already; nobody offers anything yet. With the events that its store knows as going on.
    Beside(Slot, Vec<Event>),
    /// To be opened when these have let go.
    HandedOver(OutputSpec, Vec<Slot>),
}

impl Drop for Change {
    fn drop(&mut self) {
        for coming in &self.coming {
            if let Coming::Beside(slot, _) = coming {
                slot.output.stop(STOP);
            }
        }
    }
}

impl Outlets {
    /// Checks the outputs of `new` and opens those that can be opened beside those in force.
    ///
    /// # Errors
    /// What an output would not start for; nothing has changed then.
    pub fn prepare(&self, new: &SiteFile) -> Result<Change> {
        let place = place_of(new);
        let old = self.read().slots.clone();
        let same = |spec: &OutputSpec, slot: &Slot| {
            slot.between.is_none() && slot.spec == *spec && slot.files == looks(spec.files())
        };
        let stays = |slot: &Slot| new.outputs.iter().any(|spec| same(spec, slot));
        let mut change = Change { place, coming: Vec::new() };
        for spec in &new.outputs {
            let coming = if let Some(slot) = old.iter().find(|slot| same(spec, slot)) {
                Coming::Kept(slot.clone())
            } else {
                let claims = spec.claims(&change.place);
                let rivals = old.iter().filter(|slot| {
                    !stays(slot) && slot.spec.claims(&change.place).iter().any(|claim| claims.contains(claim))
                });
                let rivals: Vec<Slot> = rivals.cloned().collect();
                if rivals.is_empty() {
                    let unfinished = output::unfinished_in_store(std::slice::from_ref(spec), &change.place);
                    Coming::Beside(open(spec, &change.place)?, unfinished)
                } else {
                    spec.check(&change.place)?;
                    Coming::HandedOver(spec.clone(), rivals)
                }
            };
            change.coming.push(coming);
        }
        Ok(change)
    }

    /// Puts a change into force. `news` gives the cameras' states for an output that is new; `ending`: whether there is no time any
    /// more. Returns what was done, in words, and what was not: an output that was checked and could not be opened after all. Then
    /// the one before it is back, or if that cannot be opened either, events wait in memory.
    ///
    /// # Errors
    /// An output that is to give way cannot bring to disk what it has: nothing has changed then.
    pub fn switch(
        &self,
        mut change: Change,
        news: &dyn Fn() -> Vec<Message>,
        ending: &dyn Fn() -> bool,
    ) -> Result<(Vec<String>, Vec<String>)> {
        // What is on its way is brought to disk with the rest.
        self.journal.settle(SETTLE);
        for coming in &change.coming {
            let Coming::HandedOver(_, rivals) = coming else { continue };
            let slow = |slot: &&Slot| slot.between.is_none() && !flushed(&*slot.output, ending);
            if let Some(slot) = rivals.iter().find(slow) {
                let name = &slot.spec.name;
                let why = slot.output.status().why.unwrap_or_else(|| "the disk is slow".to_owned());
                return Err(Error::config(format!(
                    "output {name} cannot give way: what it has in memory cannot be brought to disk ({why})"
                )));
            }
        }
        let (mut told, mut failed) = (Vec::new(), Vec::new());
        let (mut slots, mut handed, mut staying) = (Vec::new(), Vec::new(), Vec::new());
        let mut added = Vec::new();
        for coming in std::mem::take(&mut change.coming) {
            match coming {
                Coming::Kept(slot) => {
                    staying.push(slot.spec.name.clone());
                    slots.push(slot);
                }
                Coming::Beside(slot, unfinished) => {
                    added.push((slot.output.clone(), unfinished));
                    told.push(format!("output {} opened", slot.spec.name));
                    slots.push(slot);
                }
                Coming::HandedOver(spec, rivals) => {
                    staying.extend(rivals.iter().map(|slot| slot.spec.name.clone()));
                    // What one has kept that had to stay, because nothing could be opened, it goes on keeping.
                    let stayed = rivals.iter().find_map(|slot| slot.between.clone());
                    let between = stayed.unwrap_or_else(|| Arc::new(Between::new(&spec.name)));
                    slots.push(Slot::between(&spec, between.clone()));
                    handed.push((spec, rivals, between));
                }
            }
        }
        let place = std::mem::take(&mut change.place);
        let old = {
            let mut set = self.write();
            set.place = place.clone();
            std::mem::replace(&mut set.slots, slots)
        };
        if !added.is_empty() {
            // After they are in force: what happens from here on they are told in any case.
            let news = news();
            for (output, unfinished) in added {
                news.iter().for_each(|message| output.offer(message));
                self.journal.introduce(output, unfinished);
            }
        }
        for (spec, rivals, between) in handed {
            match self.hand_over(&spec, &rivals, &between, &place, news, ending) {
                Ok(()) => told.push(format!("output {} changed", spec.name)),
                Err(e) => failed.push(format!("output {} stays as it was: {e}", spec.name)),
            }
        }
        told.extend(
            old.iter().filter(|slot| !staying.contains(&slot.spec.name)).map(|slot| leave(slot, ending)),
        );
        Ok((told, failed))
    }

    /// Opens `spec` when its rivals have let go of what they have, and passes on what came meanwhile.
    fn hand_over(
        &self,
        spec: &OutputSpec,
        rivals: &[Slot],
        between: &Between,
        place: &Place,
        news: &dyn Fn() -> Vec<Message>,
        ending: &dyn Fn() -> bool,
    ) -> Result<()> {
        for slot in rivals {
            while !slot.output.stop(STOP) {
                if ending() {
                    return Err(Error::internal("the daemon is ending"));
                }
            }
        }
        // It was checked: what is wrong now went wrong since then. The old one is better than none.
        let (opened, failed) = match open(spec, place) {
            Ok(slot) => (slot, None),
            Err(e) => {
                match rivals.iter().find(|slot| slot.between.is_none()).map(|slot| open(&slot.spec, place)) {
                    Some(Ok(slot)) => (slot, Some(e)),
                    _ => return Err(e),
                }
            }
        };
        news().iter().for_each(|message| opened.output.offer(message));
        let output = opened.output.clone();
        {
            let mut set = self.write();
            // Whoever offers something waits for this lock, so nothing overtakes.
            let stayed = rivals.iter().filter_map(|slot| slot.between.as_deref());
            for before in stayed.filter(|before| !std::ptr::eq(*before, between)).chain([between]) {
                before.hand_over(&*output);
            }
            let ours = |slot: &&mut Slot| slot.between.as_deref().is_some_and(|b| std::ptr::eq(b, between));
            if let Some(slot) = set.slots.iter_mut().find(ours) {
                *slot = opened;
            }
        }
        // What went on before all this the one before it was told.
        self.journal.introduce(output, Vec::new());
        failed.map_or(Ok(()), Err)
    }

    /// Tells the outputs which cameras there are from now on.
    pub fn cameras(&self) {
        // Events of a camera that is gone are told before what the outputs keep of it is taken back.
        self.journal.settle(SETTLE);
        let cameras = self.read().place.cameras.clone();
        self.all().iter().for_each(|output| output.cameras(&cameras));
    }

    fn write(&self) -> RwLockWriteGuard<'_, Set> {
        self.set.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn flushed(output: &dyn Output, ending: &dyn Fn() -> bool) -> bool {
    let until = Instant::now() + FLUSH;
    loop {
        if output.flush(STOP / 10) {
            return true;
        }
        if Instant::now() >= until || ending() {
            return false;
        }
    }
}

fn open(spec: &OutputSpec, place: &Place) -> Result<Slot> {
    // Before they are read: who replaces one meanwhile is seen.
    let files = looks(spec.files());
    Ok(Slot::new(spec, files, spec.open(place)?))
}

/// Ends an output that is not wanted any more, when the other side has taken what it will take. Returns what came of it, in words.
fn leave(slot: &Slot, ending: &dyn Fn() -> bool) -> String {
    let until = Instant::now() + DRAIN;
    let waits = || {
        let status = slot.output.status();
        status.up && status.queued + status.spooled > 0
    };
    while waits() && Instant::now() < until && !ending() {
        sleep(GLANCE);
    }
    let name = &slot.spec.name;
    let let_go = (0..5).any(|_| slot.output.stop(STOP) || ending());
    match slot.output.status().spooled {
        _ if !let_go => format!("output {name} removed, although its disk hangs"),
        0 => format!("output {name} removed"),
        n => format!(
            "output {name} removed; {n} events stay in its spool until there is one of this name again"
        ),
    }
}
