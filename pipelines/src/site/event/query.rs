//! Questions about events that were kept.

use std::time::SystemTime;

use serde::Serialize;

use crate::site::message::Event;

/// Which events are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventQuery {
    /// Of this camera only.
    pub camera: Option<String>,
    /// With this label only.
    pub label: Option<String>,
    /// That began at this time or later.
    pub after: Option<SystemTime>,
    /// That began before this time.
    pub before: Option<SystemTime>,
    /// As [`EventPage::next`] of the page before.
    pub cursor: Option<String>,
    /// Not more than these, 1 to [`EventQuery::MOST`].
    pub limit: usize,
}

impl EventQuery {
    /// The largest `limit`.
    pub const MOST: usize = 1000;
}

impl Default for EventQuery {
    fn default() -> Self {
        Self { camera: None, label: None, after: None, before: None, cursor: None, limit: 100 }
    }
}

/// Some events, the newest first.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EventPage {
    /// At most as many as asked for.
    pub events: Vec<Event>,
    /// What to ask for the rest with; none: this was the rest.
    pub next: Option<String>,
}
