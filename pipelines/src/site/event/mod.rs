//! From what is found on frames to what happened: state machines without threads, clocks or files.
//!
//! | part | what it does |
//! |---|---|
//! | [`spec`] | what counts as an event, from the configuration |
//! | [`machine`] | one camera's frames → events |
//! | [`seen`] | a stage's finding → what the machine looks at |
//! | [`id`] | ids of events |
//! | [`query`] | questions about events that were kept |

pub mod id;
pub mod machine;
pub mod query;
pub mod seen;
pub mod spec;

pub use id::Ids;
pub use machine::{EventMachine, Look};
pub use query::{EventPage, EventQuery};
pub use seen::Seen;
pub use spec::EventSpec;
