//! Running a written model's proof again.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use tapetum_runtime::backend::{LoadOptions, ModelSource};
use tapetum_runtime::contract::{Contract, SizePolicy};
use tapetum_runtime::{Error, Result};

use crate::fuse::{FuseOptions, engine, environment};
use crate::onnx;
use crate::open::{Opened, open};
use crate::proof::{self, Figures, ProofOptions};
use crate::zoo::InputSize;

/// What a verification found.
#[derive(Debug)]
pub struct Verified {
    /// Name and version of the engine that ran.
    pub engine: String,
    /// Error of the golden self-check, as a share of `max(1, |output|max)`.
    pub golden: f32,
    /// The comparison with the checkpoint, if there was one.
    pub proof: Option<Figures>,
}

/// Checks `model` against the golden record it carries and, if given, against the checkpoint it came from.
///
/// # Errors
/// [`tapetum_runtime::ErrorKind::ProofFailed`] if either does not hold; `BadFile` if the model carries no contract or
/// the checkpoint is another one than it was made from.
pub fn verify(
    model: &Path,
    against: Option<&Path>,
    engine_name: Option<&str>,
    tick: &mut dyn FnMut(usize, usize),
) -> Result<Verified> {
    let engine = engine(engine_name)?;
    let file = File::open(model).map_err(|e| environment(model, &e))?;
    let contract = Contract::from_onnx(&mut BufReader::new(file)).map_err(|e| e.at(model.display()))?;
    let contract = contract.ok_or_else(|| {
        let place = model.display();
        Error::bad_file(format!("{place}: the model carries no contract; write it with `tapetum fuse`"))
    })?;
    let golden = contract
        .golden
        .as_ref()
        .ok_or_else(|| Error::bad_file(format!("{} carries no golden record", model.display())))?;
    let load = LoadOptions {
        shapes: Some(vec![golden.input_shape.clone()]),
        min_share: Some(0.0),
        ..LoadOptions::default()
    };
    let mut session = engine.load(ModelSource::Path(model), &load)?;
    let worst = golden.check(&mut *session).map_err(|e| e.at(model.display()))?;
    drop(session);
    let proof = against.map(|source| prove_against(model, &contract, source, engine, tick)).transpose()?;
    Ok(Verified { engine: engine.probe()?, golden: worst, proof })
}

fn prove_against(
    model: &Path,
    contract: &Contract,
    source: &Path,
    engine: &'static dyn tapetum_runtime::backend::Backend,
    tick: &mut dyn FnMut(usize, usize),
) -> Result<Figures> {
    let record = contract
        .proof
        .as_ref()
        .ok_or_else(|| Error::bad_file(format!("{} carries no proof to run again", model.display())))?;
    // The same sizes as the model was made for.
    let open_axes = !matches!(contract.input.size, SizePolicy::Fixed { .. });
    let size = match record.input_shape.as_slice() {
        _ if open_axes => Some(InputSize::Dynamic),
        [_, _, height, width] => Some(InputSize::Fixed { height: *height, width: *width }),
        _ => None,
    };
    let options = FuseOptions { size, ..FuseOptions::default() };
    let Opened { graph: training, contract: now, mut proof_shapes, .. } = open(source, &options)?;
    if let (Some(then), Some(now)) = (&contract.source, &now.source)
        && then.sha256 != now.sha256
    {
        return Err(Error::bad_file(format!(
            "{} is not the file that {} was made from: SHA-256 {} there, {} here",
            source.display(),
            model.display(),
            then.sha256,
            now.sha256
        )));
    }
    if let Some(first) = proof_shapes.first_mut() {
        first.clone_from(&record.input_shape);
    }
    let mut file = tempfile::Builder::new()
        .suffix(".onnx")
        .tempfile()
        .map_err(|e| environment(&std::env::temp_dir(), &e))?;
    {
        let mut out = std::io::BufWriter::new(file.as_file_mut());
        onnx::write(&training, &mut out)?;
        std::io::Write::flush(&mut out).map_err(|e| environment(&std::env::temp_dir(), &e))?;
    }
    drop(training);
    let options = ProofOptions {
        backend: engine,
        seeds: record.seeds.clone(),
        shapes: proof_shapes,
        tolerance: proof::TOLERANCE,
    };
    Ok(proof::prove(Some(file.path()), model, &options, tick)?.figures)
}
