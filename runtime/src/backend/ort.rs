//! ONNX Runtime, found and loaded at run time; nothing is linked.
//!
//! The engine `ort` is its CPU provider. Other providers will be engines of their own (`ort:openvino`, `ort:cuda`), so
//! that a name always means exactly one thing and nothing can fall back: each becomes one more [`Ort`] in
//! [`super::BACKENDS`] with its [`Provider`].

use std::path::Path;

use ort::{
    session::{
        SessionInputValue,
        builder::{GraphOptimizationLevel, SessionBuilder},
    },
    value::ValueType,
};

use super::{Backend, LoadOptions, ModelSource, Port, Session, as_many, check_inputs};
use crate::{Error, ErrorKind, Result, Tensor};

mod convert;
mod library;

/// ONNX Runtime with one execution provider.
pub struct Ort {
    provider: Provider,
}

/// What executes the nodes of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    /// ONNX Runtime's own kernels, on the CPU. Every node runs there.
    Cpu,
}

impl Provider {
    fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
        }
    }
}

impl Ort {
    /// The engine `ort`: the CPU provider.
    pub const CPU: Self = Self { provider: Provider::Cpu };
}

impl Backend for Ort {
    fn name(&self) -> &'static str {
        match self.provider {
            Provider::Cpu => "ort",
        }
    }

    fn full_name(&self) -> &'static str {
        match self.provider {
            Provider::Cpu => "ort:cpu",
        }
    }

    fn probe(&self) -> Result<String> {
        let library = library::loaded()?;
        Ok(format!("onnxruntime {} ({})", library.version, self.provider.name()))
    }

    fn load(&self, model: ModelSource<'_>, options: &LoadOptions) -> Result<Box<dyn Session>> {
        let library = library::loaded()?;
        let mut builder =
            builder(&library.environment, options).map_err(|e| failed("configuring a session", e))?;
        let session = match model {
            ModelSource::Bytes(bytes) => builder.commit_from_memory(bytes).map_err(|e| failed("loading", e)),
            ModelSource::Path(path) => from_file(&mut builder, path),
        }?;
        let inputs = session.inputs().iter().map(|o| port(o, "input")).collect::<Result<_>>()?;
        let outputs = session.outputs().iter().map(|o| port(o, "output")).collect::<Result<_>>()?;
        Ok(Box::new(OrtSession { session, inputs, outputs }))
    }
}

/// Every optimisation; nodes one after the other, so the threads work inside them. With a number of threads given they
/// sleep while there is nothing to do: a thread that spins between two frames takes a core from the rest.
fn builder(
    environment: &ort::environment::Environment,
    options: &LoadOptions,
) -> ort::Result<SessionBuilder> {
    let mut builder = ort::session::Session::builder(environment)?
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_parallel_execution(false)?
        .with_inter_threads(1)?;
    if let Some(threads) = options.threads {
        builder = builder.with_intra_threads(threads.max(1))?.with_intra_op_spinning(false)?;
    }
    Ok(builder)
}

fn from_file(builder: &mut SessionBuilder, path: &Path) -> Result<ort::session::Session> {
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_file() => {}
        Ok(_) => return Err(Error::config(format!("{}: not a file", path.display()))),
        Err(e) => return Err(Error::config(format!("{}: {e}", path.display())).caused_by(e)),
    }
    builder.commit_from_file(path).map_err(|e| failed("loading", e).at(path.display()))
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
}

impl Session for OrtSession {
    fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    /// The inputs are lent to ONNX Runtime as they lie in memory; each output is copied once.
    fn run_into(&mut self, inputs: &[Tensor], outputs: &mut Vec<Tensor>) -> Result<()> {
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

/// Whose move it is after an error of ONNX Runtime.
fn failed<R>(doing: &str, error: ort::Error<R>) -> Error {
    use ort::ErrorCode as Code;
    let kind = match error.code() {
        Code::InvalidProtobuf | Code::InvalidGraph | Code::NoModel | Code::NoSuchFile => ErrorKind::BadFile,
        Code::NotImplemented => ErrorKind::Unsupported,
        Code::InvalidArgument if doing == "running" => ErrorKind::BadInput,
        _ if doing == "loading" => ErrorKind::BadFile,
        _ => ErrorKind::Internal,
    };
    Error::new(kind, format!("onnxruntime failed {doing}: {}", error.message()))
}
