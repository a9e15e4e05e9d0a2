//! The proof that two forms of a network compute the same: both run on seeded hostile inputs by a real engine.

use std::path::Path;

use tapetum_runtime::backend::{Backend, LoadOptions, ModelSource, Session};
use tapetum_runtime::contract::golden;
use tapetum_runtime::{Error, ErrorKind, Result, Tensor};

use crate::graph::{Graph, Value};
use crate::onnx;

/// Largest difference allowed, as a share of `max(1, |output|max)`. The rounding of the networks in the suites stays below
/// half of it; a network that amplifies rounding more is refused although its fold is right.
pub const TOLERANCE: f64 = 1e-4;

/// How a proof is run.
#[derive(Clone)]
pub struct ProofOptions {
    /// The engine that runs both forms.
    pub backend: &'static dyn Backend,
    /// One input is made from each.
    pub seeds: Vec<u64>,
    /// Shape of each model input.
    pub shapes: Vec<Vec<usize>>,
    /// See [`TOLERANCE`].
    pub tolerance: f64,
}

/// What a proof measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Figures {
    /// Per output, over all seeds.
    pub outputs: Vec<OutputFigures>,
}

/// The largest difference of one output between both forms.
#[derive(Clone, Debug, PartialEq)]
pub struct OutputFigures {
    /// Name of the output.
    pub name: String,
    /// max |training|.
    pub abs_max: f64,
    /// max |training − deployed|.
    pub max_abs: f64,
}

impl OutputFigures {
    /// `max_abs / max(1, abs_max)`: what the tolerance is compared with.
    pub fn max_rel(&self) -> f64 {
        self.max_abs / self.abs_max.max(1.0)
    }
}

impl Figures {
    /// Largest absolute difference over all outputs.
    pub fn max_abs(&self) -> f64 {
        self.outputs.iter().map(|o| o.max_abs).fold(0.0, f64::max)
    }

    /// Largest relative difference over all outputs; see [`OutputFigures::max_rel`].
    pub fn max_rel(&self) -> f64 {
        self.outputs.iter().map(OutputFigures::max_rel).fold(0.0, f64::max)
    }
}

/// What both forms gave, besides the figures: the first seed's outputs of the deployed form (for the golden check).
pub struct Proven {
    /// The figures.
    pub figures: Figures,
    /// Outputs of the deployed form on the first seed, by name.
    pub golden: Vec<(String, Tensor)>,
}

/// Runs `training` and `deployed` (ONNX files; `None` for a network that has only the deployed form) and compares.
/// `tick` is called with (runs done, runs in all).
///
/// # Errors
/// [`ErrorKind::ProofFailed`] with the figures and the first layer that differs; the engine's own errors.
pub fn prove(
    training: Option<&Path>,
    deployed: &Path,
    options: &ProofOptions,
    tick: &mut dyn FnMut(usize, usize),
) -> Result<Proven> {
    let runs = options.seeds.len() * (1 + usize::from(training.is_some()));
    let mut done = 0;
    let mut all = |model: &Path| -> Result<(Vec<String>, Vec<Vec<Tensor>>)> {
        // What is proven is the arithmetic, wherever the engine has it done.
        let load = LoadOptions {
            shapes: Some(options.shapes.clone()),
            min_share: Some(0.0),
            ..LoadOptions::default()
        };
        let mut session = options.backend.load(ModelSource::Path(model), &load)?;
        let names = session.outputs().iter().map(|p| p.name.clone()).collect();
        let mut outputs = Vec::new();
        for &seed in &options.seeds {
            tick(done, runs);
            outputs.push(run(&mut *session, seed, &options.shapes)?);
            done += 1;
        }
        tick(done, runs);
        Ok((names, outputs))
    };
    // One after the other: a large network's weights are never held by two sessions at once.
    let want = training.map(&mut all).transpose().map_err(|e| e.at("training form"))?;
    let (names, mut got) = all(deployed).map_err(|e| e.at("deployed form"))?;
    let want = match &want {
        Some((wanted, _)) if *wanted != names => {
            let message = format!("the training form has outputs {wanted:?}, the deployed form {names:?}");
            return Err(Error::internal(message));
        }
        Some((_, outputs)) => outputs,
        None => &got,
    };
    let figures = compare(&names, want, &got)?;
    if let Some(bad) = figures.outputs.iter().find(|o| !within(o, options.tolerance)) {
        let place = match training.map(|t| first_difference(t, deployed, options)).transpose()? {
            Some(Some(layer)) => format!("; the first layer that differs is {layer}"),
            _ => String::new(),
        };
        let message = format!(
            "the two forms do not compute the same: output {:?} differs by {:.3e} (values up to {:.3e}), allowed is \
             {:.1e} · max(1, |output|){place}",
            bad.name, bad.max_abs, bad.abs_max, options.tolerance
        );
        return Err(Error::new(ErrorKind::ProofFailed, message));
    }
    let golden =
        if got.is_empty() { Vec::new() } else { names.into_iter().zip(got.swap_remove(0)).collect() };
    Ok(Proven { figures, golden })
}

// `!(a <= b)` would read worse; a NaN must fail, and it does: comparisons with NaN are false.
fn within(o: &OutputFigures, tolerance: f64) -> bool {
    o.abs_max.is_finite() && o.max_abs <= tolerance * o.abs_max.max(1.0)
}

fn run(session: &mut dyn Session, seed: u64, shapes: &[Vec<usize>]) -> Result<Vec<Tensor>> {
    // Two inputs of one model never get the same numbers.
    let inputs: Vec<Tensor> =
        shapes.iter().zip(0u64..).map(|(shape, i)| golden::input(seed + (i << 32), shape)).collect();
    session.run(&inputs).map_err(|e| e.at(format!("seed {seed}")))
}

fn compare(names: &[String], want: &[Vec<Tensor>], got: &[Vec<Tensor>]) -> Result<Figures> {
    let mut outputs: Vec<OutputFigures> =
        names.iter().map(|n| OutputFigures { name: n.clone(), abs_max: 0.0, max_abs: 0.0 }).collect();
    for (want, got) in want.iter().zip(got) {
        for (figures, (want, got)) in outputs.iter_mut().zip(want.iter().zip(got)) {
            let (abs_max, max_abs) =
                difference(want, got).map_err(|e| e.at(format!("output {:?}", figures.name)))?;
            figures.abs_max = nan_max(figures.abs_max, abs_max);
            figures.max_abs = nan_max(figures.max_abs, max_abs);
        }
    }
    Ok(Figures { outputs })
}

/// (max |want|, max |want − got|); a NaN anywhere makes the figure NaN.
fn difference(want: &Tensor, got: &Tensor) -> Result<(f64, f64)> {
    if want.shape() != got.shape() {
        let message = format!("shape {:?} in training form, {:?} deployed", want.shape(), got.shape());
        return Err(Error::new(ErrorKind::ProofFailed, message));
    }
    let both = want.to_f64().zip(got.to_f64());
    let Some((want_values, got_values)) = both else {
        let differs = f64::from(u8::from(want != got));
        return Ok((1.0, differs));
    };
    let mut figures = (0.0, 0.0);
    for (w, g) in want_values.iter().zip(&got_values) {
        figures = (nan_max(figures.0, w.abs()), nan_max(figures.1, (w - g).abs()));
    }
    Ok(figures)
}

fn nan_max(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

/// The first node of the deployed form, in execution order, whose value differs from that of the same name in the
/// training form.
fn first_difference(training: &Path, deployed: &Path, options: &ProofOptions) -> Result<Option<String>> {
    let mut graphs = [read(training)?, read(deployed)?];
    let known = crate::graph::infer::infer(&graphs[1]);
    let in_training: std::collections::BTreeSet<&String> =
        graphs[0].nodes.iter().flat_map(|n| &n.outputs).collect();
    let shared: Vec<(String, Value)> = graphs[1]
        .nodes
        .iter()
        .flat_map(|n| n.outputs.iter().map(move |o| (n, o)))
        .filter(|(_, o)| in_training.contains(o))
        .filter_map(|(n, o)| {
            let k = known.get(o)?;
            let value = Value { name: o.clone(), dtype: k.dtype, dims: k.dims.clone() };
            Some((format!("{:?} ({})", n.name, n.op), value))
        })
        .collect();
    let mut results = Vec::new();
    for graph in &mut graphs {
        graph.outputs = shared.iter().map(|(_, v)| v.clone()).collect();
        let mut bytes = Vec::new();
        onnx::write(graph, &mut bytes)?;
        let load = LoadOptions { min_share: Some(0.0), ..LoadOptions::default() };
        let mut session = options.backend.load(ModelSource::Bytes(&bytes), &load)?;
        results.push(run(&mut *session, options.seeds[0], &options.shapes)?);
    }
    for ((layer, value), (want, got)) in shared.iter().zip(results[0].iter().zip(&results[1])) {
        let (abs_max, max_abs) = difference(want, got)?;
        if !within(&OutputFigures { name: value.name.clone(), abs_max, max_abs }, options.tolerance) {
            return Ok(Some(format!("{layer}, by {max_abs:.3e}")));
        }
    }
    Ok(None)
}

fn read(path: &Path) -> Result<Graph> {
    let bytes = std::fs::read(path)
        .map_err(|e| Error::new(ErrorKind::Environment, format!("{}: {e}", path.display())).caused_by(e))?;
    onnx::read(bytes.into())
}
