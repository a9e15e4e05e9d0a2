//! The detail-enhanced convolution: four difference convolutions and a plain one, summed.

use tapetum_runtime::{Error, Result};

use crate::checkpoint::StateDict;
use crate::graph::{Builder, Conv2d, Kernel};
use crate::zoo::blocks::{self, ConvShape};
use crate::zoo::difference::Difference;
use crate::zoo::{Form, Weights};

/// A 3×3 convolution with bias that keeps the extents.
const SAME: Conv2d = Conv2d { stride: 1, pad: 1, groups: 1 };

/// Made-up difference kernels are scaled by this: the five branches together then weigh about as much as one plain
/// convolution.
const BRANCH_GAIN: f32 = 0.3;

/// Name of branch `number` (from 1) of the convolution at `at`: the difference convolutions wrap theirs once more.
fn branch(at: &str, number: usize) -> String {
    let inner = if number <= Difference::ALL.len() { ".conv" } else { "" };
    format!("{at}.conv1_{number}{inner}")
}

/// The form of the convolution at `at`, told by its names.
///
/// # Errors
/// [`tapetum_runtime::ErrorKind::BadFile`] if the names of both forms are there, or of neither.
pub fn form(state: &StateDict, at: &str) -> Result<Form> {
    let (plain, first) = (format!("{at}.weight"), format!("{}.weight", branch(at, 1)));
    let branches = format!("{at}.conv1_");
    let trained = state.names().any(|n| n.starts_with(&branches));
    match (state.contains(&plain), trained) {
        (true, false) => Ok(Form::Deployment),
        (false, true) => Ok(Form::Training),
        (true, true) => Err(Error::bad_file(format!(
            "DEA-Net: {at:?} is there twice, folded ({plain:?}) and as branches ({branches}..); \
             a checkpoint holds one of them"
        ))),
        (false, false) => {
            Err(Error::bad_file(format!("DEA-Net: {at:?} has neither {plain:?} nor {first:?}")))
        }
    }
}

/// Adds the convolution at `at` over `x` `[N, C, H, W]` in the given form; the extents stay.
///
/// Training form: `Σ conv(x, wᵢ · Dᵢ) + bᵢ` over the branches, with `Dᵢ` of [`Difference::matrix`] and the identity for
/// the last; the kernels are computed in the graph, from the tensors as trained.
///
/// # Errors
/// As [`Weights::take`].
pub fn detail_conv(
    b: &mut Builder,
    w: &mut Weights,
    at: &str,
    x: &str,
    channels: usize,
    form: Form,
) -> Result<String> {
    if form == Form::Deployment {
        let shape = ConvShape { c_in: channels, c_out: channels, kernel: 3, spec: SAME, bias: true };
        return blocks::conv(b, w, at, x, shape);
    }
    let mut sum: Option<String> = None;
    for (i, difference) in Difference::ALL.into_iter().map(Some).chain([None]).enumerate() {
        let name = branch(at, i + 1);
        let out = match difference {
            Some(difference) => difference_conv(b, w, &name, x, channels, difference)?,
            None => {
                let weight =
                    w.take_gained(&format!("{name}.weight"), &[channels, channels, 3, 3], BRANCH_GAIN)?;
                let bias = w.take(&format!("{name}.bias"), &[channels])?;
                b.conv(&name, x, weight, Some(bias), SAME)
            }
        };
        sum = Some(match sum {
            None => out,
            Some(sum) => b.binary("Add", &format!("{at}/sum{}", i + 1), &sum, &out),
        });
    }
    sum.ok_or_else(|| Error::internal(format!("{at:?} has no branches")))
}

/// Adds one difference convolution: `name.weight` `[C, C, ..taps]` → rows of taps → `· D` → `[C, C, 3, 3]` → Conv.
fn difference_conv(
    b: &mut Builder,
    w: &mut Weights,
    name: &str,
    x: &str,
    channels: usize,
    difference: Difference,
) -> Result<String> {
    let weight_name = format!("{name}.weight");
    let shape = [&[channels, channels], difference.taps_shape()].concat();
    let raw = w.take_gained(&weight_name, &shape, BRANCH_GAIN)?;
    let raw = b.param(&weight_name, raw);
    let bias = w.take(&format!("{name}.bias"), &[channels])?;
    let bias = b.param(&format!("{name}.bias"), bias);
    let matrix = b.helper(&format!("difference/{}", difference.name()), difference.tensor());
    let rows = b.reshape(&format!("{name}/rows"), &raw, &[-1, difference.taps() as i64]);
    let flat = b.binary("MatMul", &format!("{name}/difference"), &rows, &matrix);
    let kernel = b.reshape(&format!("{name}/kernel"), &flat, &[channels as i64, channels as i64, 3, 3]);
    Ok(b.conv_with(name, x, Kernel { weight: &kernel, bias: Some(&bias), size: [3, 3] }, SAME))
}
