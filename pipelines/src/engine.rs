//! Sessions of a pipeline's models on one engine: from the engine cache where that pays, checked after every load.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use tapetum_runtime::{
    Error, Result,
    backend::{Backend, Builds, KeepEngines, LoadOptions, ModelSource, Session},
    contract::SizePolicy,
};

use crate::{
    assemble::Progress,
    config::PipelineFile,
    engine_cache::{self, Cache, Event, Key, Opened, Wanted},
    models::OnDisk,
    prepare, shapes,
};

/// One engine that is to run the models of a pipeline.
pub(crate) struct Engine<'f> {
    backend: &'static dyn Backend,
    file: &'f PipelineFile,
    kept: Option<Kept>,
    /// SHA-256 of the model files of which a session was checked.
    checked: RefCell<BTreeSet<String>>,
}

/// What an engine that builds keeps.
struct Kept {
    cache: Cache,
    builds: Builds,
    /// Whether to keep what is not there yet.
    keep: bool,
}

impl<'f> Engine<'f> {
    /// Loads the engine's library. `cache`: where kept engines are, below `engines`; `warm`: whether all are to be kept.
    ///
    /// # Errors
    /// As [`Backend::probe`].
    pub fn new(
        backend: &'static dyn Backend,
        file: &'f PipelineFile,
        cache: Option<&Path>,
        warm: bool,
        tell: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Self> {
        backend.probe()?;
        let kept = match (&file.engines.keep, backend.builds(&file.engines)?) {
            (KeepEngines::Off, _) | (_, None) => None,
            (keep, Some(Builds { unreadable: Some(why), .. })) => {
                if warm || *keep != KeepEngines::Auto {
                    let said = format!("engine cache: {why}; nothing is kept");
                    tell(Progress::Engine("", backend.full_name(), Event::Said(&said)));
                }
                None
            }
            (keep, Some(builds)) => {
                let always = warm || builds.slow || *keep != KeepEngines::Auto;
                let opened = folder(keep, cache).and_then(|folder| {
                    if !always && !folder.is_dir() {
                        return Ok(None);
                    }
                    let place = |e: std::io::Error| Error::config(format!("{}: {e}", folder.display()));
                    Cache::new(&folder).map(Some).map_err(place)
                });
                match opened {
                    Ok(cache) => cache.map(|cache| Kept { cache, builds, keep: always }),
                    // A run does without; what it costs is the next start.
                    Err(e) => {
                        let said = format!("engine cache: cannot be used: {e}; nothing is kept");
                        tell(Progress::Engine("", backend.full_name(), Event::Said(&said)));
                        None
                    }
                }
            }
        };
        Ok(Self { backend, file, kept, checked: RefCell::default() })
    }

    pub fn backend(&self) -> &'static dyn Backend {
        self.backend
    }

    /// Loads model `at` and holds it against its golden record. Further sessions of the same model, for more workers, are
    /// held against it too if the engine compiles or takes what it kept; those of tract and of ONNX Runtime's own
    /// kernels are made of the same bytes by the same code, and one run of each would make a start slow where there are many
    /// cores.
    ///
    /// # Errors
    /// As [`Backend::load`] and [`tapetum_runtime::contract::Golden::check`], with model and engine; the model's shapes
    /// are not bounded, for an engine that needs that.
    pub fn session(
        &self,
        at: usize,
        model: &OnDisk,
        threads: usize,
        tell: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Opened<Box<dyn Session>>> {
        let (name, engine) = (&self.file.models[at].name, self.backend.full_name());
        tell(Progress::Loading(name, engine));
        let place = |e: Error| e.at(format!("{} on {engine}", model.path.display()));
        let options = self.options(at, model, threads).map_err(place)?;
        let profile = options.profile.clone();
        let kept = Cell::new(false);
        let mut load = |keep: Option<&Path>| {
            kept.set(keep.is_some());
            let options = LoadOptions { keep: keep.map(Path::to_path_buf), ..options.clone() };
            self.backend.load(ModelSource::Path(&model.path), &options).map_err(place)
        };
        let mut check = |session: &mut Box<dyn Session>| {
            let alike =
                !kept.get() && !self.backend.compiles() && self.checked.borrow().contains(&model.sha256);
            let golden = model.contract.golden.as_ref().filter(|_| !alike);
            self.checked.borrow_mut().insert(model.sha256.clone());
            golden.map(|golden| golden.check(&mut **session).map_err(place)).transpose()
        };
        let mut said = |event: Event<'_>| tell(Progress::Engine(name, engine, event));
        let key = self.kept.as_ref().map(|kept| {
            // A precision of the model's own is another engine, which may not be one that can be kept.
            let own = match model.precision {
                Some(_) => self.backend.builds(&model.told(&self.file.engines))?,
                None => Some(kept.builds.clone()),
            };
            let Some(builds) = own.filter(|builds| builds.unreadable.is_none()) else { return Ok(None) };
            Ok(Some((kept, Key::new(&model.sha256, self.backend.name(), &builds, profile.as_ref())?)))
        });
        match key.transpose().map(Option::flatten) {
            Ok(Some((Kept { cache, keep, .. }, key))) => {
                let wanted = Wanted {
                    key: &key,
                    model_bytes: model.bytes,
                    keep: *keep,
                    load: &mut load,
                    check: &mut check,
                };
                return cache.open(wanted, &mut said);
            }
            Ok(None) => {}
            Err::<_, Error>(e) => said(Event::Said(&format!("engine cache: {e}; nothing is kept"))),
        }
        engine_cache::without(&mut load, &mut check)
    }

    fn options(&self, at: usize, model: &OnDisk, threads: usize) -> Result<LoadOptions> {
        let input = &model.contract.input;
        let profile = match self.backend.compiles() {
            true => shapes::profile(self.file, at, &model.contract)?,
            false => None,
        };
        if profile.is_none() && self.backend.name() == "ort:tensorrt" {
            return Err(unbounded());
        }
        let shapes = match input.size {
            SizePolicy::Fixed { height, width } if self.backend.name() == "tract" => {
                Some(vec![vec![1, input.colour.channels(), height, width]])
            }
            _ => None,
        };
        Ok(LoadOptions {
            threads: Some(threads),
            shapes,
            engines: model.told(&self.file.engines),
            min_share: self.file.models[at].min_share,
            profile,
            keep: None,
        })
    }
}

fn unbounded() -> Error {
    Error::unsupported(
        "TensorRT builds for given shapes, and nothing bounds those of this model; say the least and the greatest in \
         its contract (size = { range = { .. } })",
    )
}

fn folder(keep: &KeepEngines, cache: Option<&Path>) -> Result<PathBuf> {
    match (keep, cache) {
        (KeepEngines::In(folder), _) => Ok(folder.clone()),
        (_, Some(cache)) => Ok(cache.join("engines")),
        (_, None) => Ok(prepare::cache_dir()?.join("engines")),
    }
}
