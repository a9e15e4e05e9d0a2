//! A whole pipeline file.

use std::{
    path::{Path, PathBuf},
    sync::LazyLock,
};

use tapetum_runtime::{
    Error, Result,
    backend::{self, EngineOptions, Precision},
    settings::{self, Reader, Table},
};

use super::{ModelChange, ModelFile, StageSpec, model, stage};
use crate::flow::Policy;

/// Most frames that may wait; each takes the memory of a picture.
const MOST_WAITING: usize = 1024;

/// A pipeline as its file says, checked as far as it can be without an engine or a source.
pub struct PipelineFile {
    /// Shown in results.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
    /// Engine asked for; `None`: the first of the build.
    pub engine: Option<Choice>,
    /// Precision asked for; `None`: as the engines' options and the model files say.
    pub precision: Option<PrecisionChoice>,
    /// What happens when frames come faster than they are worked on; `None`: as fits the source.
    pub queue: Option<Policy>,
    /// Frames that may wait; `None`: as fits the policy.
    pub queue_size: Option<usize>,
    /// Frames worked on at once; `None`: one per core.
    pub workers: Option<usize>,
    /// Threads inside each run of a model; `None`: what the workers leave over.
    pub threads: Option<usize>,
    /// What engines are told, by `[engine.*]`.
    pub engines: EngineOptions,
    /// The models, by name.
    pub models: Vec<ModelFile>,
    /// In their order.
    pub stages: Vec<StageSpec>,
}

/// Engines in the order of preference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// This one or an error.
    Exactly(String),
    /// The first that can run every model; what is passed over is shown.
    FirstOf(Vec<String>),
    /// The one that `tapetum tune` found to need the least time on this machine; before that, the first that can run every
    /// model, accelerators before the CPU.
    Auto,
}

/// The number format that the models run in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrecisionChoice {
    /// 32-bit floats, whatever the engine's options say.
    Fp32,
    /// For each model the fastest that passes its gate, as `tapetum tune` found on this machine; before that fp32.
    Auto,
}

impl PrecisionChoice {
    /// As written in pipeline files and on the command line.
    pub const WORDS: [(&'static str, Self); 2] = [("fp32", Self::Fp32), ("auto", Self::Auto)];
}

/// Every engine of this build, accelerators before the CPU. The first that is there also decides which ONNX Runtime is
/// loaded.
static ALL: LazyLock<Vec<String>> =
    LazyLock::new(|| backend::BACKENDS.iter().rev().map(|b| b.name().to_owned()).collect());

impl Choice {
    /// The names, the most wanted first.
    pub fn names(&self) -> &[String] {
        match self {
            Self::Exactly(name) => std::slice::from_ref(name),
            Self::FirstOf(names) => names,
            Self::Auto => &ALL,
        }
    }

    /// As on the command line.
    pub fn words(&self) -> String {
        if *self == Self::Auto { "auto".to_owned() } else { self.names().join(",") }
    }
}

impl PipelineFile {
    /// Reads and checks a pipeline file.
    ///
    /// # Errors
    /// [`tapetum_runtime::ErrorKind::InvalidConfig`] with every mistake in it, each with line and column.
    pub fn read(path: &Path) -> Result<Self> {
        Self::read_with(path, &[])
    }

    /// As [`PipelineFile::read`], with other files for some of its models.
    ///
    /// # Errors
    /// As [`PipelineFile::read`]; also if there is no model of such a name.
    pub fn read_with(path: &Path, models: &[ModelChange]) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .map_err(|e| Error::config(format!("{}: {e}", path.display())).caused_by(e))?;
        Self::parse_with(text, path, models)
    }

    /// As [`PipelineFile::read`], for a text that is already read; paths in it are relative to `path`'s folder.
    ///
    /// # Errors
    /// As [`PipelineFile::read`].
    pub fn parse(text: String, path: &Path) -> Result<Self> {
        Self::parse_with(text, path, &[])
    }

    /// As [`PipelineFile::parse`], with other files for some of its models.
    ///
    /// # Errors
    /// As [`PipelineFile::read_with`].
    pub fn parse_with(text: String, path: &Path, models: &[ModelChange]) -> Result<Self> {
        let shown = path.display().to_string();
        let mut reader = Reader::new(&text, &shown);
        let root = reader.parse(&["pipeline", "engine", "model", "stage"]);
        let head = reader.required(&root, "pipeline", |r, t, key| {
            r.table(t, key, &["name", "engine", "precision", "queue", "queue_size", "workers", "threads"])
        });
        let mut file = Self {
            name: String::new(),
            path: path.to_owned(),
            text: String::new(),
            engine: None,
            precision: None,
            queue: None,
            queue_size: None,
            workers: None,
            threads: None,
            engines: EngineOptions::default(),
            models: Vec::new(),
            stages: Vec::new(),
        };
        if let Some(head) = head {
            file.read_head(&mut reader, &head);
        }
        let folder = path.parent().unwrap_or(Path::new(""));
        file.engines = EngineOptions::read(&mut reader, &root, folder);
        file.check_precision(&mut reader, &root);
        file.models = model::read(&mut reader, &root, folder, models);
        file.stages = stage::read(&mut reader, &root, &mut file.models);
        reader.finish()?;
        file.text = text;
        Ok(file)
    }

    fn read_head<'t>(&mut self, reader: &mut Reader<'t>, head: &Table<'t>) {
        self.name = reader.required(head, "name", |r, t, key| r.string(t, key)).unwrap_or_default();
        self.engine = reader.words(head, "engine").map(|words| {
            let known: Vec<_> = backend::BACKENDS.iter().map(|b| b.name()).chain(["auto"]).collect();
            if let [(_, only)] = words.as_slice()
                && only == "auto"
            {
                return Choice::Auto;
            }
            for (at, word) in &words {
                if word == "auto" {
                    reader.note(*at, "\"auto\" stands alone: it considers every engine");
                } else if backend::by_name(word).is_err() {
                    reader.note(*at, format!("unknown engine {word:?}{}", settings::hint(word, &known)));
                }
            }
            if words.is_empty() {
                reader.note(head.place("engine"), "an empty list names no engine");
            }
            match words.as_slice() {
                [(_, only)] => Choice::Exactly(only.clone()),
                _ => Choice::FirstOf(words.into_iter().map(|(_, word)| word).collect()),
            }
        });
        self.precision = reader.choice(head, "precision", &PrecisionChoice::WORDS);
        self.queue = reader.choice(head, "queue", &[("block", Policy::Block), ("latest", Policy::Latest)]);
        self.queue_size = positive(reader, head, "queue_size", MOST_WAITING);
        self.workers = positive(reader, head, "workers", 256);
        self.threads = positive(reader, head, "threads", 256);
    }

    /// The precision is said in one place.
    fn check_precision<'t>(&self, reader: &mut Reader<'t>, root: &Table<'t>) {
        let said = [
            ("openvino", self.engines.openvino.precision),
            ("cuda", self.engines.cuda.precision),
            ("tensorrt", self.engines.tensorrt.precision),
        ];
        for (engine, precision) in said.into_iter().filter(|(_, p)| *p != Precision::Fp32) {
            if self.precision.is_some() {
                let what = format!(
                    "[pipeline] says a precision and [engine.{engine}] says {}: leave one of them out",
                    precision.name()
                );
                reader.note(root.place("engine"), what);
            }
        }
    }
}

/// A whole number from 1 to `most`.
pub(crate) fn positive<'t>(
    reader: &mut Reader<'t>,
    table: &Table<'t>,
    key: &str,
    most: usize,
) -> Option<usize> {
    let number = reader.count(table, key)?;
    if !(1..=most).contains(&number) {
        reader.note(table.place(key), format!("{key} must be from 1 to {most}, this is {number}"));
        return None;
    }
    Some(number)
}
