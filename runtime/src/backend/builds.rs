//! What an engine that compiles models says about what it builds, for whoever keeps it.

use super::Precision;

/// What a built engine depends on besides the model and its [`Profile`](super::Profile). Two that differ in anything here
/// must not be taken for each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Builds {
    /// Versions of the libraries that build it, by name, for example `("openvino", "2025.4.1")`.
    pub versions: Vec<(String, String)>,
    /// What it is built for.
    pub device: Device,
    /// What it computes in.
    pub precision: Precision,
    /// The provider's options in its own words, those left out that change nothing in what is built.
    pub options: Vec<(String, String)>,
    /// Why what it built must not be taken again, if so: it cannot read it, or does not tell what it depends on.
    pub unreadable: Option<String>,
    /// Whether building takes so much longer than reading that it is to be kept unasked.
    pub slow: bool,
}

/// The kind of device, as far as the engine needs to know; which one exactly the system tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Device {
    /// The processor.
    Cpu,
    /// NVIDIA's GPU of this number.
    Nvidia(usize),
    /// Intel's GPU or NPU as OpenVINO calls it, for example `GPU.1`.
    Intel(String),
}
