//! What the sinks write, from items that no pipeline made.

mod fabricate;
mod json;
mod pictures;
mod report;
mod schema;
