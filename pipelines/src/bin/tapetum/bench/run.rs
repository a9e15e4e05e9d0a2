//! One configuration, as it would run: percentiles per stage and end to end.

use serde_json::json;
use tapetum::assemble::Pipeline;
use tapetum::config::PipelineFile;
use tapetum::executor::Outcome;
use tapetum::{Fate, Item, Restorations, Summary, source};
use tapetum_runtime::Result;
use tapetum_runtime::latency::Histogram;
use tapetum_runtime::quality::Flicker;

use super::Args;
use crate::{outcome, play, print_json, table};

/// Pixels that change by at most this from frame to frame count as static, in 8-bit steps: the noise of a camera.
const STATIC: u8 = 6;

/// Nothing is written: what is measured is source, stages and executor.
pub fn run(args: &Args, file: &PipelineFile) -> Result<()> {
    let info = source::open(&args.source)?.info().clone();
    let pipeline = play::load(file, &args.engine.options(), &info, args.json)?;
    if !args.json {
        print!("{}", play::describe(&pipeline, &info));
    }
    let mut runs: Vec<Summary> = Vec::new();
    let mut flicker = Flicker::new(STATIC);
    for n in 0..=args.runs {
        let source = source::open(&args.source)?;
        // Looking for flicker takes time, so it is done in the run that is not measured.
        let looks = n == 0 && file.stages.iter().any(|s| s.kind.name == "restore");
        let mut see = |item: &Item| {
            if looks && item.fate == Fate::Ok {
                // Another size than the frame's is no restoration that could flicker.
                flicker.frame(&item.frame.image, item.image_for(item.slots.len())).ok();
            }
        };
        let played: Outcome = play::play_watched(&pipeline, source, Vec::new(), args.json, &mut see)?;
        outcome::verdict(&played, played.summary.frames.delivered)?;
        if played.summary.interrupted {
            break;
        }
        // The first run warms caches, allocators and the processor.
        if n > 0 {
            runs.push(played.summary);
        }
    }
    let mut rates: Vec<f64> = runs.iter().map(rate).collect();
    rates.sort_by(f64::total_cmp);
    let merged = |pick: &dyn Fn(&Summary) -> &Histogram| {
        let mut all = Histogram::default();
        runs.iter().for_each(|run| all.merge(pick(run)));
        all
    };
    let stages: Vec<(String, Histogram)> = pipeline
        .info
        .stages
        .iter()
        .enumerate()
        .map(|(at, stage)| (stage.name.clone(), merged(&|run| &run.stages[at])))
        .chain([("arrival to delivery".to_owned(), merged(&|run| &run.end_to_end))])
        .collect();
    let share = executor_share(&runs);
    if args.json {
        let ms = |d: Option<std::time::Duration>| d.map(|d| d.as_secs_f64() * 1e3);
        let stages: serde_json::Map<_, _> = stages
            .iter()
            .map(|(name, h)| {
                let q = |q| ms(h.quantile(q));
                (
                    name.clone(),
                    json!({"runs": h.count(), "p50_ms": q(0.5), "p90_ms": q(0.9), "p99_ms": q(0.99),
                    "max_ms": ms(Some(h.max()))}),
                )
            })
            .collect();
        return print_json(&json!({
            "fps": rates,
            "models": models_json(&pipeline),
            "stages": stages,
            "executor_cpu_share": share,
            "restored": restored_json(&pipeline, &runs),
            "flicker": flicker.report().map(|f| json!({
                "static_threshold": STATIC, "frames": f.frames, "static_fraction": f.static_fraction,
                "before": f.before, "after": f.after,
            })),
        }));
    }
    println!("\nms, all {} runs together", runs.len());
    let mut rows = vec![["stage", "runs", "p50", "p90", "p99", "max"].map(str::to_owned).to_vec()];
    rows.extend(stages.iter().map(|(name, histogram)| outcome::times(name, histogram)));
    print!("{}", table::render(&rows, &[1, 2, 3, 4, 5]));
    if let (Some(least), Some(most)) = (rates.first(), rates.last()) {
        let median = rates[rates.len() / 2];
        println!("\nframes/s per run: median {median:.1}, from {least:.1} to {most:.1}");
    }
    for (stage, done) in restorations(&pipeline, &runs) {
        println!("{stage}: {}", outcome::spared(done));
    }
    if let Some(f) = flicker.report() {
        println!(
            "flicker where nothing moves ({:.0} % of the picture, by at most {STATIC} steps): {:.2} steps from frame to \
             frame in, {:.2} out",
            f.static_fraction * 100.0,
            f.before,
            f.after
        );
    }
    if let Some(share) = share {
        println!("CPU time of the executor itself (queues, bookkeeping): {:.2} %", share * 100.0);
    }
    Ok(())
}

/// What the stages that restore did, by name, in the last run: each does the same.
fn restorations<'p>(
    pipeline: &'p Pipeline<'_>,
    runs: &[Summary],
) -> impl Iterator<Item = (&'p str, Restorations)> {
    let last = runs.last().map(|run| run.restored.clone()).unwrap_or_default();
    let names = pipeline.info.stages.iter().map(|s| s.name.as_str());
    names.zip(last).filter(|(_, done)| done.frames > 0)
}

/// What runs each stage's model, and where its nodes are.
fn models_json(pipeline: &Pipeline<'_>) -> serde_json::Value {
    let with_model = pipeline.info.stages.iter().filter_map(|s| Some((s, s.model.as_ref()?)));
    let one = |(stage, model): (&tapetum::StageInfo, &tapetum::ModelInfo)| {
        let nodes: serde_json::Map<_, _> = model.nodes.iter().map(|(p, n)| (p.clone(), json!(n))).collect();
        let facts = json!({"engine": model.engine, "engine_version": model.engine_version, "nodes": nodes});
        (stage.name.clone(), facts)
    };
    with_model.map(one).collect::<serde_json::Map<_, _>>().into()
}

fn restored_json(pipeline: &Pipeline<'_>, runs: &[Summary]) -> serde_json::Value {
    let one = |(name, done): (&str, Restorations)| (name.to_owned(), outcome::restored_json(done));
    restorations(pipeline, runs).map(one).collect::<serde_json::Map<_, _>>().into()
}

fn rate(run: &Summary) -> f64 {
    run.frames.delivered as f64 / run.elapsed.as_secs_f64().max(1e-9)
}

/// What part of the CPU time went into the executor instead of decoding, preprocessing and inference.
fn executor_share(runs: &[Summary]) -> Option<f64> {
    let all: f64 = runs.iter().map(|r| r.cpu.process.as_secs_f64()).sum();
    let own: f64 = runs.iter().map(|r| r.cpu.executor.as_secs_f64()).sum();
    (all > 0.0).then_some(own / all)
}
