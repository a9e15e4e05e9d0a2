//! Built engines, kept from one start to the next.
//!
//! | File | Holds |
//! |---|---|
//! | `key` | everything that a built engine depends on |
//! | `device` | which device this is, with its driver |
//! | `entry` | one kept engine on disk, and whether it is what was written |
//! | `folder` | the folder of all entries: locks, leftovers, what is given up when it grows |
//! | `open` | found and taken, or built and kept |
//!
//! An entry is a folder named by its key's digest. It is built beside its place and renamed there when it is whole, under a
//! lock that ends with the process. So a kill at any moment leaves either the old entry, the new one or none.

mod device;
mod entry;
mod folder;
mod key;
mod open;

pub(crate) use entry::digest;
pub use entry::{Record, Recorded, Unsound};
pub use folder::Cache;
pub use key::Key;
pub use open::{Event, Opened, Origin, Wanted, without};
