//! `tapetum quantize`

use std::path::{Path, PathBuf};

use clap::{Args as ClapArgs, ValueEnum};
use serde_json::json;
use tapetum::calibrate::{self, Recorded};
use tapetum::config::PipelineFile;
use tapetum::{assemble::Options, prepare, source};
use tapetum_models::quantize::{QuantizeOptions, Quantized, Range, Step, convert_fp16, quantize};
use tapetum_runtime::contract::Contract;
use tapetum_runtime::{Error, ErrorKind, Result, settings::hint};

use crate::progress::Spinner;
use crate::{print_json, table, tune};

/// Arguments of `tapetum quantize`.
#[derive(ClapArgs)]
pub struct Args {
    /// The model (.onnx, with a contract), which gets whole frames; or a pipeline file (.toml), whose model --model gets
    /// what it gets in the pipeline.
    #[arg(id = "IN")]
    input: PathBuf,
    /// The model to write.
    #[arg(short, long)]
    output: PathBuf,
    /// Which model of the pipeline file.
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Frames to calibrate with and to judge by: video file, image folder or glob, or synthetic:KIND.
    #[arg(short, long, value_name = "SRC")]
    calibrate: String,
    /// Inputs kept; half of them calibrate, the other half judges.
    #[arg(long, value_name = "N", default_value_t = calibrate::USUAL as u16, value_parser = clap::value_parser!(u16).range(2..=4096))]
    samples: u16,
    /// The number format.
    #[arg(long, value_enum, default_value_t = Format::Int8)]
    precision: Format,
    /// How the range of a value is found: all that was seen; all but the outermost 0.01 %; or the least loss of information.
    #[arg(long, value_enum, default_value_t = RangeName::Minmax)]
    range: RangeName,
    /// A layer to keep in fp32, by its node's name; may be given several times.
    #[arg(long, value_name = "LAYER")]
    keep: Vec<String>,
    /// Least agreement with fp32 instead of the metric's own: a share, or dB for pictures.
    #[arg(long, value_name = "X")]
    gate: Option<f64>,
    /// Engine that calibrates and judges. [default: ort if it is there, else tract]
    #[arg(long, value_name = "ENGINE")]
    engine: Option<String>,
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
}

/// A smaller number format.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// 8-bit integers with scales.
    Int8,
    /// Half floats, for engines that compute them natively.
    Fp16,
}

/// Names of [`Range`].
#[derive(Clone, Copy, ValueEnum)]
enum RangeName {
    Minmax,
    Percentile,
    Entropy,
}

/// Share of the values that `--range percentile` keeps.
const PERCENTILE: f64 = 0.9999;

pub fn run(args: &Args) -> Result<()> {
    if args.gate.is_some_and(|gate| !gate.is_finite() || gate < 0.0) {
        return Err(Error::config("--gate must be a share from 0 to 1, or dB"));
    }
    let is_pipeline = args.input.extension().is_some_and(|e| e.eq_ignore_ascii_case("toml"));
    let (model, recorded) = match (is_pipeline, &args.model) {
        (true, _) => of_pipeline(args)?,
        (false, None) => (args.input.clone(), of_model(args)?),
        (false, Some(_)) => return Err(Error::config("--model names a model of a pipeline file (.toml)")),
    };
    let options = QuantizeOptions {
        engine: args.engine.clone(),
        range: match args.range {
            RangeName::Minmax => Range::MinMax,
            RangeName::Percentile => Range::Percentile(PERCENTILE),
            RangeName::Entropy => Range::Entropy,
        },
        keep: args.keep.clone(),
        gate: args.gate,
        ..QuantizeOptions::default()
    };
    let spinner = Spinner::new(args.json);
    let mut tell = |step: Step<'_>| spinner.say(doing(&step));
    let convert = match args.precision {
        Format::Int8 => quantize,
        Format::Fp16 => convert_fp16,
    };
    let done = convert(&model, &args.output, &recorded.inputs, &options, &mut tell)?;
    spinner.done();
    if args.json {
        return print_json(&as_json(&done, args));
    }
    print(&done, args);
    Ok(())
}

/// What is being done, for people.
pub fn doing(step: &Step<'_>) -> String {
    match step {
        Step::Calibrating { done, of } => format!("calibrating: sample {} of {of}", (done + 1).min(*of)),
        Step::Rounding { done, of } => format!("rounding: layer {} of {of}", (done + 1).min(*of)),
        Step::Judging { layer: Some(layer), done, of } => {
            format!("judging {layer} alone, {} of {of}", done + 1)
        }
        Step::Judging { layer: None, .. } => "judging".to_owned(),
        Step::Written(path) => format!("written {}", path.display()),
    }
}

/// The inputs of a model alone: whole frames.
fn of_model(args: &Args) -> Result<Recorded> {
    let path = &args.input;
    let unreadable = |e: std::io::Error| {
        Error::new(ErrorKind::Environment, format!("{}: {e}", path.display())).caused_by(e)
    };
    let mut file = std::io::BufReader::new(std::fs::File::open(path).map_err(unreadable)?);
    let contract = Contract::from_onnx(&mut file).map_err(|e| e.at(path.display()))?.ok_or_else(|| {
        Error::config(format!(
            "{}: it carries no contract, so nobody knows how its input is made; `tapetum fuse {0} --contract FILE.toml \
             -o OUT.onnx` writes one into it",
            path.display()
        ))
    })?;
    let mut source = source::open(&args.calibrate)?;
    calibrate::of_frames(&contract.input, &mut *source, args.samples.into())
}

/// A model of a pipeline, in fp32 on disk, and what it gets there.
fn of_pipeline(args: &Args) -> Result<(PathBuf, Recorded)> {
    let file = PipelineFile::read(&args.input)?;
    let names: Vec<&str> = file.models.iter().map(|m| m.name.as_str()).collect();
    let at = match (&args.model, names.as_slice()) {
        (None, [_]) => 0,
        (None, _) => {
            let message =
                format!("which one? --model with one of {}; for all of them: tapetum tune", names.join(", "));
            return Err(Error::config(message));
        }
        (Some(name), _) => names.iter().position(|n| n == name).ok_or_else(|| {
            Error::config(format!(
                "there is no model {name:?} in {}{}",
                args.input.display(),
                hint(name, &names)
            ))
        })?,
    };
    let options = Options { engine: choice(args), ..Options::default() };
    let (mut recorded, ..) = tune::record(&file, &options, &args.calibrate, args.samples.into(), args.json)?;
    let prepared = prepare::prepare(&file.models[at], &prepare::cache_dir()?, &mut |_| {})?;
    let recorded = recorded.swap_remove(at);
    if recorded.inputs.len() < 2 {
        let message = format!(
            "{}: model {:?} ran {} times on {}; at least two inputs are needed",
            args.input.display(),
            file.models[at].name,
            recorded.runs,
            args.calibrate
        );
        return Err(Error::new(ErrorKind::BadInput, message));
    }
    Ok((prepared.path, recorded))
}

/// The engine that the pipeline runs on while its inputs are recorded: as told, else the faster one that is there.
fn choice(args: &Args) -> Option<tapetum::config::Choice> {
    use tapetum::config::Choice;
    Some(match &args.engine {
        Some(name) => Choice::Exactly(name.clone()),
        None => Choice::FirstOf(["ort", "tract"].map(str::to_owned).to_vec()),
    })
}

fn as_json(done: &Quantized, args: &Args) -> serde_json::Value {
    let figures: Vec<_> = done
        .figures
        .iter()
        .map(|f| {
            json!({"output": f.output, "metric": f.metric, "value": f.value.is_finite().then_some(f.value),
                   "worst": f.worst.filter(|w| w.is_finite()), "gate": f.gate, "samples": f.samples})
        })
        .collect();
    let layers: Vec<_> = done
        .layers
        .iter()
        .map(|l| json!({"name": l.name, "op": l.op, "macs": l.macs, "kept_fp32": l.kept}))
        .collect();
    json!({
        "figures": figures, "layers": layers, "equalised": done.equalised, "calibrated": done.calibrated,
        "judged": done.judged, "engine": done.engine, "bytes_before": done.bytes_before, "bytes": done.bytes,
        "output": args.output,
    })
}

fn print(done: &Quantized, args: &Args) {
    let shown = |path: &Path| path.display().to_string();
    let kept: Vec<_> = done.layers.iter().filter_map(|l| Some((l, l.kept.as_ref()?))).collect();
    let lower = done.layers.len() - kept.len();
    println!("{}: {lower} of {} layers in {}", shown(&args.input), done.layers.len(), args.precision.name());
    let rows: Vec<_> = kept
        .iter()
        .map(|(l, why)| vec![l.name.clone(), l.op.clone(), "fp32".into(), (*why).clone()])
        .collect();
    print!("{}", table::render(&rows, &[]));
    println!(
        "calibrated on {} inputs, judged on {} others, on {}",
        done.calibrated, done.judged, done.engine
    );
    for figure in &done.figures {
        println!("  {}: {figure}", figure.output);
    }
    println!(
        "wrote {} ({}, before {})",
        shown(&args.output),
        table::bytes(done.bytes),
        table::bytes(done.bytes_before)
    );
}

impl Format {
    fn name(self) -> &'static str {
        match self {
            Self::Int8 => "int8",
            Self::Fp16 => "fp16",
        }
    }
}
