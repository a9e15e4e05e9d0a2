//! The omni-scale block: four streams of one to four light convolutions under one shared gate.

use tapetum_runtime::{Error, Result};

use crate::graph::{Builder, Conv2d, Kernel};
use crate::zoo::Weights;
use crate::zoo::blocks::{self, ConvShape};

/// The streams work on the block's output channels divided by this.
pub const SQUEEZE: usize = 4;
/// The gate works on the streams' channels divided by this.
const GATE: usize = 16;
/// Fewest output channels of a block: one hidden channel in the gate.
pub const SMALLEST: usize = SQUEEZE * GATE;

/// Made-up last BatchNorms of the blocks are scaled by this, so that four streams and the skip stay in range.
const RESIDUAL_GAIN: f32 = 0.25;
/// Made-up kernels without a ReLU behind them are scaled by this: the usual ones make up for the half that it drops.
const LINEAR_GAIN: f32 = 0.7;

/// Light convolutions of each stream.
struct Stream {
    name: &'static str,
    /// Each sees two pixels further.
    depth: usize,
}

const STREAMS: [Stream; 4] = [
    Stream { name: "conv2a", depth: 1 },
    Stream { name: "conv2b", depth: 2 },
    Stream { name: "conv2c", depth: 3 },
    Stream { name: "conv2d", depth: 4 },
];

impl Stream {
    /// Names of the light convolutions; a single one is not in a list.
    fn layers(&self, block: &str) -> Vec<String> {
        match self.depth {
            1 => vec![format!("{block}.{}", self.name)],
            n => (0..n).map(|i| format!("{block}.{}.{i}", self.name)).collect(),
        }
    }
}

/// Channels of a block.
#[derive(Clone, Copy, Debug)]
pub struct Block {
    /// Of its input.
    pub c_in: usize,
    /// Of its output.
    pub c_out: usize,
}

/// Adds a block over `x` `[N, C_in, H, W]`:
/// `relu(bn(conv3(Σ gate(streamᵢ(conv1(x))))) + x)`, `[N, C_out, H, W]`, where the last x goes through a 1×1
/// convolution and BatchNorm if the channels differ.
///
/// # Errors
/// As [`Weights::take`].
pub fn block(b: &mut Builder, w: &mut Weights, at: &str, x: &str, s: Block) -> Result<String> {
    let mid = s.c_out / SQUEEZE;
    let narrow = conv_bn_relu(b, w, &format!("{at}.conv1"), x, ConvShape::pointwise(s.c_in, mid))?;
    let gate = Gate::take(b, w, &format!("{at}.gate"), mid)?;
    let mut sum: Option<String> = None;
    for stream in &STREAMS {
        let out =
            stream.layers(at).iter().try_fold(narrow.clone(), |x, layer| light_conv(b, w, layer, &x, mid))?;
        let gated = gate.apply(b, stream.name, &out);
        sum = Some(match sum {
            None => gated,
            Some(sum) => b.binary("Add", &format!("{at}/sum_{}", stream.name), &sum, &gated),
        });
    }
    let sum = sum.ok_or_else(|| Error::internal("an OSNet block has no streams"))?;
    let wide = format!("{at}.conv3.conv");
    let wide = blocks::conv(b, w, &wide, &sum, ConvShape::pointwise(mid, s.c_out))?;
    let bn = format!("{at}.conv3.bn");
    let norm = blocks::norm_gained(w, &bn, s.c_out, RESIDUAL_GAIN)?;
    let wide = b.batch_norm(&bn, &wide, norm);
    let skip = if s.c_in == s.c_out {
        x.to_owned()
    } else {
        conv_bn(b, w, &format!("{at}.downsample"), x, ConvShape::pointwise(s.c_in, s.c_out))?
    };
    let both = b.binary("Add", &format!("{at}/add"), &wide, &skip);
    Ok(b.unary("Relu", &format!("{at}/relu"), &both))
}

/// Adds a convolution and its BatchNorm: `at.conv`, `at.bn`.
///
/// # Errors
/// As [`Weights::take`].
pub fn conv_bn(b: &mut Builder, w: &mut Weights, at: &str, x: &str, s: ConvShape) -> Result<String> {
    let out = blocks::conv(b, w, &format!("{at}.conv"), x, s)?;
    blocks::batch_norm(b, w, &format!("{at}.bn"), &out, s.c_out)
}

/// Adds [`conv_bn`] and a ReLU.
///
/// # Errors
/// As [`Weights::take`].
pub fn conv_bn_relu(b: &mut Builder, w: &mut Weights, at: &str, x: &str, s: ConvShape) -> Result<String> {
    let out = conv_bn(b, w, at, x, s)?;
    Ok(b.unary("Relu", &format!("{at}.relu"), &out))
}

/// Adds a 1×1 convolution, a depthwise 3×3 one, BatchNorm and ReLU. Nothing stands between the two convolutions; they
/// stay apart because together they would be a dense 3×3 one.
fn light_conv(b: &mut Builder, w: &mut Weights, at: &str, x: &str, channels: usize) -> Result<String> {
    let name = format!("{at}.conv1");
    let weight = w.take_gained(&format!("{name}.weight"), &[channels, channels, 1, 1], LINEAR_GAIN)?;
    let mixed = b.conv(&name, x, weight, None, Conv2d::default());
    let spec = Conv2d { stride: 1, pad: 1, groups: channels };
    let depthwise = ConvShape { c_in: channels, c_out: channels, kernel: 3, spec, bias: false };
    let out = blocks::conv(b, w, &format!("{at}.conv2"), &mixed, depthwise)?;
    let out = blocks::batch_norm(b, w, &format!("{at}.bn"), &out, channels)?;
    Ok(b.unary("Relu", &format!("{at}.relu"), &out))
}

/// The channel gate that the streams of a block share; its tensors are stored once.
struct Gate {
    at: String,
    down: Pointwise,
    up: Pointwise,
}

/// Names of a 1×1 convolution's weight and bias in the graph.
struct Pointwise {
    weight: String,
    bias: String,
}

impl Gate {
    fn take(b: &mut Builder, w: &mut Weights, at: &str, channels: usize) -> Result<Self> {
        let hidden = channels / GATE;
        Ok(Self {
            at: at.to_owned(),
            down: Pointwise::take(b, w, &format!("{at}.fc1"), channels, hidden)?,
            up: Pointwise::take(b, w, &format!("{at}.fc2"), hidden, channels)?,
        })
    }

    /// `x · sigmoid(fc2(relu(fc1(mean(x)))))` for the stream called `stream`.
    fn apply(&self, b: &mut Builder, stream: &str, x: &str) -> String {
        let at = format!("{}/{stream}", self.at);
        let mean = b.unary("GlobalAveragePool", &format!("{at}.mean"), x);
        let down = self.down.apply(b, &format!("{at}.fc1"), &mean);
        let down = b.unary("Relu", &format!("{at}.relu"), &down);
        let up = self.up.apply(b, &format!("{at}.fc2"), &down);
        let open = b.unary("Sigmoid", &format!("{at}.sigmoid"), &up);
        b.binary("Mul", &at, x, &open)
    }
}

impl Pointwise {
    fn take(b: &mut Builder, w: &mut Weights, name: &str, c_in: usize, c_out: usize) -> Result<Self> {
        let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
        let [kernel, shift] = [w.take(&weight, &[c_out, c_in, 1, 1])?, w.take(&bias, &[c_out])?];
        Ok(Self { weight: b.param(&weight, kernel), bias: b.param(&bias, shift) })
    }

    fn apply(&self, b: &mut Builder, name: &str, x: &str) -> String {
        let kernel = Kernel { weight: &self.weight, bias: Some(&self.bias), size: [1, 1] };
        b.conv_with(name, x, kernel, Conv2d::default())
    }
}
