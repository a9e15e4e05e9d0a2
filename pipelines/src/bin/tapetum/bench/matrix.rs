//! Engines × precisions × threads on the user's pipeline and frames.

use tapetum::assemble::Options;
use tapetum::config::{Choice, PipelineFile, PrecisionChoice};
use tapetum::matrix::{self, Matrix, ModelRows, Row};
use tapetum::tune::Extent;
use tapetum_runtime::{Error, Result};

use super::Args;
use crate::progress::Spinner;
use crate::{play, print_json, table, tune};

pub fn run(args: &Args, file: &PipelineFile, engines: &str) -> Result<()> {
    let own = &args.matrix;
    let engine = match engines.trim() {
        "all" => Choice::Auto,
        list => play::parse_choice(list).map_err(Error::config)?,
    };
    let options =
        Options { engine: Some(engine), precision: Some(PrecisionChoice::Fp32), ..args.engine.options() };
    let stop = play::stop_flag()?;
    let mut threads: Vec<usize> = own.thread_counts.iter().map(|n| usize::from(*n)).collect();
    threads.sort_unstable();
    threads.dedup();
    let (recorded, source, live) = tune::record(file, &options, &args.source, own.samples.into(), args.json)?;
    let spinner = Spinner::new(args.json);
    let extent = Extent {
        rounds: own.rounds.into(),
        precisions: Some(&own.precisions[..]).filter(|list| !list.is_empty()),
        threads: &threads,
        stop,
    };
    let mut say = |step: tapetum::tune::Step<'_>| tune::show(&spinner, step);
    let mut measured = matrix::measure(file, &options, &source, live, &recorded, &extent, &mut say)?;
    spinner.say("the whole pipeline");
    let mut say = |step: tapetum::assemble::Progress<'_>| play::show(&spinner, step);
    matrix::rates(&mut measured, file, &options, &args.source, args.runs.into(), stop, &mut say)?;
    spinner.done();
    let written = own.out.as_ref().map(|folder| matrix::write(&measured, folder)).transpose()?;
    if args.json {
        let told = serde_json::to_value(&measured)
            .map_err(|e| Error::internal(format!("the figures are not JSON: {e}")))?;
        return print_json(&told);
    }
    print(&measured);
    written.iter().flatten().for_each(|path| println!("wrote {}", path.display()));
    Ok(())
}

fn print(measured: &Matrix) {
    let m = &measured.machine;
    println!("{} on {} ({} cores)", measured.pipeline, m.cpu, m.cores);
    println!("reference: fp32 on {}", measured.reference);
    tune::print_engines(&measured.engines);
    for model in &measured.models {
        print_model(model);
    }
    println!("\npeak: a matrix product in fp32, GFLOP/s");
    let peaks: Vec<Vec<String>> = measured
        .peaks
        .iter()
        .map(|p| {
            let told = p.why_not.clone().unwrap_or_else(|| number(p.gflops, 1));
            vec![p.engine.clone(), format!("{} threads", p.threads), told]
        })
        .collect();
    print!("{}", table::render(&peaks, &[1, 2]));
    println!("\nthe whole pipeline in fp32");
    let mut rows =
        vec![["engine", "threads", "at once", "frames/s", "least–most"].map(str::to_owned).to_vec()];
    rows.extend(measured.rates.iter().map(|rate| {
        let least = rate.fps.iter().copied().reduce(f64::min);
        let most = rate.fps.iter().copied().reduce(f64::max);
        let range = format!("{}–{}", number(least, 1), number(most, 1));
        let range = rate.why_not.as_deref().and_then(|why| why.lines().next()).map_or(range, str::to_owned);
        let (threads, workers) = (rate.threads.to_string(), rate.workers.to_string());
        vec![rate.engine.clone(), threads, workers, number(rate.median(), 1), range]
    }));
    print!("{}", table::render(&rows, &[1, 2, 3]));
}

fn print_model(model: &ModelRows) {
    let runs = table::thousands(model.runs);
    let macs =
        model.macs.map(|macs| format!("; {} multiply-accumulates", table::macs(macs))).unwrap_or_default();
    println!("\n{}: ran {runs} times; judged and timed on {} inputs{macs}", model.name, model.judged);
    let head =
        ["", "engine", "precision", "threads", "p50 ms", "p90", "p99", "max", "memory", "GFLOP/s", "of peak"];
    let mut rows = vec![head.into_iter().chain(["beside fp32"]).map(str::to_owned).collect()];
    rows.extend(model.rows.iter().map(|one| row(one, model.gate)));
    print!("{}", table::render(&rows, &[3, 4, 5, 6, 7, 8, 9, 10]));
}

fn row(row: &Row, gate: Option<f64>) -> Vec<String> {
    let c = &row.candidate;
    let ms = |value| number(value, 2);
    vec![
        if c.passed { "✓" } else { "✗" }.to_owned(),
        c.engine.clone(),
        c.precision.clone(),
        row.threads.to_string(),
        ms(c.ms_median),
        ms(c.ms_p90),
        ms(c.ms_p99),
        ms(c.ms_max),
        c.memory_bytes.map_or("–".to_owned(), table::bytes),
        number(row.gflops, 1),
        row.peak_share.map_or("–".to_owned(), |share| format!("{:.0} %", share * 100.0)),
        tune::beside(c, gate),
    ]
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or("–".to_owned(), |value| format!("{value:.digits$}"))
}
