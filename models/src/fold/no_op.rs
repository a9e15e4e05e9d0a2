//! Nodes that pass their input through go.

use tapetum_runtime::DType;

use super::example::Example;
use super::patch::can_replace;
use super::shapes::{all_equal, broadcasts_into, dims, dtype, ints};
use super::{FoldRule, Patch, Refusal};
use crate::graph::{Attr, Conv2d, Dim, Graph, Index, Node};

/// How far back a value is followed to see that it is all zeros.
const REACH: usize = 16;

/// A node whose result is one of its inputs is left out.
///
/// ```text
/// Identity(x), Dropout(x) in inference, Cast(x) and CastLike(x) to the type that x has
/// x + 0, x − 0, x · 1, x ÷ 1                             where the constant does not enlarge x
/// Reshape, Flatten, Expand to the shape that x has; Slice of all of it; Concat of it alone
/// Transpose by 0, 1, 2, ..; Pad by nothing; Squeeze of what Unsqueeze added; pools over one element
/// ```
///
/// A zero may also be computed: `Expand(0, Shape(x)) + x`, as `0 + x` is exported.
///
/// Not touched: a tensor of zeros or ones whose shape is not known to broadcast into the other operand's, results
/// that a sub-graph captures, and graph outputs whose value nothing else can write.
///
/// Source: the operators' definitions, ONNX operator sets 9 to 23.
pub(super) struct NoOp;

impl FoldRule for NoOp {
    fn name(&self) -> &'static str {
        "no_op"
    }

    fn equation(&self) -> &'static str {
        "x + 0 = x·1 = Identity(x) = Reshape(x, shape of x) = ... = x"
    }

    fn check(&self, graph: &Index<'_>, at: usize) -> Result<Option<Patch>, Refusal> {
        let node = &graph.graph().nodes[at];
        if !(node.domain.is_empty() || node.domain == "ai.onnx") {
            return Ok(None);
        }
        let unused =
            |v: &String| v.is_empty() || (graph.readers(v).is_empty() && !graph.graph().is_output(v));
        if !node.outputs.iter().skip(1).all(unused) {
            return Ok(None);
        }
        let Some(same) = same_as(graph, node) else { return Ok(None) };
        if !can_replace(graph, node.output(), same) {
            return Ok(None);
        }
        Ok(Some(Patch::removing([at]).with_replacement(node.output(), same)))
    }

    fn example(&self, seed: u64) -> Graph {
        let mut e = Example::new("no_op", seed);
        let kind = e.pick(&[0, 1, 2]);
        let x = e.image(4);
        let weight = e.tensor(&[6, 4, 3, 3]);
        let conv = e.b.conv("conv", &x, weight, None, Conv2d { pad: 1, ..Conv2d::default() });
        let zero = e.b.float(0.0);
        let y = match kind {
            0 => e.b.binary("Add", "sum", &zero, &conv),
            1 => e.b.unary("Identity", "same", &conv),
            _ => e.b.op("Cast", "cast", &[&conv], &[("to", Attr::Int(1))]),
        };
        let y = e.b.unary("Relu", "relu", &y);
        e.finish(&y, 4)
    }
}

/// The input that `node` passes through.
fn same_as<'g>(index: &Index<'g>, node: &'g Node) -> Option<&'g str> {
    let graph = index.graph();
    let x = node.input(0)?;
    let all_ones = |name: &str| node.ints(name).is_none_or(|v| v.iter().all(|&v| v == 1));
    let no_pads = node.ints("pads").is_none_or(|v| v.iter().all(|&v| v == 0));
    let same = match node.op.as_str() {
        "Identity" => true,
        "Dropout" => node.input(2).is_none_or(|t| {
            graph.dense(t).is_some_and(|t| t.view::<bool>().is_ok_and(|t| t.iter().all(|&t| !t)))
        }),
        "Cast" => {
            let to = DType::from_onnx(i32::try_from(node.int("to", 0)).ok()?)?;
            dtype(index, x) == Some(to)
        }
        "CastLike" => {
            let to = dtype(index, node.input(1)?)?;
            dtype(index, x) == Some(to)
        }
        "Add" | "Sub" | "Mul" | "Div" => return neutral(index, node),
        "Reshape" | "Flatten" | "Expand" => same_dims(index, node),
        "Slice" => {
            let steps =
                node.input(4).is_none_or(|s| ints(graph, s).is_some_and(|s| s.iter().all(|&s| s == 1)));
            node.input(1).is_some() && steps && same_dims(index, node)
        }
        "Transpose" => node.ints("perm").is_some_and(|p| p.iter().copied().eq(0..p.len() as i64)),
        "Pad" => match node.input(1) {
            Some(pads) => ints(graph, pads).is_some_and(|p| p.iter().all(|&p| p == 0)),
            None => node.ints("pads").is_some() && no_pads,
        },
        "Concat" => node.inputs.len() == 1,
        "MaxPool" | "AveragePool" => {
            node.ints("kernel_shape").is_some() && all_ones("kernel_shape") && all_ones("strides") && no_pads
        }
        "Squeeze" => return unsqueezed(index, node),
        _ => false,
    };
    same.then_some(x)
}

fn same_dims(index: &Index<'_>, node: &Node) -> bool {
    let (before, after) = (node.input(0).and_then(|x| dims(index, x)), dims(index, node.output()));
    before.zip(after).is_some_and(|(b, a)| b == a && !a.contains(&Dim::Unknown))
}

/// `x` of `Squeeze(Unsqueeze(x))` over the same axes.
fn unsqueezed<'g>(index: &Index<'g>, squeeze: &'g Node) -> Option<&'g str> {
    let axes = |node: &Node| {
        let given = node.input(1).and_then(|a| ints(index.graph(), a));
        let mut axes = given.or_else(|| node.ints("axes").map(<[i64]>::to_vec))?;
        axes.sort_unstable();
        axes.first().is_some_and(|&a| a >= 0).then_some(axes)
    };
    let (_, unsqueeze) = index.producer(squeeze.input(0)?).filter(|(_, n)| n.is("Unsqueeze"))?;
    (axes(squeeze)? == axes(unsqueeze)?).then(|| unsqueeze.input(0))?
}

/// The operand that adding 0 or multiplying by 1 leaves as it is.
fn neutral<'g>(index: &Index<'g>, node: &'g Node) -> Option<&'g str> {
    let (a, b) = (node.input(0)?, node.input(1)?);
    let leaves = |x: &str, c: &str| {
        let neutral = match node.op.as_str() {
            "Add" | "Sub" => is_zero(index, c),
            _ => all_equal(index.graph(), c, 1),
        };
        neutral && (follows_shape_of(index, c, x) || small_beside(index, c, x))
    };
    if leaves(a, b) {
        return Some(a);
    }
    (matches!(node.op.as_str(), "Add" | "Mul") && leaves(b, a)).then_some(b)
}

fn small_beside(index: &Index<'_>, constant: &str, x: &str) -> bool {
    dims(index, constant).is_some_and(|c| broadcasts_into(&c, dims(index, x).as_deref()))
}

/// Whether `value` is a number expanded to exactly the shape of `x`.
fn follows_shape_of(index: &Index<'_>, value: &str, x: &str) -> bool {
    let Some((_, expand)) = index.producer(value).filter(|(_, n)| n.is("Expand")) else { return false };
    let number = expand.input(0).and_then(|v| dims(index, v)).is_some_and(|d| d.is_empty());
    let shape = expand.input(1).and_then(|s| index.producer(s)).map(|(_, n)| n);
    let whole = |n: &Node| n.is("Shape") && n.input(0) == Some(x) && n.attrs.is_empty();
    number && shape.is_some_and(whole)
}

fn is_zero(index: &Index<'_>, value: &str) -> bool {
    let mut value = value;
    for _ in 0..REACH {
        if index.graph().constants.contains_key(value) {
            return all_equal(index.graph(), value, 0);
        }
        let Some((_, node)) = index.producer(value) else { return false };
        if node.is("ConstantOfShape") {
            return match node.attrs.get("value") {
                None => true,
                Some(Attr::Tensor(t)) => match t.dtype() {
                    DType::F32 => t.f32s().is_ok_and(|v| v.iter().all(|&v| v == 0.0)),
                    _ => false,
                },
                Some(_) => false,
            };
        }
        let keeps = ["Expand", "Cast", "CastLike", "Reshape", "Unsqueeze", "Squeeze", "Identity"];
        let Some(from) = node.input(0).filter(|_| keeps.iter().any(|op| node.is(op))) else { return false };
        value = from;
    }
    false
}
