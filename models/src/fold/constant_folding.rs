//! Arithmetic on constants is done now.

use tapetum_runtime::DType;

use super::eval::{Numbers, Value, evaluate};
use super::example::Example;
use super::patch::can_replace;
use super::shapes::{dims, dtype};
use super::{FoldRule, Patch, Refusal};
use crate::graph::{Attr, Dim, Graph, Index, Node};

/// A result of this many elements is stored however small its inputs were (a bias of zeros, a shape).
const SMALL: usize = 1 << 13;

/// A node that reads only constants, or only the shape of a value whose shape is known, becomes a constant.
///
/// ```text
/// f(c₁, c₂, ..) = c
/// ```
///
/// Floating-point results are kept in `f64`. Not folded: results with more than 8192 elements that have more than all of
/// their inputs together (an Expand is smaller than what it makes), results that a sub-graph captures or that are
/// graph outputs, and operators that exporters do not leave between parameters.
///
/// Source: the operators' definitions, ONNX operator sets 9 to 23.
pub(super) struct ConstantFolding;

impl FoldRule for ConstantFolding {
    fn name(&self) -> &'static str {
        "constant_folding"
    }

    fn equation(&self) -> &'static str {
        "f(constants) = constant"
    }

    fn check(&self, graph: &Index<'_>, at: usize) -> Result<Option<Patch>, Refusal> {
        let node = &graph.graph().nodes[at];
        let onnx = node.domain.is_empty() || node.domain == "ai.onnx";
        if !onnx || node.outputs.len() != 1 || !can_replace(graph, node.output(), "") {
            return Ok(None);
        }
        let Some(value) = result(graph, node) else { return Ok(None) };
        let name = node.output();
        let mut patch = Patch::removing([at]);
        let dtype = value.dtype;
        let shape = value.shape.clone();
        let constant = match value.numbers {
            Numbers::Float(v) if dtype == DType::F32 => patch.widened(name, &shape, v)?,
            _ => match value.into_tensor() {
                Some(tensor) => patch.constant(name, tensor),
                None => return Ok(None),
            },
        };
        Ok(Some(patch.with_replacement(name, &constant)))
    }

    fn example(&self, seed: u64) -> Graph {
        let mut e = Example::new("constant_folding", seed);
        let x = e.image(4);
        let (weight, transposed) = (e.tensor(&[4, 6, 3, 3]), Attr::Ints(vec![1, 0, 2, 3]));
        let weight = e.b.param("conv.weight", weight);
        let turned = e.b.op("Transpose", "conv/turned", &[&weight], &[("perm", transposed)]);
        let attrs = [("pads", Attr::Ints(vec![1; 4])), ("kernel_shape", Attr::Ints(vec![3; 2]))];
        let y = e.b.op("Conv", "conv", &[&x, &turned], &attrs);
        e.finish(&y, 4)
    }
}

fn result(index: &Index<'_>, node: &Node) -> Option<Value> {
    let graph = index.graph();
    if node.is("Shape") {
        return shape(index, node);
    }
    let constant = |i: &String| i.is_empty() || graph.dense(i).is_some();
    let first = node.input(0)?;
    match node.op.as_str() {
        "Cast" => {
            let to = DType::from_onnx(i32::try_from(node.int("to", 0)).ok()?)?;
            return Value::read(graph, first)?.cast(to);
        }
        "CastLike" => {
            graph.dense(first)?;
            let to = dtype(index, node.input(1)?)?;
            return Value::read(graph, first)?.cast(to);
        }
        op if !FOLDED.contains(&op) || !node.inputs.iter().all(constant) => return None,
        _ => {}
    }
    let inputs: Vec<Option<Value>> = node.inputs.iter().map(|i| Value::read(graph, i)).collect();
    let total: usize = inputs.iter().flatten().map(Value::len).sum();
    evaluate(node, &inputs, total.max(SMALL))
}

const FOLDED: [&str; 17] = [
    "Reshape",
    "Transpose",
    "Unsqueeze",
    "Squeeze",
    "Concat",
    "Slice",
    "Gather",
    "Expand",
    "ConstantOfShape",
    "Range",
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Neg",
    "Sqrt",
    "MatMul",
];

fn shape(index: &Index<'_>, node: &Node) -> Option<Value> {
    let dims = dims(index, node.input(0)?)?;
    let rank = i64::try_from(dims.len()).ok()?;
    let clamp = |v: i64| (if v < 0 { v.saturating_add(rank) } else { v }).clamp(0, rank) as usize;
    let (start, end) = (clamp(node.int("start", 0)), clamp(node.int("end", rank)));
    let kept = dims.get(start..end.max(start))?;
    let fixed: Option<Vec<i64>> =
        kept.iter().map(|d| Dim::fixed(d).and_then(|d| i64::try_from(d).ok())).collect();
    fixed.map(Value::ints)
}
