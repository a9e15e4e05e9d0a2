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
        // Not of one that has ended meanwhile: nobody would take it out again.
        if there && state.asked.contains_key(id) {
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

#[cfg(test)]
mod tests {
    use std::time::{Instant, SystemTime};

    use serde_json::Value;
    use tapetum_runtime::clock::Simulated;

    use super::*;
    use crate::site::config::SiteFile;

    fn event(id: &str, revision: u32, phase: Phase) -> Event {
        Event {
            id: id.to_owned(),
            revision,
            camera: "gate".to_owned(),
            label: "person".to_owned(),
            phase,
            start: SystemTime::UNIX_EPOCH,
            end: None,
            frames: 1,
            score: 0.5,
            xyxy: [0.0; 4],
            most: 1,
            size: (4, 4),
            seq: 0,
            digest: String::new(),
            snapshot: None,
            recording: None,
        }
    }

    #[test]
    fn events_wait_for_their_picture_in_their_order_and_not_for_long() {
        let dir = tempfile::tempdir().unwrap();
        let text = "[site]\nname = 'x'\nstate = 'state'\n[[output]]\nkind = 'jsonl'\n";
        let file = SiteFile::parse(text, &dir.path().join("site.toml")).unwrap();
        let (outlets, clock) = (Arc::new(Outlets::open(&file).unwrap()), Arc::new(Simulated::default()));
        let held = Held::new(outlets.clone(), clock.clone());
        let waiting = || held.lock().queue.len();

        let first = held.picture("a");
        held.take(event("a", 0, Phase::Start));
        // Of another event, without a picture: behind the first all the same.
        held.take(event("b", 0, Phase::Start));
        assert_eq!(waiting(), 2);
        held.written("a", first, Path::new("gate/a.jpg"), true);
        assert_eq!(waiting(), 0);
        // A better picture that takes too long: told with the one that is there.
        let second = held.picture("a");
        held.take(event("a", 1, Phase::Update));
        clock.advance(Duration::from_millis(900));
        held.flush(false);
        assert_eq!(waiting(), 1);
        clock.advance(Duration::from_millis(200));
        held.flush(false);
        assert_eq!(waiting(), 0);
        held.written("a", second, Path::new("gate/a.jpg"), true);
        // One that cannot be written is not waited for.
        let third = held.picture("b");
        held.take(event("b", 1, Phase::Update));
        held.written("b", third, Path::new("gate/b.jpg"), false);
        assert_eq!(waiting(), 0);
        // At the stop nothing is waited for.
        held.picture("a");
        held.take(event("a", 2, Phase::End));
        held.take(event("b", 2, Phase::End));
        held.flush(true);
        outlets.stop(Instant::now() + Duration::from_secs(30));

        let folder = std::fs::read_dir(dir.path().join("state/jsonl")).unwrap().flatten();
        let text: String = folder.map(|file| std::fs::read_to_string(file.path()).unwrap()).collect();
        let told: Vec<(String, Value)> = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .map(|line| {
                (format!("{} {}", line["id"].as_str().unwrap(), line["revision"]), line["snapshot"].clone())
            })
            .collect();
        let there = || Value::from("gate/a.jpg");
        let expected = [
            ("a 0", there()),
            ("b 0", Value::Null),
            ("a 1", there()),
            ("b 1", Value::Null),
            ("a 2", there()),
            ("b 2", Value::Null),
        ];
        assert_eq!(told, expected.map(|(what, snapshot)| (what.to_owned(), snapshot)));
        assert!(held.lock().there.is_empty() && held.lock().asked.is_empty());
    }
}
