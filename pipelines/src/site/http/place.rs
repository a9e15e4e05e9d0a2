//! What the HTTP side asks of the daemon.

use std::path::Path;

use tapetum_runtime::Result;

use crate::site::{
    event::{EventPage, EventQuery},
    live::Live,
    message::Event,
    status::SiteStatus,
};

/// The site that is shown. Every call may come at any time, from several threads at once, and may take a moment: none is made
/// on the thread that serves connections but [`Site::live`].
pub trait Site: Send + Sync + 'static {
    /// What stands still although it should not, in words, without secrets; empty: the process is alive.
    fn stuck(&self) -> Vec<String>;

    /// A copy of the state at this moment.
    fn status(&self) -> SiteStatus;

    /// Where the camera of this name lays its frames; `None`: there is no such camera. Must not block.
    fn live(&self, camera: &str) -> Option<std::sync::Arc<Live>>;

    /// Events that fit `query`, the newest first.
    ///
    /// # Errors
    /// `BadInput` if the cursor is not one of ours, `Unsupported` if this site keeps no events; else the store's trouble.
    fn events(&self, query: &EventQuery) -> Result<EventPage>;

    /// One event, as it was told last; `None`: there is none of this id (any more).
    ///
    /// # Errors
    /// As [`Site::events`].
    fn event(&self, id: &str) -> Result<Option<Event>>;

    /// The folder that [`Event::snapshot`] and [`Event::recording`] are relative to; `None`: this site keeps none. Everything
    /// in it but names that begin with a dot is shown to who may look.
    fn media(&self) -> Option<&Path>;

    /// Reads and checks the configuration anew. What is sound is then built in the background: [`SiteStatus::config`] tells how
    /// that went.
    ///
    /// # Errors
    /// `InvalidConfig` with all its mistakes; the one in force stays.
    fn reload(&self) -> Result<()>;
}
