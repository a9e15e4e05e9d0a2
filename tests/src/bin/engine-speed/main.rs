//! Prints how fast one model runs on every engine that runs in this process, interleaved, and how far each is from the
//! first: `TAPETUM_ORT=… cargo run --release -p tapetum-tests --bin engine-speed -- MODEL [THREADS] [ROUNDS]`.
//!
//! `engine-speed serve MODEL ENGINE THREADS [BATCH] [SIZE] [own|in-turn|shared]` runs it when it is asked ([`serve`]);
//! `engine-speed peak ENGINE THREADS` prints the GFLOP/s of a matrix product.
//!
//! The model has one image input; an open batch is 1, an open height or width 256.

mod serve;

use std::path::Path;
use std::time::Instant;

use tapetum_models::peak::{cost_of_file, matmul_peak};
use tapetum_runtime::backend::{
    BACKENDS, Backend, Cores, EngineOptions, LoadOptions, ModelSource, Precision, Session, by_name,
};
use tapetum_runtime::contract::golden;
use tapetum_runtime::{Error, Result, Tensor};

use serve::Served;

struct Runner {
    engine: &'static dyn Backend,
    name: String,
    nodes: String,
    session: Box<dyn Session>,
    times: Vec<f64>,
    output: Vec<Tensor>,
}

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let usage = || {
        Error::config(
            "usage: engine-speed MODEL [THREADS] [ROUNDS] | serve MODEL ENGINE THREADS [BATCH] [SIZE] \
             [own|in-turn|shared] | peak ENGINE THREADS",
        )
    };
    let model = args.next().ok_or_else(usage)?;
    if model == "serve" {
        let (model, engine) = (args.next().ok_or_else(usage)?, args.next().ok_or_else(usage)?);
        let mut number = |otherwise| args.next().and_then(|t| t.parse().ok()).unwrap_or(otherwise);
        let (threads, batch, size) = (number(2), number(1), number(256));
        let cores = match args.next().as_deref() {
            None | Some("own") => Cores::Own,
            Some("in-turn") => Cores::InTurn,
            Some("shared") => Cores::Shared,
            Some(_) => return Err(usage()),
        };
        return Served { model: Path::new(&model), engine: &engine, threads, cores, batch, size }.serve();
    }
    if model == "peak" {
        let engine = by_name(&args.next().ok_or_else(usage)?)?;
        let threads = args.next().and_then(|t| t.parse().ok()).unwrap_or(2);
        println!("{}", matmul_peak(engine, threads, &EngineOptions::default())?);
        return Ok(());
    }
    let threads = args.next().and_then(|t| t.parse().ok()).unwrap_or(2);
    let rounds = args.next().and_then(|t| t.parse().ok()).unwrap_or(15);
    let mut runners = load(Path::new(&model), threads);
    let Some(first) = runners.first() else { return Err(Error::unsupported("no engine runs this model")) };
    let open = [1, 3, 256, 256];
    let shape = first.session.inputs().first().map(|p| p.shape.clone()).unwrap_or_default();
    let shape: Vec<usize> =
        shape.iter().zip(open).map(|(extent, otherwise)| extent.unwrap_or(otherwise)).collect();
    let input = golden::input(1, &shape);
    for round in 0..rounds + 2 {
        for runner in &mut runners {
            let start = Instant::now();
            runner.session.run_into(std::slice::from_ref(&input), &mut runner.output)?;
            // The first two runs warm up.
            if round >= 2 {
                runner.times.push(start.elapsed().as_secs_f64() * 1e3);
            }
        }
    }
    println!("{model}, input {shape:?}, {threads} threads, {rounds} interleaved rounds; milliseconds\n");
    let work = cost_of_file(Path::new(&model), std::slice::from_ref(&shape))?;
    let peak = matmul_peak(runners[0].engine, threads, &EngineOptions::default())?;
    println!(
        "{:.2} GMAC; a matrix product reaches {peak:.0} GFLOP/s on {}\n",
        work.macs as f64 / 1e9,
        runners[0].name
    );
    println!(
        "| engine | nodes | p50 / p90 | least | GFLOP/s (of the product's) | times as fast as the first | off the first |"
    );
    println!("|---|---|---|---|---|---|---|");
    let reference = runners[0].output.clone();
    let base = quantile(&mut runners[0].times, 0.5);
    for runner in &mut runners {
        let (p50, p90) = (quantile(&mut runner.times, 0.5), quantile(&mut runner.times, 0.9));
        let least = runner.times.first().copied().unwrap_or(f64::NAN);
        let off = off(&runner.output, &reference)?;
        let Runner { name, nodes, .. } = runner;
        let reached = 2.0 * work.macs as f64 / p50 / 1e6;
        println!(
            "| {name} | {nodes} | {p50:.1} / {p90:.1} | {least:.1} | {reached:.0} ({:.0} %) | {:.2}× | {off:.1e} |",
            reached / peak * 100.0,
            base / p50
        );
    }
    Ok(())
}

/// The model on every engine that runs in this process; OpenVINO in both precisions.
fn load(model: &Path, threads: usize) -> Vec<Runner> {
    let mut runners = Vec::new();
    // tract is an order of magnitude slower; the table of the README has it.
    for backend in BACKENDS.iter().filter(|b| b.name() != "tract") {
        let precisions: &[Precision] = match backend.name() {
            "ort:openvino" => &[Precision::Fp32, Precision::Bf16],
            _ => &[Precision::Fp32],
        };
        for &precision in precisions {
            let mut options =
                LoadOptions { threads: Some(threads), cores: Cores::InTurn, ..LoadOptions::default() };
            options.engines.openvino.precision = precision;
            match backend.load(ModelSource::Path(model), &options) {
                Ok(session) => {
                    let name = format!("{}/{}", backend.full_name(), session.precision().name());
                    let nodes = session.placement().iter().map(|(p, n)| format!("{n} {p}"));
                    let nodes = nodes.collect::<Vec<_>>().join(", ");
                    runners.push(Runner {
                        engine: *backend,
                        name,
                        nodes,
                        session,
                        times: Vec::new(),
                        output: Vec::new(),
                    });
                }
                Err(e) => eprintln!("not run on {}: {e}", backend.name()),
            }
        }
    }
    runners
}

fn quantile(times: &mut [f64], q: f64) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(((times.len().max(1) - 1) as f64 * q).round() as usize).copied().unwrap_or(f64::NAN)
}

/// `max|got − want| / max(1, max|want|)` over all outputs.
fn off(got: &[Tensor], want: &[Tensor]) -> Result<f32> {
    let mut worst = 0f32;
    for (got, want) in got.iter().zip(want) {
        let (got, want) = (got.f32s()?, want.f32s()?);
        let scale = want.iter().fold(1f32, |m, w| m.max(w.abs()));
        worst = got.iter().zip(want).map(|(g, w)| (g - w).abs() / scale).fold(worst, f32::max);
    }
    Ok(worst)
}
