//! What an output's status is made of.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::site::status::OutputStatus;

/// Counts of one output, shared by its threads.
#[derive(Debug, Default)]
pub(super) struct Tally {
    delivered: AtomicU64,
    rest: Mutex<Rest>,
}

#[derive(Debug, Default)]
struct Rest {
    up: bool,
    /// Why it is down. An output that works again has nothing to explain.
    down: Option<String>,
    /// Something that happened and is not over because it works.
    note: Option<String>,
    dropped: BTreeMap<&'static str, u64>,
}

impl Tally {
    /// It works.
    pub fn up(&self) {
        let mut rest = self.lock();
        (rest.up, rest.down) = (true, None);
    }

    /// It does not, because.
    pub fn down(&self, why: impl Into<String>) {
        let mut rest = self.lock();
        (rest.up, rest.down) = (false, Some(why.into()));
    }

    /// Something to be told that does not stop it.
    pub fn note(&self, why: impl Into<String>) {
        self.lock().note = Some(why.into());
    }

    pub fn delivered(&self, n: u64) {
        self.delivered.fetch_add(n, Ordering::Relaxed);
    }

    pub fn dropped(&self, reason: &'static str, n: u64) {
        if n > 0 {
            *self.lock().dropped.entry(reason).or_default() += n;
        }
    }

    pub fn status(&self, name: &str, queued: u64, spooled: u64) -> OutputStatus {
        let rest = self.lock();
        OutputStatus {
            name: name.to_owned(),
            up: rest.up,
            why: rest.down.clone().or_else(|| rest.note.clone()),
            queued,
            spooled,
            delivered: self.delivered.load(Ordering::Relaxed),
            dropped: rest.dropped.iter().map(|(reason, n)| ((*reason).to_owned(), *n)).collect(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Rest> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_that_works_again_has_nothing_to_explain_but_what_happened_to_it() {
        let tally = Tally::default();
        let seen = || {
            let status = tally.status("broker", 0, 0);
            (status.up, status.why)
        };
        let why = |text: &str| Some(text.to_owned());
        tally.down("connection refused");
        assert_eq!(seen(), (false, why("connection refused")));
        tally.up();
        assert_eq!(seen(), (true, None));
        tally.note("the store was corrupt");
        tally.down("disk full");
        assert_eq!(seen(), (false, why("disk full")));
        tally.up();
        assert_eq!(seen(), (true, why("the store was corrupt")));
    }
}
