//! How many models may run at once, in the order in which they asked.

use std::sync::{Condvar, Mutex, PoisonError};

pub(super) struct Permits {
    most: u64,
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Default)]
struct State {
    /// The next one to ask gets this number.
    next: u64,
    /// How many have given theirs back.
    done: u64,
}

/// Given back when dropped.
pub(super) struct Permit<'p>(&'p Permits);

impl Permits {
    pub fn new(most: usize) -> Self {
        Self { most: most as u64, state: Mutex::default(), freed: Condvar::new() }
    }

    /// Waits until fewer than all permits of those who asked before are out.
    pub fn take(&self) -> Permit<'_> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mine = state.next;
        state.next += 1;
        while mine >= state.done + self.most {
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
