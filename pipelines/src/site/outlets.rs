//! The outputs of a site as its cameras see them.

use std::{path::PathBuf, sync::Arc, time::Instant};

use tapetum_runtime::{Error, Result};

use super::{
    config::SiteFile,
    http::{EventQuery, Page},
    message::{Event, Message},
    output::{self, Output, Place, sqlite::StoreReader},
    status::OutputStatus,
};

/// All outputs, and the store that is asked for events.
pub(super) struct Outlets {
    outputs: Vec<Arc<dyn Output>>,
    store: Option<PathBuf>,
}

/// The site of `file`, as outputs see it.
fn place(file: &SiteFile) -> Place {
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
    let store = output::store(&file.outputs, &place(file)).filter(|path| path.exists());
    store.map_or(Ok(None), |store| StoreReader::open(&store)?.event(id))
}

impl Outlets {
    /// Starts the outputs of `file`.
    ///
    /// # Errors
    /// As [`output::open`].
    pub fn open(file: &SiteFile) -> Result<Self> {
        let place = place(file);
        let outputs = output::open(&file.outputs, &place)?;
        Ok(Self { outputs, store: output::store(&file.outputs, &place) })
    }

    /// Hands a message to all.
    pub fn offer(&self, message: &Message) {
        self.outputs.iter().for_each(|output| output.offer(message));
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
        // Each has what is left: one that hangs must not take the others' time, so they end side by side.
        std::thread::scope(|scope| {
            for output in &self.outputs {
                scope.spawn(move || output.stop(until.saturating_duration_since(Instant::now())));
            }
        });
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
