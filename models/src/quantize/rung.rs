//! What every rung of the ladder does: reads a model, splits its samples, and writes another with its own record.

use std::io::{Seek, SeekFrom};
use std::path::Path;

use tapetum_runtime::backend::{self, Backend};
use tapetum_runtime::contract::{Contract, Golden, METADATA_KEY, Measured, Quantization, SizePolicy, golden};
use tapetum_runtime::quality::Figure;
use tapetum_runtime::{Error, Result, Tensor};

use super::QuantizeOptions;
use super::observe::session;
use crate::fuse::{Place, engine as by_name, environment};
use crate::graph::Graph;
use crate::onnx;
use crate::open::sha256_hex;

/// The samples, split: every second one is held back and judges.
pub(super) struct Split<'a> {
    pub calibrate: Vec<&'a [Tensor]>,
    pub judge: Vec<&'a [Tensor]>,
}

impl<'a> Split<'a> {
    pub fn of(samples: &'a [Vec<Tensor>]) -> Result<Self> {
        if samples.len() < 2 {
            return Err(Error::config(format!(
                "{} samples: at least 2 are needed, one to calibrate with and another to judge by; 64 are usual",
                samples.len()
            )));
        }
        let every = |from| samples.iter().skip(from).step_by(2).map(Vec::as_slice).collect();
        Ok(Self { calibrate: every(0), judge: every(1) })
    }
}

/// A model file, read.
pub(super) struct Source {
    pub graph: Graph,
    pub contract: Contract,
    pub bytes: u64,
    pub sha256: String,
    pub engine: &'static dyn Backend,
}

impl Source {
    pub fn read(model: &Path, options: &QuantizeOptions) -> Result<Self> {
        let engine = match &options.engine {
            Some(name) => by_name(Some(name))?,
            // The faster one, where it is there.
            None => match backend::by_name("ort") {
                Ok(ort) if ort.find().is_ok() => by_name(Some("ort"))?,
                _ => by_name(None)?,
            },
        };
        let bytes = std::fs::read(model).map_err(|e| environment(model, &e))?;
        let place = |e: Error| e.at(model.display());
        let contract = Contract::from_onnx(&mut std::io::Cursor::new(&bytes)).map_err(place)?;
        let contract = contract.ok_or_else(|| {
            Error::bad_file(format!(
                "{}: the model carries no contract, so nobody knows what its outputs mean; write one into it with \
                 `tapetum fuse MODEL --contract FILE.toml -o OUT`",
                model.display()
            ))
        })?;
        let (sha256, len) = (sha256_hex(&bytes), bytes.len() as u64);
        let graph = onnx::read(bytes.into()).map_err(place)?;
        if graph.nodes.iter().any(|n| n.is("QuantizeLinear")) || contract.quantization.is_some() {
            return Err(Error::unsupported(format!(
                "{} is quantized already; start from the fp32 model",
                model.display()
            )));
        }
        Ok(Self { graph, contract, bytes: len, sha256, engine })
    }
}

/// The figures as they stand in the record.
pub(super) fn measured(figures: &[Figure]) -> Vec<Measured> {
    let one = |f: &Figure| Measured {
        output: f.output.clone(),
        metric: f.metric.to_owned(),
        // JSON has no infinity: pictures without any difference.
        value: f.value.min(999.0),
        gate: f.gate,
    };
    figures.iter().map(one).collect()
}

/// Writes `graph` with the contract of `source`, its record and a golden record of its own.
pub(super) fn write(
    source: &Source,
    mut graph: Graph,
    record: Quantization,
    place: &Place,
    output: &Path,
    sample: &[Tensor],
) -> Result<u64> {
    let mut contract = source.contract.clone();
    // Recorded anew: other numbers come out, and by as much as engines round 8 bits differently.
    let tolerance = record.precision.tolerance();
    let old = contract.golden.take();
    let shape = match (&old, &contract.input.size, sample.first()) {
        (Some(golden), _, _) => golden.input_shape.clone(),
        (None, SizePolicy::Fixed { height, width }, _) => {
            vec![1, contract.input.colour.channels(), *height, *width]
        }
        (None, _, sample) => sample.map(|t| t.shape().to_vec()).unwrap_or_default(),
    };
    let seed = old.as_ref().map_or(1, |g| g.seed);
    let input = [golden::input(seed, &shape)];
    let mut session = session(source.engine, &graph, None, &[&input])?;
    let outputs = session.run(&input)?;
    let named: Vec<(&str, &Tensor)> = session
        .outputs()
        .iter()
        .zip(&outputs)
        .filter(|(port, _)| contract.outputs.iter().any(|o| o.name == port.name))
        .map(|(port, tensor)| (port.name.as_str(), tensor))
        .collect();
    contract.golden = Some(Golden::record(seed, &shape, &named, tolerance)?);
    contract.quantization = Some(record);
    contract.validate()?;
    graph.metadata.remove(METADATA_KEY);
    let mut file = place.write(&graph)?;
    file.as_file_mut().seek(SeekFrom::End(0)).map_err(|e| environment(output, &e))?;
    onnx::append_metadata(file.as_file_mut(), METADATA_KEY, &contract.to_json())?;
    place.publish(file, output)
}
