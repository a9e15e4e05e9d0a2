//! The outputs of a site as its cameras see them.
//!
//! | part | what it does |
//! |---|---|
//! | `change` | other outputs while cameras run: what is new is opened beside, then all switch, or nothing has happened |
//! | `between` | keeps events while an output's files pass from the old one to the new one |

mod between;
mod change;

use std::{
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
    time::{Duration, Instant},
};

use tapetum_runtime::{Error, Result};

use super::{
    config::{
        SiteFile,
        named::{Looks, looks},
    },
    event::{EventPage, EventQuery},
    message::{Event, Message},
    output::{self, Journal, Output, OutputSpec, Place, Told, sqlite::StoreReader},
    status::OutputStatus,
};
use between::Between;
pub(super) use change::Change;

/// All outputs, and the store that is asked for events.
pub(super) struct Outlets {
    set: Arc<RwLock<Set>>,
    /// Hands events on to them.
    journal: Journal,
}

struct Set {
    slots: Vec<Slot>,
    place: Place,
}

impl Told for RwLock<Set> {
    fn offer(&self, message: &Message) {
        read(self).slots.iter().for_each(|slot| slot.output.offer(message));
    }

    fn flush(&self, within: Duration) -> bool {
        // The lock is not held meanwhile.
        let outputs: Vec<_> = read(self).slots.iter().map(|slot| slot.output.clone()).collect();
        outputs.iter().all(|output| output.flush(within))
    }
}

fn read(set: &RwLock<Set>) -> RwLockReadGuard<'_, Set> {
    set.read().unwrap_or_else(PoisonError::into_inner)
}

/// One output, and what it was made from.
#[derive(Clone)]
struct Slot {
    spec: OutputSpec,
    /// The files that it has read, as they were.
    files: Looks,
    output: Arc<dyn Output>,
    /// The output, if it only stands in for the one of `spec`.
    between: Option<Arc<Between>>,
}

impl Slot {
    fn new(spec: &OutputSpec, files: Looks, output: Arc<dyn Output>) -> Self {
        Self { spec: spec.clone(), files, output, between: None }
    }

    fn between(spec: &OutputSpec, between: Arc<Between>) -> Self {
        Self { between: Some(between.clone()), ..Self::new(spec, Vec::new(), between) }
    }
}

/// The site as its outputs see it.
fn place_of(file: &SiteFile) -> Place {
    let labels = |camera: &super::config::CameraSpec| {
        let labels = camera.events.as_ref().map(|events| events.labels.clone()).unwrap_or_default();
        (camera.name.clone(), labels)
    };
    Place {
        site: file.name.clone(),
        state: file.state.clone(),
        media: file.media.dir.clone(),
        cameras: file.cameras.iter().map(labels).collect(),
    }
}

/// An event that the store of a site knows, if it has one, without the site being run.
///
/// # Errors
/// The store cannot be read.
pub(crate) fn stored_event(file: &SiteFile, id: &str) -> Result<Option<Event>> {
    let store = output::store(&file.outputs, &place_of(file)).filter(|path| path.exists());
    store.map_or(Ok(None), |store| StoreReader::open(&store)?.event(id))
}

impl Outlets {
    /// Starts the outputs of `file`.
    ///
    /// # Errors
    /// As [`output::open`].
    pub fn open(file: &SiteFile) -> Result<Self> {
        let place = place_of(file);
        let files: Vec<_> = file.outputs.iter().map(|spec| looks(spec.files())).collect();
        let (outputs, ended) = output::open_and_end(&file.outputs, &place)?;
        let made = file.outputs.iter().zip(files).zip(outputs);
        let slots = made.map(|((spec, files), output)| Slot::new(spec, files, output)).collect();
        let state = place.state.clone();
        let set = Arc::new(RwLock::new(Set { slots, place }));
        let journal = Journal::start(&state, set.clone(), ended)?;
        Ok(Self { set, journal })
    }

    fn read(&self) -> RwLockReadGuard<'_, Set> {
        read(&self.set)
    }

    /// Hands a message to all.
    pub fn offer(&self, message: &Message) {
        match message {
            Message::Event(event) => self.journal.offer(event),
            _ => self.set.offer(message),
        }
    }

    /// Why events that go on would not be ended after a kill, if so.
    pub fn trouble(&self) -> Option<String> {
        self.journal.trouble()
    }

    /// Whether anybody is told of single frames.
    pub fn wants_results(&self) -> bool {
        self.read().slots.iter().any(|slot| slot.output.wants_results())
    }

    fn all(&self) -> Vec<Arc<dyn Output>> {
        self.read().slots.iter().map(|slot| slot.output.clone()).collect()
    }

    /// How they go.
    pub fn status(&self) -> Vec<OutputStatus> {
        self.all().iter().map(|output| output.status()).collect()
    }

    /// Ends them all by `until`.
    pub fn stop(&self, until: Instant) {
        let handed_on =
            self.journal.stop(Instant::now() + until.saturating_duration_since(Instant::now()) / 4);
        // Each has what is left: one that hangs must not take the others' time, so they end side by side.
        std::thread::scope(|scope| {
            for output in self.all() {
                scope.spawn(move || output.stop(until.saturating_duration_since(Instant::now())));
            }
        });
        if handed_on {
            self.journal.close();
        }
    }

    fn reader(&self) -> Result<StoreReader> {
        let store = {
            let set = self.read();
            let specs: Vec<OutputSpec> = set.slots.iter().map(|slot| slot.spec.clone()).collect();
            output::store(&specs, &set.place)
        };
        let store = store.ok_or_else(|| {
            Error::unsupported("this site keeps no events: it has no [[output]] of kind \"sqlite\"")
        })?;
        StoreReader::open(&store)
    }
}

impl Outlets {
    /// Events that fit `query`, the newest first; see [`crate::site::http::Site::events`].
    ///
    /// # Errors
    /// This site keeps none, or the store cannot be read now.
    pub fn events(&self, query: &EventQuery) -> Result<EventPage> {
        self.reader()?.events(query)
    }

    /// One event, as it was told last.
    ///
    /// # Errors
    /// As [`Outlets::events`].
    pub fn event(&self, id: &str) -> Result<Option<Event>> {
        self.reader()?.event(id)
    }
}
