//! Layers that several networks share.

use tapetum_runtime::Result;

use super::Weights;
use crate::graph::{Builder, Conv2d, Norm};

/// PyTorch's default ε, which every network here uses for BatchNorm and LayerNorm.
pub const EPS: f32 = 1e-5;

/// Takes BatchNorm `name.{weight, bias, running_mean, running_var}` of `channels`.
///
/// # Errors
/// As [`Weights::take`].
pub fn norm(w: &mut Weights, name: &str, channels: usize) -> Result<Norm> {
    let mut part = |part: &str| w.take(&format!("{name}.{part}"), &[channels]);
    Ok(Norm {
        gamma: part("weight")?,
        beta: part("bias")?,
        mean: part("running_mean")?,
        var: part("running_var")?,
        eps: EPS,
    })
}

/// Adds BatchNorm `name` over `channels`.
///
/// # Errors
/// As [`Weights::take`].
pub fn batch_norm(b: &mut Builder, w: &mut Weights, name: &str, x: &str, channels: usize) -> Result<String> {
    let norm = norm(w, name, channels)?;
    Ok(b.batch_norm(name, x, norm))
}

/// Shape of one convolution layer.
#[derive(Clone, Copy, Debug)]
pub struct ConvShape {
    /// Input channels.
    pub c_in: usize,
    /// Output channels.
    pub c_out: usize,
    /// Square kernel size.
    pub kernel: usize,
    /// Stride, padding and groups.
    pub spec: Conv2d,
    /// Whether there is a bias.
    pub bias: bool,
}

/// Adds convolution `name.weight` (and `name.bias`).
///
/// # Errors
/// As [`Weights::take`].
pub fn conv(b: &mut Builder, w: &mut Weights, name: &str, x: &str, s: ConvShape) -> Result<String> {
    let shape = [s.c_out, s.c_in / s.spec.groups, s.kernel, s.kernel];
    let weight = w.take(&format!("{name}.weight"), &shape)?;
    let bias = s.bias.then(|| w.take(&format!("{name}.bias"), &[s.c_out])).transpose()?;
    Ok(b.conv(name, x, weight, bias, s.spec))
}
