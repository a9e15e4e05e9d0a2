//! What is done with a frame.

pub mod break_up_time;

pub use break_up_time::{BreakUpTime, Interval};
