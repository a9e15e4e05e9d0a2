//! The whole way: file → network → folds → ONNX → proof → one file on disk.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tapetum_runtime::backend::{self, Backend, LoadOptions, ModelSource};
use tapetum_runtime::contract::{Contract, ContractOverride, Golden, METADATA_KEY, OutputError, Proof};
use tapetum_runtime::{Error, ErrorKind, Result};
use tempfile::NamedTempFile;

use crate::cost::{Cost, cost};
use crate::fold::{self, FoldReport};
use crate::graph::Graph;
use crate::onnx;
use crate::open::{Opened, open, ports};
use crate::probe;
use crate::proof::{self, Figures, ProofOptions};
use crate::working_set::working_set;
use crate::zoo::{Description, InputSize};

/// What the user chose; `Default` is what `tapetum fuse IN -o OUT` does.
#[derive(Clone, Debug, Default)]
pub struct FuseOptions {
    /// Only this family of networks (`--arch`).
    pub arch: Option<String>,
    /// Input size, if not the network's default.
    pub size: Option<InputSize>,
    /// Changes to the default contract (`--contract`).
    pub contract: Option<ContractOverride>,
    /// Engine that runs the proof; the first of the build if `None`.
    pub backend: Option<String>,
    /// LoRA adapter to merge into the checkpoint first.
    pub lora: Option<PathBuf>,
    /// α of the adapter, if its file does not say.
    pub lora_alpha: Option<f64>,
    /// Replace experts with uniform routing by the mean of their weights first.
    pub average_experts: bool,
}

/// Told while `fuse` works, so that a program can show progress.
pub enum Step<'a> {
    /// The file is being read.
    Reading(&'a Path),
    /// The network was recognised.
    Found(&'a Description),
    /// The folds are done.
    Folded(&'a FoldReport),
    /// A proof run is about to start: (done, of).
    Proving(usize, usize),
    /// The result is written.
    Written(&'a Path),
}

/// What came out.
#[derive(Debug)]
pub struct Fused {
    /// The network.
    pub description: Description,
    /// Where the model came from, what was folded, the proof: as written into the model.
    pub contract: Contract,
    /// Which rules fired where, and which refused with what reason.
    pub folds: FoldReport,
    /// Learned values in the form that was read.
    pub parameters_before: u64,
    /// Learned values in the deployed form.
    pub parameters_after: u64,
    /// Nodes in the form that was read.
    pub nodes_before: usize,
    /// Nodes in the deployed form.
    pub nodes_after: usize,
    /// Multiply-accumulates at [`Fused::cost_shape`], both forms.
    pub cost_before: Cost,
    /// See [`Fused::cost_before`].
    pub cost_after: Cost,
    /// Input shape that costs and proof speak of.
    pub cost_shape: Vec<usize>,
    /// The proof's figures.
    pub figures: Figures,
    /// Bytes of the written file.
    pub bytes: u64,
}

/// Reads `input` (a checkpoint, or an ONNX file in training form), folds it, proves that nothing changed and writes
/// `output`. Nothing is left at `output` unless the proof held.
///
/// # Errors
/// Everything the steps can say, with the file's name; [`ErrorKind::ProofFailed`] if the two forms differ.
pub fn fuse(
    input: &Path,
    output: &Path,
    options: &FuseOptions,
    tell: &mut dyn FnMut(Step<'_>),
) -> Result<Fused> {
    let engine = engine(options.backend.as_deref())?;
    tell(Step::Reading(input));
    let Opened { graph: training, description, mut contract, proof_shapes } = open(input, options)?;
    if let Some(changes) = &options.contract {
        changes.apply(&mut contract)?;
    }
    contract
        .check_ports(&ports(&training.inputs), &ports(&training.outputs))
        .map_err(|e| Error::config(e.to_string()))?;
    tell(Step::Found(&description));
    let (parameters_before, nodes_before) = (training.parameters(), training.nodes.len());
    let cost_before = cost(&training, &proof_shapes);

    let place = Place::beside(output)?;
    // Constants are shared between both until a fold replaces them.
    let mut deployed = training.clone();
    let folds = fold::fold_all(&mut deployed)?;
    // Where exporters leave shapes to be computed, only the folded graph knows them.
    let probes = probe::saturating(&deployed);
    // Written only where they are run: nothing folded leaves nothing to compare, no probe leaves the model itself.
    let folded = !folds.applied.is_empty();
    let training_file = folded.then(|| place.write(&probe::with_outputs(&training, &probes))).transpose()?;
    drop(training);
    tell(Step::Folded(&folds));
    let (parameters_after, nodes_after) = (deployed.parameters(), deployed.nodes.len());
    let cost_after = cost(&deployed, &proof_shapes);
    contract.working_set = per_pixel(working_set(&deployed, &proof_shapes), &proof_shapes);
    deployed.metadata.remove(METADATA_KEY);
    let mut deployed_file = place.write(&deployed)?;
    let probed = !probes.is_empty();
    let probe_file = probed.then(|| place.write(&probe::with_outputs(&deployed, &probes))).transpose()?;
    // The engine needs the memory now.
    drop(deployed);

    let seeds = seeds(cost_before.macs);
    let proof =
        ProofOptions { backend: engine, seeds, shapes: proof_shapes.clone(), tolerance: proof::TOLERANCE };
    let training_path = training_file.as_ref().map(NamedTempFile::path);
    let proven_path = probe_file.as_ref().unwrap_or(&deployed_file).path();
    let mut tick = |done, of| tell(Step::Proving(done, of));
    let not_written = |e: Error| e.at(format!("{}: {} was not written", input.display(), output.display()));
    let mut proven = proof::prove(training_path, proven_path, &proof, &mut tick).map_err(not_written)?;
    proven.golden.retain(|(name, _)| contract.outputs.iter().any(|o| o.name == *name));

    // Beside what was done to the checkpoint before.
    contract.folds.extend(folds.counts().into_iter().map(|(rule, n)| (rule.to_owned(), n)));
    let before_after = [parameters_before, parameters_after];
    contract.proof = Some(proof_record(engine.probe()?, &proof, &proven.figures, before_after));
    let outputs: Vec<_> = proven.golden.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    contract.golden =
        Some(Golden::record(proof.seeds[0], &proof_shapes[0], &outputs, proof::TOLERANCE as f32)?);
    contract.validate()?;
    if probed {
        // The proof looked at more outputs than the model has; the very file that is published runs here.
        let load = LoadOptions {
            shapes: Some(proof_shapes.clone()),
            min_share: Some(0.0),
            ..LoadOptions::default()
        };
        let mut session = engine.load(ModelSource::Path(deployed_file.path()), &load)?;
        let golden = contract.golden.as_ref();
        golden.map(|g| g.check(&mut *session)).transpose().map_err(not_written)?;
    }
    onnx::append_metadata(deployed_file.as_file_mut(), METADATA_KEY, &contract.to_json())?;
    let bytes = place.publish(deployed_file, output)?;
    tell(Step::Written(output));
    Ok(Fused {
        description,
        contract,
        folds,
        parameters_before,
        parameters_after,
        nodes_before,
        nodes_after,
        cost_before,
        cost_after,
        cost_shape: proof_shapes.into_iter().next().unwrap_or_default(),
        figures: proven.figures,
        bytes,
    })
}

/// `bytes` over the pixels of the first input, `[N, C, H, W]`, rounded up.
fn per_pixel(bytes: Option<u64>, inputs: &[Vec<usize>]) -> Option<u64> {
    let [n, _, height, width] = *inputs.first()?.as_slice() else { return None };
    let pixels = (n * height * width) as u64;
    (pixels > 0).then_some(bytes?.div_ceil(pixels))
}

/// The engine called `name`, or the first of this build that can run here.
///
/// # Errors
/// [`ErrorKind::InvalidConfig`] for an unknown name, [`ErrorKind::Environment`] if it cannot run.
pub fn engine(name: Option<&str>) -> Result<&'static dyn Backend> {
    let engine = match name {
        Some(name) => backend::by_name(name)?,
        None => *backend::BACKENDS
            .first()
            .ok_or_else(|| Error::unsupported("this build has no engine, so nothing can be proven"))?,
    };
    engine.probe()?;
    Ok(engine)
}

/// Three inputs for small networks, one where a run takes seconds.
fn seeds(macs: u64) -> Vec<u64> {
    let runs = (10_000_000_000 / macs.max(1)).clamp(1, 3);
    (1..=runs).collect()
}

fn proof_record(engine: String, options: &ProofOptions, figures: &Figures, parameters: [u64; 2]) -> Proof {
    let per_output = figures.outputs.iter().map(|o| OutputError {
        name: o.name.clone(),
        max_abs: o.max_abs,
        max_rel: o.max_rel(),
    });
    Proof {
        backend: engine,
        seeds: options.seeds.clone(),
        input_shape: options.shapes[0].clone(),
        max_abs: figures.max_abs(),
        max_rel: figures.max_rel(),
        tolerance: options.tolerance,
        per_output: per_output.collect(),
        parameters_before: parameters[0],
        parameters_after: parameters[1],
    }
}

/// The folder the result goes to; temporary files stand there too, so that publishing is one rename.
pub(crate) struct Place {
    folder: PathBuf,
}

impl Place {
    pub(crate) fn beside(output: &Path) -> Result<Self> {
        let parent = output.parent().filter(|p| !p.as_os_str().is_empty());
        let folder = parent.map_or_else(|| PathBuf::from("."), Path::to_path_buf);
        if output.is_dir() {
            return Err(Error::config(format!("{} is a folder; name a file", output.display())));
        }
        if !folder.is_dir() {
            return Err(Error::config(format!("the folder {} does not exist", folder.display())));
        }
        Ok(Self { folder })
    }

    pub(crate) fn write(&self, graph: &Graph) -> Result<NamedTempFile> {
        let file = tempfile::Builder::new()
            .prefix(".tapetum-")
            .suffix(".onnx")
            .tempfile_in(&self.folder)
            .map_err(|e| environment(&self.folder, &e))?;
        let mut out = BufWriter::new(file.as_file());
        onnx::write(graph, &mut out)?;
        out.flush().map_err(|e| environment(file.path(), &e))?;
        drop(out);
        Ok(file)
    }

    pub(crate) fn publish(&self, mut file: NamedTempFile, output: &Path) -> Result<u64> {
        let bytes = file.as_file_mut().seek(SeekFrom::End(0)).map_err(|e| environment(output, &e))?;
        file.as_file().sync_all().map_err(|e| environment(output, &e))?;
        set_readable(file.as_file()).map_err(|e| environment(output, &e))?;
        file.persist(output).map_err(|e| environment(output, &e.error))?;
        Ok(bytes)
    }
}

/// Temporary files are private; a model is a file like any other.
#[cfg(unix)]
fn set_readable(file: &File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn set_readable(_: &File) -> std::io::Result<()> {
    Ok(())
}

pub(crate) fn environment(path: &Path, e: &std::io::Error) -> Error {
    Error::new(ErrorKind::Environment, format!("{}: {e}", path.display()))
}
