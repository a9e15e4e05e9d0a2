//! A site: many cameras on one box, what they saw, and who is told of it. The daemon `tapetumd` runs one.
//!
//! | part | what it does |
//! |---|---|
//! | [`message`] | what leaves the site: events, results, states of cameras |
//! | [`http`] | health, metrics, the API and the live page |
//! | [`live`] | the newest inferred frame of each camera, for who looks at it |
//! | [`status`] | what health, metrics and the page are made of |

pub mod http;
pub mod live;
pub mod message;
pub mod status;
