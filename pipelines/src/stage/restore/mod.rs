//! A better picture in place of the frame's: dehazing, deblurring.
//!
//! | File | Holds |
//! |---|---|
//! | `kind` | [`RESTORE`]: the keys in the pipeline file |
//! | `restorer` | the stage at work on one frame |
//! | `cut` | whole pictures or tiles, by the memory they need |
//! | `look` | cheap looks that spare a tile the network |

mod cut;
mod kind;
mod look;
mod restorer;

pub use kind::RESTORE;
