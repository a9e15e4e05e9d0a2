//! One model on one engine, run once for every line that comes in: the side of `tests/peers/compare_engines.py` that is
//! ours.
//!
//! Protocol, in lines: out `ready ENGINE`, then for each line in the milliseconds of one run. The input is the same
//! ramp on every side; it is copied in and the outputs are copied out as in a pipeline.

use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Instant;

use tapetum_runtime::backend::{LoadOptions, ModelSource, Precision, by_name};
use tapetum_runtime::{Error, Result, Tensor};

/// Serves until the input ends. `engine` is a name with, for OpenVINO, `/bf16` behind it.
pub fn serve(model: &Path, engine: &str, threads: usize, batch: usize, size: usize) -> Result<()> {
    let (name, precision) = engine.split_once('/').unwrap_or((engine, "fp32"));
    let mut options = LoadOptions { threads: Some(threads), min_share: Some(0.0), ..LoadOptions::default() };
    options.engines.openvino.precision = match precision {
        "fp32" => Precision::Fp32,
        "bf16" => Precision::Bf16,
        other => return Err(Error::config(format!("precision {other:?}: fp32 or bf16"))),
    };
    let backend = by_name(name)?;
    let mut session = backend.load(ModelSource::Path(model), &options)?;
    let open = [batch, 3, size, size];
    let ports = session.inputs();
    let shape: Vec<usize> = ports
        .first()
        .map(|p| p.shape.iter().zip(open).map(|(extent, otherwise)| extent.unwrap_or(otherwise)).collect())
        .unwrap_or_default();
    let count: usize = shape.iter().product();
    let ramp = (0..count).map(|n| (n % 251) as f32 / 251.0).collect();
    let input = [Tensor::new(&shape, ramp)?];
    let mut outputs = Vec::new();
    session.run_into(&input, &mut outputs)?;
    let mut out = std::io::stdout().lock();
    let broken = |e: std::io::Error| Error::internal(format!("standard output: {e}"));
    writeln!(out, "ready {}", backend.probe()?).and_then(|()| out.flush()).map_err(broken)?;
    for line in std::io::stdin().lock().lines() {
        if line.is_err() {
            break;
        }
        let start = Instant::now();
        session.run_into(&input, &mut outputs)?;
        let ms = start.elapsed().as_secs_f64() * 1e3;
        writeln!(out, "{ms}").and_then(|()| out.flush()).map_err(broken)?;
    }
    Ok(())
}
