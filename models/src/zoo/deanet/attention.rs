//! Content-guided attention: spatial and channel attention guide a per-pixel one, which also mixes skips.

use tapetum_runtime::Result;

use crate::graph::{Attr, Builder, Conv2d};
use crate::zoo::Weights;
use crate::zoo::blocks::{self, ConvShape};

/// Made-up 1×1 convolutions behind a fusion are scaled by this: x and y both arrive about one and a half times.
const FUSION_GAIN: f32 = 0.3;

/// Extents of one attention.
#[derive(Clone, Copy, Debug)]
pub struct Attention {
    /// Channels C of the feature map.
    pub channels: usize,
    /// The channel attention works on C / this.
    pub reduction: usize,
}

/// Adds the attention weights of `x` `[N, C, H, W]` below `at`:
/// `sigmoid(conv7×7(interleave(x, sa(x) + ca(x))))`, `[N, C, H, W]`.
///
/// # Errors
/// As [`Weights::take`].
pub fn attention(b: &mut Builder, w: &mut Weights, at: &str, x: &str, a: Attention) -> Result<String> {
    let spatial = spatial(b, w, &format!("{at}.sa"), x)?;
    let channel = channel(b, w, &format!("{at}.ca"), x, a)?;
    let guide = b.binary("Add", &format!("{at}/guide"), &spatial, &channel);
    pixel(b, w, &format!("{at}.pa"), x, &guide, a.channels)
}

/// Adds the fusion of `x` and `y` `[N, C, H, W]` below `at`: `conv1×1(i + g·x + (1 − g)·y)` with `i = x + y` and
/// `g = sigmoid(attention(i))`. The attention ends in a sigmoid already; the network was trained with both.
///
/// # Errors
/// As [`Weights::take`].
pub fn fusion(b: &mut Builder, w: &mut Weights, at: &str, x: &str, y: &str, a: Attention) -> Result<String> {
    let both = b.binary("Add", &format!("{at}/both"), x, y);
    let weights = attention(b, w, at, &both, a)?;
    let gate = b.unary("Sigmoid", &format!("{at}/gate"), &weights);
    let one = b.float(1.0);
    let rest = b.binary("Sub", &format!("{at}/rest"), &one, &gate);
    let from_x = b.binary("Mul", &format!("{at}/from_x"), &gate, x);
    let from_y = b.binary("Mul", &format!("{at}/from_y"), &rest, y);
    let sum = b.binary("Add", &format!("{at}/sum_x"), &both, &from_x);
    let sum = b.binary("Add", &format!("{at}/sum_y"), &sum, &from_y);
    let name = format!("{at}.conv");
    let weight = w.take_gained(&format!("{name}.weight"), &[a.channels, a.channels, 1, 1], FUSION_GAIN)?;
    let bias = w.take(&format!("{name}.bias"), &[a.channels])?;
    Ok(b.conv(&name, &sum, weight, Some(bias), Conv2d::default()))
}

/// `[N, 1, H, W]` from the mean and the maximum over the channels.
fn spatial(b: &mut Builder, w: &mut Weights, at: &str, x: &str) -> Result<String> {
    let over_channels = [("axes", Attr::Ints(vec![1])), ("keepdims", Attr::Int(1))];
    let mean = b.op("ReduceMean", &format!("{at}/mean"), &[x], &over_channels);
    let max = b.op("ReduceMax", &format!("{at}/max"), &[x], &over_channels);
    let both = b.concat(&format!("{at}/mean_max"), &[&mean, &max], 1);
    reflect_conv7(b, w, &format!("{at}.sa"), &both, 2, 1, 1)
}

/// `[N, C, 1, 1]` from the mean over the pixels; no sigmoid here.
fn channel(b: &mut Builder, w: &mut Weights, at: &str, x: &str, a: Attention) -> Result<String> {
    let hidden = a.channels / a.reduction;
    let mean = b.unary("GlobalAveragePool", &format!("{at}.gap"), x);
    let down = blocks::conv(b, w, &format!("{at}.ca.0"), &mean, pointwise(a.channels, hidden))?;
    let active = b.unary("Relu", &format!("{at}.ca.1"), &down);
    blocks::conv(b, w, &format!("{at}.ca.2"), &active, pointwise(hidden, a.channels))
}

/// `[N, C, H, W]` in 0..1 from each channel beside its guide.
fn pixel(
    b: &mut Builder,
    w: &mut Weights,
    at: &str,
    x: &str,
    guide: &str,
    channels: usize,
) -> Result<String> {
    // Below each other, then relabelled: rows of [N, C, 2H, W] are those of [N, 2C, H, W] with x₀, p₀, x₁, p₁, ..
    let stacked = b.concat(&format!("{at}/stack"), &[x, guide], 2);
    let pairs = b.reshape(&format!("{at}/interleave"), &stacked, &[0, 2 * channels as i64, -1, 0]);
    let mixed = reflect_conv7(b, w, &format!("{at}.pa2"), &pairs, 2 * channels, channels, channels)?;
    Ok(b.unary("Sigmoid", &format!("{at}.sigmoid"), &mixed))
}

/// 7×7 convolution with bias over a border of 3 reflected cells; the extents (at least 4) stay.
fn reflect_conv7(
    b: &mut Builder,
    w: &mut Weights,
    name: &str,
    x: &str,
    c_in: usize,
    c_out: usize,
    groups: usize,
) -> Result<String> {
    let border = b.ints(&[0, 0, 3, 3, 0, 0, 3, 3]);
    let reflect = [("mode", Attr::Str("reflect".into()))];
    let padded = b.op("Pad", &format!("{name}/reflect"), &[x, &border], &reflect);
    let spec = Conv2d { groups, ..Conv2d::default() };
    blocks::conv(b, w, name, &padded, ConvShape { c_in, c_out, kernel: 7, spec, bias: true })
}

/// A 1×1 convolution with bias.
fn pointwise(c_in: usize, c_out: usize) -> ConvShape {
    ConvShape { bias: true, ..ConvShape::pointwise(c_in, c_out) }
}
