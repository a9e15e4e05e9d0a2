//! Convolutions, pools and resizes.

use super::{Facts, Known, dims};
use crate::graph::{Dim, Node};

/// Kernel, stride, padding and dilation of one spatial axis.
struct Axis {
    kernel: usize,
    stride: usize,
    begin: i64,
    end: i64,
    dilation: usize,
}

impl Axis {
    /// What the window covers: `dilation · (kernel − 1) + 1`.
    fn span(&self) -> Option<i64> {
        let reach = self.dilation.checked_mul(self.kernel.checked_sub(1)?)?;
        i64::try_from(reach.checked_add(1)?).ok()
    }
}

/// The spatial axes of a node whose kernel is `kernel`; `None` for malformed attributes.
fn axes(node: &Node, kernel: &[usize]) -> Option<Vec<Axis>> {
    let n = kernel.len();
    let list = |name: &str, i: usize, default: i64| match node.ints(name) {
        Some(v) => v.get(i).copied(),
        None => Some(default),
    };
    let at_least_one = |v: i64| usize::try_from(v).ok().filter(|&v| v > 0);
    (0..n)
        .map(|i| {
            Some(Axis {
                kernel: kernel[i],
                stride: at_least_one(list("strides", i, 1)?)?,
                begin: list("pads", i, 0)?,
                end: list("pads", i + n, 0)?,
                dilation: at_least_one(list("dilations", i, 1)?)?,
            })
        })
        .collect()
}

fn kernel_of(node: &Node, weight: &Known) -> Option<Vec<usize>> {
    weight
        .dims
        .get(2..)?
        .iter()
        .map(Dim::fixed)
        .collect::<Option<Vec<_>>>()
        .filter(|k| !k.is_empty())
        .or_else(|| node.ints("kernel_shape")?.iter().map(|&k| usize::try_from(k).ok()).collect())
}

fn shrunk(node: &Node, spatial: &[Dim], kernel: &[usize]) -> Option<Vec<Dim>> {
    if spatial.len() != kernel.len() {
        return None;
    }
    let round_up = node.int("ceil_mode", 0) != 0;
    let size = |(d, a): (&Dim, &Axis)| {
        if matches!(node.str("auto_pad"), Some("SAME_UPPER" | "SAME_LOWER")) {
            return Some(dims::scaled_down(d, a.stride as i64 - 1, a.stride));
        }
        let (begin, end) = if node.str("auto_pad") == Some("VALID") { (0, 0) } else { (a.begin, a.end) };
        let up = if round_up { a.stride as i64 - 1 } else { 0 };
        let offset = begin.checked_add(end)?.checked_sub(a.span()?)?.checked_add(a.stride as i64 + up)?;
        Some(dims::scaled_down(d, offset, a.stride))
    };
    spatial.iter().zip(&axes(node, kernel)?).map(size).collect()
}

pub(super) fn conv(node: &Node, facts: &mut Facts<'_>) -> Option<Known> {
    let (x, w) = (facts.of(node, 0)?, facts.of(node, 1)?);
    let kernel = kernel_of(node, w)?;
    let mut out = vec![x.dims.first()?.clone(), w.dims.first()?.clone()];
    out.extend(shrunk(node, x.dims.get(2..)?, &kernel)?);
    Some(Known::new(x.dtype, out))
}

pub(super) fn pool(node: &Node, facts: &mut Facts<'_>) -> Option<Known> {
    let x = facts.of(node, 0)?;
    let kernel: Vec<usize> =
        node.ints("kernel_shape")?.iter().map(|&k| usize::try_from(k).ok()).collect::<Option<_>>()?;
    let mut out = x.dims.get(..2)?.to_vec();
    out.extend(shrunk(node, x.dims.get(2..)?, &kernel)?);
    Some(Known::new(x.dtype, out))
}

pub(super) fn conv_transpose(node: &Node, facts: &mut Facts<'_>) -> Option<Known> {
    let (x, w) = (facts.of(node, 0)?, facts.of(node, 1)?);
    if node.attrs.contains_key("output_shape") || !matches!(node.str("auto_pad"), None | Some("NOTSET")) {
        return None;
    }
    let kernel = kernel_of(node, w)?;
    let groups = usize::try_from(node.int("group", 1)).ok()?;
    let mut out = vec![x.dims.first()?.clone(), dims::times(w.dims.get(1)?, groups)];
    let spatial = x.dims.get(2..)?;
    if spatial.len() != kernel.len() {
        return None;
    }
    for (i, (d, a)) in spatial.iter().zip(&axes(node, &kernel)?).enumerate() {
        let extra = match node.ints("output_padding") {
            Some(v) => *v.get(i)?,
            None => 0,
        };
        // (d − 1)·stride + span + output_padding − pads
        let offset = a.span()?.checked_add(extra)?.checked_sub(a.begin)?.checked_sub(a.end)?;
        let offset = offset.checked_sub(a.stride as i64)?;
        out.push(dims::scaled_down(&dims::times(d, a.stride), offset, 1));
    }
    Some(Known::new(x.dtype, out))
}

pub(super) fn global_pool(node: &Node, facts: &mut Facts<'_>) -> Option<Known> {
    let x = facts.of(node, 0)?;
    let one = |(i, d): (usize, &Dim)| if i < 2 { d.clone() } else { Dim::Fixed(1) };
    Some(Known::new(x.dtype, x.dims.iter().enumerate().map(one).collect()))
}

pub(super) fn resize(node: &Node, facts: &mut Facts<'_>) -> Option<Known> {
    let x = facts.of(node, 0)?.clone();
    if node.attrs.contains_key("axes")
        || !matches!(node.str("keep_aspect_ratio_policy"), None | Some("stretch"))
    {
        return None;
    }
    let out = if let Some(sizes) = facts.values(node, 3) {
        sizes.clone()
    } else {
        let scales = facts.graph.dense(node.input(2)?)?.to_f64()?;
        let scaled = |(d, s): (&Dim, f64)| match d {
            Dim::Fixed(n) => Dim::Fixed((*n as f64 * s).floor() as usize),
            d if s >= 1.0 && s.fract() == 0.0 && s < 1e6 => dims::times(d, s as usize),
            _ => Dim::Unknown,
        };
        x.dims.iter().zip(scales).map(scaled).collect()
    };
    (out.len() == x.dims.len()).then(|| Known::new(x.dtype, out))
}
