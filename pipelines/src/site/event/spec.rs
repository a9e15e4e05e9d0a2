//! What counts as an event.

use std::time::Duration;

use tapetum_runtime::settings::{Reader, Table};

/// When something is an event, and how it is told.
#[derive(Clone, Debug, PartialEq)]
pub struct EventSpec {
    /// The stage of kind `detect` or `classify` that is listened to; none: the last of them in the pipeline.
    pub stage: Option<String>,
    /// Labels that make events; empty: every label.
    pub labels: Vec<String>,
    /// Scores below this are not seen, 0–1.
    pub min_score: f32,
    /// Frames within [`EventSpec::window`] that it must be seen on before it is believed.
    pub min_frames: usize,
    /// See [`EventSpec::min_frames`].
    pub window: Duration,
    /// It ends when it was not seen for this long.
    pub end_after: Duration,
    /// An event that lasts longer is ended, and goes on as the next.
    pub max_length: Duration,
    /// A picture is notably better when its score is higher by this much.
    pub better: f32,
    /// Updates of one event are at least this far apart.
    pub update_every: Duration,
}

impl Default for EventSpec {
    fn default() -> Self {
        Self {
            stage: None,
            labels: Vec::new(),
            min_score: 0.5,
            min_frames: 3,
            window: Duration::from_secs(2),
            end_after: Duration::from_secs(5),
            max_length: Duration::from_secs(600),
            better: 0.05,
            update_every: Duration::from_secs(2),
        }
    }
}

impl EventSpec {
    /// The keys of the table.
    pub const KEYS: &[&str] = &[
        "stage",
        "labels",
        "min_score",
        "min_frames",
        "window_s",
        "end_after_s",
        "max_length_s",
        "better",
        "update_every_s",
    ];

    /// Reads the table; mistakes are noted, and none is returned where one matters.
    pub fn read<'t>(reader: &mut Reader<'t>, table: &Table<'t>) -> Option<Self> {
        reader.known(table, Self::KEYS, "events");
        let default = Self::default();
        let min_score = share(reader, table, "min_score", default.min_score);
        let better = share(reader, table, "better", default.better);
        let window = seconds(reader, table, "window_s", default.window, 0.0, 60.0);
        let end_after = seconds(reader, table, "end_after_s", default.end_after, 0.1, 3600.0);
        let max_length = seconds(reader, table, "max_length_s", default.max_length, 1.0, 86_400.0);
        let update_every = seconds(reader, table, "update_every_s", default.update_every, 0.0, 3600.0);
        let min_frames = match reader.count(table, "min_frames") {
            None if table.has("min_frames") => None,
            None => Some(default.min_frames),
            Some(n @ 1..=100) => Some(n),
            Some(n) => {
                reader.note(table.place("min_frames"), format!("min_frames must be 1 to 100, this is {n}"));
                None
            }
        };
        let labels = match reader.words(table, "labels") {
            None if table.has("labels") => None,
            words => Some(words.unwrap_or_default().into_iter().map(|(_, word)| word).collect()),
        };
        let stage = reader.string(table, "stage");
        if max_length? <= end_after? {
            reader.note(table.place("max_length_s"), "max_length_s must be more than end_after_s");
            return None;
        }
        Some(Self {
            stage,
            labels: labels?,
            min_score: min_score?,
            min_frames: min_frames?,
            window: window?,
            end_after: end_after?,
            max_length: max_length?,
            better: better?,
            update_every: update_every?,
        })
    }
}

fn share<'t>(reader: &mut Reader<'t>, table: &Table<'t>, key: &str, default: f32) -> Option<f32> {
    in_range(reader, table, key, default, 0.0, 1.0)
}

/// A time in seconds within `least` to `most`.
pub(in crate::site) fn seconds<'t>(
    reader: &mut Reader<'t>,
    table: &Table<'t>,
    key: &str,
    default: Duration,
    least: f32,
    most: f32,
) -> Option<Duration> {
    in_range(reader, table, key, default.as_secs_f32(), least, most).map(Duration::from_secs_f32)
}

fn in_range<'t>(
    reader: &mut Reader<'t>,
    table: &Table<'t>,
    key: &str,
    default: f32,
    least: f32,
    most: f32,
) -> Option<f32> {
    match reader.number(table, key) {
        None if table.has(key) => None,
        None => Some(default),
        Some(value) if (least..=most).contains(&value) => Some(value),
        Some(value) => {
            reader.note(table.place(key), format!("{key} must be {least} to {most}, this is {value}"));
            None
        }
    }
}
