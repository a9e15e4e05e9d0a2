//! The layers between input and output.

use tapetum_runtime::Result;

use super::attention::{self, Attention};
use super::deconv::detail_conv;
use super::{BOTTOM, DOWN_1, DOWN_2, DeaNet, Stack, UP_1, UP_2};
use crate::graph::{Builder, Conv2d, ConvTranspose2d};
use crate::zoo::blocks::{self, ConvShape};
use crate::zoo::{Form, Weights};

/// Every channel attention but that of `mix2` works on an eighth of the channels.
const REDUCTION: usize = 8;
const REDUCTION_MIX_2: usize = 4;

/// Made-up second convolutions of the blocks are scaled by this, so that a chain of residual blocks stays in range.
const RESIDUAL_GAIN: f32 = 0.15;

/// Adds the network over `image` `[N, 3, H, W]` (H and W multiples of 4); returns the dehazed image, same shape.
///
/// # Errors
/// As [`Weights::take`].
pub fn network(b: &mut Builder, w: &mut Weights, image: &str, net: DeaNet) -> Result<String> {
    let c = net.base_dim;
    // Encoder: full, half and quarter resolution with C, 2C and 4C channels.
    let full = conv3(b, w, "down1.0", image, Conv3 { c_in: 3, c_out: c, stride: 1 })?;
    let full = stack(b, w, &full, DOWN_1, net)?;
    let half = conv3(b, w, "down2.0", &full, Conv3 { c_in: c, c_out: 2 * c, stride: 2 })?;
    let half = b.unary("Relu", "down2.1", &half);
    let half_deep = conv3(b, w, "fe_level_2", &half, Conv3 { c_in: 2 * c, c_out: 2 * c, stride: 1 })?;
    let half_deep = stack(b, w, &half_deep, DOWN_2, net)?;
    let quarter = conv3(b, w, "down3.0", &half_deep, Conv3 { c_in: 2 * c, c_out: 4 * c, stride: 2 })?;
    let quarter = b.unary("Relu", "down3.1", &quarter);
    let deep = conv3(b, w, "fe_level_3", &quarter, Conv3 { c_in: 4 * c, c_out: 4 * c, stride: 1 })?;
    let deep = stack(b, w, &deep, BOTTOM, net)?;
    // Decoder: each level mixes the encoder's features before their blocks with what comes from below.
    let at_quarter = Attention { channels: 4 * c, reduction: REDUCTION };
    let mixed = attention::fusion(b, w, "mix1", &quarter, &deep, at_quarter)?;
    let up = upsample(b, w, "up1", &mixed, 4 * c)?;
    let up = stack(b, w, &up, UP_2, net)?;
    let at_half = Attention { channels: 2 * c, reduction: REDUCTION_MIX_2 };
    let mixed = attention::fusion(b, w, "mix2", &half, &up, at_half)?;
    let up = upsample(b, w, "up2", &mixed, 2 * c)?;
    let up = stack(b, w, &up, UP_1, net)?;
    conv3(b, w, "up3.0", &up, Conv3 { c_in: c, c_out: 3, stride: 1 })
}

/// Adds the blocks of `stack`, one after the other.
fn stack(b: &mut Builder, w: &mut Weights, x: &str, stack: Stack, net: DeaNet) -> Result<String> {
    let channels = net.base_dim * stack.width;
    stack.blocks().try_fold(x.to_owned(), |x, at| block(b, w, &at, &x, channels, stack.attends, net.form))
}

/// Adds a block over `x` `[N, C, H, W]`: `r = conv2(relu(conv1(x)) + x)`, then `r + x`, or
/// `r · attention(r) + x` in a block that attends.
fn block(
    b: &mut Builder,
    w: &mut Weights,
    at: &str,
    x: &str,
    channels: usize,
    attends: bool,
    form: Form,
) -> Result<String> {
    let detail = detail_conv(b, w, &format!("{at}.conv1"), x, channels, form)?;
    let active = b.unary("Relu", &format!("{at}.act1"), &detail);
    let sum = b.binary("Add", &format!("{at}/add1"), &active, x);
    let name = format!("{at}.conv2");
    let weight = w.take_gained(&format!("{name}.weight"), &[channels, channels, 3, 3], RESIDUAL_GAIN)?;
    let bias = w.take(&format!("{name}.bias"), &[channels])?;
    let mut r = b.conv(&name, &sum, weight, Some(bias), Conv2d { pad: 1, ..Conv2d::default() });
    if attends {
        let weights = attention::attention(b, w, at, &r, Attention { channels, reduction: REDUCTION })?;
        r = b.binary("Mul", &format!("{at}/attend"), &r, &weights);
    }
    Ok(b.binary("Add", &format!("{at}/add2"), &r, x))
}

/// Adds `at.0`, which doubles the extents and halves the channels, and its ReLU `at.1`.
fn upsample(b: &mut Builder, w: &mut Weights, at: &str, x: &str, c_in: usize) -> Result<String> {
    let (name, c_out) = (format!("{at}.0"), c_in / 2);
    let weight = w.take(&format!("{name}.weight"), &[c_in, c_out, 3, 3])?;
    let bias = w.take(&format!("{name}.bias"), &[c_out])?;
    let doubling = ConvTranspose2d { stride: 2, pad: 1, output_pad: 1 };
    let up = b.conv_transpose(&name, x, weight, Some(bias), doubling);
    Ok(b.unary("Relu", &format!("{at}.1"), &up))
}

/// A 3×3 convolution with bias and padding 1.
struct Conv3 {
    c_in: usize,
    c_out: usize,
    stride: usize,
}

fn conv3(b: &mut Builder, w: &mut Weights, name: &str, x: &str, s: Conv3) -> Result<String> {
    let spec = Conv2d { stride: s.stride, pad: 1, groups: 1 };
    blocks::conv(b, w, name, x, ConvShape { c_in: s.c_in, c_out: s.c_out, kernel: 3, spec, bias: true })
}
