//! Changing the size of feature maps: bilinear resizing and adaptive pooling, exact for every size.

use tapetum_runtime::{DType, Error, Result, Tensor};

use super::InputSize;
use crate::graph::{Attr, Builder};

/// Rows and columns of a feature map whose size is fixed.
pub type Extent = (usize, usize);

/// The extent of a fixed `size`.
pub fn extent(size: InputSize) -> Option<Extent> {
    match size {
        InputSize::Fixed { height, width } => Some((height, width)),
        InputSize::Dynamic => None,
    }
}

/// Bilinear resize to twice the size, as PyTorch's `interpolate` with `align_corners = False`.
pub fn double(b: &mut Builder, name: &str, x: &str) -> String {
    resize(b, name, x, Target::Scales([2.0, 2.0]))
}

/// Bilinear resize of the fixed size `from` to `to`.
///
/// # Errors
/// [`tapetum_runtime::ErrorKind::InvalidConfig`] if an extent is too large for exact `f32` arithmetic.
pub fn resize_to(b: &mut Builder, name: &str, x: &str, from: Extent, to: Extent) -> Result<String> {
    let scales = [exact_scale(from.0, to.0)?, exact_scale(from.1, to.1)?];
    Ok(resize(b, name, x, Target::Scales(scales)))
}

/// Bilinear resize of `x`, which has `channels`, to the height and width of `like`, decided per run.
pub fn resize_like(b: &mut Builder, name: &str, x: &str, like: &str, channels: usize) -> String {
    let shape = b.unary("Shape", &format!("{name}/shape"), like);
    let batch = b.slice(&format!("{name}/batch"), &shape, 0, 0, 1);
    let plane = b.slice(&format!("{name}/plane"), &shape, 0, 2, 4);
    let channels = b.ints(&[channels as i64]);
    let sizes = b.concat(&format!("{name}/sizes"), &[&batch, &channels, &plane], 0);
    resize(b, name, x, Target::Sizes(&sizes))
}

enum Target<'a> {
    Scales([f32; 2]),
    Sizes(&'a str),
}

fn resize(b: &mut Builder, name: &str, x: &str, target: Target<'_>) -> String {
    let attrs = [
        ("mode", Attr::Str("linear".into())),
        ("coordinate_transformation_mode", Attr::Str("half_pixel".into())),
    ];
    match target {
        Target::Scales([h, w]) => {
            let scales = b.helper(&format!("scales[{h},{w}]"), Tensor::vector(vec![1.0, 1.0, h, w]));
            b.op("Resize", name, &[x, "", &scales], &attrs)
        }
        Target::Sizes(sizes) => b.op("Resize", name, &[x, "", "", sizes], &attrs),
    }
}

/// The smallest `f32` scale that is not less than `to / from`, so that `⌊from · scale⌋ = to` (ONNX's rule for the
/// output's size) in `f32` and in `f64`. Sizes would need the batch, which is open; scales do not.
fn exact_scale(from: usize, to: usize) -> Result<f32> {
    let mut scale = (to as f64 / from as f64) as f32;
    while f64::from(scale) * (from as f64) < to as f64 || ((from as f32 * scale) as usize) < to {
        scale = scale.next_up();
    }
    if (from as f32 * scale) as usize == to && (from as f64 * f64::from(scale)) as usize == to {
        return Ok(scale);
    }
    Err(Error::config(format!("no f32 scale resizes {from} to {to}; choose a smaller input size")))
}

/// Pools `x` to `bins × bins`, bin `i` being the mean of `⌊i·n/bins⌋ .. ⌈(i+1)·n/bins⌉` on each axis, as PyTorch's
/// `AdaptiveAvgPool2d`: bins overlap where `bins` does not divide `n`, and repeat where it is larger.
///
/// Written as `P_h · X · P_wᵀ` with a `[bins, n]` matrix per axis. For a fixed `size` of `x` the matrices are
/// constants; for a dynamic one the graph computes them from the shape of `x`, without control flow.
///
/// # Errors
/// None that a size can cause; see [`Tensor::new`].
pub fn adaptive_average_pool(
    b: &mut Builder,
    name: &str,
    x: &str,
    bins: usize,
    size: InputSize,
) -> Result<String> {
    if bins == 1 {
        return Ok(b.unary("GlobalAveragePool", name, x));
    }
    let (rows, columns) = match size {
        InputSize::Fixed { height, width } => {
            let rows = b.helper(&format!("pool[{bins},{height}]"), pool_matrix(height, bins, Side::Left)?);
            let columns = b.helper(&format!("pool[{width},{bins}]"), pool_matrix(width, bins, Side::Right)?);
            (rows, columns)
        }
        InputSize::Dynamic => {
            let rows = computed_pool_matrix(b, &format!("{name}/rows"), x, Axis::Rows, bins)?;
            let columns = computed_pool_matrix(b, &format!("{name}/columns"), x, Axis::Columns, bins)?;
            (rows, b.transpose(&format!("{name}/columns/transposed"), &columns, &[1, 0]))
        }
    };
    let narrow = b.binary("MatMul", &format!("{name}/across"), x, &columns);
    Ok(b.binary("MatMul", name, &rows, &narrow))
}

/// Which side of the product a matrix stands on.
#[derive(Clone, Copy)]
enum Side {
    /// `[bins, n]`
    Left,
    /// `[n, bins]`
    Right,
}

/// The averaging matrix from `n` values to `bins`.
fn pool_matrix(n: usize, bins: usize, side: Side) -> Result<Tensor> {
    let (shape, step_bin, step_value) = match side {
        Side::Left => ([bins, n], n, 1),
        Side::Right => ([n, bins], 1, bins),
    };
    let mut matrix = vec![0.0f32; n * bins];
    for bin in 0..bins {
        let (start, end) = (bin * n / bins, ((bin + 1) * n).div_ceil(bins));
        for value in start..end {
            matrix[bin * step_bin + value * step_value] = (1.0 / (end - start) as f64) as f32;
        }
    }
    Tensor::new(&shape, matrix)
}

/// An axis of a `[N, C, H, W]` value.
#[derive(Clone, Copy)]
enum Axis {
    Rows = 2,
    Columns = 3,
}

/// [`pool_matrix`] `[bins, n]`, computed by the graph for the extent `n` of `x` along `axis`.
///
/// Value `j` is in bin `i` where `⌊i·n/bins⌋ ≤ j < ⌈(i+1)·n/bins⌉`, which for integers is
/// `(j+1)·bins > i·n` and `j·bins < (i+1)·n`: no rounding, exact in `f32` below 2²⁴.
fn computed_pool_matrix(b: &mut Builder, name: &str, x: &str, axis: Axis, bins: usize) -> Result<String> {
    let part = |part: &str| format!("{name}/{part}");
    let shape = b.unary("Shape", &part("shape"), x);
    let n = scalar_at(b, &part("extent"), &shape, axis as usize);
    let values = range(b, &part("values"), &n);
    let n = b.cast(&part("extent/float"), &n, DType::F32);
    let bins_float = b.float(bins as f32);

    let low = b.binary("Mul", &part("low"), &values, &bins_float);
    let high = b.binary("Add", &part("high"), &low, &bins_float);
    let index: Vec<f32> = (0..bins).map(|i| i as f32).collect();
    let index = Tensor::new(&[bins, 1], index)?;
    let index = b.helper(&format!("bins[{bins}]"), index);
    let start = b.binary("Mul", &part("start"), &index, &n);
    let end = b.binary("Add", &part("end"), &start, &n);

    let after = b.binary("Greater", &part("after"), &high, &start);
    let before = b.binary("Less", &part("before"), &low, &end);
    let inside = b.binary("And", &part("inside"), &after, &before);
    let inside = b.cast(&part("inside/float"), &inside, DType::F32);
    let last = b.ints(&[1]);
    let counts = b.op("ReduceSum", &part("counts"), &[&inside, &last], &[]);
    Ok(b.binary("Div", name, &inside, &counts))
}

/// The rank-0 element `at` of a shape.
pub fn scalar_at(b: &mut Builder, name: &str, shape: &str, at: usize) -> String {
    let index = b.helper(&format!("index[{at}]"), Tensor::scalar(at as i64));
    b.op("Gather", name, &[shape, &index], &[("axis", Attr::Int(0))])
}

/// `0, 1, .. n − 1` as `f32`, for a rank-0 `n`.
pub fn range(b: &mut Builder, name: &str, n: &str) -> String {
    let [zero, one] = [0, 1].map(|v| b.helper(&format!("index[{v}]"), Tensor::scalar(i64::from(v))));
    let integers = b.op("Range", &format!("{name}/integers"), &[&zero, n, &one], &[]);
    b.cast(name, &integers, DType::F32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_are_pytorchs_where_they_overlap_repeat_and_copy() {
        let third = 1.0f32 / 3.0;
        let left = |n, bins| pool_matrix(n, bins, Side::Left).unwrap().f32s().unwrap().to_vec();
        assert_eq!(left(4, 3), [0.5, 0.5, 0., 0., 0., 0.5, 0.5, 0., 0., 0., 0.5, 0.5]);
        assert_eq!(left(5, 2), [third, third, third, 0., 0., 0., 0., third, third, third]);
        assert_eq!(left(2, 3), [1., 0., 0.5, 0.5, 0., 1.]);
        assert_eq!(left(3, 3), [1., 0., 0., 0., 1., 0., 0., 0., 1.]);
        for (n, bins) in [(32, 3), (5, 6), (1, 6), (6, 6), (7, 3)] {
            let right = pool_matrix(n, bins, Side::Right).unwrap();
            let (left, right) = (left(n, bins), right.f32s().unwrap());
            assert!((0..n * bins).all(|i| left[i] == right[(i % n) * bins + i / n]), "{n} to {bins}");
        }
    }

    #[test]
    fn every_scale_gives_the_wanted_size() {
        for from in 1..400 {
            for to in (1..400).chain([1000, 2047, 4097]) {
                let scale = exact_scale(from, to).unwrap();
                assert_eq!((from as f32 * scale) as usize, to, "{from} to {to}");
                let error = (f64::from(scale) * from as f64 / to as f64 - 1.0).abs();
                assert!(error < 3e-7, "{from} to {to}: {error}");
            }
        }
        assert_eq!(exact_scale(16, 32).unwrap(), 2.0);
    }
}
