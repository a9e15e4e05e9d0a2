//! Events that wait a moment for their picture, so that whoever is told of one finds it. Never for long: an event is worth more.

use std::{
    collections::{HashMap, VecDeque},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tapetum_runtime::clock::{Clock, Tick};

use crate::site::{
    message::{Event, Message, Phase},
    outlets::Outlets,
};

/// Longest wait.
const PATIENCE: Duration = Duration::from_secs(1);

/// One camera's events on their way to the outputs, in their order.
pub(in crate::site) struct Held {
    outlets: Arc<Outlets>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Waiting>,
    /// By event, the picture that is being written last.
    asked: HashMap<String, u64>,
    /// By event, the picture that is there.
    there: HashMap<String, PathBuf>,
    numbers: u64,
}

struct Waiting {
    event: Event,
    picture: Option<u64>,
    since: Tick,
}

impl Held {
    pub fn new(outlets: Arc<Outlets>, clock: Arc<dyn Clock>) -> Self {
        Self { outlets, clock, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A picture of event `id` is going to be written: what is told of it from now on waits for it. Its number.
    pub fn picture(&self, id: &str) -> u64 {
        let mut state = self.lock();
        state.numbers += 1;
        let number = state.numbers;
        state.asked.insert(id.to_owned(), number);
        number
    }

    /// Picture `number` of event `id` is at `place`, or could not be written.
    pub fn written(&self, id: &str, number: u64, place: &Path, there: bool) {
        let mut state = self.lock();
        if there {
            state.there.insert(id.to_owned(), place.to_owned());
        }
        if state.asked.get(id) == Some(&number) {
            state.asked.remove(id);
        }
        self.tell(state, false);
    }

    /// Takes an event.
    pub fn take(&self, event: Event) {
        let mut state = self.lock();
        let picture = state.asked.get(&event.id).copied();
        state.queue.push_back(Waiting { event, picture, since: self.clock.now() });
        self.tell(state, false);
    }

    /// Tells what has waited long enough; `all`: everything.
    pub fn flush(&self, all: bool) {
        self.tell(self.lock(), all);
    }

    fn tell(&self, mut state: MutexGuard<'_, State>, all: bool) {
        let now = self.clock.now();
        while let Some(first) = state.queue.front() {
            let awaited = first.picture.is_some_and(|n| state.asked.get(&first.event.id) == Some(&n));
            if awaited && !all && now.saturating_sub(first.since) < PATIENCE {
                return;
            }
            let Some(Waiting { mut event, .. }) = state.queue.pop_front() else { return };
            event.snapshot = state.there.get(&event.id).cloned();
            if event.phase == Phase::End {
                state.there.remove(&event.id);
                state.asked.remove(&event.id);
            }
            self.outlets.offer(&Message::Event(Arc::new(event)));
        }
    }
}
