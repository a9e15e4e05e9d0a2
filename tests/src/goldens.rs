//! The goldens: checkpoints and ONNX files with hostile random weights, and what PyTorch computed with them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tapetum_models::fuse::{FuseOptions, Fused, fuse};
use tapetum_models::graph::Graph;
use tapetum_models::{onnx, zoo::InputSize};
use tapetum_runtime::Tensor;
use tapetum_runtime::backend::{Backend, LoadOptions, ModelSource};

/// (engine, case, why). Such a case must fail: the day it works, the suite asks for its line to go.
pub const UNSUPPORTED: &[(&str, &str, &str)] = &[(
    "ort:openvino",
    "onnx_tfnet_dynamo",
    "of its training form OpenVINO leaves Cast nodes to the CPU, and cuts the graph so that it has a cycle",
)];

/// One golden.
pub struct Case {
    /// Folder name.
    pub name: String,
    /// The checkpoint or ONNX file.
    pub file: PathBuf,
    /// Parameters of the case.
    pub facts: Facts,
    /// `input`, `output` and what else PyTorch recorded.
    pub tensors: BTreeMap<String, Tensor>,
}

/// The part of `case.json` that the suite uses.
#[derive(Deserialize)]
pub struct Facts {
    /// Holds if max|got − want| ≤ rel_tol · max(1, output_abs_max).
    pub rel_tol: f64,
    /// See `rel_tol`.
    pub output_abs_max: f64,
    /// Conv and Gemm nodes a deployed graph must have.
    pub convs_and_gemms_expected_after_folding: Option<usize>,
    /// Learned values in the checkpoint, with the classifier.
    pub params_in_checkpoint: Option<u64>,
}

/// What a case gave on one engine.
pub struct Outcome {
    /// The largest difference from PyTorch, as a share of `max(1, output_abs_max)`.
    pub error: f64,
    /// The proof's largest relative difference between both forms.
    pub proof: f64,
    /// The fusing report.
    pub fused: Fused,
    /// Conv and Gemm nodes before and after.
    pub convs: [usize; 2],
}

/// The folder of goldens in this repository.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("goldens")
}

/// Every golden, sorted by name.
///
/// # Panics
/// If a golden is damaged: the suite cannot mean anything then.
pub fn all() -> Vec<Case> {
    let mut names: Vec<PathBuf> = std::fs::read_dir(folder())
        .expect("tests/goldens")
        .map(|e| e.expect("an entry").path())
        .filter(|p| p.is_dir())
        .collect();
    names.sort();
    assert!(names.len() >= 22, "goldens are missing: {} of 22", names.len());
    names.iter().map(|p| case(p)).collect()
}

fn case(folder: &Path) -> Case {
    let facts = std::fs::read(folder.join("case.json")).expect("case.json");
    let file = ["checkpoint.pth", "checkpoint.safetensors", "model.onnx"]
        .iter()
        .map(|n| folder.join(n))
        .find(|p| p.exists())
        .expect("a checkpoint or model");
    Case {
        name: folder.file_name().expect("a name").to_string_lossy().into_owned(),
        file,
        facts: serde_json::from_slice(&facts).expect("case.json is JSON"),
        tensors: tensors(&folder.join("io.safetensors")),
    }
}

/// Reads recorded tensors with the safetensors crate itself, not with the reader under test.
fn tensors(path: &Path) -> BTreeMap<String, Tensor> {
    let bytes = std::fs::read(path).expect("io.safetensors");
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("safetensors");
    file.tensors()
        .into_iter()
        .map(|(name, view)| {
            assert_eq!(view.dtype(), safetensors::Dtype::F32, "{name}");
            let values = view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
            (name, Tensor::new(view.shape(), values).expect("a sound tensor"))
        })
        .collect()
}

/// Fuses the case with `backend` proving, runs the result on PyTorch's input and compares everything recorded.
///
/// # Errors
/// What does not hold, with figures.
pub fn check(case: &Case, backend: &'static dyn Backend) -> Result<Outcome, String> {
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let model = folder.path().join("model.onnx");
    let input = &case.tensors["input"];
    let [_, _, height, width] = *input.shape() else { return Err("input is not an image".into()) };
    let options = FuseOptions {
        size: Some(InputSize::Fixed { height, width }),
        backend: Some(backend.name().into()),
        ..FuseOptions::default()
    };
    let fused = fuse(&case.file, &model, &options, &mut |_| {}).map_err(|e| e.to_string())?;
    let bytes = std::fs::read(&model).map_err(|e| e.to_string())?;
    let graph = onnx::read(bytes.into()).map_err(|e| e.to_string())?;
    let convs = [convs(&before(case)?), convs(&graph)];
    if let Some(expected) = case.facts.convs_and_gemms_expected_after_folding
        && convs[1] != expected
    {
        return Err(format!("{} Conv and Gemm nodes after folding, expected {expected}", convs[1]));
    }
    let mut session =
        backend.load(ModelSource::Path(&model), &LoadOptions::default()).map_err(|e| e.to_string())?;
    let outputs = session.run(std::slice::from_ref(input)).map_err(|e| e.to_string())?;
    let names: Vec<String> = session.outputs().iter().map(|p| p.name.clone()).collect();
    let error = compare("output", &outputs[0], &case.tensors["output"], case)?;
    for (name, want) in case.tensors.iter().filter(|(n, _)| *n != "input" && *n != "output") {
        let at =
            names.iter().position(|n| n == name).ok_or_else(|| format!("no output {name:?} in {names:?}"))?;
        compare(name, &outputs[at], want, case)?;
        if name.starts_with("decision_") && outputs[at] != *want {
            return Err(format!("{name}: other windows are kept than PyTorch keeps"));
        }
    }
    let proof = fused.figures.max_rel();
    Ok(Outcome { error, proof, fused, convs })
}

/// The graph as the case's file holds it.
fn before(case: &Case) -> Result<Graph, String> {
    let [_, _, height, width] = *case.tensors["input"].shape() else {
        return Err("input is not an image".into());
    };
    let options = FuseOptions { size: Some(InputSize::Fixed { height, width }), ..FuseOptions::default() };
    Ok(tapetum_models::open::open(&case.file, &options).map_err(|e| e.to_string())?.graph)
}

fn convs(graph: &Graph) -> usize {
    graph.nodes.iter().filter(|n| n.is("Conv") || n.is("ConvTranspose") || n.is("Gemm")).count()
}

fn compare(name: &str, got: &Tensor, want: &Tensor, case: &Case) -> Result<f64, String> {
    if got.shape() != want.shape() {
        return Err(format!("{name} is {:?}, PyTorch's is {:?}", got.shape(), want.shape()));
    }
    let (got, want) = (got.f32s().map_err(|e| e.to_string())?, want.f32s().map_err(|e| e.to_string())?);
    let worst = got.iter().zip(want).map(|(g, w)| f64::from((g - w).abs())).fold(0.0, nan_max);
    let error = worst / case.facts.output_abs_max.max(1.0);
    if error <= case.facts.rel_tol {
        return Ok(error);
    }
    Err(format!("{name} differs by {error:.2e}, allowed is {:.0e}", case.facts.rel_tol))
}

// `f64::max` would drop a NaN.
fn nan_max(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

/// The engines that run in this process (which can load one ONNX Runtime; `TAPETUM_ORT` says which); one that cannot is
/// named on standard error.
///
/// # Panics
/// If one that `TAPETUM_REQUIRE` names is absent.
pub fn engines() -> Vec<&'static dyn Backend> {
    let there = |b: &&'static dyn Backend| tapetum_parts::there(b.name(), b.probe()).is_some();
    tapetum_runtime::backend::BACKENDS.iter().copied().filter(there).collect()
}
