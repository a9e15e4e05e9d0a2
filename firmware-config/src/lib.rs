//! What a device is told: board profiles, units and packaging.
//!
//! A [`Board`] is a machine as its profile (`boards/*.toml`, compiled in) describes it: which engines to try, in which order, which
//! device nodes they need, how hot it may get. [`Heat`] is how hot it is. Opens only what it is asked to, below the root it is given.

mod board;
mod files;
mod heat;
mod power;

pub use board::{Board, Limits};
pub use heat::{Cooling, Heat, Level, Zone};
pub use power::{mode_number, power_mode};
