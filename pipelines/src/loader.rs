//! Sessions of a pipeline's models on one engine: from the engine cache where that pays, checked after every load.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use tapetum_runtime::{
    Error, Result,
    backend::{Backend, Builds, EngineOptions, KeepEngines, LoadOptions, ModelSource, Profile, Session},
    contract::SizePolicy,
};

use crate::{
    assemble::Progress,
    config::PipelineFile,
    engine_cache::{self, Cache, Event, Key, Opened, Wanted},
    models::OnDisk,
    plan::Share,
    prepare, shapes,
};

/// The models of a pipeline with all that an engine has to know to load them: at the start, and again when it failed.
pub(crate) struct Stock {
    options: EngineOptions,
    /// Where kept engines are, below `engines`; the usual place if `None`.
    cache: Option<PathBuf>,
    models: Vec<Stocked>,
}

struct Stocked {
    name: String,
    model: OnDisk,
    min_share: Option<f32>,
    /// What the pipeline feeds to it, or what a stage says against its contract.
    profile: std::result::Result<Option<Profile>, String>,
}

impl Stock {
    /// `models`: those of `file`, in order.
    pub fn new(file: &PipelineFile, models: Vec<OnDisk>, cache: Option<&Path>) -> Arc<Self> {
        let stocked = |(at, model): (usize, OnDisk)| Stocked {
            name: file.models[at].name.clone(),
            min_share: file.models[at].min_share,
            profile: shapes::profile(file, at, &model.contract).map_err(|e| e.to_string()),
            model,
        };
        let models = models.into_iter().enumerate().map(stocked).collect();
        Arc::new(Self { options: file.engines.clone(), cache: cache.map(Path::to_path_buf), models })
    }

    /// Model `at` of the pipeline file.
    pub fn model(&self, at: usize) -> &OnDisk {
        &self.models[at].model
    }

    /// All that an engine is told of model `at`, as text: equal texts, equal sessions.
    pub fn told(&self, at: usize) -> String {
        let Stocked { model, min_share, profile, .. } = &self.models[at];
        format!("{:?} {min_share:?} {profile:?}", model.told(&self.options))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.models.len()
    }
}

/// One engine that is to run the models of a pipeline.
pub(crate) struct Loader {
    backend: &'static dyn Backend,
    stock: Arc<Stock>,
    kept: Option<Kept>,
    /// Why nothing is kept although it was to be.
    lost: Option<String>,
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

impl Loader {
    /// Loads the engine's library. `warm`: whether all engines that it builds are to be kept.
    ///
    /// # Errors
    /// As [`Backend::probe`].
    pub fn new(
        backend: &'static dyn Backend,
        stock: Arc<Stock>,
        warm: bool,
        tell: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Self> {
        backend.probe()?;
        let mut lost = None;
        let kept = match (&stock.options.keep, backend.builds(&stock.options)?) {
            (KeepEngines::Off, _) | (_, None) => None,
            (keep, Some(Builds { unreadable: Some(why), slow, .. })) => {
                if warm || slow || *keep != KeepEngines::Auto {
                    let said = format!("engine cache: {why}; nothing is kept");
                    tell(Progress::Engine("", backend.full_name(), Event::Said(&said)));
                }
                None
            }
            (keep, Some(builds)) => {
                let always = warm || builds.slow || *keep != KeepEngines::Auto;
                let opened = folder(keep, stock.cache.as_deref()).and_then(|folder| {
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
                        let why = format!("cannot be used: {e}");
                        let said = format!("engine cache: {why}; nothing is kept");
                        tell(Progress::Engine("", backend.full_name(), Event::Said(&said)));
                        lost = Some(why);
                        None
                    }
                }
            }
        };
        Ok(Self { backend, stock, kept, lost, checked: RefCell::default() })
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
        share: Share,
        tell: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Opened<Box<dyn Session>>> {
        self.session_of(at, self.stock.model(at), share, tell)
    }

    /// As [`Loader::session`], of `model` in place of model `at`: the same in another format.
    ///
    /// # Errors
    /// As [`Loader::session`].
    pub fn session_of(
        &self,
        at: usize,
        model: &OnDisk,
        share: Share,
        tell: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Opened<Box<dyn Session>>> {
        let name = &self.stock.models[at].name;
        let engine = self.backend.full_name();
        tell(Progress::Loading(name, engine));
        let place = |e: Error| e.at(format!("{} on {engine}", model.path.display()));
        let options = self.options(at, model, share).map_err(place)?;
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
            let error = golden.map(|golden| golden.check(&mut **session).map_err(place)).transpose()?;
            // Only what passed: whoever asks again after a refusal is not to get it unchecked.
            self.checked.borrow_mut().insert(model.sha256.clone());
            Ok(error)
        };
        let mut lost = self.lost.clone();
        let mut said = |event: Event<'_>| tell(Progress::Engine(name, engine, event));
        let key = self.kept.as_ref().map(|kept| {
            // A precision of the model's own is another engine, which may not be one that can be kept.
            let own = match model.precision {
                Some(_) => self.backend.builds(&model.told(&self.stock.options))?,
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
            Err::<_, Error>(e) => {
                said(Event::Said(&format!("engine cache: {e}; nothing is kept")));
                lost = Some(e.to_string());
            }
        }
        Ok(Opened { lost, ..engine_cache::without(&mut load, &mut check)? })
    }

    fn options(&self, at: usize, model: &OnDisk, share: Share) -> Result<LoadOptions> {
        let Stocked { min_share, profile, .. } = &self.stock.models[at];
        let input = &model.contract.input;
        let profile = match self.backend.compiles() {
            true => profile.clone().map_err(Error::config)?,
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
            threads: Some(share.threads),
            cores: share.cores,
            shapes,
            engines: model.told(&self.stock.options),
            min_share: *min_share,
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

#[cfg(test)]
mod tests;
