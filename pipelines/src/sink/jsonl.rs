//! `results.jsonl`: one line per frame; and `summary.json` at the end.

use std::{
    fs::File,
    io::Write,
    ops::Range,
    path::{Path, PathBuf},
    time::Duration,
};

use tapetum_runtime::{
    Result,
    finding::{Finding, Restored},
};

use super::{
    Sink, SinkKind, files,
    json::{Json, thousandths},
    look::{self, Label, MaskFile},
    pictures::PictureFile,
    summary,
};
use crate::{Fate, Item, RunInfo, Slot, SlotState, StageInfo, Summary};

/// `--sink jsonl`.
pub(super) const JSONL: SinkKind = SinkKind {
    name: "jsonl",
    writes: "results.jsonl (one line per frame) and summary.json",
    open: |out, _| Ok(Box::new(Jsonl::create(out)?)),
};

struct Jsonl {
    out: PathBuf,
    path: PathBuf,
    file: File,
    /// Of the complete lines, in bytes.
    length: u64,
    /// The line under construction; keeps its memory.
    line: Json,
}

impl Jsonl {
    fn create(out: &Path) -> Result<Self> {
        let path = out.join("results.jsonl");
        Ok(Self { out: out.to_owned(), file: files::create(&path)?, path, length: 0, line: Json::default() })
    }
}

impl Sink for Jsonl {
    fn name(&self) -> &'static str {
        JSONL.name
    }

    fn deliver(&mut self, item: &Item, run: &RunInfo) -> Result<()> {
        self.line.clear();
        write_line(&mut self.line, item, run);
        self.file.write_all(self.line.bytes()).map_err(|e| {
            // A full disk takes part of a line: whoever reads the file must not stumble over it.
            self.file.set_len(self.length).ok();
            files::failed(&self.path, "write", e)
        })?;
        self.length += self.line.bytes().len() as u64;
        Ok(())
    }

    fn finish(&mut self, run: &RunInfo, summary: &Summary) -> Result<()> {
        self.file.sync_all().map_err(|e| files::failed(&self.path, "write", e))?;
        self.line.clear();
        summary::write(&mut self.line, run, summary);
        files::replace(&self.out.join("summary.json"), self.line.bytes())
    }
}

/// Frames as lines of `results.jsonl`, for sinks that send them elsewhere.
#[derive(Default)]
pub struct ResultLine {
    json: Json,
    found: Range<usize>,
}

impl ResultLine {
    /// The line for `item`, with its line feed. It is good until the next one.
    pub fn of(&mut self, item: &Item, run: &RunInfo) -> &[u8] {
        self.json.clear();
        self.found = write_line(&mut self.json, item, run);
        self.json.bytes()
    }

    /// The latest line.
    pub fn bytes(&self) -> &[u8] {
        self.json.bytes()
    }

    /// What the latest line says of the picture alone: size, status, findings; without times, engines and origins.
    pub fn found(&self) -> &[u8] {
        self.json.bytes().get(self.found.clone()).unwrap_or_default()
    }
}

/// Returns where size, status and findings stand.
fn write_line(json: &mut Json, item: &Item, run: &RunInfo) -> Range<usize> {
    let mut found = 0..0;
    let stages = || run.stages.iter().zip(&item.slots).enumerate();
    json.object(|json| {
        json.key("pipeline").string(&run.pipeline);
        json.key("source").string(&run.source);
        json.key("seq").integer(item.frame.seq);
        json.key("pts_s").number(item.frame.pts.as_secs_f64());
        json.key("captured");
        match item.frame.captured.and_then(|time| jiff::Timestamp::try_from(time).ok()) {
            Some(time) => json.plain(time),
            None => json.null(),
        }
        found.start = json.bytes().len();
        json.key("size").array(|json| {
            json.integer(item.frame.image.width() as u64);
            json.integer(item.frame.image.height() as u64);
        });
        json.key("status").string(status(item));
        if let Fate::Failed { stage, why } = &item.fate {
            json.key("error").object(|json| {
                json.key("stage").string(run.stages.get(*stage).map_or("", |stage| &stage.name));
                json.key("message").string(why);
            });
        }
        json.key("findings").object(|json| {
            for (at, (stage, slot)) in stages() {
                let place = Place { run, stage, at, seq: item.frame.seq };
                write_slot(json, &place, slot);
            }
        });
        found.end = json.bytes().len();
        json.key("latency_ms").object(|json| {
            for (_, (stage, slot)) in stages().filter(|(_, (_, slot))| slot.state == SlotState::Done) {
                json.key(&stage.name).number(milliseconds(slot.took));
            }
            json.key("total").number(milliseconds(item.finished.saturating_sub(item.offered)));
        });
        let models = || run.stages.iter().filter_map(|stage| Some((&stage.name, stage.model.as_ref()?)));
        json.key("engine").object(|json| {
            for (_, (stage, slot)) in stages() {
                if let Some(model) = &stage.model {
                    json.key(&stage.name).string(slot.engine.as_deref().unwrap_or(&model.engine));
                }
            }
        });
        json.key("models").object(|json| models().for_each(|(name, m)| json.key(name).string(&m.sha256)));
        json.key("digest").string(&run.digest);
    });
    json.end_line();
    found
}

fn status(item: &Item) -> &'static str {
    let reused = || item.slots.iter().any(|slot| matches!(slot.state, SlotState::Reused { .. }));
    match item.fate {
        Fate::Failed { .. } => "failed",
        Fate::Ok if reused() => "reused",
        Fate::Ok => "ok",
    }
}

/// Whose finding is written.
struct Place<'a> {
    run: &'a RunInfo,
    stage: &'a StageInfo,
    at: usize,
    seq: u64,
}

/// The member of `findings` for one stage; none where it failed or its turn did not come.
fn write_slot(json: &mut Json, place: &Place<'_>, slot: &Slot) {
    let age = match slot.state {
        SlotState::Pending | SlotState::Failed => return,
        SlotState::Skipped(why) => {
            return json.key(&place.stage.name).object(|json| json.key("skipped").string(why.name()));
        }
        SlotState::Done => None,
        SlotState::Reused { age } => Some(age),
    };
    json.key(&place.stage.name).object(|json| {
        write_finding(json, place, &slot.finding);
        if let Some(age) = age {
            json.key("age_s").number(age.as_secs_f64());
        }
    });
}

fn write_finding(json: &mut Json, place: &Place<'_>, finding: &Finding) {
    let stage = place.stage;
    match finding {
        Finding::Class(class) => {
            write_label(json.key("class"), Label::of(stage, class.label));
            json.key("prob").single(class.probs.get(class.label).copied().unwrap_or(f32::NAN));
            json.key("probs").object(|json| {
                for (index, prob) in class.probs.iter().enumerate() {
                    write_key(json, Label::of(stage, index)).single(*prob);
                }
            });
        }
        Finding::Boxes(boxes) => json.key("boxes").array(|json| {
            for found in &boxes.0 {
                json.object(|json| {
                    write_label(json.key("label"), Label::of(stage, found.label));
                    json.key("score").single(found.score);
                    json.key("xyxy").array(|json| found.xyxy.iter().for_each(|v| json.single(*v)));
                });
            }
        }),
        Finding::Mask(mask) => {
            json.key("mask");
            if look::foreground(mask) > 0 && place.run.sinks.contains(&super::masks::MASKS.name) {
                json.plain(MaskFile::of(place.run, place.at, place.seq));
            } else {
                json.null();
            }
            json.key("area_px").object(|json| {
                for class in 1..look::pixel_classes(stage, mask) {
                    write_key(json, Label::of_pixel(stage, class)).integer(look::area(mask, class));
                }
            });
            json.key("crop");
            match look::union(mask) {
                Some(rect) => {
                    json.array(|json| rect.xyxy().iter().for_each(|v| json.integer(*v as u64)));
                }
                None => json.null(),
            }
        }
        Finding::Image(restored) => write_restored(json, place, restored),
        Finding::Embeddings(found) => {
            json.key("embedding").array(|json| found.values.iter().for_each(|v| json.single(*v)));
            json.key("dim").integer(found.dim as u64);
            json.key("rects").array(|json| {
                for rect in &found.rects {
                    json.array(|json| rect.xyxy().iter().for_each(|v| json.integer(*v as u64)));
                }
            });
        }
        Finding::Measure(values) => json.key("measure").object(|json| {
            values.iter().for_each(|(name, value)| json.key(name).maybe(*value));
        }),
    }
}

fn write_restored(json: &mut Json, place: &Place<'_>, restored: &Restored) {
    let file = PictureFile::of(place.run, place.at, place.seq);
    json.key("image");
    match &file {
        Some(file) => json.plain(file),
        None => json.null(),
    }
    json.key("size").array(|json| {
        json.integer(restored.image.width() as u64);
        json.integer(restored.image.height() as u64);
    });
    json.key("tiles").object(|json| summary::tiles(json, restored.tiles));
    if let Some(share) = restored.kept.share() {
        json.key("kept").object(|json| {
            json.key("map");
            match file {
                Some(file) => json.plain(file.kept()),
                None => json.null(),
            }
            json.key("share").single(share);
            json.key("fractions").array(|json| restored.kept.fractions.iter().for_each(|v| json.single(*v)));
        });
    }
}

fn write_label(json: &mut Json, label: Label<'_>) {
    match label {
        Label::Known(label) => json.string(label),
        unknown => json.plain(unknown),
    }
}

fn write_key<'a>(json: &'a mut Json, label: Label<'_>) -> &'a mut Json {
    match label {
        Label::Known(label) => json.key(label),
        unknown => json.plain_key(unknown),
    }
}

pub(super) fn milliseconds(time: Duration) -> f64 {
    thousandths(time.as_secs_f64() * 1e3)
}
