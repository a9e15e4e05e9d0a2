//! Inference engines behind one small trait.
//!
//! To add an engine: write `backend/<name>.rs` with its `Backend` and `Session`, then add its `mod` line and one entry
//! in [`BACKENDS`]. The suites iterate that list.

use std::path::{Path, PathBuf};

use crate::{DType, Error, Result, Tensor};

mod builds;
mod diagnosis;
pub mod options;
#[cfg(feature = "ort")]
pub mod ort;
mod profile;
#[cfg(feature = "tract")]
pub mod tract;

pub use builds::{Builds, Device};
pub use diagnosis::Trouble;
pub use options::{EngineOptions, KeepEngines, Precision};
pub use profile::Profile;

/// Every engine in this build, the preferred first.
pub static BACKENDS: &[&dyn Backend] = &[
    #[cfg(feature = "tract")]
    &tract::Tract,
    #[cfg(feature = "ort")]
    &ort::Ort::CPU,
    #[cfg(feature = "ort")]
    &ort::Ort::OPENVINO,
    #[cfg(feature = "ort")]
    &ort::Ort::CUDA,
    #[cfg(feature = "ort")]
    &ort::Ort::TENSORRT,
];

/// An inference engine. Holds no per-model state; see [`Session`].
pub trait Backend: Sync {
    /// Key accepted wherever an engine is chosen. Lower case, unique within [`BACKENDS`].
    fn name(&self) -> &'static str;

    /// The name with what executes the nodes, as results state it; accepted wherever [`Backend::name`] is.
    fn full_name(&self) -> &'static str {
        self.name()
    }

    /// What would run, found out without deciding anything: an engine that needs a library does not load it for good.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Environment`] says why this engine cannot run on this machine and what to do.
    fn find(&self) -> Result<Found>;

    /// What on this machine does not fit what this engine needs, each with the next step. Found out from files; nothing is
    /// loaded for good.
    fn diagnose(&self) -> Vec<Trouble> {
        Vec::new()
    }

    /// Name and version of what runs, for example `tract 0.23.9`. Loads the engine's library: a process can load one
    /// ONNX Runtime, and the first engine that is probed or loaded decides which.
    ///
    /// # Errors
    /// As [`Backend::find`].
    fn probe(&self) -> Result<String>;

    /// Parses, optimises and plans an ONNX model. Slow; never called on the frame path.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadFile`] if the model is not sound, [`crate::ErrorKind::Unsupported`] if this engine lacks
    /// an operator, [`crate::ErrorKind::Environment`] if the engine itself cannot run.
    fn load(&self, model: ModelSource<'_>, options: &LoadOptions) -> Result<Box<dyn Session>>;

    /// Whether it compiles a model for given shapes: then [`LoadOptions::profile`] holds, and other shapes are refused.
    fn compiles(&self) -> bool {
        false
    }

    /// What the engines that it builds with `options` depend on; `None` if it builds none that could be kept in
    /// [`LoadOptions::keep`], or `options` says where it keeps them itself. Loads its library, as [`Backend::probe`].
    ///
    /// # Errors
    /// As [`Backend::find`].
    fn builds(&self, options: &EngineOptions) -> Result<Option<Builds>> {
        let _ = options;
        Ok(None)
    }
}

/// What an engine would run with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// For example `1.32.0`.
    pub version: String,
    /// The execution providers in that build; none where the engine has no such thing.
    pub providers: Vec<String>,
    /// The library, unless the engine is part of this program.
    pub library: Option<PathBuf>,
}

/// Where the ONNX model comes from.
#[derive(Clone, Copy, Debug)]
pub enum ModelSource<'a> {
    /// The whole file, in memory.
    Bytes(&'a [u8]),
    /// A file the engine itself reads; spares a copy of large models.
    Path(&'a Path),
}

/// Who else computes on the cores of a session's threads. Only who planned the threads knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cores {
    /// Others at any time: a thread that has nothing to do sleeps, so that its core is theirs.
    #[default]
    Shared,
    /// Others between two runs, such as the models of further stages: a thread that has done its part of a layer spins
    /// until the next layer, which spares waking it, and sleeps when the run is over.
    InTurn,
    /// Nobody: its threads spin for some time after a run too, so that the next finds them awake.
    Own,
}

/// How a model is loaded.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// Threads inside one run; `None` leaves them, and whether they spin, to the engine.
    pub threads: Option<usize>,
    /// Who else computes on the cores of those threads.
    pub cores: Cores,
    /// Shapes of the inputs, if the session will never see others. An engine that plans per shape then plans at load
    /// and keeps nothing to plan again from, which halves the memory of a model with open extents.
    pub shapes: Option<Vec<Vec<usize>>>,
    /// Options of the engines.
    pub engines: EngineOptions,
    /// Least share of the model's nodes that the engine's own provider must run; `None`: all. Nodes that only tell a
    /// shape do not count. A model with a smaller share is refused with the operators that fell back to the CPU.
    pub min_share: Option<f32>,
    /// The shapes that an engine that compiles is built for; `None`: whatever comes. Others take every shape.
    pub profile: Option<Profile>,
    /// Folder in which an engine keeps what it built of the model, and takes it from if it is there. It is the engine's
    /// word that it is taken: whoever keeps the folder holds what was in it against what is.
    pub keep: Option<PathBuf>,
}

/// One worker's handle on a loaded model. `Send`, not shared.
pub trait Session: Send {
    /// The model's inputs, in order.
    fn inputs(&self) -> &[Port];

    /// The model's outputs, in order.
    fn outputs(&self) -> &[Port];

    /// How many nodes of the model each provider got, as the engine told after loading, for example
    /// `[("openvino", 71), ("cpu", 2)]`. A provider that fuses nodes into one has all of them counted.
    fn placement(&self) -> &[(String, usize)];

    /// What it computes in.
    fn precision(&self) -> Precision {
        Precision::Fp32
    }

    /// The shapes that it was built for, if it takes no others.
    fn profile(&self) -> Option<&Profile> {
        None
    }

    /// Runs once on `inputs` (in the order of [`Session::inputs`]) and overwrites `outputs` with the model's outputs,
    /// in order. Their memory is used again: with outputs of an earlier run of the same shapes, nothing is allocated
    /// for them.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] if the inputs do not fit the ports or the model, [`crate::ErrorKind::Unsupported`] if
    /// the engine cannot do it for these extents, [`crate::ErrorKind::Internal`] or [`crate::ErrorKind::Environment`]
    /// if the engine itself fails (a pipeline loads the model again then); `outputs` is of no use after any of them.
    fn run_into(&mut self, inputs: &[Tensor], outputs: &mut Vec<Tensor>) -> Result<()>;

    /// As [`Session::run_into`], into new memory.
    ///
    /// # Errors
    /// As [`Session::run_into`].
    fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let mut outputs = Vec::new();
        self.run_into(inputs, &mut outputs)?;
        Ok(outputs)
    }
}

/// A named input or output of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Port {
    /// Name in the ONNX graph.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Extents; `None` where the model leaves one open.
    pub shape: Vec<Option<usize>>,
}

impl Port {
    /// Checks that `tensor` may be fed to this port.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] naming the port, both types or both shapes.
    pub fn accepts(&self, tensor: &Tensor) -> Result<()> {
        let fits = self.shape.len() == tensor.rank()
            && self.shape.iter().zip(tensor.shape()).all(|(want, &got)| want.is_none_or(|w| w == got));
        if fits && self.dtype == tensor.dtype() {
            return Ok(());
        }
        Err(Error::bad_input(format!(
            "input {:?} takes {} {}, got {} {:?}",
            self.name,
            self.dtype.name(),
            show_shape(&self.shape),
            tensor.dtype().name(),
            tensor.shape()
        )))
    }
}

/// `[1, 3, ?, ?]`: open extents as question marks.
pub fn show_shape(shape: &[Option<usize>]) -> String {
    let dims: Vec<String> = shape.iter().map(|d| d.map_or("?".into(), |d| d.to_string())).collect();
    format!("[{}]", dims.join(", "))
}

/// The engine called `name`.
///
/// # Errors
/// [`crate::ErrorKind::InvalidConfig`] naming the engines of this build.
pub fn by_name(name: &str) -> Result<&'static dyn Backend> {
    BACKENDS.iter().copied().find(|b| b.name() == name || b.full_name() == name).ok_or_else(|| {
        let known: Vec<_> = BACKENDS.iter().map(|b| b.name()).collect();
        Error::config(format!("unknown engine {name:?}; this build has {}", known.join(", ")))
    })
}

/// Makes `outputs` as many as a model has; new ones are empty.
#[cfg(any(feature = "tract", feature = "ort"))]
pub(crate) fn as_many(outputs: &mut Vec<Tensor>, count: usize) {
    outputs.truncate(count);
    outputs.resize_with(count, || Tensor::vector(Vec::<f32>::new()));
}

/// Checks the number of inputs and each against its port.
#[cfg(any(feature = "tract", feature = "ort"))]
pub(crate) fn check_inputs(ports: &[Port], inputs: &[Tensor]) -> Result<()> {
    if ports.len() != inputs.len() {
        return Err(Error::bad_input(format!("the model has {} inputs, got {}", ports.len(), inputs.len())));
    }
    ports.iter().zip(inputs).try_for_each(|(port, tensor)| port.accepts(tensor))
}
