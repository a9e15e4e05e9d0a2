//! What `run`, `demo` and `bench` share: loading a pipeline with signs of life, running it, telling the outcome.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args as ClapArgs;
use indicatif::{ProgressBar, ProgressStyle};
use tapetum::assemble::{self, Options, Pipeline, Progress};
use tapetum::config::{Choice, ModelChange, PipelineFile, PrecisionChoice};
use tapetum::engine_cache::{Event, Origin};
use tapetum::executor::{self, Outcome, Run};
use tapetum::flow::Policy;
use tapetum::source::{Source, SourceInfo};
use tapetum::{Decision, Item, SlotState, sink};
use tapetum_models::fuse::Step;
use tapetum_runtime::clock::Monotonic;
use tapetum_runtime::{Error, Result, backend};

use crate::progress::Spinner;

/// Which pipeline, for everything that runs one.
#[derive(ClapArgs)]
pub struct PipelineArgs {
    /// The pipeline file.
    pipeline: PathBuf,
    /// Another file for one of its models; may be given several times.
    #[arg(long = "model", value_name = "NAME=FILE", value_parser = parse_model)]
    models: Vec<ModelChange>,
}

impl PipelineArgs {
    /// Reads and checks it.
    pub fn read(&self) -> Result<PipelineFile> {
        PipelineFile::read_with(&self.pipeline, &self.models)
    }
}

/// Flags of everything that runs a pipeline.
#[derive(ClapArgs, Clone)]
pub struct EngineArgs {
    /// Engine: exactly this one; several with commas: the first that can run the pipeline; auto: the one that `tapetum tune`
    /// found to need the least time.
    #[arg(long, value_name = "ENGINE[,ENGINE…]", value_parser = parse_choice)]
    pub engine: Option<Choice>,
    /// Precision: fp32; or auto: per model the fastest that passes its gate, as `tapetum tune` found.
    #[arg(long, value_name = "PRECISION", value_parser = parse_precision)]
    pub precision: Option<PrecisionChoice>,
    /// Frames worked on at once.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: Option<u16>,
    /// Threads inside each run of a model.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
    /// When frames come faster than they are worked on: block (wait, lose nothing) or latest (drop the oldest).
    #[arg(long, value_name = "POLICY", value_parser = parse_policy)]
    queue: Option<Policy>,
}

pub fn parse_choice(text: &str) -> Result<Choice, String> {
    if text.trim() == "auto" {
        return Ok(Choice::Auto);
    }
    let names: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
    for name in &names {
        backend::by_name(name).map_err(|e| e.to_string())?;
    }
    Ok(match names.as_slice() {
        [only] => Choice::Exactly(only.clone()),
        _ => Choice::FirstOf(names),
    })
}

fn parse_precision(text: &str) -> Result<PrecisionChoice, String> {
    let known = PrecisionChoice::WORDS.iter().find(|(word, _)| *word == text).map(|(_, choice)| *choice);
    known.ok_or_else(|| format!("{text:?} is neither fp32 nor auto"))
}

/// Reads `NAME=FILE`.
pub fn parse_model(text: &str) -> Result<ModelChange, String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => {
            Ok(ModelChange { name: name.to_owned(), path: path.into() })
        }
        _ => Err(format!("{text:?} is not NAME=FILE")),
    }
}

fn parse_policy(text: &str) -> Result<Policy, String> {
    match text {
        "block" => Ok(Policy::Block),
        "latest" => Ok(Policy::Latest),
        _ => Err(format!("{text:?} is neither block nor latest")),
    }
}

impl EngineArgs {
    /// As the library takes them.
    pub fn options(&self) -> Options {
        Options {
            engine: self.engine.clone(),
            precision: self.precision,
            workers: self.workers.map(usize::from),
            threads: self.threads.map(usize::from),
            queue: self.queue,
            cache: None,
            usual: None,
            recorders: Vec::new(),
            hub: None,
        }
    }
}

/// Loads `file`'s models, saying what is being done.
pub fn load<'f>(
    file: &'f PipelineFile,
    options: &Options,
    source: &SourceInfo,
    quiet: bool,
) -> Result<Pipeline<'f>> {
    let spinner = Spinner::new(quiet);
    let mut tell = |step: Progress<'_>| show(&spinner, step);
    let pipeline = assemble::assemble(file, options, &source.name, source.live, &mut tell)?;
    spinner.done();
    Ok(pipeline)
}

/// Says what is being done while models are fused, built and loaded.
pub fn show(spinner: &Spinner, step: Progress<'_>) {
    let of = |model: &str| if model.is_empty() { String::new() } else { format!("{model}: ") };
    match step {
        Progress::Fusing(model, step) => spinner.say(match step {
            Step::Reading(_) => format!("{model}: reading the checkpoint"),
            Step::Found(d) => format!("{model}: folding {} {}", d.network, d.variant),
            Step::Folded(report) => format!("{model}: {} folds; writing", report.applied.len()),
            Step::Proving(done, of) => format!("{model}: proving, run {} of {of}", (done + 1).min(of)),
            Step::Written(_) => format!("{model}: written"),
        }),
        Progress::Fused(model, fused) => spinner.keep(format!(
            "{model}: {} {} fused, {} → {} parameters, proven equal to {:.0e}",
            fused.description.network,
            fused.description.variant,
            crate::table::thousands(fused.parameters_before),
            crate::table::thousands(fused.parameters_after),
            fused.contract.proof.as_ref().map_or(0.0, |p| p.max_rel),
        )),
        Progress::Loading(model, engine) => spinner.say(format!("{model}: loading on {engine}")),
        Progress::Engine(model, engine, Event::Waiting) => {
            spinner.say(format!("{model}: another process builds it for {engine}; waiting"));
        }
        Progress::Engine(model, engine, Event::Building(estimate)) => {
            spinner.takes(format!("{model}: building for {engine}"), estimate);
        }
        Progress::Engine(model, _, Event::Said(what)) => spinner.keep(format!("{}{what}", of(model))),
    }
}

/// What the pipeline runs on, in a few lines.
pub fn describe(pipeline: &Pipeline<'_>, source: &SourceInfo) -> String {
    let mut out = format!("{} on {}", pipeline.info.pipeline, source.name);
    if let Some((w, h)) = source.size {
        out.push_str(&format!(", {w}×{h}"));
    }
    if let Some(interval) = source.interval.filter(|i| !i.is_zero()) {
        out.push_str(&format!(", {:.4} frames/s", 1.0 / interval.as_secs_f64()).replace(".0000", ""));
    }
    if let Some(frames) = source.frames {
        out.push_str(&format!(", {frames} frames"));
    }
    out.push('\n');
    if let Some(model) = pipeline.info.stages.iter().find_map(|s| s.model.as_ref()) {
        let plan = pipeline.plan;
        let threads = if plan.threads == 1 { "thread" } else { "threads" };
        out.push_str(&format!(
            "engine {} ({}), {} frames at once, {} {threads} each\n",
            model.engine, model.engine_version, plan.workers, plan.threads
        ));
        let models = || pipeline.info.stages.iter().filter_map(|s| Some((s, s.model.as_ref()?)));
        let mixed = models().any(|(_, other)| other.engine != model.engine);
        for (stage, model) in models() {
            let engine = if mixed { format!("{}, ", model.engine) } else { String::new() };
            let origin = match model.origin {
                Origin::Unkept => String::new(),
                Origin::Built { seconds, .. } => format!(", built in {seconds:.1} s and kept"),
                Origin::Found { .. } => ", from cache".to_owned(),
            };
            out.push_str(&format!("  {}: {engine}{}{origin}\n", stage.name, model.nodes_shown()));
            if let Some(Decision { tuned: Some(_), why, .. }) = &model.decision {
                out.push_str(&format!("    {why}\n"));
            }
        }
        match &model.decision {
            Some(Decision { tuned: Some(date), .. }) => {
                out.push_str(&format!("chosen by the tuning of {date}\n"))
            }
            Some(Decision { tuned: None, why, .. }) => out.push_str(&format!("untuned: {why}\n")),
            None => {}
        }
        for p in &model.passed_over {
            out.push_str(&format!("passed over {}: {}\n", p.engine, p.why));
        }
    }
    out
}

/// Runs `pipeline` on `source` until it is over or Ctrl-C is pressed.
pub fn play(
    pipeline: &Pipeline<'_>,
    source: Box<dyn Source>,
    sinks: Vec<Box<dyn sink::Sink>>,
    quiet: bool,
) -> Result<Outcome> {
    play_watched(pipeline, source, sinks, quiet, &mut |_| {})
}

/// As [`play`]; `see` is shown every frame that comes through.
pub fn play_watched(
    pipeline: &Pipeline<'_>,
    source: Box<dyn Source>,
    sinks: Vec<Box<dyn sink::Sink>>,
    quiet: bool,
    see: &mut dyn FnMut(&Item),
) -> Result<Outcome> {
    let clock = Monotonic::start();
    let bar = bar(source.info(), quiet);
    let mut meter = Meter::new(pipeline, &bar);
    let outcome = executor::run(
        pipeline,
        Run {
            source,
            sinks,
            clock: &clock,
            stop: stop_flag()?,
            watch: &mut |item, counts| {
                tell_engines(item, pipeline, &bar);
                meter.see(item, counts.captured);
                see(item);
            },
        },
    );
    bar.finish_and_clear();
    Ok(outcome)
}

/// Says at once what was done about an engine: it may change what the results are worth.
fn tell_engines(item: &Item, pipeline: &Pipeline<'_>, bar: &ProgressBar) {
    for event in &item.engine_events {
        let stage = pipeline.info.stages.get(event.stage).map_or("", |stage| &stage.name);
        // Above the bar, and not lost where there is none.
        bar.suspend(|| eprintln!("{stage}: {event}"));
    }
}

/// Set by Ctrl-C; a second one ends the program at once.
pub fn stop_flag() -> Result<&'static AtomicBool> {
    static STOP: AtomicBool = AtomicBool::new(false);
    static HANDLER: std::sync::OnceLock<Result<(), String>> = std::sync::OnceLock::new();
    let set = HANDLER.get_or_init(|| {
        let handler = || {
            if STOP.swap(true, Ordering::SeqCst) {
                std::process::exit(130);
            }
        };
        ctrlc::set_handler(handler).map_err(|e| e.to_string())
    });
    match set {
        Ok(()) => Ok(&STOP),
        Err(e) => Err(Error::internal(format!("Ctrl-C cannot be handled: {e}"))),
    }
}

fn bar(source: &SourceInfo, quiet: bool) -> ProgressBar {
    if quiet {
        return ProgressBar::hidden();
    }
    let (bar, template) = match source.frames {
        Some(frames) => (ProgressBar::new(frames), "{bar:28} {pos}/{len} frames  {msg}"),
        None => (ProgressBar::new_spinner(), "{spinner} {pos} frames  {msg}"),
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

/// Frames per second and stage times while it runs: on a terminal several times a second, else a line now and then.
struct Meter<'m> {
    bar: &'m ProgressBar,
    names: Vec<&'m str>,
    started: Instant,
    shown: Instant,
    /// Frames since it was last shown.
    frames: u64,
    total: u64,
    /// Time and runs per stage since then.
    stages: Vec<(Duration, u32)>,
    every: Duration,
}

impl<'m> Meter<'m> {
    fn new(pipeline: &'m Pipeline<'_>, bar: &'m ProgressBar) -> Self {
        let names: Vec<&str> = pipeline.info.stages.iter().map(|s| s.name.as_str()).collect();
        let terminal = std::io::stderr().is_terminal();
        Self {
            bar,
            stages: vec![(Duration::ZERO, 0); names.len()],
            names,
            started: Instant::now(),
            shown: Instant::now(),
            frames: 0,
            total: 0,
            every: if terminal { Duration::from_millis(500) } else { Duration::from_secs(10) },
        }
    }

    fn see(&mut self, item: &Item, captured: u64) {
        self.frames += 1;
        self.total += 1;
        self.bar.set_position(captured.min(self.bar.length().unwrap_or(captured)));
        for (slot, (time, runs)) in item.slots.iter().zip(&mut self.stages) {
            if slot.state == SlotState::Done {
                *time += slot.took;
                *runs += 1;
            }
        }
        let since = self.shown.elapsed();
        if since >= self.every {
            let message = self.message(since);
            if !std::io::stderr().is_terminal() && !self.bar.is_hidden() {
                eprintln!("{:4.0} s  {} frames  {message}", self.started.elapsed().as_secs_f64(), self.total);
            }
            self.bar.set_message(message);
            self.shown = Instant::now();
            self.frames = 0;
            self.stages.fill((Duration::ZERO, 0));
        }
    }

    fn message(&self, since: Duration) -> String {
        let mut message = format!("{:.1} fps", self.frames as f64 / since.as_secs_f64());
        for (name, (time, runs)) in self.names.iter().zip(&self.stages).filter(|(_, (_, runs))| *runs > 0) {
            let ms = time.as_secs_f64() * 1e3 / f64::from(*runs);
            if ms >= 0.05 {
                message.push_str(&format!("  {name} {ms:.1} ms"));
            }
        }
        message
    }
}

/// Makes the sinks called `names` below `out`, which is created.
pub fn sinks(names: &[String], out: &Path, pipeline: &mut Pipeline<'_>) -> Result<Vec<Box<dyn sink::Sink>>> {
    std::fs::create_dir_all(out).map_err(|e| Error::config(format!("{}: {e}", out.display())))?;
    let known = |name: &String| sink::SINKS.iter().find(|kind| kind.name == name).map(|kind| kind.name);
    pipeline.info.sinks = names.iter().filter_map(known).collect();
    names.iter().map(|name| sink::open(name, out, &pipeline.info)).collect()
}

/// Where something was written, for people.
pub fn written(out: &Path) -> Vec<PathBuf> {
    let names = ["results.jsonl", "summary.json", "report.html", "overlay.avi", "masks", "restored"];
    names.iter().map(|name| out.join(name)).filter(|path| path.exists()).collect()
}
