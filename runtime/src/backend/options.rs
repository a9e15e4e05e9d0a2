//! What each engine may be told, typed; read from the tables `[engine.openvino]`, `[engine.cuda]` and
//! `[engine.tensorrt]` of a pipeline file.
//!
//! What is not said is the exact choice, never the provider's own: fp32 everywhere, although OpenVINO takes bf16 and
//! CUDA TF32 by themselves where the processor has them.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::settings::{Reader, Table};

/// Largest device number, arena limit and workspace that are believed.
const MOST_DEVICES: usize = 64;
const MOST_MIB: usize = 1 << 20;

/// The number format that an engine computes in; weights and results stay what the model says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floats.
    #[default]
    Fp32,
    /// 32-bit floats whose products are rounded to 10 bits of fraction, on NVIDIA's tensor cores.
    Tf32,
    /// 16 bits with the range of a 32-bit float and 7 bits of fraction.
    Bf16,
    /// IEEE half floats.
    Fp16,
    /// 8-bit integers, where the model says their scales or a calibration table is given.
    Int8,
}

impl Precision {
    /// As written in pipeline files and results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fp32 => "fp32",
            Self::Tf32 => "tf32",
            Self::Bf16 => "bf16",
            Self::Fp16 => "fp16",
            Self::Int8 => "int8",
        }
    }

    /// How far results may lie from those in fp32, as a share of the largest, before something is wrong with the
    /// engine or the file: 16 times the rounding of one value. No statement about accuracy on a task.
    pub fn tolerance(self) -> f32 {
        match self {
            Self::Fp32 => 0.0,
            Self::Tf32 | Self::Fp16 => 16.0 / 2048.0,
            Self::Bf16 | Self::Int8 => 16.0 / 256.0,
        }
    }
}

/// Which built engines are kept for the next start: `[engine] cache = "…"`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum KeepEngines {
    /// `auto` (or nothing): those that take long to build, and those that `tapetum warm` built.
    #[default]
    Auto,
    /// `on`: all.
    On,
    /// `off`: none, and none is taken.
    Off,
    /// Anything else: all, in this folder.
    In(PathBuf),
}

/// Options of every engine that has some; an engine reads its own.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EngineOptions {
    /// `cache`: which built engines are kept.
    pub keep: KeepEngines,
    /// For `ort:openvino`.
    pub openvino: OpenVino,
    /// For `ort:cuda`.
    pub cuda: Cuda,
    /// For `ort:tensorrt`.
    pub tensorrt: TensorRt,
}

/// Options of `ort:openvino`.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenVino {
    /// `device`: CPU, GPU, GPU.1 or NPU. AUTO, MULTI and HETERO are refused: with them nobody knows what runs.
    pub device: String,
    /// `precision`: fp32 (or nothing) or bf16; fp16 on GPU and NPU only.
    pub precision: Precision,
    /// `threads`, on the CPU; nothing: those of the pipeline's plan.
    pub threads: Option<usize>,
    /// `cache`: folder for compiled models that OpenVINO keeps by itself; nobody checks what it takes from there.
    pub cache: Option<PathBuf>,
}

impl Default for OpenVino {
    fn default() -> Self {
        Self { device: "CPU".into(), precision: Precision::Fp32, threads: None, cache: None }
    }
}

/// How CUDA's memory arena grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ArenaGrowth {
    /// By powers of two: fewer, larger steps.
    #[default]
    Doubling,
    /// By what is asked for: less memory, more steps.
    Exact,
}

/// How cuDNN chooses the algorithm of a convolution.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConvSearch {
    /// All are timed on the first run of each shape.
    #[default]
    Exhaustive,
    /// By cuDNN's rule of thumb.
    Heuristic,
    /// Always the same one.
    Default,
}

/// Options of `ort:cuda`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cuda {
    /// `device`: number of the GPU.
    pub device: usize,
    /// `precision`: fp32 (or nothing) or tf32.
    pub precision: Precision,
    /// `memory_limit_mib`: most memory of a session's arena.
    pub memory_limit_mib: Option<usize>,
    /// `arena`: doubling (or nothing) or exact.
    pub arena: ArenaGrowth,
    /// `conv_search`: exhaustive (or nothing), heuristic or default.
    pub conv_search: ConvSearch,
}

/// Options of `ort:tensorrt`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TensorRt {
    /// `device`: number of the GPU.
    pub device: usize,
    /// `precision`: fp32 (or nothing), bf16, fp16 or int8.
    pub precision: Precision,
    /// `workspace_mib`: most scratch memory while an engine is built and runs.
    pub workspace_mib: Option<usize>,
    /// `share_context_memory`: subgraphs of one session use the same scratch memory, one after the other.
    pub share_context_memory: bool,
    /// `engine_cache`: folder for built engines that TensorRT keeps by itself; nobody checks what it takes from there.
    pub engine_cache: Option<PathBuf>,
    /// `timing_cache`: folder for timings of kernels, which make the next build shorter.
    pub timing_cache: Option<PathBuf>,
    /// `context_models`: folder that gets `NAME-DIGEST-PRECISION_ctx.onnx`, a model file that holds the built engine.
    pub context_models: Option<PathBuf>,
    /// `calibration`: name of an int8 calibration table in the engine cache; nothing: the model holds its scales.
    pub calibration: Option<String>,
}

impl EngineOptions {
    /// Reads `[engine.*]` of a file; relative paths are below `folder`. Mistakes are noted in `reader`.
    pub fn read<'t>(reader: &mut Reader<'t>, root: &Table<'t>, folder: &Path) -> Self {
        let mut options = Self::default();
        let Some(engines) = reader.table(root, "engine", &["cache", "openvino", "cuda", "tensorrt"]) else {
            return options;
        };
        options.keep = match reader.string(&engines, "cache").as_deref() {
            None | Some("auto") => KeepEngines::Auto,
            Some("on") => KeepEngines::On,
            Some("off") => KeepEngines::Off,
            Some(_) => path(reader, &engines, "cache", folder).map_or(KeepEngines::Auto, KeepEngines::In),
        };
        if let Some(t) = reader.table(&engines, "openvino", &["device", "precision", "threads", "cache"]) {
            options.openvino.read(reader, &t, folder);
        }
        let keys = ["device", "precision", "memory_limit_mib", "arena", "conv_search"];
        if let Some(t) = reader.table(&engines, "cuda", &keys) {
            options.cuda.read(reader, &t);
        }
        let keys = [
            "device",
            "precision",
            "workspace_mib",
            "share_context_memory",
            "engine_cache",
            "timing_cache",
            "context_models",
            "calibration",
        ];
        if let Some(t) = reader.table(&engines, "tensorrt", &keys) {
            options.tensorrt.read(reader, &t, folder);
        }
        options
    }

    /// Says the same precision to every engine. One that an engine does not know is refused or passed over where a model
    /// is loaded.
    pub fn compute_in(&mut self, precision: Precision) {
        self.openvino.precision = precision;
        self.cuda.precision = precision;
        self.tensorrt.precision = precision;
    }
}

impl OpenVino {
    fn read<'t>(&mut self, reader: &mut Reader<'t>, t: &Table<'t>, folder: &Path) {
        if let Some(device) = reader.string(t, "device") {
            let plain = device.split_once('.').map_or(device.as_str(), |(name, number)| {
                if number.parse::<u8>().is_ok() { name } else { "" }
            });
            if !["CPU", "GPU", "NPU"].contains(&plain) || device.starts_with("CPU.") {
                let what = format!("device {device:?} is none of CPU, GPU, GPU.1 (a number), NPU");
                reader.note(t.place("device"), what);
            }
            self.device = device;
        }
        self.precision = precision(reader, t, &[Precision::Fp32, Precision::Bf16, Precision::Fp16]);
        let plain = self.device.split('.').next().unwrap_or_default();
        let what = match (plain, self.precision) {
            ("CPU", Precision::Fp16) => "on the CPU OpenVINO computes fp16 as bf16; say fp32 or bf16",
            ("GPU", Precision::Bf16) => "on a GPU OpenVINO knows fp32 and fp16",
            ("NPU", Precision::Fp32 | Precision::Bf16) => {
                "an NPU computes fp16 only; say precision = \"fp16\""
            }
            _ => "",
        };
        if !what.is_empty() {
            reader.note(t.place("precision"), what);
        }
        self.threads = within(reader, t, "threads", 1, 256);
        self.cache = path(reader, t, "cache", folder);
    }
}

impl Cuda {
    fn read<'t>(&mut self, reader: &mut Reader<'t>, t: &Table<'t>) {
        self.device = within(reader, t, "device", 0, MOST_DEVICES).unwrap_or(0);
        self.precision = precision(reader, t, &[Precision::Fp32, Precision::Tf32]);
        self.memory_limit_mib = within(reader, t, "memory_limit_mib", 1, MOST_MIB);
        let growth = [("doubling", ArenaGrowth::Doubling), ("exact", ArenaGrowth::Exact)];
        self.arena = reader.choice(t, "arena", &growth).unwrap_or_default();
        let search = [
            ("exhaustive", ConvSearch::Exhaustive),
            ("heuristic", ConvSearch::Heuristic),
            ("default", ConvSearch::Default),
        ];
        self.conv_search = reader.choice(t, "conv_search", &search).unwrap_or_default();
    }
}

impl TensorRt {
    fn read<'t>(&mut self, reader: &mut Reader<'t>, t: &Table<'t>, folder: &Path) {
        self.device = within(reader, t, "device", 0, MOST_DEVICES).unwrap_or(0);
        let known = [Precision::Fp32, Precision::Bf16, Precision::Fp16, Precision::Int8];
        self.precision = precision(reader, t, &known);
        self.workspace_mib = within(reader, t, "workspace_mib", 1, MOST_MIB);
        self.share_context_memory = reader.flag(t, "share_context_memory").unwrap_or(false);
        self.engine_cache = path(reader, t, "engine_cache", folder);
        self.timing_cache = path(reader, t, "timing_cache", folder);
        self.context_models = path(reader, t, "context_models", folder);
        self.calibration = reader.string(t, "calibration");
        if self.calibration.is_some() && self.precision != Precision::Int8 {
            reader.note(t.place("calibration"), "a calibration table is for precision = \"int8\"");
        }
        if self.calibration.is_some() && self.engine_cache.is_none() {
            reader.note(
                t.place("calibration"),
                "the calibration table lies in engine_cache, which is missing here",
            );
        }
    }
}

fn precision<'t>(reader: &mut Reader<'t>, t: &Table<'t>, known: &[Precision]) -> Precision {
    let words: Vec<_> = known.iter().map(|p| (p.name(), *p)).collect();
    reader.choice(t, "precision", &words).unwrap_or_default()
}

fn within<'t>(reader: &mut Reader<'t>, t: &Table<'t>, key: &str, least: usize, most: usize) -> Option<usize> {
    let number = reader.count(t, key)?;
    if !(least..=most).contains(&number) {
        reader.note(t.place(key), format!("{key} must be from {least} to {most}, this is {number}"));
        return None;
    }
    Some(number)
}

/// A path; one that a provider could not take (it holds a zero) or that says nothing is noted.
fn path<'t>(reader: &mut Reader<'t>, t: &Table<'t>, key: &str, folder: &Path) -> Option<PathBuf> {
    let text = reader.string(t, key)?;
    if text.is_empty() || text.contains('\0') {
        reader.note(t.place(key), format!("{key} must name a folder"));
        return None;
    }
    Some(folder.join(text))
}
