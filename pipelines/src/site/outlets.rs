//! The outputs of a site as its cameras see them.

use std::{path::PathBuf, sync::Arc, time::Instant};

use tapetum_runtime::{Error, Result};

use super::{
    config::SiteFile,
    http::{EventQuery, Page},
    message::{Event, Message},
    output::{self, Journal, Output, Place, sqlite::StoreReader},
    status::OutputStatus,
};

/// All outputs, and the store that is asked for events.
pub(super) struct Outlets {
    outputs: Vec<Arc<dyn Output>>,
    /// Hands events on to them.
    journal: Journal,
    store: Option<PathBuf>,
}

impl Outlets {
    /// Starts the outputs of `file`.
    ///
    /// # Errors
    /// As [`output::open`].
    pub fn open(file: &SiteFile) -> Result<Self> {
        let labels = |camera: &super::config::CameraSpec| {
            let labels = camera.events.as_ref().map(|events| events.labels.clone()).unwrap_or_default();
            (camera.name.clone(), labels)
        };
        let place = Place {
            site: file.name.clone(),
            state: file.state.clone(),
            media: file.state.join("media"),
            cameras: file.cameras.iter().map(labels).collect(),
        };
        let (outputs, ended) = output::open_and_end(&file.outputs, &place)?;
        let journal = Journal::start(&place.state, &outputs, ended)?;
        Ok(Self { outputs, journal, store: output::store(&file.outputs, &place) })
    }

    /// Hands a message to all.
    pub fn offer(&self, message: &Message) {
        match message {
            Message::Event(event) => self.journal.offer(event),
            _ => self.outputs.iter().for_each(|output| output.offer(message)),
        }
    }

    /// Why events that go on would not be ended after a kill, if so.
    pub fn trouble(&self) -> Option<String> {
        self.journal.trouble()
    }

    /// Whether anybody is told of single frames.
    pub fn wants_results(&self) -> bool {
        !self.outputs.is_empty()
    }

    /// How they go.
    pub fn status(&self) -> Vec<OutputStatus> {
        self.outputs.iter().map(|output| output.status()).collect()
    }

    /// Ends them all by `until`.
    pub fn stop(&self, until: Instant) {
        self.journal.stop(Instant::now() + until.saturating_duration_since(Instant::now()) / 4);
        // Each has what is left: one that hangs must not take the others' time, so they end side by side.
        std::thread::scope(|scope| {
            for output in &self.outputs {
                scope.spawn(move || output.stop(until.saturating_duration_since(Instant::now())));
            }
        });
        self.journal.close();
    }

    fn reader(&self) -> Result<StoreReader> {
        let store = self.store.as_ref().ok_or_else(|| {
            Error::unsupported("this site keeps no events: it has no [[output]] of kind \"sqlite\"")
        })?;
        StoreReader::open(store)
    }
}

impl Outlets {
    /// Events that fit `query`, the newest first; see [`crate::site::http::Site::events`].
    ///
    /// # Errors
    /// This site keeps none, or the store cannot be read now.
    pub fn events(&self, query: &EventQuery) -> Result<Page<Event>> {
        let asked = output::sqlite::EventQuery {
            camera: query.camera.clone(),
            label: query.label.clone(),
            from: query.after,
            to: query.before,
            before: query.cursor.clone(),
            limit: query.limit,
        };
        let page = self.reader()?.events(&asked)?;
        Ok(Page { items: page.events, next: page.next })
    }

    /// One event, as it was told last.
    ///
    /// # Errors
    /// As [`Outlets::events`].
    pub fn event(&self, id: &str) -> Result<Option<Event>> {
        self.reader()?.event(id)
    }
}
