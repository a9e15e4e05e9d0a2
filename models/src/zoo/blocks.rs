//! Layers that several networks share.

use std::collections::BTreeSet;

use tapetum_runtime::{Error, Result};

use super::{Family, InputSize, SizeRule, Weights};
use crate::checkpoint::StateDict;
use crate::graph::{Attr, Builder, Conv2d, Norm};

/// PyTorch's default ε, which every network here uses for BatchNorm and LayerNorm.
pub const EPS: f32 = 1e-5;

/// Why the classifier of a re-identification network is left aside.
pub const CLASSIFIER_UNUSED: &str =
    "classifies the identities of the training set; the feature before it is the result";

/// Takes BatchNorm `name.{weight, bias, running_mean, running_var}` of `channels`.
///
/// # Errors
/// As [`Weights::take`].
pub fn norm(w: &mut Weights, name: &str, channels: usize) -> Result<Norm> {
    norm_gained(w, name, channels, 1.0)
}

/// As [`norm`], with a made-up γ scaled by `gain`; see [`Weights::take_gained`].
///
/// # Errors
/// As [`Weights::take`].
pub fn norm_gained(w: &mut Weights, name: &str, channels: usize, gain: f32) -> Result<Norm> {
    let gamma = w.take_gained(&format!("{name}.weight"), &[channels], gain)?;
    let mut part = |part: &str| w.take(&format!("{name}.{part}"), &[channels]);
    Ok(Norm { gamma, beta: part("bias")?, mean: part("running_mean")?, var: part("running_var")?, eps: EPS })
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

impl ConvShape {
    /// A 1×1 convolution without bias.
    pub fn pointwise(c_in: usize, c_out: usize) -> Self {
        Self { c_in, c_out, kernel: 1, spec: Conv2d::default(), bias: false }
    }
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

/// Adds fully connected layer `name.{weight, bias}` on `[N, c_in]`; returns `[N, c_out]`.
///
/// # Errors
/// As [`Weights::take`].
pub fn linear(
    b: &mut Builder,
    w: &mut Weights,
    name: &str,
    x: &str,
    c_in: usize,
    c_out: usize,
) -> Result<String> {
    let weight = w.take(&format!("{name}.weight"), &[c_out, c_in])?;
    let bias = w.take(&format!("{name}.bias"), &[c_out])?;
    let weight = b.param(&format!("{name}.weight"), weight);
    let bias = b.param(&format!("{name}.bias"), bias);
    Ok(b.op("Gemm", name, &[x, &weight, &bias], &[("transB", Attr::Int(1))]))
}

/// Mean over the image: `[N, C, H, W]` to `[N, C]`.
pub fn global_average(b: &mut Builder, name: &str, x: &str) -> String {
    let pooled = b.unary("GlobalAveragePool", name, x);
    b.op("Flatten", &format!("{name}/flatten"), &[&pooled], &[("axis", Attr::Int(1))])
}

/// The largest image extent that a graph is built for; beyond it, sizes are typing mistakes.
pub const MAX_EXTENT: usize = 1 << 15;

/// Checks a fixed `size` against `rule`, on behalf of `network`.
///
/// # Errors
/// [`tapetum_runtime::ErrorKind::InvalidConfig`] with the rule and the size.
pub fn check_size(network: &str, rule: &SizeRule, size: InputSize) -> Result<()> {
    let InputSize::Fixed { height, width } = size else { return Ok(()) };
    let multiple = rule.fixed_multiple.max(1);
    let fits = |n: usize| n.is_multiple_of(multiple) && (rule.min..=MAX_EXTENT).contains(&n);
    if fits(height) && fits(width) {
        return Ok(());
    }
    let every = if multiple == 1 { String::new() } else { format!("multiples of {multiple}, ") };
    Err(Error::config(format!(
        "{network} takes heights and widths that are {every}at least {} and at most {MAX_EXTENT}; got {height}×{width} \
         (height × width)",
        rule.min
    )))
}

/// The number of `parent.{i}`.
///
/// # Errors
/// [`tapetum_runtime::ErrorKind::BadFile`] if they are not counted from 0 without a gap.
pub fn count_children(state: &StateDict, parent: &str) -> Result<usize> {
    let index = |name: &str| -> Option<usize> {
        name.strip_prefix(parent)?.strip_prefix('.')?.split('.').next()?.parse().ok()
    };
    let found: BTreeSet<usize> = state.names().filter_map(index).collect();
    match (0..found.len()).find(|i| !found.contains(i)) {
        None => Ok(found.len()),
        Some(gap) => {
            let last = found.last().copied().unwrap_or(gap);
            Err(Error::bad_file(format!("checkpoint has {parent}.{last} but no {parent}.{gap}")))
        }
    }
}

/// The number of outputs of fully connected layer or 1×1 convolution `name`.
///
/// # Errors
/// [`tapetum_runtime::ErrorKind::BadFile`] if there is none.
pub fn linear_outputs(state: &StateDict, name: &str) -> Result<usize> {
    let weight = format!("{name}.weight");
    match state.shape(&weight) {
        Some(&[outputs, _, ..]) if outputs > 0 => Ok(outputs),
        Some(shape) => Err(Error::bad_file(format!("{weight:?} is {shape:?}; it has no outputs"))),
        None => Err(Error::bad_file(format!("checkpoint has no {weight:?}"))),
    }
}

/// The error for a `variant` that `family` does not have.
pub fn unknown_variant(family: &dyn Family, variant: &str) -> Error {
    let known = family.variants().join(", ");
    Error::config(format!("{} has no variant {variant:?}; there are {known}", family.name()))
}

/// `1-2-3`.
pub fn join<T: ToString>(parts: impl IntoIterator<Item = T>, between: &str) -> String {
    parts.into_iter().map(|p| p.to_string()).collect::<Vec<_>>().join(between)
}

/// Softmax along `axis`.
pub fn softmax(b: &mut Builder, name: &str, x: &str, axis: i64) -> String {
    b.op("Softmax", name, &[x], &[("axis", Attr::Int(axis))])
}
