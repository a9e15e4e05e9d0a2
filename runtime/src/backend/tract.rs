//! tract: the embedded engine. Pure Rust, no system library, always there.
//!
//! tract plans a graph for concrete shapes. A model whose inputs are all fixed is planned at load, so that whatever is
//! wrong with it shows at load. A model with open extents is planned at the first run with each set of input shapes,
//! and a few plans are kept (see `plans_kept`); only the inputs' extents are fixed then, so extents that depend on
//! data (the rows that `NonZero` finds) stay free, 0 included.
//!
//! **Memory.** The ONNX file is decoded and dropped before anything is planned. A plan holds the weights in packed
//! form. A model with open extents also keeps the parsed weights, to plan again from: about `(1 + plans) ×` the size of
//! the weights, which is why large models keep fewer plans. A model with fixed inputs keeps its one plan and nothing
//! else. To load a large model from a path spares the caller's copy of the file.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use prost::Message;
use tract_onnx::{pb, prelude::*, tract_hir::tract_core::plan::SimpleState};

use super::{Backend, Found, LoadOptions, ModelSource, Port, Session, as_many, check_inputs};
use crate::{Error, ErrorKind, Result, Tensor};

mod apart;
mod convert;
mod ports;

/// The engine `tract`.
pub struct Tract;

/// The version of tract in this build; `Cargo.toml` pins it.
const VERSION: &str = "0.23.9";

/// Most plans kept for one model with open extents.
const MOST_PLANS: usize = 4;

/// Ceiling for the packed weights of all plans of one model together, in bytes; one plan is always kept.
const PLAN_BYTES: usize = 256 << 20;

type Plan = Arc<TypedRunnableModel>;
type Running = SimpleState<TypedFact, Box<dyn tract_onnx::tract_hir::tract_core::ops::TypedOp>>;

impl Backend for Tract {
    fn name(&self) -> &'static str {
        "tract"
    }

    fn find(&self) -> Result<Found> {
        Ok(Found { version: VERSION.to_owned(), providers: Vec::new(), library: None })
    }

    fn probe(&self) -> Result<String> {
        Ok(format!("tract {VERSION}"))
    }

    fn load(&self, model: ModelSource<'_>, options: &LoadOptions) -> Result<Box<dyn Session>> {
        let (proto, dir) = match model {
            ModelSource::Bytes(bytes) => (decode(bytes)?, None),
            ModelSource::Path(path) => {
                let proto = guarded("reading the model", || onnx().proto_model_for_path(path))
                    .map_err(|e| cannot_read(path, e))?;
                (proto, path.parent().and_then(Path::to_str))
            }
        };
        Ok(Box::new(TractSession::new(proto, dir, options)?))
    }
}

fn decode(bytes: &[u8]) -> Result<pb::ModelProto> {
    pb::ModelProto::decode(bytes).map_err(|e| Error::bad_file(format!("not an ONNX model: {e}")).caused_by(e))
}

/// Tells a file that cannot be opened from one that is not a model.
fn cannot_read(path: &Path, why: Error) -> Error {
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_file() => why.at(path.display()),
        Ok(_) => Error::config(format!("{}: not a file", path.display())),
        Err(e) => Error::config(format!("{}: {e}", path.display())).caused_by(e),
    }
}

/// A loaded model and the plans made for it so far.
struct TractSession {
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    /// What new plans are made from; `None` once the only possible plan exists.
    parsed: Option<InferenceModel>,
    /// The most recently used last.
    plans: Vec<Planned>,
    /// Bytes of all initialisers.
    weights: usize,
    executor: Option<multithread::Executor>,
    /// All nodes: tract runs a model whole or refuses it.
    placement: [(String, usize); 1],
}

/// A plan and its scratch memory, for one set of input shapes.
struct Planned {
    shapes: Vec<Vec<usize>>,
    plan: Plan,
    /// `None` after a failed run, whose half-made values must not be seen by the next.
    running: Option<Running>,
}

impl TractSession {
    fn new(proto: pb::ModelProto, dir: Option<&str>, options: &LoadOptions) -> Result<Self> {
        let graph = proto.graph.as_ref().ok_or_else(|| Error::bad_file("the ONNX model holds no graph"))?;
        let inputs = ports::inputs(graph)?;
        let mut outputs = ports::outputs(graph)?;
        let weights = ports::weight_bytes(graph);
        let placement = [("tract".to_owned(), graph.node.len())];

        // The intermediate shapes that exporters write down (`value_info`) repeat the inputs' symbols, which would
        // contradict the concrete extents that plans are made for; tract infers them anyway.
        let reader = onnx().with_ignore_value_info(true);
        let parsed = guarded("parsing the model", || reader.parse(&proto, dir))?;
        drop(proto);
        if !parsed.unresolved_inputs.is_empty() {
            let names = parsed.unresolved_inputs.join(", ");
            return Err(Error::bad_file(format!("the graph uses values that nothing makes: {names}")));
        }
        return_freed_memory(weights);
        let parsed = parsed.model;
        refuse_unknown_operators(&parsed)?;

        let executor = match options.threads {
            None | Some(0 | 1) => None,
            Some(n) => Some(guarded("starting threads", || Ok(multithread::Executor::multithread(n)))?),
        };
        let fixed: Option<Vec<Vec<usize>>> = match &options.shapes {
            Some(shapes) => Some(shapes.clone()),
            None => inputs.iter().map(|p| p.shape.iter().copied().collect()).collect(),
        };
        let mut session = Self {
            inputs,
            outputs: Vec::new(),
            parsed: Some(parsed),
            plans: Vec::new(),
            weights,
            executor,
            placement,
        };
        if let Some(shapes) = fixed {
            session.plan(shapes, true)?;
            ports::fill_from_plan(&mut outputs, session.plans[0].plan.model());
        }
        session.outputs = outputs;
        Ok(session)
    }

    /// Makes the plan for `shapes` and puts it last. `only` gives the parsed model up for it.
    fn plan(&mut self, shapes: Vec<Vec<usize>>, only: bool) -> Result<()> {
        let parsed = if only { self.parsed.take() } else { self.parsed.clone() };
        let mut model =
            parsed.ok_or_else(|| Error::internal("tract: the model was planned for other shapes"))?;
        // Room first: a plan costs as much memory as the weights.
        while !self.plans.is_empty() && self.plans.len() >= plans_kept(self.weights) {
            self.plans.remove(0);
        }
        return_freed_memory(self.weights);
        let executor = self.executor.clone();
        let inputs = &self.inputs;
        let plan = guarded("planning", || {
            for (n, (port, shape)) in inputs.iter().zip(&shapes).enumerate() {
                let dtype = convert::datum_type(port.dtype).expect("checked when the ports were read");
                model.set_input_fact(n, InferenceFact::dt_shape(dtype, shape))?;
            }
            let options = RunOptions { executor, ..RunOptions::default() };
            let mut model = model.into_typed()?;
            apart::keep_apart(&mut model)?;
            model.into_optimized()?.into_runnable_with_options(&options)
        })
        .map_err(|e| e.at(format!("tract, inputs {shapes:?}")))?;
        return_freed_memory(self.weights);
        self.plans.push(Planned { shapes, plan, running: None });
        Ok(())
    }
}

impl Session for TractSession {
    fn placement(&self) -> &[(String, usize)] {
        &self.placement
    }

    fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    fn run_into(&mut self, inputs: &[Tensor], outputs: &mut Vec<Tensor>) -> Result<()> {
        check_inputs(&self.inputs, inputs)?;
        let same = |p: &Planned| p.shapes.iter().zip(inputs).all(|(s, t)| s == t.shape());
        match self.plans.iter().position(same) {
            Some(at) => self.plans[at..].rotate_left(1),
            None => self.plan(inputs.iter().map(|t| t.shape().to_vec()).collect(), false)?,
        }
        let planned = self.plans.last_mut().ok_or_else(|| Error::internal("tract: no plan"))?;
        let values =
            inputs.iter().map(|t| Ok(convert::to_tract(t)?.into())).collect::<Result<TVec<TValue>>>()?;
        let running = planned.running.take();
        let plan = &planned.plan;
        let (values, running) = guarded("running", || {
            let mut running = running.map_or_else(|| plan.spawn(), Ok)?;
            Ok((running.run(values)?, running))
        })?;
        planned.running = Some(running);
        as_many(outputs, self.outputs.len());
        let ports = self.outputs.iter().zip(outputs);
        values.iter().zip(ports).try_for_each(|(value, (port, out))| convert::from_tract(value, port, out))
    }
}

/// How many plans a model with `weights` bytes of weights keeps: 4, fewer when they are large, never none.
fn plans_kept(weights: usize) -> usize {
    (PLAN_BYTES / weights.max(1)).clamp(1, MOST_PLANS)
}

/// Gives what a large model's parsing and planning freed back to the system.
///
/// glibc keeps freed blocks of up to 32 MiB on its heap, which is the size of weights, and fragments them: planning a
/// model of 208 MiB for six shapes left 859 MiB in the process where 440 MiB were in use. Only called while loading and
/// planning, never on the frame path.
fn return_freed_memory(weights: usize) {
    if weights < 8 << 20 {
        return;
    }
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: `malloc_trim` takes the allocator's own locks and only releases pages that hold no allocation.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// tract only notices an operator that it lacks while planning, one at a time. This names all of them at load.
fn refuse_unknown_operators(model: &InferenceModel) -> Result<()> {
    let mut lacking: Vec<String> = Vec::new();
    for node in model.nodes() {
        let name = node.op.name();
        if let Some(op) = name.strip_prefix("Unimplemented(").and_then(|n| n.strip_suffix(')'))
            && !lacking.iter().any(|l| l == op)
        {
            lacking.push(op.to_owned());
        }
    }
    if lacking.is_empty() {
        return Ok(());
    }
    Err(Error::unsupported(format!("tract has no operator {}; try the engine `ort`", lacking.join(", "))))
}

/// Runs a step of tract, turning its errors and its panics (it has some, on odd models) into ours.
fn guarded<T>(doing: &str, step: impl FnOnce() -> TractResult<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(step)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(e)) => {
            let message = format!("{e:#}");
            let lacks = ["nimplemented", "not supported", "not implemented", "unsupported"];
            let kind = match doing {
                _ if lacks.iter().any(|l| message.contains(l)) => ErrorKind::Unsupported,
                "running" => ErrorKind::Internal,
                "planning" => ErrorKind::Unsupported,
                _ => ErrorKind::BadFile,
            };
            Err(Error::new(kind, format!("tract failed {doing}: {message}")))
        }
        Err(panic) => {
            let why = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("no message");
            // While running it is a fault of tract's; before, an odd model may be at fault.
            let kind = if doing == "running" { ErrorKind::Internal } else { ErrorKind::Unsupported };
            Err(Error::new(kind, format!("tract panicked {doing}: {why}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_models_keep_fewer_plans() {
        assert_eq!(plans_kept(0), 4);
        assert_eq!(plans_kept(40 << 20), 4);
        assert_eq!(plans_kept(100 << 20), 2);
        assert_eq!(plans_kept(218 << 20), 1);
        assert_eq!(plans_kept(usize::MAX), 1);
    }
}
