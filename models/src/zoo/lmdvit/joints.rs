//! What joins the layers: convolutions between pictures and tokens, and between resolutions.
//!
//! All tokens of a plane go through these, whatever the predictors decide, so they are written with as few passes over
//! the map as possible: a transposition next to a convolution has the axes of `[1, H, W, C]` and `[1, C, H, W]`, which
//! ONNX Runtime takes into its own change of layout, and what is linear in each token is a matrix product.

use tapetum_runtime::{Result, Tensor};

use super::emit::{Emit, turned};
use super::plane::{Part, Plane};
use crate::graph::{Attr, Conv2d};
use crate::zoo::blocks::{ConvShape, conv};

/// Slope of `input_proj`'s LeakyReLU for negative values.
const LEAK: f32 = 0.01;

/// Adds `input_proj`, a 3×3 convolution with LeakyReLU: image `[1, 3, H, W]` → tokens `[H·W, width]`.
///
/// # Errors
/// As [`crate::zoo::Weights::take`].
pub(super) fn input_proj(e: &mut Emit, image: &str, width: usize) -> Result<String> {
    let spec = Conv2d { pad: 1, ..Conv2d::default() };
    let shape = ConvShape { c_in: 3, c_out: width, kernel: 3, spec, bias: true };
    let x = conv(&mut e.b, e.w, "input_proj.proj.0", image, shape)?;
    let x = e.b.op("LeakyRelu", "input_proj.proj.1", &[&x], &[("alpha", Attr::Float(LEAK))]);
    Ok(tokens(e, "input_proj.proj", &x, width))
}

/// Adds `dowsample_{i}`, a 4×4 convolution: tokens `x [H·W, width]` of `plane` → `[H/2·W/2, 2·width]`.
///
/// # Errors
/// As [`crate::zoo::Weights::take`].
pub(super) fn down(e: &mut Emit, i: usize, x: &str, width: usize, plane: &Plane) -> Result<String> {
    let name = format!("dowsample_{i}.conv.0");
    let parts = [Part::Just(1), Part::Rows(1), Part::Cols(1), Part::Just(width as i64)];
    let map = plane.reshape(e, &format!("{name}/map"), x, &parts);
    let image = e.b.transpose(&format!("{name}/image"), &map, &[0, 3, 1, 2]);
    let spec = Conv2d { stride: 2, pad: 1, ..Conv2d::default() };
    let shape = ConvShape { c_in: width, c_out: 2 * width, kernel: 4, spec, bias: true };
    let x = conv(&mut e.b, e.w, &name, &image, shape)?;
    Ok(tokens(e, &name, &x, 2 * width))
}

/// Adds `upsample_{i}`: tokens `x [H·W, c_in]` of `plane` → `[2H·2W, c_out]`.
///
/// The kernels of a transposed 2×2 convolution with stride 2 do not overlap: each token is multiplied by one matrix
/// `[c_in, 2·2·c_out]`, which makes the four tokens that come of it.
///
/// # Errors
/// As [`crate::zoo::Weights::take`].
pub(super) fn up(
    e: &mut Emit,
    i: usize,
    x: &str,
    [c_in, c_out]: [usize; 2],
    plane: &Plane,
) -> Result<String> {
    let name = format!("upsample_{i}.deconv.0");
    let kernel = e.w.take(&format!("{name}.weight"), &[c_in, c_out, 2, 2])?;
    let by_place = kernel.f32s()?.chunks(4 * c_out).flat_map(|of_input| turned(of_input, c_out, 4)).collect();
    let weight = e.b.param(&format!("{name}.weight"), Tensor::new(&[c_in, 4 * c_out], by_place)?);
    let bias = e.param(&format!("{name}.bias"), &[c_out])?;
    let bias = e.b.concat(&format!("{name}.bias/of_four"), &[bias.as_str(); 4], 0);
    let x = e.affine(&name, x, &weight, &bias);
    let parts = [Part::Rows(1), Part::Cols(1), Part::Just(2), Part::Just(2 * c_out as i64)];
    let x = plane.reshape(e, &format!("{name}/blocks"), &x, &parts);
    let x = e.b.transpose(&format!("{name}/lines"), &x, &[0, 2, 1, 3]);
    Ok(e.b.reshape(&format!("{name}/tokens"), &x, &[-1, c_out as i64]))
}

/// Adds `output_proj`, a 3×3 convolution: tokens `x [H·W, width]` of `plane` → image `[1, c_out, H, W]`.
///
/// With so few channels to make, what each token gives to each of its nine neighbours is computed token by token, as
/// nine images `[9·c_out, H·W]` (`z[k] = W[k]·xᵀ`), and these are added up, each moved by its place in the kernel. The
/// wide map is read once and never transposed.
///
/// # Errors
/// As [`crate::zoo::Weights::take`].
pub(super) fn output_proj(
    e: &mut Emit,
    x: &str,
    width: usize,
    c_out: usize,
    plane: &Plane,
) -> Result<String> {
    let name = "output_proj.proj.0";
    let kernel = e.w.take(&format!("{name}.weight"), &[c_out, width, 3, 3])?;
    let by_place = turned(kernel.f32s()?, c_out * width, 9);
    let weight = e.b.param(&format!("{name}.weight"), Tensor::new(&[9 * c_out, width], by_place)?);
    let bias = e.param(&format!("{name}.bias"), &[c_out])?;
    let bias = e.b.reshape(&format!("{name}.bias/planes"), &bias, &[1, c_out as i64, 1, 1]);

    let shares = e.b.op("Gemm", &format!("{name}/shares"), &[&weight, x], &[("transB", Attr::Int(1))]);
    let parts = [Part::Just(9), Part::Just(c_out as i64), Part::Rows(1), Part::Cols(1)];
    let shares = plane.reshape(e, &format!("{name}/images"), &shares, &parts);
    let border = e.b.ints(&[0, 0, 1, 1, 0, 0, 1, 1]);
    let shares = e.b.binary("Pad", &format!("{name}/bordered"), &shares, &border);
    let axes = e.b.ints(&[0, 2, 3]);
    let mut moved = Vec::new();
    for k in 0..9 {
        let (row, col) = (k / 3, k % 3);
        // Of `n + 2` values, the `n` from `from` on.
        let end = |from: i64| if from == 2 { i64::MAX } else { from - 2 };
        let start = e.b.ints(&[k, row, col]);
        let end = e.b.ints(&[k + 1, end(row), end(col)]);
        moved.push(e.b.op("Slice", &format!("{name}/moved_{k}"), &[&shares, &start, &end, &axes], &[]));
    }
    moved.push(bias);
    let moved: Vec<&str> = moved.iter().map(String::as_str).collect();
    Ok(e.b.op("Sum", name, &moved, &[]))
}

/// Image `[1, C, H, W]` → tokens `[H·W, C]`.
fn tokens(e: &mut Emit, name: &str, image: &str, channels: usize) -> String {
    let map = e.b.transpose(&format!("{name}/interleaved"), image, &[0, 2, 3, 1]);
    e.b.reshape(&format!("{name}/tokens"), &map, &[-1, channels as i64])
}
