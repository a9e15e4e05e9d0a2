//! Prints the README's table of what folding saves: training form against deployed form, interleaved in one run.
//!
//! `cargo run --release -p tapetum-tests --bin fold-speedup -- [ENGINE] [THREADS] [ROUNDS]`

use std::time::Instant;

use tapetum_models::fuse::{FuseOptions, fuse};
use tapetum_models::zoo::{self, InputSize, Weights};
use tapetum_models::{checkpoint, onnx, open};
use tapetum_runtime::backend::{Cores, LoadOptions, ModelSource, Session, by_name};
use tapetum_runtime::contract::golden;

const NETS: &[(&str, &str, usize, usize)] =
    &[("deanet", "dim32", 256, 256), ("mobileone", "s0", 224, 224), ("tfnet", "s0", 512, 512)];

fn main() -> tapetum_runtime::Result<()> {
    let mut args = std::env::args().skip(1);
    let engine = args.next().unwrap_or_else(|| "ort".into());
    let threads = args.next().and_then(|t| t.parse().ok()).unwrap_or(2);
    let rounds = args.next().and_then(|t| t.parse().ok()).unwrap_or(15);
    let backend = by_name(&engine)?;
    println!("{}, {threads} threads, {rounds} interleaved rounds; milliseconds\n", backend.probe()?);
    println!(
        "| network, input | training form p50 / p99 | deployed p50 / p99 | speed-up (p50) |\n|---|---|---|---|"
    );
    for &(network, variant, height, width) in NETS {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (weights, training, deployed) =
            (folder.path().join("w.safetensors"), folder.path().join("t.onnx"), folder.path().join("d.onnx"));
        make(network, variant, &weights)?;
        let size = Some(InputSize::Fixed { height, width });
        let options = FuseOptions { size, backend: Some(engine.clone()), ..FuseOptions::default() };
        fuse(&weights, &deployed, &options, &mut |_| {})?;
        let graph = open::open(&weights, &options)?.graph;
        onnx::write(&graph, &mut std::fs::File::create(&training).expect("a file"))?;
        let load = |path| {
            backend.load(
                ModelSource::Path(path),
                &LoadOptions { threads: Some(threads), cores: Cores::InTurn, ..LoadOptions::default() },
            )
        };
        let mut sessions = [load(&training)?, load(&deployed)?];
        let input = golden::input(1, &[1, 3, height, width]);
        let mut times = [Vec::new(), Vec::new()];
        for round in 0..rounds + 2 {
            for (session, times) in sessions.iter_mut().zip(&mut times) {
                let ms = run(&mut **session, &input)?;
                if round >= 2 {
                    times.push(ms);
                }
            }
        }
        times.iter_mut().for_each(|t| t.sort_by(f64::total_cmp));
        let at = |t: &[f64], q: f64| t[((t.len() - 1) as f64 * q).round() as usize];
        println!(
            "| {network} {variant}, {height}×{width} | {:.1} / {:.1} | {:.1} / {:.1} | {:.2}× |",
            at(&times[0], 0.5),
            at(&times[0], 0.99),
            at(&times[1], 0.5),
            at(&times[1], 0.99),
            at(&times[0], 0.5) / at(&times[1], 0.5)
        );
    }
    Ok(())
}

fn run(session: &mut dyn Session, input: &tapetum_runtime::Tensor) -> tapetum_runtime::Result<f64> {
    let start = Instant::now();
    session.run(std::slice::from_ref(input))?;
    Ok(start.elapsed().as_secs_f64() * 1e3)
}

fn make(network: &str, variant: &str, path: &std::path::Path) -> tapetum_runtime::Result<()> {
    let family = zoo::FAMILIES.iter().find(|f| f.name() == network).expect("a known network");
    let network = family.variant(variant)?;
    let mut weights = Weights::seeded(1);
    network.build(&mut weights, network.default_size())?;
    let Weights::Seeded { made, .. } = weights else { return Ok(()) };
    checkpoint::write_safetensors(path, &made, &Default::default())
}
