//! What an engine reaches at best here: a large matrix product in fp32, the yardstick for everything else (the roof of a
//! roofline).

use std::path::Path;
use std::time::Instant;

use tapetum_runtime::backend::options::TensorRt;
use tapetum_runtime::backend::{Backend, Cores, EngineOptions, LoadOptions, ModelSource, Precision};
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
/// `engines`: what the models beside it are told, for example the device.
///
/// # Errors
/// The engine's.
pub fn matmul_peak(engine: &dyn Backend, threads: usize, engines: &EngineOptions) -> Result<f64> {
    let options = LoadOptions {
        threads: Some(threads),
        cores: Cores::InTurn,
        min_share: Some(0.0),
        engines: of_the_product(engines),
        ..LoadOptions::default()
    };
    SIZES
        .iter()
        .try_fold(0.0, |best: f64, (size, runs)| Ok(best.max(product(engine, &options, *size, *runs)?)))
}

/// `engines` for the product: fp32, as many threads as are asked for, and nothing kept, which are the models' affair.
fn of_the_product(engines: &EngineOptions) -> EngineOptions {
    let mut own = engines.clone();
    own.compute_in(Precision::Fp32);
    (own.openvino.threads, own.openvino.cache) = (None, None);
    let TensorRt { engine_cache, timing_cache, context_models, calibration, .. } = &mut own.tensorrt;
    (*engine_cache, *timing_cache, *context_models, *calibration) = (None, None, None, None);
    own
}

fn product(engine: &dyn Backend, options: &LoadOptions, size: usize, runs: usize) -> Result<f64> {
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
    let options = LoadOptions { shapes: Some(vec![vec![size, size]]), ..options.clone() };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_product_runs_where_the_models_do_in_fp32_on_the_threads_asked_for() {
        let mut engines = EngineOptions::default();
        engines.openvino.device = "GPU.1".into();
        engines.cuda.device = 1;
        engines.tensorrt.workspace_mib = Some(64);
        let plain = engines.clone();
        engines.compute_in(Precision::Fp16);
        engines.openvino.threads = Some(7);
        engines.openvino.cache = Some("/own".into());
        engines.tensorrt.engine_cache = Some("/own".into());
        engines.tensorrt.timing_cache = Some("/own".into());
        engines.tensorrt.context_models = Some("/own".into());
        engines.tensorrt.calibration = Some("table".into());
        assert_eq!(of_the_product(&engines), plain);
    }
}
