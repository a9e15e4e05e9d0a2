//! Multi-head attention inside each window.

use tapetum_runtime::{Result, Tensor};

use super::emit::Emit;
use crate::graph::Attr;

/// Added to the score of two tokens that only the cyclic shift brought together.
const APART: f32 = -100.0;

/// Sizes of an attention.
#[derive(Clone, Copy)]
pub(super) struct Attention<'a> {
    /// Width of a token.
    pub channels: usize,
    /// Number of heads; they share the width evenly.
    pub heads: usize,
    /// Side of a window.
    pub window: usize,
    /// In shifted blocks: the kind of each window, `[K]` (see [`super::plane::Grid::kinds`]).
    pub kinds: Option<&'a str>,
}

/// Adds attention `name` on the tokens of K windows, `x [K, window², C]`.
///
/// ```text
/// softmax(q·kᵀ / √head_dim + B + M) · v, then proj
/// B[h, query, key] = relative_position_bias_table[relative_position_index[query, key], h]
/// M[query, key]    = −100 between tokens that only the shift brought together, else 0
/// ```
///
/// `B + M` is a table `[4, heads, window², window²]` by kind of window, of which each window picks its own.
///
/// Written with less work per token, which changes nothing but rounding: `1/√head_dim` is in q's constants. The bias of
/// k adds the same to all scores of a query, which softmax does not see. The bias of v leaves the shares, which sum to
/// 1, as it is: `proj` of it is a constant. k is made with its tokens last, as the product wants it.
///
/// # Errors
/// As [`crate::zoo::Weights::take`]; also if the checkpoint's `relative_position_index` is not the usual one.
///
/// Source: Liu et al., *Swin Transformer*, arXiv:2103.14030, section 3.2; used by arXiv:2306.14268.
pub(super) fn attention(e: &mut Emit, name: &str, x: &str, a: Attention) -> Result<String> {
    let Projections { q, k, v, out } = projections(e, name, a)?;
    let q = e.affine(&format!("{name}.qkv.to_q"), x, &q.0, &q.1);
    let q = heads(e, &format!("{name}/q"), &q, a, &[0, 2, 1, 3]);
    let k = e.b.binary("MatMul", &format!("{name}.qkv.to_k"), x, &k);
    let k = heads(e, &format!("{name}/k"), &k, a, &[0, 2, 3, 1]);
    let v = e.b.binary("MatMul", &format!("{name}.qkv.to_v"), x, &v);
    let v = heads(e, &format!("{name}/v"), &v, a, &[0, 2, 1, 3]);

    let scores = e.b.binary("MatMul", &format!("{name}/scores"), &q, &k);
    let bias = bias(e, name, a)?;
    let scores = e.b.binary("Add", &format!("{name}/biased"), &scores, &bias);
    let shares = e.b.op("Softmax", &format!("{name}.softmax"), &[&scores], &[("axis", Attr::Int(-1))]);
    let mixed = e.b.binary("MatMul", &format!("{name}/mixed"), &shares, &v);
    let mixed = e.b.transpose(&format!("{name}/merged"), &mixed, &[0, 2, 1, 3]);
    let tokens = (a.window * a.window) as i64;
    let mixed = e.b.reshape(&format!("{name}/tokens"), &mixed, &[-1, tokens, a.channels as i64]);
    Ok(e.affine(&format!("{name}.proj"), &mixed, &out.0, &out.1))
}

/// Matrices `[C, C]`, q's and proj's with their bias.
struct Projections {
    q: (String, String),
    k: String,
    v: String,
    out: (String, String),
}

fn projections(e: &mut Emit, name: &str, a: Attention) -> Result<Projections> {
    let (c, all) = (a.channels, a.channels as i64);
    let (to_q, to_kv, proj) =
        (format!("{name}.qkv.to_q"), format!("{name}.qkv.to_kv"), format!("{name}.proj"));
    let scale = e.b.float(((c / a.heads) as f32).powf(-0.5));
    let q = e.matrix(&format!("{to_q}.weight"), c, c)?;
    let q = e.b.binary("Mul", &format!("{to_q}/scaled.weight"), &q, &scale);
    let q_bias = e.param(&format!("{to_q}.bias"), &[c])?;
    let q_bias = e.b.binary("Mul", &format!("{to_q}/scaled.bias"), &q_bias, &scale);

    let kv = e.matrix(&format!("{to_kv}.weight"), c, 2 * c)?;
    let k = e.b.slice(&format!("{name}.qkv.to_k.weight"), &kv, 1, 0, all);
    let v = e.b.slice(&format!("{name}.qkv.to_v.weight"), &kv, 1, all, 2 * all);
    let kv_bias = e.param(&format!("{to_kv}.bias"), &[2 * c])?;
    let v_bias = e.b.slice(&format!("{name}.qkv.to_v.bias"), &kv_bias, 0, all, 2 * all);
    let v_bias = e.b.reshape(&format!("{name}.qkv.to_v.bias/row"), &v_bias, &[1, all]);

    let out = e.matrix(&format!("{proj}.weight"), c, c)?;
    let out_bias = e.param(&format!("{proj}.bias"), &[c])?;
    let out_bias = e.affine(&format!("{proj}/with_v.bias"), &v_bias, &out, &out_bias);
    Ok(Projections { q: (q, q_bias), k, v, out: (out, out_bias) })
}

/// `x [K, window², C]` by head, `[K, window², heads, head_dim]`, its axes in the order `perm`.
fn heads(e: &mut Emit, name: &str, x: &str, a: Attention, perm: &[i64]) -> String {
    let shape = [-1, (a.window * a.window) as i64, a.heads as i64, (a.channels / a.heads) as i64];
    let x = e.b.reshape(&format!("{name}/split"), x, &shape);
    e.b.transpose(name, &x, perm)
}

/// `B` as `[1, heads, window², window²]`, or `B + M` of each window, `[K, heads, window², window²]`.
fn bias(e: &mut Emit, name: &str, a: Attention) -> Result<String> {
    let (side, tokens) = (a.window, a.window * a.window);
    let table = e.param(
        &format!("{name}.relative_position_bias_table"),
        &[(2 * side - 1) * (2 * side - 1), a.heads],
    )?;
    let index = relative_positions(side);
    e.w.take_computed(
        &format!("{name}.relative_position_index"),
        &Tensor::new(&[tokens, tokens], index.clone())?,
    )?;
    let index = e.b.helper("relative_position_index", Tensor::vector(index));
    let bias = e.gather(&format!("{name}/bias/rows"), &table, &index);
    let bias = e.b.transpose(&format!("{name}/bias/by_head"), &bias, &[1, 0]);
    let shape = [1, a.heads as i64, tokens as i64, tokens as i64];
    let bias = e.b.reshape(&format!("{name}/bias"), &bias, &shape);
    let Some(kinds) = a.kinds else { return Ok(bias) };
    let masks = e.b.helper("shift_masks", Tensor::new(&[4, 1, tokens, tokens], shift_masks(side))?);
    let table = e.b.binary("Add", &format!("{name}/bias/masked"), &bias, &masks);
    Ok(e.gather(&format!("{name}/bias/of_windows"), &table, kinds))
}

/// Row of the bias table for each query and key: offsets `(Δrow, Δcol)`, each made non-negative, row-major.
fn relative_positions(side: usize) -> Vec<i64> {
    let tokens = side * side;
    let offset = |query: usize, key: usize| (query + side - 1 - key) as i64;
    let pair =
        |q: usize, k: usize| offset(q / side, k / side) * (2 * side as i64 - 1) + offset(q % side, k % side);
    (0..tokens * tokens).map(|i| pair(i / tokens, i % tokens)).collect()
}

/// Masks by kind of window: 0 nothing, 1 left | right half, 2 upper | lower half, 3 all four quarters.
fn shift_masks(side: usize) -> Vec<f32> {
    let tokens = side * side;
    let (half, mut masks) = (side / 2, Vec::with_capacity(4 * tokens * tokens));
    for kind in 0..4 {
        let region = |t: usize| ((kind & 2) > 0 && t / side >= half, (kind & 1) > 0 && t % side >= half);
        let apart = |q: usize, k: usize| if region(q) == region(k) { 0.0 } else { APART };
        masks.extend((0..tokens * tokens).map(|i| apart(i / tokens, i % tokens)));
    }
    masks
}
