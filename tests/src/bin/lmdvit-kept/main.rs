//! Prints the README's table of how LMD-ViT's time follows the kept windows, and draws it: the full-size network with
//! its predictors set to keep 0, 0.1, 0.25, 0.5 and all of the windows, and the same network without pruning, run in
//! turn in one process.
//!
//! `cargo run --release -p tapetum-tests --bin lmdvit-kept -- [ENGINE] [THREADS] [ROUNDS] [SIDE] [PLOT.svg]`

mod plot;
mod predictors;

use std::time::Instant;

use tapetum_models::checkpoint::StateDict;
use tapetum_models::fold::fold_all;
use tapetum_models::graph::Graph;
use tapetum_models::zoo::{FAMILIES, InputSize, Network, Weights};
use tapetum_models::{onnx, open};
use tapetum_runtime::backend::{Backend, Cores, LoadOptions, ModelSource, Session, by_name};
use tapetum_runtime::seed::Seeded;
use tapetum_runtime::{Error, ErrorKind, Result, Tensor};

const FRACTIONS: [f64; 5] = [0.0, 0.1, 0.25, 0.5, 1.0];
/// What the predictors and the convolutions between the layers may cost, as a share of everything.
const SLACK: f64 = 0.15;
/// What pruning may cost where it saves nothing.
const OVERHEAD: f64 = 1.1;

/// Times of one setting.
struct Row {
    fraction: f64,
    p50: f64,
    p99: f64,
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let arg = |at: usize| args.get(at).map(String::as_str);
    let engine = arg(0).unwrap_or("ort");
    let threads = number(arg(1), 2)?;
    let rounds = number(arg(2), 11)?;
    let side = number(arg(3), 512)?;
    let backend = by_name(engine)?;
    let engine = backend.probe()?;

    let size = InputSize::Fixed { height: side, width: side };
    let (pruned, dense) = networks(size)?;
    let mut pruned = predictors::Open::load(pruned, |graph| load(backend, graph, threads))?;
    let mut dense = load(backend, &dense, threads)?;
    // Noise everywhere: no two windows have the same score.
    let image = Tensor::new(&[1, 3, side, side], Seeded::new(1).vec(3 * side * side, 0.0, 1.0))?;
    let settings = FRACTIONS.iter().map(|&f| pruned.keep(&image, f)).collect::<Result<Vec<_>>>()?;

    let mut times = vec![Vec::new(); settings.len() + 1];
    for round in 0..=rounds {
        for (i, times) in times.iter_mut().enumerate() {
            let start = Instant::now();
            match settings.get(i) {
                Some(setting) => pruned.run(&image, setting).map(drop)?,
                None => dense.run(std::slice::from_ref(&image)).map(drop)?,
            }
            // The first round warms up.
            if round > 0 {
                times.push(start.elapsed().as_secs_f64() * 1e3);
            }
        }
    }
    times.iter_mut().for_each(|t| t.sort_by(f64::total_cmp));
    let at = |t: &[f64], q: f64| t[((t.len() - 1) as f64 * q).round() as usize];
    let rows: Vec<Row> = FRACTIONS
        .iter()
        .zip(&times)
        .map(|(&fraction, t)| Row { fraction, p50: at(t, 0.5), p99: at(t, 0.99) })
        .collect();
    let without = &times[FRACTIONS.len()];
    let without = Row { fraction: 1.0, p50: at(without, 0.5), p99: at(without, 0.99) };

    println!(
        "LMD-ViT, {side}×{side}, {engine}, {threads} threads, {rounds} interleaved rounds; milliseconds\n"
    );
    table(&rows, &without, &settings);
    println!("\nKept windows of each predictor:\n");
    for (fraction, setting) in FRACTIONS.iter().zip(&settings) {
        let kept: Vec<String> = setting.kept.iter().map(|(kept, of)| format!("{kept}/{of}")).collect();
        println!("- {fraction}: {}", kept.join(" "));
    }
    let Some(path) = arg(4) else { return Ok(()) };
    let title = format!("LMD-ViT, {side}×{side}, {engine}, {threads} threads");
    std::fs::write(path, plot::svg(&title, &rows, &without))
        .map_err(|e| Error::new(ErrorKind::Environment, format!("{path}: {e}")))
}

fn number(arg: Option<&str>, otherwise: usize) -> Result<usize> {
    arg.map_or(Ok(otherwise), |text| {
        let number = text.parse().ok().filter(|&n| n > 0);
        number.ok_or_else(|| Error::config(format!("{text:?} is not a positive number")))
    })
}

/// The full-size network with weights from a seed, folded: as it is, and without pruning.
fn networks(size: InputSize) -> Result<(Graph, Graph)> {
    let family = FAMILIES.iter().find(|f| f.name() == "lmdvit");
    let family = family.ok_or_else(|| Error::config("there is no lmdvit"))?;
    let mut weights = Weights::seeded(1);
    family.variant("released")?.build(&mut weights, size)?;
    let Weights::Seeded { made, .. } = weights else { return Err(Error::internal("weights from a seed")) };
    let build = |network: &dyn Network| -> Result<Graph> {
        let mut graph = network.build(&mut Weights::Checkpoint(StateDict::new(made.clone())), size)?;
        fold_all(&mut graph)?;
        Ok(graph)
    };
    let network = open::recognise(&StateDict::new(made.clone()), Some("lmdvit"))?;
    let without = network.without_pruning().ok_or_else(|| Error::internal("LMD-ViT prunes"))?;
    Ok((build(&*network)?, build(&*without)?))
}

fn load(backend: &dyn Backend, graph: &Graph, threads: usize) -> Result<Box<dyn Session>> {
    let mut model =
        tempfile::NamedTempFile::new().map_err(|e| Error::new(ErrorKind::Environment, e.to_string()))?;
    onnx::write(graph, model.as_file_mut())?;
    backend.load(
        ModelSource::Path(model.path()),
        &LoadOptions { threads: Some(threads), cores: Cores::InTurn, ..LoadOptions::default() },
    )
}

fn table(rows: &[Row], without: &Row, settings: &[predictors::Setting]) {
    let all = rows[rows.len() - 1].p50;
    println!("| windows kept | mean of the predictors | p50 / p99 | of all kept | allowed | holds |");
    println!("|---|---|---|---|---|---|");
    for (row, setting) in rows.iter().zip(settings) {
        let (share, bound) = (row.p50 / all, SLACK + row.fraction);
        println!(
            "| {} | {:.3} | {:.0} / {:.0} | {share:.3} | {bound:.2} | {} |",
            row.fraction,
            setting.share(),
            row.p50,
            row.p99,
            yes(share <= bound)
        );
    }
    let share = without.p50 / all;
    println!(
        "| without pruning | 1.000 | {:.0} / {:.0} | {share:.3} | – | all kept takes {:.3} × as long, {OVERHEAD} allowed: {} |",
        without.p50,
        without.p99,
        1.0 / share,
        yes(1.0 / share <= OVERHEAD)
    );
}

fn yes(holds: bool) -> &'static str {
    if holds { "yes" } else { "**no**" }
}
