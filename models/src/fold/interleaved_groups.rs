//! A grouped convolution over two interleaved maps becomes two depthwise ones.

use super::example::Example;
use super::shapes::{dims, ints};
use super::view::Conv;
use super::{FoldRule, Patch, Refusal};
use crate::graph::{Attr, Conv2d, Dim, Graph, Index, Node};

/// Concat of `a` and `b` `[N, C, H, W]` below each other → Reshape to `[N, 2C, H, W]`, which interleaves their channels →
/// Conv in C groups becomes the sum of a depthwise convolution of each; a Pad of rows and columns may stand before the Conv.
///
/// ```text
/// (W * interleave(a, b))[o] = W[o, 0] * a[o / m] + W[o, 1] * b[o / m],  m = C_out / C
/// W₁ = W[:, 0], W₂ = W[:, 1]   [C_out, 1, k, k] each
/// ```
///
/// The same multiplications, but engines have a kernel for depthwise convolutions and none for groups of two channels
/// (ONNX Runtime: ten times as fast at 64×64 with 128 channels); nothing is copied to be interleaved.
///
/// Refused: maps whose extents are not known to be equal (other reshapes are no interleaving).
///
/// Source: DEA-Net's pixel attention, Chen et al., arXiv:2301.04805.
pub(super) struct InterleavedGroups;

/// What is between the two maps and the convolution.
struct Interleaved<'g> {
    maps: [&'g str; 2],
    /// Positions of Concat and Reshape.
    nodes: [usize; 2],
}

impl FoldRule for InterleavedGroups {
    fn name(&self) -> &'static str {
        "interleaved_groups"
    }

    fn equation(&self) -> &'static str {
        "(W*interleave(a, b))[c] = W[c, 0]*a[c] + W[c, 1]*b[c]"
    }

    fn check(&self, index: &Index<'_>, at: usize) -> Result<Option<Patch>, Refusal> {
        let graph = index.graph();
        let conv = Conv::at(index, at).filter(|c| !c.transposed && c.groups > 1 && c.shape[1] == 2);
        let Some(conv) = conv.filter(|c| c.shape.len() == 4) else { return Ok(None) };
        let mut value = conv.input();
        let pad = before(index, value).filter(|(_, node)| node.is("Pad"));
        if let Some((_, pad)) = pad {
            if !pads_images(graph, pad) {
                return Ok(None);
            }
            value = &pad.inputs[0];
        }
        let Some(pair) = interleaved(index, value, conv.groups)? else { return Ok(None) };
        let mut patch = Patch::removing([at]);
        patch.remove.extend(pair.nodes);
        patch.remove.extend(pad.map(|(at, _)| at));
        let name = |which: &str, of: &str| format!("{of}/{which}");
        let (weight, taps) = (conv.weight(), conv.taps());
        let mut shape = conv.shape.to_vec();
        shape[1] = 1;
        let mut nodes = Vec::new();
        for (n, (map, which)) in pair.maps.into_iter().zip(["first", "second"]).enumerate() {
            let mut read = map.to_owned();
            if let Some((_, pad)) = pad {
                let mut pad = pad.clone();
                pad.name = name(which, &pad.name);
                pad.inputs[0] = read;
                read = name(which, pad.output());
                pad.outputs = vec![read.clone()];
                nodes.push(pad);
            }
            let part = weight.chunks_exact(2 * taps).flat_map(|both| &both[n * taps..][..taps]);
            let part: Vec<f64> = part.copied().collect();
            let weight = patch.widened(&name(which, &conv.node.inputs[1]), &shape, part)?;
            let mut node = conv.node.clone();
            node.name = name(which, &node.name);
            node.outputs = vec![name(which, node.output())];
            // The bias is added once.
            node.inputs.truncate(if n == 0 { 3 } else { 2 });
            (node.inputs[0], node.inputs[1]) = (read, weight);
            nodes.push(node);
        }
        let output = conv.node.output();
        let [first, second] = ["first", "second"].map(|which| name(which, output));
        nodes.push(Node::new("Add", &conv.node.name, &[&first, &second], &[output]));
        Ok(Some(nodes.into_iter().fold(patch, Patch::with_node)))
    }

    fn example(&self, seed: u64) -> Graph {
        let mut e = Example::new("interleaved_groups", seed);
        let (groups, times, padded) = (e.pick(&[2, 3]), e.pick(&[1, 2]), e.pick(&[0, 1]));
        let a = e.image(groups);
        let b = e.b.unary("Sigmoid", "guide", &a);
        let stacked = e.b.concat("stack", &[&a, &b], 2);
        let mut x = e.b.reshape("interleave", &stacked, &[0, 2 * groups as i64, -1, 0]);
        if padded == 1 {
            let border = e.b.ints(&[0, 0, 1, 2, 0, 0, 1, 0]);
            x = e.b.op("Pad", "reflect", &[&x, &border], &[("mode", Attr::Str("reflect".into()))]);
        }
        let (weight, bias) = (e.tensor(&[groups * times, 2, 3, 3]), e.tensor(&[groups * times]));
        let spec = Conv2d { groups, ..Conv2d::default() };
        let y = e.b.conv("mix", &x, weight, Some(bias), spec);
        e.finish(&y, 4)
    }
}

/// The node that makes `value` for one reader alone.
fn before<'g>(index: &Index<'g>, value: &str) -> Option<(usize, &'g Node)> {
    index.only_reader(value)?;
    index.producer(value)
}

/// Whether `pad` pads rows and columns only, by constants.
fn pads_images(graph: &Graph, pad: &Node) -> bool {
    let border = pad.input(1).and_then(|border| ints(graph, border));
    let only_images = border.is_some_and(|p| p.len() == 8 && [0, 1, 4, 5].iter().all(|&i| p[i] == 0));
    only_images && pad.input(3).is_none()
}

/// What `value` interleaves: two maps of `channels` channels each.
fn interleaved<'g>(
    index: &Index<'g>,
    value: &str,
    channels: usize,
) -> Result<Option<Interleaved<'g>>, Refusal> {
    let reshape = before(index, value).filter(|(_, n)| n.is("Reshape") && n.int("allowzero", 0) == 0);
    let Some((reshape_at, reshape)) = reshape else { return Ok(None) };
    let shape = reshape.input(1).and_then(|s| ints(index.graph(), s));
    if shape.is_none_or(|s| s != [0, 2 * channels as i64, -1, 0]) {
        return Ok(None);
    }
    let concat = reshape.input(0).and_then(|stacked| before(index, stacked));
    let Some((concat_at, concat)) = concat.filter(|(_, n)| n.is("Concat") && n.inputs.len() == 2) else {
        return Ok(None);
    };
    let (a, b) = (concat.inputs[0].as_str(), concat.inputs[1].as_str());
    let (Some(of_a), Some(of_b)) = (dims(index, a), dims(index, b)) else { return Ok(None) };
    let is_map = |d: &[Dim]| d.len() == 4 && d[1] == Dim::Fixed(channels);
    if !matches!(concat.int("axis", 0), 2 | -2) || !is_map(&of_a) || !is_map(&of_b) {
        return Ok(None);
    }
    if of_a[2] != of_b[2] || of_a[2] == Dim::Unknown {
        return Err(Refusal::new(format!("{a:?} and {b:?} are not known to have as many rows")));
    }
    Ok(Some(Interleaved { maps: [a, b], nodes: [concat_at, reshape_at] }))
}
