//! Stands in for an output while what it has passes from the old one to the new one.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::site::{message::Message, output::Output, status::OutputStatus};

/// Most messages that are kept. A hand-over takes a moment, unless a disk hangs.
const MOST: usize = 10_000;

/// Keeps what is offered, in its order. Results are dropped: the next is worth more.
pub(super) struct Between {
    name: String,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    messages: VecDeque<Message>,
    dropped: u64,
}

impl Between {
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), kept: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands everything on.
    pub fn hand_over(&self, to: &dyn Output) {
        self.lock().messages.drain(..).for_each(|message| to.offer(&message));
    }
}

impl Output for Between {
    fn name(&self) -> &str {
        &self.name
    }

    fn offer(&self, message: &Message) {
        if matches!(message, Message::Result(_)) {
            return;
        }
        let mut kept = self.lock();
        if kept.messages.len() >= MOST {
            kept.messages.pop_front();
            kept.dropped += 1;
        }
        kept.messages.push_back(message.clone());
    }

    /// What it has is in memory only.
    fn flush(&self, _: Duration) -> bool {
        false
    }

    fn status(&self) -> OutputStatus {
        let kept = self.lock();
        OutputStatus {
            name: self.name.clone(),
            up: false,
            why: Some("waits until the output before it has let go of its files".to_owned()),
            queued: kept.messages.len() as u64,
            spooled: 0,
            delivered: 0,
            dropped: (kept.dropped > 0)
                .then(|| ("memory full".to_owned(), kept.dropped))
                .into_iter()
                .collect(),
        }
    }

    fn stop(&self, _: Duration) -> bool {
        true
    }
}
