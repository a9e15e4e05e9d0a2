//! One frame on its way through the pipeline, with everything that was found on it.

use std::{sync::Arc, time::Duration};

use crate::engine_fault::EngineEvent;
use tapetum_runtime::{Frame, Image, clock::Tick, finding::Finding};

/// A frame, what the stages found on it, and how long each took. Reused for later frames: nothing in it is freed.
#[derive(Debug)]
pub struct Item {
    /// The frame as the source gave it.
    pub frame: Frame,
    /// One per stage, in the pipeline's order.
    pub slots: Vec<Slot>,
    /// What became of it.
    pub fate: Fate,
    /// What was done about engines that failed on it; almost always nothing.
    pub engine_events: Vec<EngineEvent>,
    /// When the source handed it over.
    pub offered: Tick,
    /// When it left the last stage; meaningful once delivered.
    pub finished: Tick,
}

/// What one stage made of the frame.
#[derive(Debug)]
pub struct Slot {
    /// Whether `finding` holds something of this frame.
    pub state: SlotState,
    /// Always of the kind that the stage makes; only valid in the states [`SlotState::Done`] and
    /// [`SlotState::Reused`].
    pub finding: Finding,
    /// Time that the stage worked on this frame.
    pub took: Duration,
    /// The engine that ran the stage's model, if it is another one than at the start of the run.
    pub engine: Option<Arc<str>>,
}

/// Whether a stage ran on a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum SlotState {
    /// Its turn has not come.
    #[default]
    Pending,
    /// It ran.
    Done,
    /// It did not run, as declared in the pipeline file.
    Skipped(Skip),
    /// `every`: the finding is of an earlier frame.
    Reused {
        /// How much earlier.
        age: Duration,
    },
    /// It failed on this frame; see [`Item::fate`].
    Failed,
}

/// Why a stage did not run on a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// Its `when` did not hold.
    When,
    /// Its `crop` found no box, or none large enough.
    Crop,
    /// A stage that it needs was skipped or failed.
    Input,
}

impl Skip {
    /// As written into results.
    pub fn name(self) -> &'static str {
        match self {
            Self::When => "when",
            Self::Crop => "crop",
            Self::Input => "input",
        }
    }
}

/// What became of a frame.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Fate {
    /// Every stage ran or was skipped as declared.
    #[default]
    Ok,
    /// A stage failed; later stages did not run.
    Failed {
        /// Index of the stage.
        stage: usize,
        /// Its error, in words.
        why: String,
    },
}

impl Item {
    /// An item with a slot for each of the given empty findings.
    pub fn new(blanks: impl IntoIterator<Item = Finding>) -> Self {
        let slot = |finding| Slot { state: SlotState::Pending, finding, took: Duration::ZERO, engine: None };
        Self {
            frame: Frame::default(),
            slots: blanks.into_iter().map(slot).collect(),
            fate: Fate::Ok,
            engine_events: Vec::new(),
            offered: Tick::ZERO,
            finished: Tick::ZERO,
        }
    }

    /// Makes it ready for the next frame; findings keep their memory.
    pub fn reset(&mut self) {
        self.fate = Fate::Ok;
        self.engine_events.clear();
        for slot in &mut self.slots {
            slot.state = SlotState::Pending;
            slot.took = Duration::ZERO;
            slot.engine = None;
        }
    }

    /// The picture that stage `stage` is to look at: that of the last restoration before it, else the frame's own.
    pub fn image_for(&self, stage: usize) -> &Image {
        image_after(&self.slots[..stage.min(self.slots.len())], &self.frame.image)
    }

    /// What stage `stage` found on this frame (or reuses), if it did.
    pub fn found(&self, stage: usize) -> Option<&Finding> {
        let slot = self.slots.get(stage)?;
        matches!(slot.state, SlotState::Done | SlotState::Reused { .. }).then_some(&slot.finding)
    }
}

/// The picture after the stages of `slots`: that of the last restoration, else `captured`.
pub(crate) fn image_after<'a>(slots: &'a [Slot], captured: &'a Image) -> &'a Image {
    let restored = slots.iter().rev().find_map(|slot| match (&slot.state, &slot.finding) {
        (SlotState::Done | SlotState::Reused { .. }, Finding::Image(restored)) => Some(&restored.image),
        _ => None,
    });
    restored.unwrap_or(captured)
}
