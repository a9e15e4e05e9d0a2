//! The end of a segmenter of two classes: one map instead of two.
//!
//! Once the softmax is a pair of sigmoids (the fold `two_class_softmax`), each map is what the other lacks of 1. So the
//! last convolution gives one difference, and one map is resized instead of two. With all layers before in int8 these few
//! steps at full size, which stay in fp32, are a fifth of what is left (TF-Net s0, 512×512).

use tapetum_runtime::{Result, Tensor};

use crate::fold::{TwoClassSoftmax, fold_with};
use crate::graph::{Attr, Graph, HELPER_PREFIX, Index, Node};

/// Most rows or columns after resizing for which the resizing is written as two matrix products `R · X · Cᵀ`, as engines
/// vectorise a resize over channels, of which there is one. The work grows with the cube of the side.
const MOST: usize = 512;

/// What ends in the pair of sigmoids at `sigmoid`.
struct End {
    sigmoid: usize,
    conv: usize,
    resize: Option<usize>,
}

/// Rewrites every such end of `graph`. It gives the same, rounded differently.
///
/// # Errors
/// None that a sound graph can cause; see [`Tensor::new`] and [`fold_with`].
pub(super) fn join(graph: &mut Graph) -> Result<()> {
    // A file that Tapetum has not made has its softmax still.
    fold_with(graph, &[&TwoClassSoftmax])?;
    let index = graph.index();
    let ends: Vec<(End, Option<[Tensor; 2]>)> = (0..graph.nodes.len())
        .filter_map(|at| find(&index, at))
        .map(|end| Ok((products(&index, &end)?, end)))
        .map(|found: Result<_>| found.map(|(products, end)| (end, products)))
        .collect::<Result<_>>()?;
    // From the last on, so that the places of the others hold.
    for (end, products) in ends.into_iter().rev() {
        rewrite(graph, &end, products)?;
    }
    graph.remove_dead();
    Ok(())
}

fn find(index: &Index<'_>, sigmoid: usize) -> Option<End> {
    let graph = index.graph();
    let node = &graph.nodes[sigmoid];
    let single = |value: &str| index.only_reader(value).is_some();
    let before = |node: &Node| index.producer(node.input(0)?).filter(|_| single(&node.inputs[0]));
    let (mut at, mut conv) = node.is("Sigmoid").then(|| before(node)).flatten()?;
    let mut resize = None;
    if conv.is("Resize") {
        let bilinear = conv.str("mode") == Some("linear") && scales(graph, conv).is_some();
        resize = bilinear.then_some(at);
        (at, conv) = bilinear.then(|| before(conv)).flatten()?;
    }
    // The second row is the first with its sign changed.
    let opposite = |i: usize, rank: usize| {
        let tensor = graph.dense(conv.input(i)?).filter(|t| t.rank() == rank && t.shape()[0] == 2)?;
        let (first, second) = tensor.f32s().ok()?.split_at(tensor.len() / 2);
        Some(!first.is_empty() && first.iter().zip(second).all(|(a, b)| *a == -*b))
    };
    let fits = opposite(1, 4)? && (conv.input(2).is_none() || opposite(2, 1)?);
    (conv.is("Conv") && conv.int("group", 1) == 1 && fits).then_some(End { sigmoid, conv: at, resize })
}

/// Rows and columns of the output per row and column of the input, if nothing else is resized.
fn scales(graph: &Graph, resize: &Node) -> Option<[f32; 2]> {
    let half_pixel = resize.str("coordinate_transformation_mode").is_none_or(|mode| mode == "half_pixel");
    let plain = resize.input(1).is_none() && resize.input(3).is_none() && resize.int("antialias", 0) == 0;
    match graph.dense(resize.input(2)?)?.f32s().ok()? {
        &[1.0, 1.0, rows, columns] if half_pixel && plain => Some([rows, columns]),
        _ => None,
    }
}

/// `R` and `Cᵀ` for the resize of `end`, where its input has a fixed size that is not too large.
fn products(index: &Index<'_>, end: &End) -> Result<Option<[Tensor; 2]>> {
    let Some(node) = end.resize.map(|at| &index.graph().nodes[at]) else { return Ok(None) };
    let dims = node.input(0).and_then(|value| index.known(value)).map(|known| known.dims.as_slice());
    let (Some([_, _, rows, columns]), Some(scales)) = (dims, scales(index.graph(), node)) else {
        return Ok(None);
    };
    let (Some(rows), Some(columns)) = (rows.fixed(), columns.fixed()) else { return Ok(None) };
    let becomes = |n: usize, scale: f32| (n as f64 * f64::from(scale)) as usize;
    if becomes(rows, scales[0]).max(becomes(columns, scales[1])) > MOST {
        return Ok(None);
    }
    let (high, wide) = (becomes(rows, scales[0]), becomes(columns, scales[1]));
    let mut left = vec![0.0; high * rows];
    weights(rows, high, scales[0], |to, from, share| left[to * rows + from] += share);
    let mut right = vec![0.0; columns * wide];
    weights(columns, wide, scales[1], |to, from, share| right[from * wide + to] += share);
    Ok(Some([Tensor::new(&[high, rows], left)?, Tensor::new(&[columns, wide], right)?]))
}

/// Tells `add` for each of `to` values its share of two of the `from` values, which lie at `(i + ½) / scale − ½`.
fn weights(from: usize, to: usize, scale: f32, mut add: impl FnMut(usize, usize, f32)) {
    for i in 0..to {
        let at = ((i as f64 + 0.5) / f64::from(scale) - 0.5).clamp(0.0, from as f64 - 1.0);
        let (low, share) = (at as usize, at.fract());
        add(i, low, (1.0 - share) as f32);
        if share > 0.0 {
            add(i, low + 1, share as f32);
        }
    }
}

fn rewrite(graph: &mut Graph, end: &End, products: Option<[Tensor; 2]>) -> Result<()> {
    let conv = graph.nodes[end.conv].clone();
    for input in 1..conv.inputs.len() {
        let Some(both) = conv.input(input).and_then(|name| graph.dense(name)).cloned() else { continue };
        let second = both.f32s()?[both.len() / 2..].to_vec();
        let mut shape = both.shape().to_vec();
        shape[0] = 1;
        let name = format!("{}/second", conv.inputs[input]);
        graph.nodes[end.conv].inputs[input] = graph.add_constant(&name, Tensor::new(&shape, second)?);
    }
    let sigmoid = graph.nodes[end.sigmoid].clone();
    let part = |part: &str| format!("{}/{part}", sigmoid.name);
    let one = graph.add_constant(&format!("{HELPER_PREFIX}one"), Tensor::scalar(1.0f32));
    let (second, first) = (part("second"), part("first"));
    let concat = Node::new("Concat", &sigmoid.name, &[&first, &second], &[sigmoid.output()]);
    graph.nodes.splice(
        end.sigmoid..=end.sigmoid,
        [
            Node::new("Sigmoid", &second, &[&sigmoid.inputs[0]], &[&second]),
            Node::new("Sub", &first, &[&one, &second], &[&first]),
            concat.with("axis", Attr::Int(1)),
        ],
    );
    if let Some((at, [left, right])) = end.resize.zip(products) {
        let resize = graph.nodes[at].clone();
        let helper = |what: &str, t: &Tensor| format!("{HELPER_PREFIX}resize{what}{:?}", t.shape());
        let (left_name, right_name) = (helper("/rows", &left), helper("/columns", &right));
        let (left, right) = (graph.add_constant(&left_name, left), graph.add_constant(&right_name, right));
        let across = format!("{}/across", resize.name);
        graph.nodes.splice(
            at..=at,
            [
                Node::new("MatMul", &across, &[&resize.inputs[0], &right], &[&across]),
                Node::new("MatMul", &resize.name, &[&left, &across], &[resize.output()]),
            ],
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tapetum_runtime::backend::{Backend, by_name};
    use tapetum_runtime::contract::golden;

    use super::*;
    use crate::graph::{Builder, Dim};
    use crate::quantize::observe::session;

    /// `[?, 3, height, width]` → Conv to `classes` → resize by 2 and 1.5 → Softmax.
    fn segmenter(classes: usize, size: [Option<usize>; 2]) -> Graph {
        let mut b = Builder::new("t");
        let dim = |d: Option<usize>| d.map_or(Dim::Unknown, Dim::Fixed);
        let x = b.input("x", vec![Dim::Fixed(1), Dim::Fixed(3), dim(size[0]), dim(size[1])]);
        let w = b.param("w", golden::input(7, &[classes, 3, 1, 1]));
        let bias = b.param("b", Tensor::vector((0..classes).map(|n| n as f32 * 0.3).collect()));
        let conv = b.op("Conv", "conv", &[&x, &w, &bias], &[]);
        let scales = b.helper("scales", Tensor::vector(vec![1.0f32, 1.0, 2.0, 1.5]));
        let attrs = [
            ("mode", Attr::Str("linear".into())),
            ("coordinate_transformation_mode", Attr::Str("half_pixel".into())),
        ];
        let up = b.op("Resize", "up", &[&conv, "", &scales], &attrs);
        let p = b.op("Softmax", "p", &[&up], &[("axis", Attr::Int(1))]);
        b.output("p", &p, vec![Dim::Fixed(1), Dim::Fixed(classes), Dim::Unknown, Dim::Unknown]);
        b.finish().unwrap()
    }

    fn run(graph: &Graph, x: &[Tensor]) -> Vec<f32> {
        let engine: &dyn Backend = by_name("tract").unwrap();
        session(engine, graph, None, &[x]).unwrap().run(x).unwrap()[0].f32s().unwrap().to_vec()
    }

    #[test]
    fn one_map_gives_what_two_gave() {
        let x = [golden::input(3, &[1, 3, 8, 12])];
        for (size, products) in [([Some(8), Some(12)], 2), ([None, None], 0)] {
            let before = segmenter(2, size);
            let mut after = before.clone();
            join(&mut after).unwrap();
            after.check().unwrap();
            let count = |op| after.nodes.iter().filter(|n| n.is(op)).count();
            assert_eq!((count("Softmax"), count("Sigmoid"), count("MatMul")), (0, 1, products));
            let (want, got) = (run(&before, &x), run(&after, &x));
            assert_eq!(want.len(), 2 * 16 * 18);
            let off = want.iter().zip(&got).map(|(w, g)| (w - g).abs()).fold(0.0, f32::max);
            assert!(want.len() == got.len() && off < 2e-6, "{off}");
        }
    }

    #[test]
    fn more_classes_and_values_that_others_read_stay_as_they_are() {
        let three = segmenter(3, [Some(8), Some(12)]);
        let mut joined = three.clone();
        join(&mut joined).unwrap();
        assert_eq!(joined, three);
        let mut read = segmenter(2, [Some(8), Some(12)]);
        let logits = read.nodes[1].output().to_owned();
        read.outputs.push(crate::graph::Value { name: logits, ..read.outputs[0].clone() });
        let mut joined = read.clone();
        join(&mut joined).unwrap();
        assert_eq!(joined, read);
    }
}
