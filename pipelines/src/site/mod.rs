//! A site: many cameras on one box, what they saw, and who is told of it. The daemon `tapetumd` runs one.
//!
//! | part | what it does |
//! |---|---|
//! | [`event`] | what is found on frames → what happened |
//! | [`output`] | who is told: MQTT, SQLite, JSON Lines, webhook |
//! | [`message`] | what leaves the site: events, results, states of cameras |
//! | [`http`] | health, metrics, the API and the live page |
//! | [`live`] | the newest inferred frame of each camera, for who looks at it |
//! | [`status`] | what health, metrics and the page are made of |

pub mod event;
pub mod http;
pub mod live;
pub mod message;
pub mod output;
pub mod status;
