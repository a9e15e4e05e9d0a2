//! The feed-forward part: two linear layers with a depthwise convolution between them that stays inside the window.

use tapetum_runtime::{Result, Tensor};

use super::emit::Emit;
use crate::graph::{Attr, Conv2d};

/// Adds feed-forward part `name` on the tokens of K windows, `x [K, window², C]`.
///
/// ```text
/// linear1.0: C → hidden, GELU, dwconv.0: 3×3 per channel with reflected borders, GELU, linear2.0: hidden → C
/// ```
///
/// `linear2.0` is written as a 1×1 convolution: what comes out of the depthwise one stays as the engine laid it out, and
/// only C channels are turned back into tokens instead of all hidden ones.
///
/// # Errors
/// As [`crate::zoo::Weights::take`].
///
/// Source: Li et al., arXiv:2306.14268 (LeFF of Wang et al., *Uformer*, arXiv:2106.03106, inside each window).
pub(super) fn mlp(
    e: &mut Emit,
    name: &str,
    x: &str,
    channels: usize,
    hidden: usize,
    window: usize,
) -> Result<String> {
    let (side, wide) = (window as i64, hidden as i64);
    let x = e.linear(&format!("{name}.linear1.0"), x, channels, hidden)?;
    let x = e.gelu(&format!("{name}.linear1.1"), &x);
    let reflected = e.b.helper("reflected_window", Tensor::vector(reflected(window)));
    let x = e.b.op("Gather", &format!("{name}/reflected"), &[&x, &reflected], &[("axis", Attr::Int(1))]);
    let x = e.b.reshape(&format!("{name}/bordered"), &x, &[-1, side + 2, side + 2, wide]);
    let x = e.b.transpose(&format!("{name}/planar"), &x, &[0, 3, 1, 2]);
    let conv = format!("{name}.dwconv.0");
    let weight = e.w.take(&format!("{conv}.weight"), &[hidden, 1, 3, 3])?;
    let bias = e.w.take(&format!("{conv}.bias"), &[hidden])?;
    let x = e.b.conv(&conv, &x, weight, Some(bias), Conv2d { groups: hidden, ..Conv2d::default() });
    let x = e.gelu(&format!("{name}.dwconv.1"), &x);
    let linear = format!("{name}.linear2.0");
    let weight = e.w.take(&format!("{linear}.weight"), &[channels, hidden])?;
    let weight = Tensor::new(&[channels, hidden, 1, 1], weight.f32s()?.to_vec())?;
    let bias = e.w.take(&format!("{linear}.bias"), &[channels])?;
    let x = e.b.conv(&linear, &x, weight, Some(bias), Conv2d::default());
    let x = e.b.transpose(&format!("{name}/interleaved"), &x, &[0, 2, 3, 1]);
    Ok(e.b.reshape(&format!("{name}/tokens"), &x, &[-1, side * side, channels as i64]))
}

/// Which token of a window stands at each place of the window with a reflected border of one token. Gathering whole
/// tokens is several times faster than padding planes, on both engines.
fn reflected(side: usize) -> Vec<i64> {
    let inside = |at: usize| match at {
        0 => 1,
        at if at > side => side - 2,
        at => at - 1,
    };
    let wide = side + 2;
    (0..wide * wide).map(|at| (inside(at / wide) * side + inside(at % wide)) as i64).collect()
}
