//! What happens on a camera, seen by the findings of one stage of its pipeline.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use crate::{
    Item, RunInfo,
    site::{
        event::{EventMachine, EventSpec, Ids, Look, Seen},
        message::Event,
        record::tape::Span,
    },
};

/// Outlives the generations of the pipeline.
pub(in crate::site) struct Watcher {
    machine: EventMachine,
    /// The stage that is looked at; the last that finds boxes or a class if it has no name.
    stage: Option<String>,
    events: u64,
    told: Vec<Event>,
}

impl Watcher {
    pub fn new(camera: &str, spec: &EventSpec, ids: Arc<Ids>) -> Self {
        let machine = EventMachine::new(camera, spec.clone(), "", ids);
        Self { machine, stage: spec.stage.clone(), events: 0, told: Vec::new() }
    }

    /// The pipeline in force.
    pub fn looks_at(&mut self, run: &RunInfo) {
        self.machine.set_digest(&run.digest);
    }

    /// Looks at a frame; what there is to tell waits for [`Watcher::hand_over`].
    pub fn see(&mut self, item: &Item, run: &RunInfo) {
        let makes_events = |kind: &str| matches!(kind, "detect" | "classify");
        let stage = match &self.stage {
            Some(name) => run.stages.iter().position(|stage| stage.name == *name),
            None => run.stages.iter().rposition(|stage| makes_events(stage.kind)),
        };
        let Some(at) = stage else { return };
        let size = (item.frame.image.width(), item.frame.image.height());
        let look = Look {
            seq: item.frame.seq,
            pts: item.frame.pts,
            captured: item.frame.captured.unwrap_or_else(SystemTime::now),
            size,
        };
        let labels = &run.stages[at].labels;
        match item.found(at) {
            Some(finding) => self.machine.frame(&look, Seen::all(finding, labels, size), &mut self.told),
            None => self.machine.frame(&look, [], &mut self.told),
        }
    }

    /// Events that go on after the latest frame.
    pub fn spans(&self) -> impl Iterator<Item = Span<'_>> {
        self.machine.spans()
    }

    /// Events whose best picture is frame `seq`.
    pub fn best_on(&self, seq: u64) -> impl Iterator<Item = &str> {
        self.machine.best_on(seq).map(|event| event.id.as_str())
    }

    /// Event `id` is shown by the recording at `place`.
    pub fn recorded(&mut self, id: &str, place: &Path) {
        let place = || Some(PathBuf::from(place));
        self.machine.keep(id, None, place());
        for event in self.told.iter_mut().filter(|event| event.id == id) {
            event.recording = place();
        }
    }

    /// Ends what goes on.
    pub fn end_all(&mut self, tell: &mut dyn FnMut(Event)) {
        self.machine.end_all(&mut self.told);
        self.hand_over(tell);
    }

    /// Gives away what there is to tell.
    pub fn hand_over(&mut self, tell: &mut dyn FnMut(Event)) {
        for event in self.told.drain(..) {
            self.events += u64::from(event.revision == 0);
            tell(event);
        }
    }

    /// Events that go on, and events since the start.
    pub fn counts(&self) -> [u64; 2] {
        [self.machine.open().count() as u64, self.events]
    }
}
