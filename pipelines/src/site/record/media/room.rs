//! Room for what is written: what has to go for it, and what goes by its age.

use std::{
    io,
    time::{Duration, SystemTime},
};

use super::{
    Shared,
    shelf::{Shelf, Went},
};
use crate::site::{age::Age, output::unix_ms, record::MediaSpec};

/// The folder's bounds.
pub(super) struct Room<'s> {
    shared: &'s Shared,
    pub shelf: Shelf,
    /// Bytes of recordings under way.
    pub growing: u64,
    /// What had to go and could not, and why.
    pub stuck: Option<String>,
    most: u64,
    keep: Option<Duration>,
    age: Age,
}

impl<'s> Room<'s> {
    pub fn new(shared: &'s Shared, spec: &MediaSpec) -> Self {
        let shelf = Shelf::new(spec.dir.clone());
        Self { shared, shelf, growing: 0, stuck: None, most: spec.most, keep: spec.keep, age: Age::default() }
    }

    /// Bytes that are taken.
    pub fn used(&self) -> u64 {
        self.shelf.bytes() + self.growing
    }

    /// Does `step`, which needs so many bytes; the oldest recordings and snapshots go until there is room for it.
    pub fn with_room<T>(&mut self, needs: u64, step: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        if !self.make_room(needs) {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than max_mb"));
        }
        self.unless_full(step)
    }

    /// Whether there is room for so many bytes now.
    pub fn make_room(&mut self, needs: u64) -> bool {
        while self.used().saturating_add(needs) > self.most {
            let Some(went) = self.shelf.remove_oldest(SystemTime::now()) else { return false };
            self.count(went, "max_mb");
        }
        true
    }

    /// Does `step`, again and again while the disk is full and something old can go.
    pub fn unless_full<T>(&mut self, mut step: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        loop {
            match step() {
                Err(e) if is_full(&e) => {
                    let Some(went) = self.shelf.remove_oldest(SystemTime::now()) else { return Err(e) };
                    self.count(went, "disk full");
                }
                done => return done,
            }
        }
    }

    /// Removes what is too old. `steady`: time that cannot jump.
    pub fn by_age(&mut self, now: SystemTime, steady: Duration) {
        let Some(keep) = self.keep else { return };
        let newest = self.shelf.newest().map(unix_ms);
        if !self.age.trusted(unix_ms(now), steady, newest) {
            return;
        }
        while let Some(went) = self.shelf.remove_older(keep, now) {
            self.count(went, "keep_days");
        }
    }

    /// What is in the folder now is not what was: how the clock went meanwhile says nothing of its age.
    pub fn other_folder(&mut self) {
        self.age = Age::default();
    }

    fn count(&mut self, went: Went, why: &str) {
        match went {
            Went::Removed(what) => self.shared.figures().removed(&format!("{what}: {why}")),
            Went::Gone => {}
            Went::Stays(why) => self.stuck = Some(why),
        }
    }
}

pub(super) fn is_full(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
