//! What an engine reaches at best here: a large matrix product in fp32, the yardstick for everything else (the roof of a
//! roofline).

use std::path::Path;
use std::time::Instant;

use tapetum_runtime::backend::{Backend, Cores, LoadOptions, ModelSource};
use tapetum_runtime::seed::Seeded;
use tapetum_runtime::{Error, ErrorKind, Result, Tensor};

use crate::cost::{Cost, cost};
use crate::graph::{Builder, Dim};
use crate::onnx;

/// Rows and columns of both factors, with the runs of each. Which is fastest is the processor's affair: the largest no
/// longer fits its caches and its result has to be copied, the smallest ends before all threads are awake.
const SIZES: [(usize, usize); 3] = [(512, 100), (1024, 30), (2048, 7)];

/// GFLOP/s (a multiply-accumulate is two) of a matrix product in fp32 on `engine` with `threads`: the best of square ones of
/// 512, 1024 and 2048, of each the best of some runs, because whatever else runs on the machine only makes it longer.
///
/// # Errors
/// The engine's.
pub fn matmul_peak(engine: &dyn Backend, threads: usize) -> Result<f64> {
    SIZES
        .iter()
        .try_fold(0.0, |best: f64, (size, runs)| Ok(best.max(product(engine, threads, *size, *runs)?)))
}

fn product(engine: &dyn Backend, threads: usize, size: usize, runs: usize) -> Result<f64> {
    let mut random = Seeded::new(1);
    let mut matrix = || Tensor::new(&[size, size], random.vec(size * size, -1.0, 1.0));
    let mut b = Builder::new("matmul");
    let square = vec![Dim::Fixed(size); 2];
    let x = b.input("x", square.clone());
    let w = b.param("w", matrix()?);
    let y = b.binary("MatMul", "y", &x, &w);
    b.output("y", &y, square);
    let mut bytes = Vec::new();
    onnx::write(&b.finish()?, &mut bytes)?;
    let options = LoadOptions {
        threads: Some(threads),
        cores: Cores::InTurn,
        shapes: Some(vec![vec![size, size]]),
        min_share: Some(0.0),
        ..LoadOptions::default()
    };
    let mut session = engine.load(ModelSource::Bytes(&bytes), &options)?;
    let (input, mut output) = ([matrix()?], Vec::new());
    let mut least = f64::INFINITY;
    for _ in 0..runs {
        let start = Instant::now();
        session.run_into(&input, &mut output)?;
        least = least.min(start.elapsed().as_secs_f64());
    }
    Ok(2.0 * (size as f64).powi(3) / least / 1e9)
}

/// What the model in `file` computes on inputs of exactly these shapes.
///
/// # Errors
/// [`ErrorKind::Environment`] if it cannot be read, [`ErrorKind::BadFile`] if it is no sound model.
pub fn cost_of_file(file: &Path, inputs: &[Vec<usize>]) -> Result<Cost> {
    let bytes = std::fs::read(file)
        .map_err(|e| Error::new(ErrorKind::Environment, format!("{}: {e}", file.display())).caused_by(e))?;
    Ok(cost(&onnx::read(bytes.into()).map_err(|e| e.at(file.display()))?, inputs))
}
