//! ONNX Runtime, found and loaded at run time; nothing is linked.
//!
//! The engine `ort` is its CPU provider; each other provider is an engine of its own (`ort:openvino`, `ort:cuda`,
//! `ort:tensorrt`), so that a name always means exactly one thing. A provider that cannot be had is an error, and so is
//! one that left nodes to the CPU: after every load ONNX Runtime is asked which provider got which nodes.

use std::path::Path;

use ort::{
    session::{
        SessionInputValue,
        builder::{GraphOptimizationLevel, SessionBuilder},
    },
    value::ValueType,
};

use super::{
    Backend, Builds, Cores, EngineOptions, Found, LoadOptions, ModelSource, Port, Precision, Profile,
    Session, Trouble, as_many, check_inputs,
};
use crate::{Error, Result, Tensor};

mod built;
mod convert;
mod diagnosis;
mod dynamic;
mod elf;
mod failure;
mod library;
mod placement;
mod places;
mod provider;

use diagnosis::Host;
use failure::failed;
use places::Places;
pub use provider::Provider;

/// ONNX Runtime with one execution provider.
pub struct Ort {
    name: &'static str,
    full_name: &'static str,
    provider: Provider,
}

impl Ort {
    /// The engine `ort`: the CPU provider.
    pub const CPU: Self = Self { name: "ort", full_name: "ort:cpu", provider: Provider::Cpu };
    /// The engine `ort:openvino`.
    pub const OPENVINO: Self = Self::called("ort:openvino", Provider::OpenVino);
    /// The engine `ort:cuda`.
    pub const CUDA: Self = Self::called("ort:cuda", Provider::Cuda);
    /// The engine `ort:tensorrt`.
    pub const TENSORRT: Self = Self::called("ort:tensorrt", Provider::TensorRt);

    const fn called(name: &'static str, provider: Provider) -> Self {
        Self { name, full_name: name, provider }
    }
}

impl Backend for Ort {
    fn name(&self) -> &'static str {
        self.name
    }

    fn full_name(&self) -> &'static str {
        self.full_name
    }

    fn find(&self) -> Result<Found> {
        library::found(self.provider)
    }

    fn diagnose(&self) -> Vec<Trouble> {
        let loads = self.find().is_ok();
        diagnosis::diagnose(&Host::this(), &Places::of_this_process(), self.provider, loads)
    }

    fn probe(&self) -> Result<String> {
        Ok(describe(&library::loaded(self.provider)?.found))
    }

    fn load(&self, model: ModelSource<'_>, options: &LoadOptions) -> Result<Box<dyn Session>> {
        let provider = self.provider;
        let library = library::loaded(provider)?;
        let dispatch = provider.dispatch(options, &model)?;
        let mut builder =
            builder(&library.environment, options).map_err(|e| failed("configuring a session", e))?;
        if let Some((key, value)) = provider.session_entry(&options.engines) {
            builder =
                builder.with_config_entry(key, value).map_err(|e| failed("configuring a session", e))?;
        }
        let optimized = built::optimized(provider, options);
        let model = match &optimized {
            Some(path) if path.is_file() => ModelSource::Path(path),
            _ => model,
        };
        if let Some(path) = &optimized {
            builder = keep_optimized(builder, path).map_err(|e| failed("configuring a session", e))?;
        }
        let profile = options.profile.clone().filter(|_| provider.compiles());
        if let Some(profile) = &profile {
            builder = fix_axes(builder, profile).map_err(|e| failed("configuring a session", e))?;
        }
        if let Some(dispatch) = dispatch {
            builder = builder
                .with_execution_providers([dispatch])
                .map_err(|e| failure::unavailable(provider, &e))?;
        }
        if let ModelSource::Path(path) = model {
            is_file(path)?;
        }
        let session = commit(&mut builder, model).map_err(|e| {
            let why = load_failed(provider, &library.environment, model, e);
            if let ModelSource::Path(path) = model { why.at(path.display()) } else { why }
        })?;
        let placement = placement::read(&session).map_err(|e| failed("telling its nodes", e))?;
        placement.check(provider, options.min_share.unwrap_or(1.0))?;
        let inputs = session.inputs().iter().map(|o| port(o, "input")).collect::<Result<Vec<_>>>()?;
        let outputs = session.outputs().iter().map(|o| port(o, "output")).collect::<Result<_>>()?;
        let placement = placement.counts();
        if let Some(profile) = &profile {
            fits(profile, &inputs)?;
        }
        Ok(Box::new(OrtSession {
            session,
            inputs,
            profile,
            outputs,
            placement,
            precision: provider.precision(options),
        }))
    }

    fn compiles(&self) -> bool {
        self.provider.compiles()
    }

    fn builds(&self, options: &EngineOptions) -> Result<Option<Builds>> {
        let library = library::loaded(self.provider)?;
        built::builds(self.provider, &library.found, options)
    }
}

/// Takes the optimised model at `path` as it is, or has it written there.
fn keep_optimized(builder: SessionBuilder, path: &Path) -> ort::Result<SessionBuilder> {
    Ok(match path.is_file() {
        true => builder.with_optimization_level(GraphOptimizationLevel::Disable)?,
        false => builder.with_optimized_model_path(path)?,
    })
}

/// The names that `[N, C, H, W]` has in models with open axes.
const AXES: [&str; 4] = ["batch", "channels", "height", "width"];

/// Closes the axes for which `profile` leaves one extent: a provider compiles better for what it knows. A model that
/// has no axes of these names keeps them open.
fn fix_axes(builder: SessionBuilder, profile: &Profile) -> ort::Result<SessionBuilder> {
    if profile.least().len() != AXES.len() {
        return Ok(builder);
    }
    AXES.iter().enumerate().try_fold(builder, |builder, (axis, name)| match profile.fixed(axis) {
        Some(extent) => Ok(builder.with_dimension_override(name, extent as i64)?),
        None => Ok(builder),
    })
}

/// Checks that the model's own shapes leave room for `profile`.
fn fits(profile: &Profile, inputs: &[Port]) -> Result<()> {
    let Some(port) = inputs.iter().find(|port| port.name == profile.input()) else {
        return Err(Error::config(format!("the model has no input {:?}", profile.input())));
    };
    let ranges = profile.least().iter().zip(profile.most());
    let within = |(extent, (least, most)): (&Option<usize>, (&usize, &usize))| {
        // A model of one extent, such as a batch that is always 1, takes no others; its port says so by itself.
        extent.is_none_or(|extent| (least..=most).contains(&&extent))
    };
    if port.shape.len() == profile.least().len() && port.shape.iter().zip(ranges).all(within) {
        return Ok(());
    }
    Err(Error::config(format!(
        "input {:?} is {}, which does not hold the shapes {profile} that the pipeline asks for",
        port.name,
        super::show_shape(&port.shape)
    )))
}

/// `onnxruntime 1.24.1 with cpu, openvino`.
fn describe(found: &Found) -> String {
    format!("onnxruntime {} with {}", found.version, found.providers.join(", "))
}

/// Spinning ends when the last run of the session does.
const ONLY_WHILE_RUNNING: (&str, &str) = ("session.force_spinning_stop", "1");

/// Every optimisation; nodes one after the other, so the threads work inside them. How long a thread
/// spins that has nothing to do is said by [`Cores`]: between two runs it would take a core from the rest.
fn builder(
    environment: &ort::environment::Environment,
    options: &LoadOptions,
) -> ort::Result<SessionBuilder> {
    let mut builder = ort::session::Session::builder(environment)?
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_parallel_execution(false)?
        .with_inter_threads(1)?
        .with_config_entry(placement::RECORD.0, placement::RECORD.1)?;
    if let Some(threads) = options.threads {
        builder = builder.with_intra_threads(threads.max(1))?;
        builder = match options.cores {
            Cores::Shared => builder.with_intra_op_spinning(false)?,
            Cores::InTurn => builder.with_config_entry(ONLY_WHILE_RUNNING.0, ONLY_WHILE_RUNNING.1)?,
            // By itself: some 25 ms after each run.
            Cores::Own => builder,
        };
    }
    Ok(builder)
}

fn is_file(path: &Path) -> Result<()> {
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_file() => Ok(()),
        Ok(_) => Err(Error::config(format!("{}: not a file", path.display()))),
        Err(e) => Err(Error::config(format!("{}: {e}", path.display())).caused_by(e)),
    }
}

fn commit(builder: &mut SessionBuilder, model: ModelSource<'_>) -> ort::Result<ort::session::Session> {
    match model {
        ModelSource::Bytes(bytes) => builder.commit_from_memory(bytes),
        ModelSource::Path(path) => builder.commit_from_file(path),
    }
}

/// Whose fault it is that `model` does not load: the file's if ONNX Runtime alone does not take it either, else the
/// provider's. The code of the error does not tell.
fn load_failed(
    provider: Provider,
    environment: &ort::environment::Environment,
    model: ModelSource<'_>,
    error: ort::Error,
) -> Error {
    if provider == Provider::Cpu {
        return failed("loading", error);
    }
    let alone = ort::session::Session::builder(environment).and_then(|builder| {
        let mut builder = builder.with_optimization_level(GraphOptimizationLevel::Disable)?;
        commit(&mut builder, model)
    });
    match alone {
        Err(of_the_file) => failed("loading", of_the_file),
        Ok(_) => failure::unavailable(provider, &error),
    }
}

/// Our view of an input or output of the session.
fn port(outlet: &ort::value::Outlet, role: &str) -> Result<Port> {
    let name = outlet.name().to_owned();
    let ValueType::Tensor { ty, shape, .. } = outlet.dtype() else {
        return Err(Error::unsupported(format!("{role} {name:?} is no tensor")));
    };
    let dtype = convert::dtype(*ty)
        .ok_or_else(|| Error::unsupported(format!("{role} {name:?} has the element type {ty:?}")))?;
    Ok(Port { name, dtype, shape: shape.iter().map(|&d| usize::try_from(d).ok()).collect() })
}

struct OrtSession {
    session: ort::session::Session,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    placement: Vec<(String, usize)>,
    precision: Precision,
    profile: Option<Profile>,
}

impl Session for OrtSession {
    fn profile(&self) -> Option<&Profile> {
        self.profile.as_ref()
    }

    fn placement(&self) -> &[(String, usize)] {
        &self.placement
    }

    fn precision(&self) -> Precision {
        self.precision
    }

    fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    /// The inputs are lent to ONNX Runtime as they lie in memory; each output is copied once.
    fn run_into(&mut self, inputs: &[Tensor], outputs: &mut Vec<Tensor>) -> Result<()> {
        if let Some(profile) = &self.profile {
            let at = self.inputs.iter().position(|port| port.name == profile.input());
            at.and_then(|at| inputs.get(at)).map_or(Ok(()), |input| profile.admits(input.shape()))?;
        }
        check_inputs(&self.inputs, inputs)?;
        let values = inputs
            .iter()
            .map(convert::lend)
            .collect::<ort::Result<Vec<SessionInputValue<'_>>>>()
            .map_err(|e| failed("taking the inputs", e))?;
        let made = self.session.run(values.as_slice()).map_err(|e| failed("running", e))?;
        if made.len() != self.outputs.len() {
            let message = format!("onnxruntime made {} outputs of {}", made.len(), self.outputs.len());
            return Err(Error::internal(message));
        }
        as_many(outputs, made.len());
        // ONNX Runtime returns the outputs in the session's order.
        made.values().zip(&self.outputs).zip(outputs).try_for_each(|((value, port), out)| {
            convert::copy(&value, out)
                .map_err(|e| failed("reading the outputs", e).at(format!("output {:?}", port.name)))
        })
    }
}
