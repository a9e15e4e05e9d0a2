//! BNNeck ResNet: the "strong baseline" of person re-identification.
//!
//! Source: Luo, Gu, Liao, Lai, Jiang: *Bag of Tricks and a Strong Baseline for Deep Person Re-Identification*,
//! arXiv:1903.07071, over He et al., *Deep Residual Learning for Image Recognition*, arXiv:1512.03385. Unlike a plain
//! ResNet there is no ReLU after the first BatchNorm, and the last stage keeps the resolution. Input `image`
//! `[N, 3, H, W]` RGB, normalised as for ImageNet; output `embedding` `[N, F]`, the feature after the BatchNorm "neck".

use tapetum_runtime::Result;
use tapetum_runtime::contract::{Metric, OutputKind};

use super::blocks::{self, ConvShape};
use super::contract::{self, Ports};
use super::{Description, Family, Form, InputSize, Network, SizeRule, Weights};
use crate::checkpoint::StateDict;
use crate::graph::{Builder, Conv2d, Dim, Graph, Pool2d};

/// Stride of the first block of each stage; the last is 1 instead of a plain ResNet's 2. Strides are not in the shapes.
const STRIDES: [usize; 4] = [1, 2, 2, 1];
/// Channels of the published networks: the stem, and the narrow part of each stage's blocks.
const PUBLISHED_STEM: usize = 64;
const PUBLISHED_WIDTHS: [usize; 4] = [64, 128, 256, 512];

/// Made-up last BatchNorms of the blocks are scaled by this, so that a chain of residual blocks stays in range.
const RESIDUAL_GAIN: f32 = 0.25;

/// What a residual block is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Two 3×3 convolutions.
    Basic,
    /// 1×1, 3×3, 1×1; the last widens.
    Bottleneck,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Basic => "BasicBlock",
            Self::Bottleneck => "Bottleneck",
        }
    }

    /// Convolutions of a block.
    fn depth(self) -> usize {
        match self {
            Self::Basic => 2,
            Self::Bottleneck => 3,
        }
    }

    /// Output channels per channel of the narrow part, in the published networks.
    fn expansion(self) -> usize {
        match self {
            Self::Basic => 1,
            Self::Bottleneck => 4,
        }
    }
}

/// A published depth.
struct Depth {
    name: &'static str,
    kind: Kind,
    blocks: [usize; 4],
}

/// The first is the one the paper uses.
const DEPTHS: [Depth; 4] = [
    Depth { name: "resnet50", kind: Kind::Bottleneck, blocks: [3, 4, 6, 3] },
    Depth { name: "resnet18", kind: Kind::Basic, blocks: [2, 2, 2, 2] },
    Depth { name: "resnet34", kind: Kind::Basic, blocks: [3, 4, 6, 3] },
    Depth { name: "resnet101", kind: Kind::Bottleneck, blocks: [3, 4, 23, 3] },
];

/// One of the four stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stage {
    blocks: usize,
    /// Channels of the narrow part.
    narrow: usize,
    /// Output channels.
    wide: usize,
}

/// One BNNeck ResNet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct BnNeck {
    kind: Kind,
    stem: usize,
    stages: [Stage; 4],
}

impl Depth {
    fn network(&self) -> BnNeck {
        let stage = |i: usize| Stage {
            blocks: self.blocks[i],
            narrow: PUBLISHED_WIDTHS[i],
            wide: PUBLISHED_WIDTHS[i] * self.kind.expansion(),
        };
        BnNeck { kind: self.kind, stem: PUBLISHED_STEM, stages: [0, 1, 2, 3].map(stage) }
    }
}

/// BNNeck ResNets of every depth and width.
pub struct BnNeckFamily;

impl Family for BnNeckFamily {
    fn name(&self) -> &'static str {
        "reid-bnneck"
    }

    fn variants(&self) -> Vec<String> {
        DEPTHS.iter().map(|d| d.name.into()).collect()
    }

    fn variant(&self, name: &str) -> Result<Box<dyn Network>> {
        let depth = DEPTHS.iter().find(|d| d.name == name);
        let depth = depth.ok_or_else(|| blocks::unknown_variant(self, name))?;
        Ok(Box::new(depth.network()))
    }

    fn recognise(&self, state: &StateDict) -> Result<Option<Box<dyn Network>>> {
        let ours = |prefix: &str| state.names().any(|n| n.starts_with(prefix));
        if !ours("base.layer1.0.") || !ours("bottleneck.") {
            return Ok(None);
        }
        let kind = if state.contains("base.layer1.0.conv3.weight") { Kind::Bottleneck } else { Kind::Basic };
        let stage = |number| stage(state, kind, number);
        let stages = [stage(1)?, stage(2)?, stage(3)?, stage(4)?];
        let stem = blocks::linear_outputs(state, "base.conv1")?;
        Ok(Some(Box::new(BnNeck { kind, stem, stages })))
    }
}

/// Stage `number` (from 1) as the names and shapes tell it.
fn stage(state: &StateDict, kind: Kind, number: usize) -> Result<Stage> {
    let at = format!("base.layer{number}");
    let blocks = blocks::count_children(state, &at)?;
    let rows = |conv: usize| blocks::linear_outputs(state, &format!("{at}.0.conv{conv}"));
    Ok(Stage { blocks, narrow: rows(1)?, wide: rows(kind.depth())? })
}

impl BnNeck {
    /// Length of the embedding.
    fn feature(&self) -> usize {
        self.stages[3].wide
    }
}

impl Network for BnNeck {
    fn description(&self) -> Description {
        let counts = blocks::join(self.stages.map(|s| s.blocks), "-");
        let widths = blocks::join(self.stages.map(|s| s.wide), "-");
        let published = DEPTHS.iter().find(|d| d.network() == *self);
        Description {
            network: BnNeckFamily.name(),
            variant: published.map_or_else(|| format!("{} {counts}", self.kind.name()), |d| d.name.into()),
            form: Form::Training,
            details: vec![
                ("block", self.kind.name().into()),
                ("blocks per stage", counts),
                ("channels", format!("{}, {widths}", self.stem)),
                ("feature", self.stages[3].wide.to_string()),
            ],
        }
    }

    fn default_size(&self) -> InputSize {
        InputSize::Fixed { height: 256, width: 128 }
    }

    fn size_rule(&self) -> SizeRule {
        SizeRule { fixed_multiple: 1, dynamic_multiple: 1, min: 16, batch: None }
    }

    fn contract(&self, size: InputSize) -> Ports {
        let kind = OutputKind::Embedding { dim: self.feature(), metric: Metric::Cosine };
        Ports {
            input: contract::imagenet(size, &self.size_rule(), contract::STRETCH),
            outputs: vec![contract::output("embedding", kind)],
        }
    }

    fn build(&self, w: &mut Weights, size: InputSize) -> Result<Graph> {
        let rule = self.size_rule();
        blocks::check_size("BNNeck ResNet", &rule, size)?;
        let mut b = Builder::new(BnNeckFamily.name());
        let dims = size.image_dims(&rule);
        let batch = dims.first().cloned().unwrap_or(Dim::Unknown);
        let image = b.input("image", dims);
        let stem = ConvShape { c_in: 3, c_out: self.stem, kernel: 7, spec: strided(2, 3), bias: false };
        let x = blocks::conv(&mut b, w, "base.conv1", &image, stem)?;
        let x = blocks::batch_norm(&mut b, w, "base.bn1", &x, self.stem)?;
        let mut x = b.pool("MaxPool", "base.maxpool", &x, Pool2d { kernel: 3, stride: 2, pad: 1 });
        let mut c_in = self.stem;
        for (i, stage) in self.stages.iter().enumerate() {
            for n in 0..stage.blocks {
                let stride = if n == 0 { STRIDES[i] } else { 1 };
                let block = Block { kind: self.kind, c_in, narrow: stage.narrow, wide: stage.wide, stride };
                x = block.add(&mut b, w, &format!("base.layer{}.{n}", i + 1), &x)?;
                c_in = stage.wide;
            }
        }
        let mean = blocks::global_average(&mut b, "gap", &x);
        let embedding = blocks::batch_norm(&mut b, w, "bottleneck", &mean, c_in)?;
        b.output("embedding", &embedding, vec![batch, Dim::Fixed(c_in)]);
        w.ignore_prefix("classifier.", blocks::CLASSIFIER_UNUSED);
        b.finish()
    }
}

/// One residual block.
#[derive(Clone, Copy, Debug)]
struct Block {
    kind: Kind,
    c_in: usize,
    narrow: usize,
    wide: usize,
    stride: usize,
}

impl Block {
    /// The convolutions in order. The stride is in the first 3×3 one.
    fn convs(self) -> Vec<ConvShape> {
        let Self { c_in, narrow, wide, stride, .. } = self;
        let conv3 =
            |c_in, c_out, stride| ConvShape { c_in, c_out, kernel: 3, spec: strided(stride, 1), bias: false };
        match self.kind {
            Kind::Basic => vec![conv3(c_in, narrow, stride), conv3(narrow, wide, 1)],
            Kind::Bottleneck => vec![
                ConvShape::pointwise(c_in, narrow),
                conv3(narrow, narrow, stride),
                ConvShape::pointwise(narrow, wide),
            ],
        }
    }

    /// Adds `relu(convs(x) + x)` below `at`, with a BatchNorm after and a ReLU between the convolutions; the second x
    /// goes through `downsample` if its shape would differ.
    fn add(self, b: &mut Builder, w: &mut Weights, at: &str, x: &str) -> Result<String> {
        let mut out = x.to_owned();
        for (i, shape) in (1..).zip(self.convs()) {
            if i > 1 {
                out = b.unary("Relu", &format!("{at}/relu{}", i - 1), &out);
            }
            out = blocks::conv(b, w, &format!("{at}.conv{i}"), &out, shape)?;
            let gain = if i == self.kind.depth() { RESIDUAL_GAIN } else { 1.0 };
            let (bn, channels) = (format!("{at}.bn{i}"), shape.c_out);
            let norm = blocks::norm_gained(w, &bn, channels, gain)?;
            out = b.batch_norm(&bn, &out, norm);
        }
        let skip = if self.stride == 1 && self.c_in == self.wide {
            x.to_owned()
        } else {
            let spec = strided(self.stride, 0);
            let shape = ConvShape { spec, ..ConvShape::pointwise(self.c_in, self.wide) };
            let skip = blocks::conv(b, w, &format!("{at}.downsample.0"), x, shape)?;
            blocks::batch_norm(b, w, &format!("{at}.downsample.1"), &skip, self.wide)?
        };
        let sum = b.binary("Add", &format!("{at}/add"), &out, &skip);
        Ok(b.unary("Relu", &format!("{at}.relu"), &sum))
    }
}

fn strided(stride: usize, pad: usize) -> Conv2d {
    Conv2d { stride, pad, groups: 1 }
}
