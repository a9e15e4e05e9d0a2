//! One transformer block.

use tapetum_runtime::Result;

use super::attention::{Attention, attention};
use super::emit::Emit;
use super::mlp::mlp;
use super::plane::Plane;
use super::windows::Windows;

/// Sizes of a block.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    /// Width of a token.
    pub channels: usize,
    /// Attention heads.
    pub heads: usize,
    /// Side of a window.
    pub window: usize,
    /// Width of the feed-forward part over the token's.
    pub mlp_ratio: usize,
    /// Whether a learned `[window², C]` is added to the attention's input.
    pub modulated: bool,
}

/// Adds block `name` on `windows` of the map `x [H·W, C]`; what is in none of them stays as it is.
///
/// # Errors
/// As [`crate::zoo::Weights::take`].
pub(super) fn transformer(
    e: &mut Emit,
    name: &str,
    x: &str,
    windows: &Windows,
    plane: &Plane,
    sizes: Sizes,
) -> Result<String> {
    let Sizes { channels, heads, window, mlp_ratio, modulated } = sizes;
    let s = windows.take(e, &format!("{name}/windows"), x, channels, plane);
    let mut a = e.layer_norm(&format!("{name}.norm1"), &s, channels)?;
    if modulated {
        let modulator = e.param(&format!("{name}.modulator.weight"), &[window * window, channels])?;
        a = e.b.binary("Add", &format!("{name}.modulator"), &a, &modulator);
    }
    let sizes = Attention { channels, heads, window, kinds: windows.kinds() };
    let a = attention(e, &format!("{name}.attn"), &a, sizes)?;
    let z = e.b.binary("Add", &format!("{name}/attended"), &s, &a);
    let m = e.layer_norm(&format!("{name}.norm2"), &z, channels)?;
    let m = mlp(e, &format!("{name}.mlp"), &m, channels, channels * mlp_ratio, window)?;
    let z = e.b.binary("Add", &format!("{name}/worked"), &z, &m);
    Ok(windows.put(e, name, x, &z, channels, plane))
}
