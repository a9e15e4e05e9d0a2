//! Footage and pictures of what happens.
//!
//! ```text
//!  source ──packets──► Tape (a ring; decides what belongs to a recording) ──orders──► Media (a thread) ──► the media folder
//!  executor ──frames, findings, events──┘
//! ```
//!
//! | part | what it does |
//! |---|---|
//! | [`spec`] | what the configuration says of it |
//! | [`ring`] | the last seconds of a camera's encoded pictures |
//! | [`tape`] | which pictures and frames belong to a recording: a state machine without threads, clocks or files |
//! | `recorder` | one camera's tape between its threads and the media folder |
//! | `held` | events that wait a moment for their picture |
//! | [`media`] | the folder, its thread and its bounds |

mod held;
pub mod media;
mod recorder;
pub mod ring;
pub mod spec;
pub mod tape;

pub(in crate::site) use held::Held;
pub use media::Media;
pub(in crate::site) use recorder::{Recorder, Wants};
pub use spec::{MediaSpec, RecordSpec, Snapshots};
