//! The stages of a pipeline file.

use tapetum_runtime::settings::{self, Reader, Table};

use super::{ModelFile, file::positive};
use crate::stage::{self, Plan, STAGES, StageKind};

/// Keys that every stage has.
const COMMON: &[&str] = &["name", "kind", "model", "when", "crop", "every"];

/// One stage as the pipeline file says.
pub struct StageSpec {
    /// Unique in the file.
    pub name: String,
    /// Which kind of stage.
    pub kind: &'static StageKind,
    /// Its own parameters.
    pub plan: Box<dyn Plan>,
    /// Index of its model, if its kind takes one.
    pub model: Option<usize>,
    /// Labels of its findings, as far as they are known without loading the model.
    pub labels: Vec<String>,
    /// Run only where this holds.
    pub when: Option<When>,
    /// Run on boxes instead of the whole picture.
    pub crop: Option<Crop>,
    /// Run on every n-th frame, reuse the finding on the others; at least 1.
    pub every: u32,
}

/// A condition on the class that an earlier stage found.
pub struct When {
    /// Index of that stage.
    pub stage: usize,
    /// Indices of the classes that it holds for.
    pub classes: Vec<usize>,
}

/// Regions of the picture, from the boxes that an earlier stage found.
pub struct Crop {
    /// Index of that stage.
    pub stage: usize,
    /// Indices of the labels whose boxes are taken; all if empty.
    pub labels: Vec<usize>,
    /// Each side is moved out by this share of the box's width or height.
    pub margin: f32,
    /// Regions that are narrower or lower, in pixels, are left out.
    pub min_size: usize,
    /// At most this many regions, those with the highest scores.
    pub most: usize,
}

/// What a stage may refer to: the stages before it.
pub struct Earlier<'a> {
    stages: &'a [StageSpec],
}

impl Earlier<'_> {
    /// The stage that `key` names, which must be of one of `kinds`.
    pub fn stage<'t>(
        &self,
        reader: &mut Reader<'t>,
        table: &Table<'t>,
        key: &str,
        kinds: &[&str],
    ) -> Option<usize> {
        let name = reader.string(table, key)?;
        let Some(at) = self.stages.iter().position(|s| s.name == name) else {
            let fitting = self.stages.iter().filter(|s| kinds.contains(&s.kind.name));
            let known: Vec<&str> = fitting.map(|s| s.name.as_str()).collect();
            let message = match known.as_slice() {
                [] => format!("no stage {name:?} before this one, and none of kind {}", kinds.join(" or ")),
                _ => format!("no stage {name:?} before this one{}", settings::hint(&name, &known)),
            };
            reader.note(table.place(key), message);
            return None;
        };
        let kind = self.stages[at].kind.name;
        if !kinds.contains(&kind) {
            let message = format!("stage {name:?} is of kind {kind:?}; needed is {}", kinds.join(" or "));
            reader.note(table.place(key), message);
            return None;
        }
        Some(at)
    }

    /// The labels of stage `at`; empty if they are not known before its model is loaded.
    pub fn labels(&self, at: usize) -> &[String] {
        &self.stages[at].labels
    }

    /// The labels of stage `at` that `key` lists, as indices. Without the key: none.
    pub fn labels_at<'t>(
        &self,
        reader: &mut Reader<'t>,
        table: &Table<'t>,
        key: &str,
        at: usize,
    ) -> Vec<usize> {
        let labels: Vec<&str> = self.labels(at).iter().map(String::as_str).collect();
        let mut found = Vec::new();
        if labels.is_empty() {
            // Its model has a mistake of its own, which is told already.
            return found;
        }
        for (place, word) in reader.words(table, key).unwrap_or_default() {
            match labels.iter().position(|l| *l == word) {
                Some(label) => found.push(label),
                None => {
                    let of = &self.stages[at].name;
                    let hint = settings::hint(&word, &labels);
                    reader.note(place, format!("stage {of:?} has no label {word:?}{hint}"));
                }
            }
        }
        found
    }
}

/// Reads `[[stage]]`.
pub(super) fn read<'t>(
    reader: &mut Reader<'t>,
    root: &Table<'t>,
    models: &mut [ModelFile],
) -> Vec<StageSpec> {
    let mut stages: Vec<StageSpec> = Vec::new();
    let tables = reader.tables_in_order(root, "stage");
    if tables.is_empty() && !root.has("stage") {
        reader.note(root.place("stage"), "there is no [[stage]]");
    }
    for table in &tables {
        if let Some(stage) = one(reader, table, models, &stages) {
            stages.push(stage);
        }
    }
    stages
}

fn one<'t>(
    reader: &mut Reader<'t>,
    table: &Table<'t>,
    models: &[ModelFile],
    before: &[StageSpec],
) -> Option<StageSpec> {
    let name = reader.required(table, "name", |r, t, key| r.string(t, key)).unwrap_or_default();
    if before.iter().any(|s| s.name == name) {
        reader.note(table.place("name"), format!("two stages are called {name:?}"));
    }
    let kinds: Vec<(&str, &StageKind)> = STAGES.iter().map(|k| (k.name, *k)).collect();
    let kind = reader.required(table, "kind", |r, t, key| r.choice(t, key, &kinds))?;
    let keys: Vec<&str> = COMMON.iter().chain(kind.keys).copied().collect();
    reader.known(table, &keys, &format!("a stage of kind {:?}", kind.name));
    let earlier = Earlier { stages: before };
    let model = if kind.takes_model { model_of(reader, table, models) } else { None };
    if !kind.takes_model && table.has("model") {
        reader.note(table.place("model"), format!("a stage of kind {:?} runs no model", kind.name));
    }
    let when = when(reader, table, &earlier);
    let crop = crop(reader, table, &earlier);
    let every = positive(reader, table, "every", 1_000_000).unwrap_or(1) as u32;
    let plan = (kind.read)(reader, table, &earlier)?;
    let contract = model.and_then(|at| models[at].contract.as_ref());
    let labels = match contract {
        Some(contract) => match stage::fits(kind, contract) {
            Ok(labels) => labels,
            Err(e) => {
                reader.note(table.place("model"), e.to_string());
                Vec::new()
            }
        },
        None => kind.labels.iter().map(|label| (*label).to_owned()).collect(),
    };
    Some(StageSpec { name, kind, plan, model, labels, when, crop, every })
}

fn model_of<'t>(reader: &mut Reader<'t>, table: &Table<'t>, models: &[ModelFile]) -> Option<usize> {
    let name = reader.required(table, "model", |r, t, key| r.string(t, key))?;
    let at = models.iter().position(|m| m.name == name);
    if at.is_none() {
        let known: Vec<&str> = models.iter().map(|m| m.name.as_str()).collect();
        let hint = settings::hint(&name, &known);
        reader.note(table.place("model"), format!("no sound [model.{name}]{hint}"));
    }
    at
}

fn when<'t>(reader: &mut Reader<'t>, table: &Table<'t>, earlier: &Earlier<'_>) -> Option<When> {
    let inner = reader.table(table, "when", &["stage", "class"])?;
    let stage =
        reader.required(&inner, "stage", |r, t, key| earlier.stage(r, t, key, &["classify", "light"]))?;
    let classes = earlier.labels_at(reader, &inner, "class", stage);
    if !inner.has("class") {
        reader.note(inner.place("class"), "class is missing here: for which classes is the stage run?");
    }
    Some(When { stage, classes })
}

fn crop<'t>(reader: &mut Reader<'t>, table: &Table<'t>, earlier: &Earlier<'_>) -> Option<Crop> {
    let inner = reader.table(table, "crop", &["stage", "label", "margin", "min_size", "most"])?;
    let stage = reader.required(&inner, "stage", |r, t, key| earlier.stage(r, t, key, &["detect"]))?;
    let labels = earlier.labels_at(reader, &inner, "label", stage);
    let margin = reader.number(&inner, "margin").unwrap_or(0.0);
    if !(-0.5..=10.0).contains(&margin) {
        reader.note(inner.place("margin"), format!("margin must be from -0.5 to 10, this is {margin}"));
    }
    let min_size = positive(reader, &inner, "min_size", 1 << 16).unwrap_or(1);
    let most = positive(reader, &inner, "most", 4096).unwrap_or(64);
    Some(Crop { stage, labels, margin, min_size, most })
}
