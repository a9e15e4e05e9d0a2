//! What is done with a frame.
//!
//! To add a stage: write `stage/<name>.rs` with its [`Stage`], its [`Plan`] and its [`StageKind`], then add its `mod` line and
//! one entry in [`STAGES`].

use tapetum_runtime::{
    Error, Frame, Image, Rect, Result,
    contract::{Contract, OutputContract, OutputKind},
    finding::Finding,
    settings::{Reader, Table},
};

use crate::{Slot, SlotState, config::Earlier, shapes::Sizes};

pub mod break_up_time;
mod break_up_time_stage;
mod classify;
mod detect;
mod embed;
pub(crate) mod engine;
mod light;
mod net;
mod restore;
mod segment;

pub use break_up_time::{BreakUpTime, BreakUpTimer, EyeState, Interval, Rules};
pub use engine::{Engine, Load, Supply};
pub use net::{Net, Output};

/// Every kind of stage in this build.
pub static STAGES: &[&StageKind] = &[
    &classify::CLASSIFY,
    &detect::DETECT,
    &segment::SEGMENT,
    &embed::EMBED,
    &restore::RESTORE,
    &light::LIGHT,
    &break_up_time_stage::BREAK_UP_TIME,
];

/// A kind of stage.
pub struct StageKind {
    /// For `kind = "…"`.
    pub name: &'static str,
    /// Whether it runs a model.
    pub takes_model: bool,
    /// Whether `output` is what it reads of a model.
    pub reads: fn(output: &OutputKind) -> bool,
    /// The labels of what it finds, where no model says them.
    pub labels: &'static [&'static str],
    /// Its own keys in the pipeline file, beyond those that every stage has.
    pub keys: &'static [&'static str],
    /// Reads those keys. `None` if there were mistakes, which are noted.
    pub read: ReadKeys,
}

/// Reads a stage's own keys; see [`StageKind::read`].
pub type ReadKeys = for<'t> fn(&mut Reader<'t>, &Table<'t>, &Earlier<'_>) -> Option<Box<dyn Plan>>;

/// A stage's own parameters; makes its instances.
pub trait Plan: Send + Sync {
    /// Whether the stage must see the frames in order, one at a time: it remembers earlier ones.
    fn ordered(&self) -> bool {
        false
    }

    /// The sizes that it feeds to a network of open size, where it decides them itself; the model's contract is `contract`.
    ///
    /// # Errors
    /// The model does not fit the stage.
    fn sizes(&self, contract: &Contract) -> Result<Option<Sizes>> {
        let _ = contract;
        Ok(None)
    }

    /// One instance. `net` is there exactly if the kind takes a model.
    ///
    /// # Errors
    /// The model does not fit the stage.
    fn build(&self, net: Option<Net>) -> Result<Box<dyn Stage>>;
}

/// What a stage is shown of a frame.
pub struct Input<'a> {
    /// The frame as captured.
    pub frame: &'a Frame,
    /// The picture to look at: the frame's, or what an earlier stage restored.
    pub image: &'a Image,
    /// The regions to look at, at least one; the whole picture if the stage has no `crop`.
    pub regions: &'a [Rect],
    /// What the stages before this one found.
    pub earlier: &'a [Slot],
}

impl Input<'_> {
    /// What stage `stage` found on this frame (or reuses), if it did.
    pub fn found(&self, stage: usize) -> Option<&Finding> {
        let slot = self.earlier.get(stage)?;
        matches!(slot.state, SlotState::Done | SlotState::Reused { .. }).then_some(&slot.finding)
    }
}

/// One instance of a stage: one worker's at a time, with its own scratch memory.
pub trait Stage: Send {
    /// An empty finding of the kind that this stage makes.
    fn blank(&self) -> Finding;

    /// Works on one frame and writes what it found into `out`, which came from [`Stage::blank`] and holds what an
    /// earlier frame left.
    ///
    /// # Errors
    /// This frame failed; the run goes on.
    fn run(&mut self, input: &Input<'_>, out: &mut Finding) -> Result<()>;

    /// What all frames together came to, for a stage that measures something over time.
    fn conclusion(&self) -> Option<BreakUpTime> {
        None
    }
}

/// The labels of what a stage of `kind` finds with a model of `contract`.
///
/// # Errors
/// The model has no output that the kind reads.
pub fn fits(kind: &StageKind, contract: &Contract) -> Result<Vec<String>> {
    let Some(output) = contract.outputs.iter().find(|o| (kind.reads)(&o.kind)) else {
        let has: Vec<String> =
            contract.outputs.iter().map(|o| format!("{} ({})", o.name, kind_name(o))).collect();
        return Err(Error::config(format!(
            "a stage of kind {:?} cannot use {}: its outputs are {}",
            kind.name,
            contract.network.name,
            has.join(", ")
        )));
    };
    Ok(match &output.kind {
        OutputKind::Classes { labels, .. }
        | OutputKind::Boxes { labels, .. }
        | OutputKind::Mask { labels, .. } => labels.clone(),
        _ => Vec::new(),
    })
}

fn kind_name(output: &OutputContract) -> &'static str {
    match output.kind {
        OutputKind::Classes { .. } => "classes",
        OutputKind::Boxes { .. } => "boxes",
        OutputKind::Mask { .. } => "mask",
        OutputKind::Image { .. } => "image",
        OutputKind::Embedding { .. } => "embedding",
        OutputKind::Decision { .. } => "decision",
        OutputKind::Aux => "no meaning given",
    }
}

/// The net of a stage whose kind takes a model.
fn needed(net: Option<Net>) -> Result<Net> {
    net.ok_or_else(|| Error::internal("a stage that runs a model was built without one"))
}

/// The error for a finding of another kind than the stage's own.
fn foreign() -> Error {
    Error::internal("a stage was given a finding of another kind to fill")
}
