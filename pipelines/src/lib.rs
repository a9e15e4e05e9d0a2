//! Pipelines of networks on video: sources → stages → sinks.
//!
//! A [`source`] fills frames; [`stage`]s look at each frame and at what earlier stages found; [`sink`]s get every
//! frame's [`Item`] in order. The executor keeps account of every frame.

#![forbid(clippy::print_stdout, clippy::print_stderr)]

pub mod assemble;
pub mod calibrate;
pub mod config;
mod cpu;
pub mod engine_cache;
pub mod engine_fault;
pub mod executor;
pub mod flow;
pub mod hub;
mod item;
mod load;
mod loader;
pub mod matrix;
mod models;
mod plan;
pub mod prepare;
pub mod recorder;
pub mod recording;
pub mod replay;
mod run_info;
mod runner;
pub mod shapes;
pub mod sink;
pub mod site;
pub mod soak;
pub mod source;
pub mod stage;
mod summary;
pub mod tune;
pub mod warm;

pub use item::{Fate, Item, Skip, Slot, SlotState};
pub use run_info::{Decision, ModelInfo, PassedOver, RunInfo, StageInfo};
pub use summary::{Accounting, Cpu, Restorations, Summary};
