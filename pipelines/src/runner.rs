//! A stage with what the pipeline file declares around it: `when`, `crop`, `every`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::{sync::Arc, time::Duration};

use tapetum_runtime::{Error, Rect, Result, clock::Tick, finding::Finding};

use crate::{
    Fate, Item, Skip, Slot, SlotState,
    config::{Crop, StageSpec},
    stage::{BreakUpTime, Input, Stage, engine::Post},
};

/// One instance of a stage as workers run it.
pub(crate) struct Runner<'a> {
    spec: &'a StageSpec,
    index: usize,
    stage: Box<dyn Stage>,
    regions: Vec<Rect>,
    reuse: Reuse,
    /// To and from its engine, if it has one.
    post: Option<Arc<Post>>,
}

/// What `every` remembers.
struct Reuse {
    /// Frames since the last one that the stage was run on.
    since: u32,
    /// When that was, and what was found.
    last: Option<(Duration, Finding)>,
}

impl<'a> Runner<'a> {
    pub(crate) fn new(
        spec: &'a StageSpec,
        index: usize,
        stage: Box<dyn Stage>,
        post: Option<Arc<Post>>,
    ) -> Self {
        let reuse = Reuse { since: 0, last: None };
        Self { spec, index, stage, regions: Vec::with_capacity(8), reuse, post }
    }

    /// An empty finding of the stage's kind.
    pub(crate) fn blank(&self) -> Finding {
        self.stage.blank()
    }

    /// What all frames together came to.
    pub(crate) fn conclusion(&self) -> Option<BreakUpTime> {
        self.stage.conclusion()
    }

    /// Whether its model has no engine left: every further frame will fail.
    pub(crate) fn given_up(&self) -> bool {
        self.post.as_ref().is_some_and(|post| post.lock().given_up)
    }

    /// Runs the stage on `item`, or notes why not. A failure, a panic included, is noted in the item, and so is what was
    /// done about an engine.
    pub(crate) fn run(&mut self, item: &mut Item, now: Tick) {
        if let Some(post) = &self.post {
            let mut slip = post.lock();
            (slip.now, slip.frame) = (now, item.frame.seq);
        }
        self.run_stage(item);
        if let Some(post) = &self.post {
            let mut slip = post.lock();
            item.engine_events.append(&mut slip.events);
            item.slots[self.index].engine.clone_from(&slip.engine);
        }
    }

    fn run_stage(&mut self, item: &mut Item) {
        let outcome = match catch_unwind(AssertUnwindSafe(|| self.attempt(item))) {
            Ok(outcome) => outcome,
            Err(panic) => Err(Error::internal(format!("the stage panicked: {}", words_of(&*panic)))),
        };
        match outcome {
            Ok(state) => item.slots[self.index].state = state,
            Err(e) => {
                item.slots[self.index].state = SlotState::Failed;
                item.fate = Fate::Failed { stage: self.index, why: e.to_string() };
            }
        }
    }

    fn attempt(&mut self, item: &mut Item) -> Result<SlotState> {
        if let Some(skip) = self.condition(&item.slots) {
            return Ok(SlotState::Skipped(skip));
        }
        let pts = item.frame.pts;
        if self.spec.every > 1 {
            self.reuse.since += 1;
            if self.reuse.since < self.spec.every
                && let Some((at, last)) = &self.reuse.last
            {
                copy(last, &mut item.slots[self.index].finding);
                return Ok(SlotState::Reused { age: pts.saturating_sub(*at) });
            }
            self.reuse.since = 0;
        }
        let (earlier, rest) = item.slots.split_at_mut(self.index);
        let image = crate::item::image_after(earlier, &item.frame.image);
        self.regions.clear();
        match &self.spec.crop {
            None => self.regions.push(image.rect()),
            Some(crop) => {
                regions(crop, &earlier[crop.stage], (image.width(), image.height()), &mut self.regions)
            }
        }
        if self.regions.is_empty() {
            return Ok(SlotState::Skipped(Skip::Crop));
        }
        let slot = &mut rest[0];
        let input = Input { frame: &item.frame, image, regions: &self.regions, earlier };
        self.stage.run(&input, &mut slot.finding)?;
        if self.spec.every > 1 {
            match &mut self.reuse.last {
                Some((at, last)) => {
                    *at = pts;
                    copy(&slot.finding, last);
                }
                none => *none = Some((pts, slot.finding.clone())),
            }
        }
        Ok(SlotState::Done)
    }

    /// Why the stage is not to run on a frame with these findings, if so.
    fn condition(&self, slots: &[Slot]) -> Option<Skip> {
        let usable = |slot: &Slot| matches!(slot.state, SlotState::Done | SlotState::Reused { .. });
        if let Some(when) = &self.spec.when {
            let slot = &slots[when.stage];
            match &slot.finding {
                _ if !usable(slot) => return Some(Skip::Input),
                Finding::Class(class) if when.classes.contains(&class.label) => {}
                _ => return Some(Skip::When),
            }
        }
        match &self.spec.crop {
            Some(crop) if !usable(&slots[crop.stage]) => Some(Skip::Input),
            _ => None,
        }
    }
}

/// The regions that `crop` takes from the boxes in `slot`, the highest score first.
fn regions(crop: &Crop, slot: &Slot, (width, height): (usize, usize), out: &mut Vec<Rect>) {
    let Finding::Boxes(boxes) = &slot.finding else { return };
    for b in &boxes.0 {
        if !crop.labels.is_empty() && !crop.labels.contains(&b.label) {
            continue;
        }
        let [x1, y1, x2, y2] = b.xyxy;
        let (dx, dy) = ((x2 - x1) * crop.margin, (y2 - y1) * crop.margin);
        let rect = Rect::round([x1 - dx, y1 - dy, x2 + dx, y2 + dy], width, height);
        if rect.width.min(rect.height) >= crop.min_size.max(1) {
            out.push(rect);
            if out.len() == crop.most {
                return;
            }
        }
    }
}

/// Copies a finding into one of the same kind, keeping the latter's memory.
fn copy(from: &Finding, to: &mut Finding) {
    match (from, to) {
        (Finding::Class(from), Finding::Class(to)) => {
            to.label = from.label;
            to.probs.clone_from(&from.probs);
        }
        (Finding::Boxes(from), Finding::Boxes(to)) => to.0.clone_from(&from.0),
        (Finding::Image(from), Finding::Image(to)) => to.copy_from(from),
        (Finding::Measure(from), Finding::Measure(to)) => to.clone_from(from),
        (from, to) => to.clone_from(from),
    }
}

pub(crate) fn words_of(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use tapetum_runtime::finding::{Boxes, Detection};

    use super::*;

    #[test]
    fn crops_take_the_labels_margin_minimum_and_number_that_were_asked_for() {
        let found = |label, xyxy| Detection { label, score: 0.5, xyxy };
        let boxes = vec![
            found(2, [10.0, 10.0, 30.0, 50.0]),
            found(1, [0.0, 0.0, 90.0, 90.0]),
            found(2, [40.0, 40.0, 44.0, 90.0]),
            found(2, [60.0, 60.0, 120.0, 120.0]),
            found(2, [0.0, 0.0, 50.0, 50.0]),
        ];
        let slot = Slot {
            state: SlotState::Done,
            finding: Finding::Boxes(Boxes(boxes)),
            took: Duration::ZERO,
            engine: None,
        };
        let crop = Crop { stage: 0, labels: vec![2], margin: 0.1, min_size: 16, most: 2 };
        let mut out = Vec::new();
        regions(&crop, &slot, (100, 100), &mut out);
        let xyxy: Vec<_> = out.iter().map(Rect::xyxy).collect();
        assert_eq!(xyxy, [[8, 6, 32, 54], [54, 54, 100, 100]]);
    }
}
