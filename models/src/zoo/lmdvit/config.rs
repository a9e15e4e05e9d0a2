//! The sizes of an LMD-ViT, from names and shapes.

use std::collections::BTreeMap;

use tapetum_runtime::{Error, Result};

use crate::checkpoint::StateDict;

/// Layers in execution order, with their resolution (halvings of the input) and width (multiple of C).
pub(super) const LAYERS: [(&str, usize, usize); 9] = [
    ("encoderlayer_0", 0, 1),
    ("encoderlayer_1", 1, 2),
    ("encoderlayer_2", 2, 4),
    ("encoderlayer_3", 3, 8),
    ("conv", 4, 16),
    ("decoderlayer_0", 3, 16),
    ("decoderlayer_1", 2, 8),
    ("decoderlayer_2", 1, 4),
    ("decoderlayer_3", 0, 2),
];

/// Published configurations for `init`, and one small enough to try things on.
pub(super) const PUBLISHED: [(&str, Config); 2] = [
    (
        "released",
        Config {
            embed: 32,
            window: 8,
            mlp_ratio: 4,
            modulator: true,
            depths: [1, 2, 8, 8, 2, 8, 8, 2, 1],
            heads: [1, 2, 4, 8, 16, 16, 8, 4, 2],
        },
    ),
    (
        "tiny",
        Config {
            embed: 8,
            window: 8,
            mlp_ratio: 4,
            modulator: true,
            depths: [1, 2, 2, 2, 2, 2, 2, 2, 1],
            heads: [1, 2, 4, 8, 16, 16, 8, 4, 2],
        },
    ),
];

/// What the released kind of block is made of, below `blocks.{i}.`.
const BLOCK_PARTS: [&str; 5] = ["norm1", "norm2", "attn", "mlp", "modulator"];
const KIND: &str = "Tapetum knows the released kind: three input channels, \"LeFF local\" feed-forward, a score \
                    predictor in blocks 0 and 1 of all nine layers, modulators in the decoder or nowhere";

/// Sizes of one LMD-ViT.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Config {
    /// C, the width of the first layer.
    pub embed: usize,
    /// Side of a window, in tokens.
    pub window: usize,
    /// Width of the feed-forward part over the layer's width.
    pub mlp_ratio: usize,
    /// Whether the decoder's blocks add a learned `[window², C]` to the attention input.
    pub modulator: bool,
    /// Blocks per layer of [`LAYERS`].
    pub depths: [usize; 9],
    /// Attention heads per layer of [`LAYERS`].
    pub heads: [usize; 9],
}

impl Config {
    /// Width of layer `i`.
    pub fn width(&self, layer: usize) -> usize {
        self.embed * LAYERS[layer].2
    }

    /// Both axes of the input are multiples of this: a window at the lowest resolution.
    pub fn multiple(&self) -> usize {
        self.window << 4
    }

    /// Each decision in execution order: (side of a window, shift of the windows' grid), both in pixels of the input
    /// at the layer's resolution. The second predictor of a layer decides on windows moved by half a window.
    pub fn decisions(&self) -> Vec<(usize, usize)> {
        let stride = |layer: usize| self.window << (4 - layer.abs_diff(4));
        let of_layer = |layer: usize| {
            [(stride(layer), 0), (stride(layer), stride(layer) / 2)].into_iter().take(self.depths[layer])
        };
        (0..9).flat_map(of_layer).collect()
    }

    /// Names of the predictors in execution order: blocks 0 and 1 of every layer have one.
    pub fn predictors(&self) -> impl Iterator<Item = String> + use<'_> {
        let of_layer = |(&(layer, ..), &depth): (&(&'static str, usize, usize), &usize)| {
            (0..depth.min(2)).map(move |i| format!("{layer}.blocks.{i}.score_predictor"))
        };
        LAYERS.iter().zip(&self.depths).flat_map(of_layer)
    }

    /// The published name, or the sizes in words.
    pub fn variant(&self) -> String {
        let published = PUBLISHED.iter().find(|(_, c)| c == self);
        published.map_or_else(
            || format!("width {}, depths {}", self.embed, joined(&self.depths)),
            |(name, _)| (*name).into(),
        )
    }

    /// Everything that was inferred, in words.
    pub fn details(&self) -> Vec<(&'static str, String)> {
        vec![
            ("width", self.embed.to_string()),
            ("window", self.window.to_string()),
            ("depths", joined(&self.depths)),
            ("heads", joined(&self.heads)),
            ("mlp_ratio", self.mlp_ratio.to_string()),
            ("modulator", if self.modulator { "decoder" } else { "none" }.into()),
            ("predictors", self.predictors().count().to_string()),
        ]
    }
}

fn joined(values: &[usize]) -> String {
    values.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}

/// The sizes of the LMD-ViT in `state`; `Ok(None)` if its names are not those of a U-shaped window transformer.
///
/// # Errors
/// [`tapetum_runtime::ErrorKind::Unsupported`] for a kind that was not released, naming what was found;
/// [`tapetum_runtime::ErrorKind::BadFile`] where the shapes contradict each other.
pub(super) fn infer(state: &StateDict) -> Result<Option<Config>> {
    if !state.names().any(|n| n.starts_with("encoderlayer_0.blocks.")) {
        return Ok(None);
    }
    let depths = depths(state)?;
    let [embed, channels, ..] = *shape::<4>(state, "input_proj.proj.0.weight")?;
    if channels != 3 {
        return Err(refused(format!("input_proj takes {channels} channels")));
    }
    if let [made, ..] = *shape::<4>(state, "output_proj.proj.0.weight")?
        && made != 4
    {
        return Err(refused(format!("output_proj makes {made} channels, not colour and a gate")));
    }
    predictors(state, &depths)?;
    let modulator = modulators(state, &depths)?;

    let [hidden, ..] = *shape::<2>(state, "encoderlayer_0.blocks.0.mlp.linear1.0.weight")?;
    let [offsets, _] = *shape::<2>(state, "encoderlayer_0.blocks.0.attn.relative_position_bias_table")?;
    let window = offsets.isqrt().div_ceil(2);
    if offsets != (2 * window).saturating_sub(1).pow(2) || window < 2 || !window.is_multiple_of(2) {
        return Err(Error::bad_file(format!(
            "a relative_position_bias_table of {offsets} rows is not (2w - 1)^2 for an even window w"
        )));
    }
    if embed == 0 || hidden < embed || !hidden.is_multiple_of(embed) {
        let message = format!("the first layer is {embed} wide and its feed-forward part {hidden}");
        return Err(Error::bad_file(message));
    }
    let mut config = Config { embed, window, mlp_ratio: hidden / embed, modulator, depths, heads: [0; 9] };
    for (i, (layer, ..)) in LAYERS.iter().enumerate() {
        let table = format!("{layer}.blocks.0.attn.relative_position_bias_table");
        let [_, heads] = *shape::<2>(state, &table)?;
        let width = config.width(i);
        if heads == 0 || !width.is_multiple_of(heads) || !width.is_multiple_of(4) {
            return Err(Error::bad_file(format!("{layer} is {width} wide and has {heads} heads")));
        }
        config.heads[i] = heads;
    }
    Ok(Some(config))
}

fn refused(found: String) -> Error {
    Error::unsupported(format!("{found}; {KIND}"))
}

fn shape<'s, const N: usize>(state: &'s StateDict, name: &str) -> Result<&'s [usize; N]> {
    let found = state.shape(name).ok_or_else(|| Error::bad_file(format!("checkpoint has no {name:?}")))?;
    found
        .try_into()
        .map_err(|_| Error::bad_file(format!("{name:?} is {found:?} in the checkpoint, not of rank {N}")))
}

/// Counts the blocks of each layer; refuses names that a block of the released kind does not have.
fn depths(state: &StateDict) -> Result<[usize; 9]> {
    let mut last: BTreeMap<&str, usize> = BTreeMap::new();
    for name in state.names() {
        let Some((layer, rest)) = name.split_once(".blocks.") else { continue };
        let (index, part) = rest.split_once('.').unwrap_or((rest, ""));
        let index: usize =
            index.parse().map_err(|_| Error::bad_file(format!("{name:?} numbers no block")))?;
        if !LAYERS.iter().any(|(l, ..)| *l == layer) {
            return Err(refused(format!("{name:?} belongs to a layer {layer:?}")));
        }
        let known = BLOCK_PARTS.iter().any(|p| part.strip_prefix(p).is_some_and(|r| r.starts_with('.')));
        if !known && !part.starts_with("score_predictor.") {
            return Err(refused(format!("a block has {name:?}")));
        }
        if part.starts_with("mlp.")
            && !["mlp.linear1.0.", "mlp.dwconv.0.", "mlp.linear2.0."].iter().any(|p| part.starts_with(p))
        {
            return Err(refused(format!("the feed-forward part has {name:?}")));
        }
        let deepest = last.entry(layer).or_default();
        *deepest = index.max(*deepest);
    }
    let mut depths = [0; 9];
    for (depth, (layer, ..)) in depths.iter_mut().zip(LAYERS) {
        let deepest = *last.get(layer).ok_or_else(|| refused(format!("there is no layer {layer:?}")))?;
        for i in 0..=deepest {
            shape::<1>(state, &format!("{layer}.blocks.{i}.norm1.weight"))?;
        }
        *depth = deepest + 1;
    }
    Ok(depths)
}

/// Checks that exactly blocks 0 and 1 of every layer decide.
fn predictors(state: &StateDict, depths: &[usize; 9]) -> Result<()> {
    for (&depth, (layer, ..)) in depths.iter().zip(LAYERS) {
        for i in 0..depth {
            let first = format!("{layer}.blocks.{i}.score_predictor.in_conv.0.weight");
            match (state.contains(&first), i < 2) {
                (true, true) | (false, false) => {}
                (true, false) => {
                    return Err(refused(format!("{layer}.blocks.{i} has a score predictor of its own")));
                }
                (false, true) => return Err(refused(format!("{layer}.blocks.{i} has no score predictor"))),
            }
        }
    }
    Ok(())
}

/// Whether the decoder has modulators; refuses any other place.
fn modulators(state: &StateDict, depths: &[usize; 9]) -> Result<bool> {
    let wanted = state.contains("decoderlayer_0.blocks.0.modulator.weight");
    for (&depth, (layer, ..)) in depths.iter().zip(LAYERS) {
        let here = wanted && layer.starts_with("decoder");
        for i in 0..depth {
            if state.contains(&format!("{layer}.blocks.{i}.modulator.weight")) != here {
                let has = if here { "has no" } else { "has a" };
                return Err(refused(format!("{layer}.blocks.{i} {has} modulator")));
            }
        }
    }
    Ok(wanted)
}
