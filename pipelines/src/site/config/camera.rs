//! `[camera.NAME]`: where one camera's frames come from and what is done with them.

use std::{path::Path, sync::Arc};

use tapetum_runtime::settings::{Reader, Table, hint};

use crate::{
    config::{PipelineFile, StageSpec},
    site::{event::EventSpec, record::RecordSpec},
    source::supervised::LiveOptions,
};

use super::{
    named::{Looks, looks, of_pipeline},
    source,
};

/// One camera, checked as far as it can be without it.
#[derive(Clone)]
pub struct CameraSpec {
    /// Names it in results, topics and addresses: small letters, digits, `-` and `_`.
    pub name: String,
    /// What [`crate::source::open_live`] is told. May hold a password: never shown.
    pub source: String,
    /// How it is opened and looked after.
    pub live: LiveOptions,
    /// What is done with its frames.
    pub pipeline: Arc<PipelineFile>,
    /// The models and contracts that it names, as they were when it was read.
    pub models: Looks,
    /// Most frames per second that are looked at.
    pub max_fps: Option<f32>,
    /// What makes an event.
    pub events: Option<EventSpec>,
    /// What is kept of them.
    pub record: Option<RecordSpec>,
}

impl CameraSpec {
    /// Whether nothing is to be done for a camera of which `new` is said now.
    pub(in crate::site) fn same(&self, new: &Self) -> bool {
        self.source == new.source
            && self.live == new.live
            && self.max_fps == new.max_fps
            && self.events == new.events
            && self.record == new.record
            && self.pipeline.path == new.pipeline.path
            && self.pipeline.text == new.pipeline.text
            && self.models == new.models
    }
}

/// Keys of `[camera.NAME]`.
const KEYS: &[&str] = &[
    "source",
    "user",
    "password_file",
    "transport",
    "stall_s",
    "connect_s",
    "pipeline",
    "max_fps",
    "events",
    "record",
];

/// Whether a camera can be called so. The name is in topics, addresses and folders.
pub(in crate::site) fn is_camera_name(name: &str) -> bool {
    name.len() <= 64
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'))
}

/// Reads every camera; `folder` is what paths are relative to.
pub(super) fn read<'t>(reader: &mut Reader<'t>, root: &Table<'t>, folder: &Path) -> Vec<CameraSpec> {
    let mut cameras = Vec::new();
    let mut tables = reader.tables(root, "camera", KEYS);
    // By name they come; in the order of the file they are shown.
    tables.sort_by_key(|(_, table)| table.place(""));
    for (name, table) in tables {
        let named = is_camera_name(&name);
        if !named {
            let what = format!(
                "camera {name:?}: a name begins with a small letter and has small letters, digits, - and _ only, at most 64"
            );
            reader.note(table.place("source"), what);
        }
        let source = reader.required(&table, "source", |r, t, key| r.string(t, key));
        let source = source.map(|source| source::below(folder, &source));
        if let Some(Err(e)) = source.as_deref().map(crate::source::sound) {
            reader.note(table.place("source"), e.to_string());
        }
        let live = source::read(reader, &table, folder);
        let pipeline = reader.required(&table, "pipeline", |r, t, key| r.string(t, key));
        let pipeline = pipeline.map(|file| folder.join(file));
        // Before they are read: who replaces one meanwhile is seen.
        let models = pipeline.iter().flat_map(|file| looks(of_pipeline(file))).collect();
        let pipeline = pipeline.and_then(|file| pipeline_of(reader, &table, &file));
        let max_fps = reader.number(&table, "max_fps");
        if max_fps.is_some_and(|fps| !(0.01..=1000.0).contains(&fps)) {
            reader.note(table.place("max_fps"), "max_fps must be from 0.01 to 1000");
        }
        let events = reader.table(&table, "events", EventSpec::KEYS);
        let events = events.and_then(|events| EventSpec::read(reader, &events));
        if let (Some(events), Some(pipeline)) = (&events, &pipeline) {
            fits(reader, &table, events, pipeline);
        }
        let record = reader.table(&table, "record", RecordSpec::KEYS);
        let record = record.and_then(|record| RecordSpec::read(reader, &record));
        if table.has("record") && !table.has("events") {
            reader.note(table.place("record"), "record goes with events: what is kept are events");
        }
        if let (Some(source), Some(pipeline), true) = (source, pipeline, named) {
            cameras.push(CameraSpec { name, source, live, pipeline, models, max_fps, events, record });
        }
    }
    cameras
}

/// The pipeline file at `path`, whose mistakes become some of the site's.
fn pipeline_of<'t>(reader: &mut Reader<'t>, table: &Table<'t>, path: &Path) -> Option<Arc<PipelineFile>> {
    match PipelineFile::read(path) {
        Ok(file) => Some(Arc::new(file)),
        Err(e) => {
            reader.note(table.place("pipeline"), e.to_string());
            None
        }
    }
}

/// Whether the pipeline finds what is to make events.
fn fits<'t>(reader: &mut Reader<'t>, table: &Table<'t>, events: &EventSpec, pipeline: &PipelineFile) {
    let at = table.place("events");
    let makes_events = |stage: &&StageSpec| matches!(stage.kind.name, "detect" | "classify");
    let stages: Vec<&StageSpec> = pipeline.stages.iter().filter(makes_events).collect();
    let names: Vec<&str> = stages.iter().map(|stage| stage.name.as_str()).collect();
    let stage = match &events.stage {
        None => stages.last(),
        Some(name) => stages.iter().find(|stage| stage.name == *name),
    };
    let Some(stage) = stage else {
        let what = match &events.stage {
            Some(name) if !names.is_empty() => {
                format!("no stage {name:?} that detects or classifies in this pipeline{}", hint(name, &names))
            }
            _ => "nothing in this pipeline detects or classifies, so nothing makes an event".to_owned(),
        };
        return reader.note(at, what);
    };
    let known: Vec<&str> = stage.labels.iter().map(String::as_str).collect();
    for label in events.labels.iter().filter(|label| !known.is_empty() && !known.contains(&label.as_str())) {
        reader.note(at, format!("stage {:?} has no label {label:?}{}", stage.name, hint(label, &known)));
    }
}
