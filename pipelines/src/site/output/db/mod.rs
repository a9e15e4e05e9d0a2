//! A SQLite database that is written by a thread of its own: many jobs per commit, bounded memory while it cannot be written, and
//! a new file in place of a corrupt one.

mod file;
mod writer;

pub use file::{Fault, open_to_read};
pub use writer::{Keeper, Writer};
