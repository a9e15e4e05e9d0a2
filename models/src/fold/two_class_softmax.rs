//! A softmax over two maps becomes a sigmoid of their difference.

use super::example::Example;
use super::shapes::ints;
use super::view::Conv;
use super::{FoldRule, Patch, Refusal};
use crate::graph::{Attr, Conv2d, Graph, Index, Node};

/// The first operator set whose Softmax normalises along one axis.
const OPSET: i64 = 13;

/// What follows the name of a value of two maps in that of its two differences.
pub(crate) const SUFFIX: &str = "/differences";

/// Conv to two channels → Softmax over them becomes Conv → Sigmoid; a Resize may stand between.
///
/// ```text
/// softmax(a, b) = (σ(a − b), σ(b − a))
/// W' = (W[0] − W[1], W[1] − W[0])      [2, C_in / groups, k...]
/// b' = (b[0] − b[1], b[1] − b[0])      [2]
/// ```
///
/// Resizing is linear, so the difference of what is resized is what becomes of the difference. Engines transpose the
/// channels of a map to the end for a softmax and back again; a segmenter of two classes spends a quarter of its time there.
///
/// Refused: values on the way that are read elsewhere too, a grouped convolution, a Resize that fills in a value.
pub(crate) struct TwoClassSoftmax;

impl FoldRule for TwoClassSoftmax {
    fn name(&self) -> &'static str {
        "two_class_softmax"
    }

    fn equation(&self) -> &'static str {
        "softmax(a, b) = (σ(a − b), σ(b − a)), the differences made by the convolution"
    }

    fn check(&self, index: &Index<'_>, at: usize) -> Result<Option<Patch>, Refusal> {
        let graph = index.graph();
        let softmax = &graph.nodes[at];
        if !softmax.is("Softmax") || graph.opset() < OPSET {
            return Ok(None);
        }
        let Some((mut scores, mut conv_at)) = made(index, softmax) else { return Ok(None) };
        let mut resize = None;
        if graph.nodes[conv_at].is("Resize") {
            resize = Some((conv_at, scores));
            let Some(made) = made(index, &graph.nodes[conv_at]) else { return Ok(None) };
            (scores, conv_at) = made;
        }
        let Some(conv) =
            Conv::at(index, conv_at).filter(|c| !c.transposed && c.c_out() == 2 && c.shape.len() == 4)
        else {
            return Ok(None);
        };
        // Over the channels, counted from either end.
        if !matches!(softmax.int("axis", -1), 1 | -3) {
            return Ok(None);
        }
        if [Some(scores), resize.map(|r| r.1)].into_iter().flatten().any(|v| index.only_reader(v).is_none()) {
            return Err(Refusal::new("what goes into it is read elsewhere too"));
        }
        if conv.groups != 1 {
            return Err(Refusal::new("the convolution before it is grouped"));
        }
        if let Some((at, _)) = resize {
            linear(graph, &graph.nodes[at])?;
        }
        let differences = |values: Vec<f64>| -> Vec<f64> {
            let (first, second) = values.split_at(values.len() / 2);
            let first: Vec<f64> = first.iter().zip(second).map(|(a, b)| a - b).collect();
            first.iter().copied().chain(first.iter().map(|d| -d)).collect()
        };
        let mut patch = Patch::removing([conv_at, at]);
        let name = |i: usize, part: &str| match conv.node.input(i) {
            Some(name) => format!("{name}{SUFFIX}"),
            None => format!("{}.{part}{SUFFIX}", conv.node.name),
        };
        let weight = patch.widened(&name(1, "weight"), conv.shape, differences(conv.weight()))?;
        let bias = patch.widened(&name(2, "bias"), &[2], differences(conv.bias()))?;
        let mut value = format!("{scores}{SUFFIX}");
        let mut patch = match resize {
            None => patch.with_node(conv.rebuilt(&conv.node.name, &weight, &bias, &value)),
            Some((at, resized)) => {
                let conv = conv.rebuilt(&conv.node.name, &weight, &bias, &value);
                let mut resize = graph.nodes[at].clone();
                resize.inputs[0] = value;
                value = format!("{resized}{SUFFIX}");
                resize.outputs = vec![value.clone()];
                patch.remove.push(at);
                patch.with_node(conv).with_node(resize)
            }
        };
        patch = patch.with_node(Node::new("Sigmoid", &softmax.name, &[&value], &[softmax.output()]));
        Ok(Some(patch))
    }

    fn example(&self, seed: u64) -> Graph {
        let mut e = Example::new("two_class_softmax", seed);
        let (k, resized) = (e.pick(&[1, 3]), e.pick(&[0, 1]));
        let x = e.image(4);
        let (weight, bias) = (e.tensor(&[2, 4, k, k]), e.tensor(&[2]));
        let spec = Conv2d { pad: k / 2, ..Conv2d::default() };
        let mut scores = e.b.conv("head", &x, weight, Some(bias), spec);
        if resized == 1 {
            let scales = e.b.helper("scales", tapetum_runtime::Tensor::vector(vec![1.0f32, 1.0, 2.0, 1.5]));
            let attrs = [("mode", Attr::Str("linear".into()))];
            scores = e.b.op("Resize", "up", &[&scores, "", &scales], &attrs);
        }
        let y = e.b.op("Softmax", "softmax", &[&scores], &[("axis", Attr::Int(1))]);
        e.finish(&y, 4)
    }
}

/// What `node` reads first, and the position of the node that makes it.
fn made<'g>(index: &Index<'g>, node: &'g Node) -> Option<(&'g str, usize)> {
    let value = node.input(0)?;
    Some((value, index.producer(value)?.0))
}

/// Whether `resize` gives sums of what it reads, and each channel for itself.
fn linear(graph: &Graph, resize: &Node) -> Result<(), Refusal> {
    if resize.str("coordinate_transformation_mode") == Some("tf_crop_and_resize") {
        return Err(Refusal::new(format!("{:?} may fill in a value of its own", resize.name)));
    }
    let scales = |i| resize.input(i).and_then(|s| graph.dense(s)?.f32s().ok()).map(|s| s.to_vec());
    let keeps_channels = match (scales(2), resize.input(3).and_then(|s| ints(graph, s))) {
        (Some(scales), None) => scales.get(1) == Some(&1.0),
        (_, Some(sizes)) => sizes.get(1) == Some(&2),
        _ => false,
    };
    let axes = resize.ints("axes").is_none();
    if keeps_channels && axes {
        return Ok(());
    }
    Err(Refusal::new(format!("{:?} is not known to keep the channels", resize.name)))
}
