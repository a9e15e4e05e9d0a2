//! OSNet: person re-identification from features of several scales at once.
//!
//! Source: Zhou, Yang, Cavallaro, Xiang: *Omni-Scale Feature Learning for Person Re-Identification*, arXiv:1905.00953;
//! names as torchreid stores them. Input `image` `[N, 3, H, W]` RGB, normalised as for ImageNet; output `embedding`
//! `[N, F]`, the feature that is compared by cosine. The classifier is for training only.

mod block;

use tapetum_runtime::contract::{Metric, OutputKind};
use tapetum_runtime::{Error, Result};

use super::blocks::{self, ConvShape};
use super::contract::{self, Ports};
use super::{Description, Family, Form, InputSize, Network, SizeRule, Weights};
use crate::checkpoint::StateDict;
use crate::graph::{Builder, Conv2d, Dim, Graph, Pool2d};
use block::{Block, conv_bn_relu};

/// Every stage holds this many blocks.
const BLOCKS: usize = 2;
/// Feature length of the published networks.
const FEATURE: usize = 512;

/// Channels of a published width.
struct Width {
    name: &'static str,
    width: &'static str,
    channels: Channels,
}

/// Channels after the stem, `conv2`, `conv3` and `conv4` (which `conv5` keeps).
type Channels = [usize; 4];

const WIDTHS: [Width; 4] = [
    Width { name: "x0_25", width: "0.25", channels: [16, 64, 96, 128] },
    Width { name: "x0_5", width: "0.5", channels: [32, 128, 192, 256] },
    Width { name: "x0_75", width: "0.75", channels: [48, 192, 288, 384] },
    Width { name: "x1_0", width: "1.0", channels: [64, 256, 384, 512] },
];

/// OSNet in every width.
pub struct OsNetFamily;

impl Family for OsNetFamily {
    fn name(&self) -> &'static str {
        "osnet"
    }

    fn variants(&self) -> Vec<String> {
        WIDTHS.iter().map(|w| w.name.into()).collect()
    }

    fn variant(&self, name: &str) -> Result<Box<dyn Network>> {
        let width = WIDTHS.iter().find(|w| w.name == name);
        let width = width.ok_or_else(|| blocks::unknown_variant(self, name))?;
        Ok(Box::new(OsNet { channels: width.channels, feature: FEATURE }))
    }

    fn recognise(&self, state: &StateDict) -> Result<Option<Box<dyn Network>>> {
        if !state.names().any(|n| n.starts_with("conv2.0.conv2a.") || n.starts_with("conv2.0.gate.")) {
            return Ok(None);
        }
        let rows = |layer: &str| blocks::linear_outputs(state, layer);
        let stem = rows("conv1.conv")?;
        let stages = [rows("conv2.0.conv3.conv")?, rows("conv3.0.conv3.conv")?, rows("conv4.0.conv3.conv")?];
        if let Some(c) = stages.iter().find(|&&c| c % block::SQUEEZE != 0 || c < block::SMALLEST) {
            return Err(Error::bad_file(format!(
                "OSNet: a stage of {c} channels cannot be; it must be a multiple of {} and at least {}",
                block::SQUEEZE,
                block::SMALLEST
            )));
        }
        let [two, three, four] = stages;
        Ok(Some(Box::new(OsNet { channels: [stem, two, three, four], feature: rows("fc.0")? })))
    }
}

/// One OSNet.
#[derive(Clone, Copy, Debug)]
struct OsNet {
    channels: Channels,
    /// Length F of the embedding.
    feature: usize,
}

impl OsNet {
    fn width(&self) -> Option<&'static Width> {
        WIDTHS.iter().find(|w| w.channels == self.channels)
    }
}

impl Network for OsNet {
    fn description(&self) -> Description {
        let channels = blocks::join(self.channels, "-");
        let width = self.width();
        let mut details = vec![("channels", channels.clone()), ("feature", self.feature.to_string())];
        details.extend(width.map(|w| ("width", w.width.to_owned())));
        Description {
            network: OsNetFamily.name(),
            variant: width.map_or_else(|| format!("channels {channels}"), |w| w.name.into()),
            form: Form::Training,
            details,
        }
    }

    fn default_size(&self) -> InputSize {
        InputSize::Fixed { height: 256, width: 128 }
    }

    fn size_rule(&self) -> SizeRule {
        SizeRule { fixed_multiple: 1, dynamic_multiple: 1, min: 16, batch: None }
    }

    fn contract(&self, size: InputSize) -> Ports {
        let kind = OutputKind::Embedding { dim: self.feature, metric: Metric::Cosine };
        Ports {
            input: contract::imagenet(size, &self.size_rule(), contract::STRETCH),
            outputs: vec![contract::output("embedding", kind)],
        }
    }

    fn build(&self, w: &mut Weights, size: InputSize) -> Result<Graph> {
        let rule = self.size_rule();
        blocks::check_size("OSNet", &rule, size)?;
        let mut b = Builder::new(OsNetFamily.name());
        let dims = size.image_dims(&rule);
        let batch = dims.first().cloned().unwrap_or(Dim::Unknown);
        let image = b.input("image", dims);
        let features = trunk(&mut b, w, &image, self.channels)?;
        let embedding = head(&mut b, w, &features, self.channels[3], self.feature)?;
        b.output("embedding", &embedding, vec![batch, Dim::Fixed(self.feature)]);
        w.ignore_prefix("classifier.", blocks::CLASSIFIER_UNUSED);
        b.finish()
    }
}

/// Stem, stages and last convolution: `[N, 3, H, W]` → `[N, C₄, H/16, W/16]`.
fn trunk(b: &mut Builder, w: &mut Weights, image: &str, channels: Channels) -> Result<String> {
    let stem = ConvShape { c_in: 3, c_out: channels[0], kernel: 7, spec: strided(2, 3), bias: false };
    let mut x = conv_bn_relu(b, w, "conv1", image, stem)?;
    x = b.pool("MaxPool", "maxpool", &x, Pool2d { kernel: 3, stride: 2, pad: 1 });
    for (stage, pair) in ["conv2", "conv3", "conv4"].into_iter().zip(channels.windows(2)) {
        let (mut c_in, c_out) = (pair[0], pair[1]);
        for i in 0..BLOCKS {
            x = block::block(b, w, &format!("{stage}.{i}"), &x, Block { c_in, c_out })?;
            c_in = c_out;
        }
        if stage != "conv4" {
            let at = format!("{stage}.{BLOCKS}");
            x = conv_bn_relu(b, w, &format!("{at}.0"), &x, ConvShape::pointwise(c_out, c_out))?;
            x = b.pool("AveragePool", &format!("{at}.1"), &x, Pool2d { kernel: 2, stride: 2, pad: 0 });
        }
    }
    conv_bn_relu(b, w, "conv5", &x, ConvShape::pointwise(channels[3], channels[3]))
}

/// Global average, linear layer, BatchNorm, ReLU: `[N, C, h, w]` → `[N, F]`.
fn head(b: &mut Builder, w: &mut Weights, x: &str, channels: usize, feature: usize) -> Result<String> {
    let mean = blocks::global_average(b, "global_avgpool", x);
    let linear = blocks::linear(b, w, "fc.0", &mean, channels, feature)?;
    let norm = blocks::batch_norm(b, w, "fc.1", &linear, feature)?;
    Ok(b.unary("Relu", "fc.2", &norm))
}

fn strided(stride: usize, pad: usize) -> Conv2d {
    Conv2d { stride, pad, groups: 1 }
}
