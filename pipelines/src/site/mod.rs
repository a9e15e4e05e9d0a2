//! A site: many cameras on one box, what they saw, and who is told of it. The daemon `tapetumd` runs one.
//!
//! | part | what it does |
//! |---|---|
//! | [`config`] | `site.toml` |
//! | [`daemon`] | keeps the cameras going; takes in a new configuration without a stop |
//! | `camera` | one camera: source, generations of its pipeline, figures |
//! | [`event`] | from findings to what happens |
//! | [`output`] | who is told |
//! | [`record`] | footage and pictures of what happens |
//! | [`message`] | what leaves the site: events, results, states of cameras |
//! | [`live`] | the newest inferred frame of each camera, for who looks at it |
//! | `age` | whether the wall clock can be gone by |
//! | `machine` | the board: engines to try, heat, what it can bear |
//! | [`status`] | what health, metrics and the page are made of |
//! | [`http`] | health, metrics, API and page |

mod age;
mod camera;
pub mod config;
pub mod daemon;
pub mod event;
pub mod http;
pub mod live;
mod machine;
pub mod message;
mod outlets;
pub mod output;
pub mod record;
pub mod status;

pub(crate) use outlets::stored_event;
