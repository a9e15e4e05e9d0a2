//! A smaller number format for a deployed model, held against fp32 on the user's own frames.
//!
//! Static quantization: activations in `u8` with one scale per value, weights in `i8` with one scale per output channel,
//! written as QuantizeLinear/DequantizeLinear pairs (QDQ) that every engine recognises and any other tool can read.
//!
//! Re-parameterised networks quantize badly: folding adds an identity branch into a kernel, so a few large taps set the
//! scale that all the others are rounded with. Rounding the weights alone costs a TF-Net 11 % of its mask. So each kernel is
//! rounded against the inputs that it really sees (`round`), what is left of the mean error goes into the bias, and
//! layers that still hurt stay in fp32 (`sensitivity`).
//!
//! | File | Holds |
//! |---|---|
//! | `layers` | which nodes can be quantized |
//! | `groups` | which values are quantized then, and which share a scale |
//! | `observe` | runs the model on the samples and keeps statistics |
//! | `columns` | what a kernel sees: patches of its input, their products and means |
//! | `range` | from statistics to a scale and a zero point |
//! | `round` | weights → `i8`, against what the layer sees |
//! | `equalise` | moves scale between neighbouring layers |
//! | `emit` | the QDQ graph |
//! | `opset` | an older operator set brought to one that has a scale per channel |
//! | `two_classes` | a segmenter's last steps on one map instead of two |
//! | `judge` | a candidate beside fp32, by the metric of its task |
//! | `sensitivity` | which layers hurt |
//! | `int8`, `fp16` | a rung of the ladder each, from file to file |
//! | `rung` | what both do: read, split the samples, write with a record |

mod columns;
mod emit;
mod equalise;
mod fp16;
mod groups;
mod int8;
mod judge;
mod layers;
mod observe;
mod opset;
mod range;
mod round;
mod rung;
mod sensitivity;
mod two_classes;

use std::path::Path;

use tapetum_runtime::quality::Figure;

pub use fp16::convert_fp16;
pub use int8::quantize;
pub use range::Range;

/// What the user chose; `Default` is what `tapetum quantize` does.
#[derive(Clone, Debug)]
pub struct QuantizeOptions {
    /// Engine that observes and judges; `None`: ONNX Runtime if it is there, else the first of the build.
    pub engine: Option<String>,
    /// How the range of a value is found.
    pub range: Range,
    /// Try cross-layer equalisation, and keep it where the outputs come closer to fp32.
    pub equalise: bool,
    /// Layers that stay in fp32, by node name.
    pub keep: Vec<String>,
    /// Least figure instead of the metric's own, in the metric's unit.
    pub gate: Option<f64>,
}

impl Default for QuantizeOptions {
    fn default() -> Self {
        Self { engine: None, range: Range::MinMax, equalise: true, keep: Vec::new(), gate: None }
    }
}

/// Told while a model is quantized, so that a program can show progress.
pub enum Step<'a> {
    /// A sample runs in fp32.
    Calibrating {
        /// Samples done.
        done: usize,
        /// Of so many.
        of: usize,
    },
    /// The weights of a layer are rounded.
    Rounding {
        /// Layers done.
        done: usize,
        /// Of so many.
        of: usize,
    },
    /// A candidate runs beside fp32.
    Judging {
        /// The only layer that is quantized, when layers are looked at one by one.
        layer: Option<&'a str>,
        /// Candidates done.
        done: usize,
        /// Of so many.
        of: usize,
    },
    /// The result is written.
    Written(&'a Path),
}

/// What came out.
#[derive(Clone, Debug)]
pub struct Quantized {
    /// Each output beside fp32 on the held-back samples.
    pub figures: Vec<Figure>,
    /// Every layer that could be quantized.
    pub layers: Vec<Layer>,
    /// Whether scale was moved between layers first.
    pub equalised: bool,
    /// Samples that the statistics were taken on.
    pub calibrated: usize,
    /// Samples, others, that the figures were taken on.
    pub judged: usize,
    /// Name and version of the engine that ran.
    pub engine: String,
    /// Bytes of the file before.
    pub bytes_before: u64,
    /// Bytes of the written file.
    pub bytes: u64,
}

/// One layer that could be quantized.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// The node.
    pub name: String,
    /// ONNX operator.
    pub op: String,
    /// Multiply-accumulates on one sample.
    pub macs: u64,
    /// Why it stays in fp32; `None`: it is quantized.
    pub kept: Option<String>,
}
