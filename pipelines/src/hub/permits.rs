//! How many models may run at once, in the order in which they asked.

use std::sync::{Condvar, Mutex, PoisonError};

pub(super) struct Permits {
    state: Mutex<State>,
    freed: Condvar,
}

struct State {
    most: u64,
    /// The next one to ask gets this number.
    next: u64,
    /// How many have given theirs back.
    done: u64,
}

/// Given back when dropped.
pub(super) struct Permit<'p>(&'p Permits);

impl Permits {
    pub fn new(most: usize) -> Self {
        let state = State { most: most as u64, next: 0, done: 0 };
        Self { state: Mutex::new(state), freed: Condvar::new() }
    }

    /// As many as this from now on; who has one keeps it.
    pub fn set(&self, most: usize) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).most = most as u64;
        self.freed.notify_all();
    }

    /// Waits until fewer than all permits of those who asked before are out.
    pub fn take(&self) -> Permit<'_> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mine = state.next;
        state.next += 1;
        while mine >= state.done + state.most {
            state = self.freed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        Permit(self)
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).done += 1;
        self.0.freed.notify_all();
    }
}
