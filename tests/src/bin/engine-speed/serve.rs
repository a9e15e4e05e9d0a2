//! One model on one engine, run when it is asked: the side of `tests/peers/compare_engines.py` that is ours.
//!
//! Protocol, in lines: out `ready GMAC ENGINE` (of one run; 0 if unknown), then for each line `COUNT EVERY` in the
//! milliseconds of `COUNT` runs, of which one begins every `EVERY` milliseconds (0: one after the other). The input is
//! the same ramp on every side; it is copied in and the outputs are copied out as in a pipeline.

use std::io::{BufRead, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use tapetum_models::{cost::cost, onnx};
use tapetum_runtime::backend::{Cores, LoadOptions, ModelSource, Precision, Profile, Session, by_name};
use tapetum_runtime::{Error, Result, Tensor};

/// What is run.
pub struct Served<'a> {
    pub model: &'a Path,
    /// A name with, for OpenVINO, `/bf16` behind it.
    pub engine: &'a str,
    pub threads: usize,
    pub cores: Cores,
    /// For extents that the model leaves open.
    pub batch: usize,
    pub size: usize,
}

impl Served<'_> {
    /// Serves until the input ends.
    ///
    /// # Errors
    /// The engine's, and of standard output.
    pub fn serve(&self) -> Result<()> {
        let (name, precision) = self.engine.split_once('/').unwrap_or((self.engine, "fp32"));
        let mut options = LoadOptions {
            threads: Some(self.threads),
            cores: self.cores,
            min_share: Some(0.0),
            ..LoadOptions::default()
        };
        options.engines.openvino.precision = match precision {
            "fp32" => Precision::Fp32,
            "bf16" => Precision::Bf16,
            other => return Err(Error::config(format!("precision {other:?}: fp32 or bf16"))),
        };
        let backend = by_name(name)?;
        let bytes = std::fs::read(self.model)
            .map_err(|e| Error::config(format!("{}: {e}", self.model.display())).caused_by(e))?;
        let graph = onnx::read(bytes.into()).map_err(|e| e.at(self.model.display()))?;
        let open = [self.batch, 3, self.size, self.size];
        let none = || Error::unsupported(format!("{} has no input", self.model.display()));
        let input = graph.inputs.first().ok_or_else(none)?;
        let shape: Vec<usize> =
            input.dims.iter().zip(open).map(|(dim, otherwise)| dim.fixed().unwrap_or(otherwise)).collect();
        if backend.compiles() {
            // As a pipeline, which knows what it feeds.
            options.profile = Some(Profile::new(&input.name, &shape, &shape, &shape)?);
        }
        let mut session = backend.load(ModelSource::Path(self.model), &options)?;
        let count: usize = shape.iter().product();
        let ramp = (0..count).map(|n| (n % 251) as f32 / 251.0).collect();
        let input = [Tensor::new(&shape, ramp)?];
        let mut outputs = Vec::new();
        session.run_into(&input, &mut outputs)?;
        let gmac = cost(&graph, &[shape]).macs as f64 / 1e9;
        let mut out = std::io::stdout().lock();
        let broken = |e: std::io::Error| Error::internal(format!("standard output: {e}"));
        writeln!(out, "ready {gmac} {}", backend.probe()?).and_then(|()| out.flush()).map_err(broken)?;
        for line in std::io::stdin().lock().lines().map_while(std::result::Result::ok) {
            let mut numbers = line.split_whitespace().map(|n| n.parse().unwrap_or(0));
            let (count, every) = (numbers.next().unwrap_or(1), numbers.next().unwrap_or(0));
            let times = burst(&mut *session, &input, &mut outputs, count, Duration::from_millis(every))?;
            let times: Vec<String> = times.iter().map(f64::to_string).collect();
            writeln!(out, "{}", times.join(" ")).and_then(|()| out.flush()).map_err(broken)?;
        }
        Ok(())
    }
}

/// The milliseconds of `count` runs.
fn burst(
    session: &mut dyn Session,
    input: &[Tensor],
    outputs: &mut Vec<Tensor>,
    count: u64,
    every: Duration,
) -> Result<Vec<f64>> {
    (0..count)
        .map(|_| {
            let begun = Instant::now();
            session.run_into(input, outputs)?;
            let took = begun.elapsed();
            std::thread::sleep(every.saturating_sub(took));
            Ok(took.as_secs_f64() * 1e3)
        })
        .collect()
}
