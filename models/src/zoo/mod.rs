//! The networks Tapetum knows.
//!
//! To add one: write `zoo/<network>.rs` with its [`Family`] and [`Network`], then add its `mod` line and one entry in
//! [`FAMILIES`]. The suites iterate that list; a golden in `tests/goldens/` is found by walking the folder.

pub mod blocks;
pub mod contract;
mod deanet;
pub mod difference;
mod lmdvit;
mod mobileone;
mod mobileone_block;
mod mobileone_forms;
mod osnet;
mod ppm;
mod resample;
mod resnet;
mod tfcls;
mod tfdet;
mod tfnet;
mod tfnet_encoder;
mod weights;

use tapetum_runtime::Result;

pub use contract::Ports;
pub use weights::Weights;

use crate::checkpoint::StateDict;
use crate::graph::{Dim, Graph};

/// Every kind of network that a checkpoint is compared with.
pub static FAMILIES: &[&dyn Family] = &[
    &tfnet::TfNetFamily,
    &tfcls::TfClsFamily,
    &tfdet::TfDetFamily,
    &mobileone::MobileOneFamily,
    &deanet::DeaNetFamily,
    &lmdvit::LmdVitFamily,
    &osnet::OsNetFamily,
    &resnet::BnNeckFamily,
];

/// A kind of network, such as TF-Net in all its widths and variants.
pub trait Family: Sync {
    /// Key for `--arch` and `tapetum init`, for example `tfnet`. Lower case, unique.
    fn name(&self) -> &'static str;

    /// Names of the published variants, for `tapetum init --variant`; the first is the default.
    fn variants(&self) -> Vec<String>;

    /// The published variant `name` in training form (one of [`Family::variants`]).
    ///
    /// # Errors
    /// [`tapetum_runtime::ErrorKind::InvalidConfig`] naming the variants there are.
    fn variant(&self, name: &str) -> Result<Box<dyn Network>>;

    /// Recognises a checkpoint from tensor names and shapes alone. `Ok(None)`: these are not this family's names.
    ///
    /// # Errors
    /// [`tapetum_runtime::ErrorKind::BadFile`] if the names are this family's but do not make a network.
    fn recognise(&self, state: &StateDict) -> Result<Option<Box<dyn Network>>>;
}

/// One network with all its sizes and its form known.
pub trait Network {
    /// What it is, for reports and metadata.
    fn description(&self) -> Description;

    /// The size that is deployed unless the user chooses one.
    fn default_size(&self) -> InputSize;

    /// Which sizes this network takes.
    fn size_rule(&self) -> SizeRule;

    /// How the input is made and what the outputs mean, unless the user says otherwise.
    fn contract(&self, size: InputSize) -> Ports;

    /// The same network computing everything, if it is one that leaves out what its input does not need: to measure
    /// against, and for what cannot gather and scatter.
    fn without_pruning(&self) -> Option<Box<dyn Network>> {
        None
    }

    /// Builds the graph in the form the weights are in, taking every tensor by its checkpoint name. Nodes and
    /// constants carry the checkpoint's names.
    ///
    /// # Errors
    /// [`tapetum_runtime::ErrorKind::BadFile`] for missing or misshapen tensors,
    /// [`tapetum_runtime::ErrorKind::InvalidConfig`] for a size the network does not take.
    fn build(&self, weights: &mut Weights, size: InputSize) -> Result<Graph>;
}

/// Which of its two forms a network is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As trained: several branches per layer.
    Training,
    /// As deployed: one branch per layer (or a network that has only one form).
    Deployment,
}

impl Form {
    /// `training` or `deployment`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Training => "training",
            Self::Deployment => "deployment",
        }
    }
}

/// What a checkpoint turned out to be.
#[derive(Clone, Debug, PartialEq)]
pub struct Description {
    /// The family's key.
    pub network: &'static str,
    /// Published name where the sizes match one (`s0`, `x0_25`), else the sizes in words.
    pub variant: String,
    /// Which form the weights are in.
    pub form: Form,
    /// Everything inferred from names and shapes, in words: `("width", "0.25")`, `("classes", "2")`.
    pub details: Vec<(&'static str, String)>,
}

/// Extents of the network's input, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputSize {
    /// Always this.
    Fixed {
        /// Rows.
        height: usize,
        /// Columns.
        width: usize,
    },
    /// Decided per run, within the network's [`SizeRule`].
    Dynamic,
}

/// Which input sizes a network takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeRule {
    /// A fixed size must be a multiple of this on both axes.
    pub fixed_multiple: usize,
    /// A dynamic size must be a multiple of this on both axes (PyTorch's extra resizes at odd sizes are only written
    /// for fixed sizes).
    pub dynamic_multiple: usize,
    /// Smallest extent of either axis.
    pub min: usize,
    /// The only batch size, if the network allows just one.
    pub batch: Option<usize>,
}

impl InputSize {
    /// `[batch, 3, H, W]`, open extents as symbols; `batch` as the rule says.
    pub fn image_dims(self, rule: &SizeRule) -> Vec<Dim> {
        let batch = rule.batch.map_or_else(|| Dim::symbol("batch"), Dim::Fixed);
        let (h, w) = match self {
            Self::Fixed { height, width } => (Dim::Fixed(height), Dim::Fixed(width)),
            Self::Dynamic => (Dim::symbol("height"), Dim::symbol("width")),
        };
        vec![batch, Dim::Fixed(3), h, w]
    }
}
