//! A pipeline's models on every engine, in every precision, with several numbers of threads, on what the pipeline feeds to
//! them: time, memory, share of the machine's peak and agreement with fp32. What [`crate::tune`] measures, to be read.
//!
//! | File | Holds |
//! |---|---|
//! | `rates` | the whole pipeline's frames per second |
//! | `markdown`, `chart` | the same as a text and as a picture |
//! | `write` | all of it on disk |

mod chart;
mod markdown;
mod rates;
mod write;

use serde::Serialize;
use tapetum_models::peak;
use tapetum_runtime::Result;

pub use chart::chart;
pub use markdown::markdown;
pub use rates::{Rate, rates};
pub use write::write;

use crate::{
    assemble::Options,
    calibrate::Recorded,
    config::PipelineFile,
    tune::{
        self, Extent, Figures, Machine, Rounds, Step,
        tuned::{Candidate, EngineMeasured},
    },
};

/// The version of `bench.json` that this build writes: higher where a field changed its meaning or went away.
pub const VERSION: u32 = 1;

/// Everything measured, as `bench.json` holds it.
#[derive(Clone, Debug, Serialize)]
pub struct Matrix {
    /// [`VERSION`].
    pub version: u32,
    /// The version of Tapetum that measured.
    pub tapetum: String,
    /// When, as RFC 3339.
    pub date: String,
    /// The pipeline's name.
    pub pipeline: String,
    /// What it was measured on, without secrets.
    pub source: String,
    /// Where.
    pub machine: Machine,
    /// What ran in fp32 as the reference, with its version.
    pub reference: String,
    /// Those asked for, also those that cannot run here.
    pub engines: Vec<EngineMeasured>,
    /// A large matrix product in fp32, per engine and number of threads.
    pub peaks: Vec<Peak>,
    /// In the order of the pipeline file.
    pub models: Vec<ModelRows>,
    /// The whole pipeline in fp32.
    pub rates: Vec<Rate>,
}

/// What an engine reaches at best here.
#[derive(Clone, Debug, Serialize)]
pub struct Peak {
    /// As asked for.
    pub engine: String,
    /// Threads inside a run.
    pub threads: usize,
    /// 10⁹ operations in a second, a multiply-accumulate being two; see [`peak::matmul_peak`].
    pub gflops: Option<f64>,
    /// Why there is none.
    pub why_not: Option<String>,
}

/// One model.
#[derive(Clone, Debug, Serialize)]
pub struct ModelRows {
    /// As in the pipeline file.
    pub name: String,
    /// SHA-256 of the fp32 file, 64 hexadecimal digits.
    pub sha256: String,
    /// How often it ran on the source: once per region.
    pub runs: u64,
    /// Inputs that it was judged and timed on.
    pub judged: usize,
    /// Multiply-accumulates of a run, the mean over these inputs.
    pub macs: Option<u64>,
    /// The gate of the pipeline file, if it says one; else each figure has its own.
    pub gate: Option<f64>,
    /// By engine, then by precision, then by threads.
    pub rows: Vec<Row>,
}

/// One way of running a model.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Threads inside a run.
    pub threads: usize,
    /// What was measured.
    #[serde(flatten)]
    pub candidate: Candidate,
    /// 10⁹ operations in a second at the median time, a multiply-accumulate being two.
    pub gflops: Option<f64>,
    /// Of the engine's [`Peak`] in fp32 with as many threads; a smaller format may come above 1.
    pub peak_share: Option<f64>,
}

/// Takes out of `file` what would make a row's number of threads a wrong one: OpenVINO's own, which come before those asked for.
pub fn by_threads_asked_for(file: &mut PipelineFile) {
    file.engines.openvino.threads = None;
}

/// Measures the models of `file` (see [`by_threads_asked_for`]), which got `recorded` inputs (in their order), on every engine that `options` allow.
///
/// # Errors
/// As [`tune::tune`].
pub fn measure(
    file: &PipelineFile,
    options: &Options,
    source: &str,
    live: bool,
    recorded: &[Recorded],
    extent: &Extent<'_>,
    tell: &mut dyn FnMut(Step<'_>),
) -> Result<Matrix> {
    let Figures { engines, there, reference, models } =
        tune::figures(file, options, live, recorded, extent, tell)?;
    let mut counts: Vec<usize> = models.iter().flat_map(|(_, threads)| threads).copied().collect();
    counts.sort_unstable();
    counts.dedup();
    let rounds = Rounds { of_each: extent.rounds, stop: extent.stop };
    let mut peaks = Vec::new();
    for (name, engine) in &there {
        for &threads in &counts {
            rounds.go_on()?;
            tell(Step::Measuring("matrix product", engine.full_name(), "fp32"));
            let peak = peak::matmul_peak(*engine, threads, &file.engines);
            let why_not = peak.as_ref().err().map(ToString::to_string);
            peaks.push(Peak { engine: name.clone(), threads, gflops: peak.ok(), why_not });
        }
    }
    let of_model = |(model, threads): (tune::tuned::ModelMeasured, Vec<usize>)| ModelRows {
        gate: tune::gate_of(file, &model.name),
        rows: threads
            .into_iter()
            .zip(model.candidates)
            .map(|(threads, candidate)| Row::new(threads, candidate, model.macs, &peaks))
            .collect(),
        name: model.name,
        sha256: model.sha256,
        runs: model.runs,
        judged: model.judged,
        macs: model.macs,
    };
    Ok(Matrix {
        version: VERSION,
        tapetum: env!("CARGO_PKG_VERSION").to_owned(),
        date: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        pipeline: file.name.clone(),
        source: source.to_owned(),
        machine: Machine::this(),
        reference,
        engines,
        models: models.into_iter().map(of_model).collect(),
        peaks,
        rates: Vec::new(),
    })
}

impl Row {
    fn new(threads: usize, candidate: Candidate, macs: Option<u64>, peaks: &[Peak]) -> Self {
        let gflops = macs
            .zip(candidate.ms_median.filter(|ms| *ms > 0.0))
            .map(|(macs, ms)| 2.0 * macs as f64 / (ms / 1e3) / 1e9);
        let peak = peaks.iter().find(|p| p.engine == candidate.engine && p.threads == threads);
        let peak_share = gflops.zip(peak.and_then(|p| p.gflops)).map(|(own, peak)| own / peak);
        Self { threads, candidate, gflops, peak_share }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tune::tuned::Measured;

    /// Two engines, of which one is refused in int8 and one does not run; with all that a text has to bear.
    pub(super) fn matrix() -> Matrix {
        let candidate = |engine: &str, precision: &str, ms: Option<f64>, iou: f64| Candidate {
            engine: engine.into(),
            precision: precision.into(),
            file: None,
            ms_median: ms,
            ms_p90: ms.map(|ms| ms * 1.2),
            ms_p99: ms.map(|ms| ms * 1.5),
            ms_max: ms.map(|ms| ms * 1.9),
            rounds: 21,
            memory_bytes: Some(3 << 20),
            memory_peak_bytes: Some(5 << 20),
            figures: ms
                .map(|_| Measured {
                    output: "mask".into(),
                    metric: "mask IoU".into(),
                    value: Some(iou),
                    worst: None,
                    gate: 0.99,
                    trouble: None,
                })
                .into_iter()
                .collect(),
            passed: ms.is_some() && iou >= 0.99,
            why_not: ms.is_none().then(|| "no such operator: A|B <c> & more\nsecond line".into()),
        };
        let peaks: Vec<Peak> = [("tract", 1), ("tract", 2), ("ort", 1)]
            .map(|(engine, threads)| Peak {
                engine: engine.into(),
                threads,
                gflops: Some(50.0 * threads as f64),
                why_not: None,
            })
            .to_vec();
        let rows = [
            (1, candidate("tract", "fp32", Some(20.0), 1.0)),
            (2, candidate("tract", "fp32", Some(10.0), 1.0)),
            (1, candidate("tract", "int8", Some(40.0), 0.9)),
            (1, candidate("ort", "int8", None, 0.0)),
        ];
        let macs = Some(100_000_000);
        Matrix {
            version: VERSION,
            tapetum: "0".into(),
            date: "2030-01-01T00:00:00Z".into(),
            pipeline: "eyes <&>".into(),
            source: "clip.mp4".into(),
            machine: Machine { cpu: "A CPU".into(), arch: "x86_64".into(), cores: 2, gpus: Vec::new() },
            reference: "ort:cpu".into(),
            engines: vec![EngineMeasured {
                engine: "ort:cuda".into(),
                engine_version: None,
                runs_with: Default::default(),
                why_not: Some("no GPU".into()),
            }],
            models: vec![ModelRows {
                name: "net|1".into(),
                sha256: "0".repeat(64),
                runs: 24,
                judged: 8,
                macs,
                gate: None,
                rows: rows.into_iter().map(|(threads, c)| Row::new(threads, c, macs, &peaks)).collect(),
            }],
            peaks,
            rates: vec![Rate {
                engine: "tract".into(),
                threads: 2,
                workers: 1,
                fps: vec![9.5, 10.5, 10.0],
                why_not: None,
            }],
        }
    }

    #[test]
    fn a_row_is_held_against_its_engines_peak_with_as_many_threads() {
        let rows = &matrix().models[0].rows;
        // 2 · 10⁸ operations in 20 ms, of 50 · 10⁹ in a second.
        assert_eq!((rows[0].gflops, rows[0].peak_share), (Some(10.0), Some(0.2)));
        assert_eq!((rows[1].gflops, rows[1].peak_share), (Some(20.0), Some(0.2)));
        assert_eq!((rows[3].gflops, rows[3].peak_share), (None, None));
    }

    #[test]
    fn openvinos_own_threads_do_not_come_before_those_of_a_row() {
        let text = "[pipeline]\nname = \"p\"\n[engine.openvino]\nthreads = 3\ndevice = \"GPU\"\n\
                    [[stage]]\nname = \"light\"\nkind = \"light\"\n";
        let mut file = PipelineFile::parse(text.to_owned(), "p.toml".as_ref()).unwrap();
        assert_eq!(file.engines.openvino.threads, Some(3));
        by_threads_asked_for(&mut file);
        assert_eq!((file.engines.openvino.threads, &*file.engines.openvino.device), (None, "GPU"));
    }

    #[test]
    fn the_fields_of_the_json_stay() {
        let told = serde_json::to_value(matrix()).unwrap();
        let keys = |value: &serde_json::Value| -> Vec<String> {
            let mut keys: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
            keys.sort();
            keys
        };
        let joined = |value: &serde_json::Value| keys(value).join(" ");
        assert_eq!(
            joined(&told),
            "date engines machine models peaks pipeline rates reference source tapetum version"
        );
        assert_eq!(joined(&told["models"][0]), "gate judged macs name rows runs sha256");
        assert_eq!(
            joined(&told["models"][0]["rows"][0]),
            "engine figures file gflops memory_bytes memory_peak_bytes ms_max ms_median ms_p90 ms_p99 passed \
             peak_share precision rounds threads why_not"
        );
        assert_eq!(joined(&told["peaks"][0]), "engine gflops threads why_not");
        assert_eq!(joined(&told["rates"][0]), "engine fps threads why_not workers");
    }
}
