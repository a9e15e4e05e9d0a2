//! The contract that travels inside a model: how its input is made and what its outputs mean.
//!
//! It is JSON in the ONNX file's `metadata_props["tapetum.contract"]`, so that a frame is prepared in the field exactly
//! as it was in training, whoever loads the model. Every choice is an enum that names its rule; unknown fields are
//! errors, and what is read is validated before anyone sees it. The bytes are deterministic: fields in the order of
//! the types below, maps sorted.
//!
//! A model of a third party has no contract: [`Contract::of_ports`] makes the plain one, and a TOML file beside the
//! model ([`ContractOverride`]) says the rest.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Error, Result, backend::Port};

pub mod golden;
mod input;
mod metadata;
mod output;
mod overrides;
mod quantization;
mod validate;

pub use golden::{Golden, GoldenOutput};
pub use input::{Colour, Filter, InputContract, PadRule, ResizeRule, SizePolicy};
pub use output::{Activation, BoxLayout, MaskRule, Metric, OutputContract, OutputKind};
pub use overrides::{ContractOverride, InputOverride, OutputOverride};
pub use quantization::{Measured, Quantization};

/// The key in the ONNX file's `metadata_props`.
pub const METADATA_KEY: &str = "tapetum.contract";

/// The version that this build writes, and the newest that it reads.
pub const VERSION: u32 = 1;

/// How a model's input is made, what its outputs mean, and where it came from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contract {
    /// [`VERSION`] at the time of writing.
    pub version: u32,
    /// Which network this is.
    pub network: Network,
    /// How its input is made from a frame.
    pub input: InputContract,
    /// What its outputs mean, in the graph's order.
    pub outputs: Vec<OutputContract>,
    /// The file that the weights came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// How often each fold rule was applied.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub folds: BTreeMap<String, usize>,
    /// That the folded graph computes what the training graph does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<Proof>,
    /// How it was brought to a smaller number format; absent: it is in fp32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantization: Option<Quantization>,
    /// Bytes of values between the layers that are alive at once where the graph is widest, per pixel of the input, with
    /// nothing pruned. What an engine needs beyond that is its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_set: Option<u64>,
    /// What the model gave when it was made; checked again wherever it is loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub golden: Option<Golden>,
}

/// Which network a model is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// For example `tfnet`; `unknown` for a model of a third party.
    pub name: String,
    /// For example `s0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// The form of the graph in this file.
    pub form: Form,
}

/// A network's form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// With the branches that it was trained in.
    Training,
    /// Folded.
    Deployment,
}

/// The file that the weights came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Its name, without folders.
    pub file: String,
    /// SHA-256 of its bytes, 64 lower-case hexadecimal digits.
    pub sha256: String,
    /// How it stores tensors.
    pub container: Container,
    /// The form that the network had in it.
    pub form: Form,
}

/// A checkpoint's file format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Container {
    /// PyTorch's zip format.
    PytorchZip,
    /// PyTorch's format before 1.6.
    PytorchLegacy,
    /// safetensors.
    Safetensors,
    /// An ONNX graph.
    Onnx,
}

/// That two forms of a network compute the same: both were run on the same hostile inputs and compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    /// What ran them, with its version.
    pub backend: String,
    /// The seeds of the inputs.
    pub seeds: Vec<u64>,
    /// Shape of the inputs.
    pub input_shape: Vec<usize>,
    /// Greatest absolute difference of any output.
    pub max_abs: f64,
    /// Greatest of the outputs' `max_abs / max(1, |out|max)`.
    pub max_rel: f64,
    /// The same for each output.
    pub per_output: Vec<OutputError>,
    /// What `max_rel` had to stay under.
    pub tolerance: f64,
    /// Learned parameters in training form.
    pub parameters_before: u64,
    /// Learned parameters in this file.
    pub parameters_after: u64,
}

/// How far one output of two forms differs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputError {
    /// The graph output.
    pub name: String,
    /// Greatest absolute difference.
    pub max_abs: f64,
    /// That over `max(1, |out|max)`.
    pub max_rel: f64,
}

impl Contract {
    /// Reads and validates a contract.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadFile`] with line and column if it is not of this form, or with everything that is wrong
    /// with its values; [`crate::ErrorKind::Unsupported`] if it was written by a newer version.
    pub fn from_json(text: &str) -> Result<Self> {
        // The version first: a newer contract is newer, not malformed.
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let bad = |e: serde_json::Error| Error::bad_file(format!("contract: {e}")).caused_by(e);
        let Versioned { version } = serde_json::from_str(text).map_err(bad)?;
        if version > VERSION {
            return Err(Error::unsupported(format!(
                "contract: version {version}; this build reads up to {VERSION}, use a newer one"
            )));
        }
        let contract: Self = serde_json::from_str(text).map_err(bad)?;
        contract.validate()?;
        Ok(contract)
    }

    /// The contract as JSON in one line; the same contract gives the same bytes.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a contract holds nothing that JSON cannot")
    }

    /// The plain contract of a model that brings none: RGB in 0–1, stretched to the input's size, outputs without a
    /// meaning. Made to be completed by a [`ContractOverride`].
    ///
    /// # Errors
    /// [`crate::ErrorKind::Unsupported`] if there is not exactly one input of the shape `[N, 1 or 3, H, W]`.
    pub fn of_ports(inputs: &[Port], outputs: &[Port]) -> Result<Self> {
        let [input] = inputs else {
            return Err(Error::unsupported(format!(
                "the model has {} inputs; one image is needed",
                inputs.len()
            )));
        };
        let (colour, height, width) = match input.shape[..] {
            [_, Some(3), height, width] => (Colour::Rgb, height, width),
            [_, Some(1), height, width] => (Colour::Grey, height, width),
            _ => {
                let shape = crate::backend::show_shape(&input.shape);
                let message = format!("input {:?} is {shape}; an image is [N, 1 or 3, H, W]", input.name);
                return Err(Error::unsupported(message));
            }
        };
        let (size, resize) = match (height, width) {
            (Some(height), Some(width)) => {
                (SizePolicy::Fixed { height, width }, ResizeRule::Stretch { filter: Filter::Bilinear })
            }
            _ => (SizePolicy::Multiple { of: 1, min_height: 1, min_width: 1 }, ResizeRule::None),
        };
        let aux = |port: &Port| OutputContract { name: port.name.clone(), kind: OutputKind::Aux };
        Ok(Self {
            version: VERSION,
            network: Network { name: "unknown".into(), variant: None, form: Form::Deployment },
            input: InputContract {
                name: input.name.clone(),
                size,
                resize,
                colour,
                scale: 1.0 / 255.0,
                mean: vec![0.0; colour.channels()],
                std: vec![1.0; colour.channels()],
                pad: PadRule::None,
            },
            outputs: outputs.iter().map(aux).collect(),
            source: None,
            folds: BTreeMap::new(),
            proof: None,
            quantization: None,
            working_set: None,
            golden: None,
        })
    }
}
