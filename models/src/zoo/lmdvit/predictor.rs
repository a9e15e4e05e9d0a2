//! Which windows are blurred enough to be worked on.

use tapetum_runtime::Result;

use super::emit::Emit;
use super::plane::{Grid, Part, Plane, roll};

/// The decision of one predictor.
pub(super) struct Kept {
    /// Per window 1 (kept) or 0, `[windows]`.
    pub decision: String,
    /// Token numbers of the kept windows, `[kept, window²]`.
    pub tokens: String,
    /// The same as `[kept, window², 1]`, as ScatterND wants it.
    pub places: String,
    /// Kinds of the kept windows (see [`Grid::kinds`]), `[kept]`.
    pub kinds: Option<String>,
}

/// Adds predictor `name` on tokens `x [H·W, C]`.
///
/// ```text
/// h = LayerNorm(GELU(in_conv.0(x)))                                  [H·W, C]
/// f = in_conv.3(h)                                                   [H·W, C]
/// u = out_conv.0(first half of f, mean over tokens of its second half)
/// p = softmax(window mean of out_conv.4(GELU(out_conv.2(GELU(u)))))  [windows, 2]
/// keep the windows where p₀ > ½
/// ```
///
/// Written with less dense work, which changes nothing but rounding: nothing nonlinear stands between `in_conv.3` and
/// `out_conv.0`, so with `W₃ = [A; B]`, `W₀ = [P, Q]`
///
/// ```text
/// u = (P·A)·h + (P·a + Q·(B·mean(h) + b) + b₀)
/// ```
///
/// where `P·A` is a constant and the bracket one row. The window mean is taken before `out_conv.4`. With two classes
/// p₀ > ½ is logit 0 > logit 1.
///
/// # Errors
/// As [`crate::zoo::Weights::take`].
///
/// Source: Li et al., arXiv:2306.14268, section 3.2 (inference: hard threshold).
pub(super) fn predictor(
    e: &mut Emit,
    name: &str,
    x: &str,
    channels: usize,
    plane: &Plane,
    grid: &Grid,
    window: usize,
) -> Result<Kept> {
    let half = channels / 2;
    let h = linear_gelu(e, name, ["in_conv.0", "in_conv.1"], x, [channels, channels])?;
    let h = e.layer_norm(&format!("{name}.in_conv.2"), &h, channels)?;
    let u = halves_gelu(e, name, &h, channels, plane)?;
    let u = linear_gelu(e, name, ["out_conv.2", "out_conv.3"], &u, [half, half / 2])?;
    let means = window_means(e, name, &u, half / 2, plane, grid.kinds.is_some(), window);
    let logits = e.linear(&format!("{name}.out_conv.4"), &means, half / 2, 2)?;

    let keep = e.b.slice(&format!("{name}/keep"), &logits, 1, 0, 1);
    let prune = e.b.slice(&format!("{name}/prune"), &logits, 1, 1, 2);
    let decision = e.b.binary("Greater", &format!("{name}/decision"), &keep, &prune);
    let decision = e.b.reshape(&format!("{name}/decisions"), &decision, &[-1]);
    let kept = e.b.unary("NonZero", &format!("{name}/nonzero"), &decision);
    let axis = e.b.ints(&[0]);
    let kept = e.b.binary("Squeeze", &format!("{name}/kept"), &kept, &axis);
    let tokens = e.gather(&format!("{name}/windows"), &grid.tokens, &kept);
    let places = e.b.reshape(&format!("{name}/places"), &tokens, &[-1, (window * window) as i64, 1]);
    let kinds = grid.kinds.as_ref().map(|kinds| e.gather(&format!("{name}/kinds"), kinds, &kept));
    Ok(Kept { decision, tokens, places, kinds })
}

/// A linear layer and the GELU that follows it, `[H·W, c_in]` → `[H·W, c_out]`.
fn linear_gelu(
    e: &mut Emit,
    name: &str,
    parts: [&str; 2],
    x: &str,
    [c_in, c_out]: [usize; 2],
) -> Result<String> {
    let [linear, gelu] = parts.map(|part| format!("{name}.{part}"));
    let weight = e.matrix(&format!("{linear}.weight"), c_in, c_out)?;
    let bias = e.param(&format!("{linear}.bias"), &[c_out])?;
    Ok(e.affine_gelu([&linear, &gelu], x, &weight, &bias, c_out))
}

/// `in_conv.3`, the mean of its second half, and `out_conv.0`: GELU of `u [H·W, C/2]` of [`predictor`].
fn halves_gelu(e: &mut Emit, name: &str, h: &str, channels: usize, plane: &Plane) -> Result<String> {
    let (inner, outer) = (format!("{name}.in_conv.3"), format!("{name}.out_conv.0"));
    let (half, all) = ((channels / 2) as i64, channels as i64);
    let w3 = e.matrix(&format!("{inner}.weight"), channels, channels)?;
    let b3 = e.param(&format!("{inner}.bias"), &[channels])?;
    let w0 = e.matrix(&format!("{outer}.weight"), channels, channels / 2)?;
    let b0 = e.param(&format!("{outer}.bias"), &[channels / 2])?;
    let first_w = e.b.slice(&format!("{inner}/first.weight"), &w3, 1, 0, half);
    let first_b = e.b.slice(&format!("{inner}/first.bias"), &b3, 0, 0, half);
    let second_w = e.b.slice(&format!("{inner}/second.weight"), &w3, 1, half, all);
    let second_b = e.b.slice(&format!("{inner}/second.bias"), &b3, 0, half, all);
    let on_first = e.b.slice(&format!("{outer}/on_first"), &w0, 0, 0, half);
    let on_second = e.b.slice(&format!("{outer}/on_second"), &w0, 0, half, all);

    // In two steps: a sum over all tokens at once would lose digits.
    let lines =
        plane.reshape(e, &format!("{name}/lines"), h, &[Part::Rows(1), Part::Cols(1), Part::Just(all)]);
    let line = e.mean(&format!("{name}/line_means"), &lines, 1);
    let mean = e.mean(&format!("{name}/mean"), &line, 0);
    let mean = e.b.reshape(&format!("{name}/mean/row"), &mean, &[1, all]);
    let second = e.affine(&format!("{inner}/second"), &mean, &second_w, &second_b);

    let first_b = e.b.reshape(&format!("{inner}/first.bias/row"), &first_b, &[1, half]);
    let constant = e.affine(&format!("{outer}/constant"), &first_b, &on_first, &b0);
    let row = e.affine(&format!("{outer}/row"), &second, &on_second, &constant);
    let merged = e.b.binary("MatMul", &format!("{outer}/merged"), &first_w, &on_first);
    Ok(e.affine_gelu([&outer, &format!("{name}.out_conv.1")], h, &merged, &row, channels / 2))
}

/// Mean of `u [H·W, C]` over each window, `[windows, C]`. The cyclic shift by half a window is done on the means of
/// half windows.
fn window_means(
    e: &mut Emit,
    name: &str,
    u: &str,
    channels: usize,
    plane: &Plane,
    shifted: bool,
    window: usize,
) -> String {
    let half = window / 2;
    let cells = mean_of_blocks(e, &format!("{name}/cells"), u, channels, plane, 1, half);
    let cells = if shifted {
        let map = [Part::Rows(half), Part::Cols(half), Part::Just(channels as i64)];
        let map = plane.reshape(e, &format!("{name}/rolled/map"), &cells, &map);
        roll(e, &format!("{name}/rolled"), &map, 1)
    } else {
        cells
    };
    mean_of_blocks(e, &format!("{name}/window_means"), &cells, channels, plane, half, 2)
}

/// Means of blocks of `side × side` values of a map at `1 / scale` of the plane: `[rows · cols / side², C]`.
fn mean_of_blocks(
    e: &mut Emit,
    name: &str,
    x: &str,
    channels: usize,
    plane: &Plane,
    scale: usize,
    side: usize,
) -> String {
    let c = Part::Just(channels as i64);
    let tall = [Part::Rows(scale * side), Part::Just(side as i64), Part::Cols(scale), c];
    let x = plane.reshape(e, &format!("{name}/tall"), x, &tall);
    let x = e.mean(&format!("{name}/vertical"), &x, 1);
    let x = e.b.reshape(&format!("{name}/wide"), &x, &[-1, side as i64, channels as i64]);
    e.mean(name, &x, 1)
}
