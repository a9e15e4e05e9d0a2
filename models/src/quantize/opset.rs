//! A graph of an older operator set, brought to the one where a scale per channel can be written.

use tapetum_runtime::{Error, Result, Tensor};

use crate::graph::infer::infer;
use crate::graph::{Attr, Graph, HELPER_PREFIX, Node};

/// Since 13, DequantizeLinear has an axis.
const WANTED: i64 = 13;

/// Operators that mean the same in 11 to 13.
#[rustfmt::skip]
const UNCHANGED: [&str; 69] = [
    "Abs", "Add", "And", "AveragePool", "BatchNormalization", "Cast", "Ceil", "Clip", "Concat", "Constant",
    "ConstantOfShape", "Conv", "ConvTranspose", "Cos", "Div", "Dropout", "Elu", "Equal", "Erf", "Exp", "Expand",
    "Flatten", "Floor", "Gather", "GatherND", "Gemm", "GlobalAveragePool", "GlobalMaxPool", "Greater",
    "HardSigmoid", "Identity", "InstanceNormalization", "LeakyRelu", "Less", "Log", "LpPool", "MatMul", "Max",
    "MaxPool", "Min", "Mul", "Neg", "NonZero", "Not", "PRelu", "Pad", "Pow", "Range", "Reciprocal", "ReduceL2",
    "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "Relu", "Reshape", "Resize", "ScatterND", "Shape",
    "Sigmoid", "Slice", "Softplus", "Sqrt", "Sub", "Sum", "Tanh", "TopK", "Transpose", "Where",
];

/// Brings `graph` to operator set 13 if it is older.
///
/// # Errors
/// [`tapetum_runtime::ErrorKind::Unsupported`] naming the operators whose meaning changed in a way that is not translated here.
pub(super) fn upgrade(graph: &mut Graph) -> Result<()> {
    let opset = graph.opset();
    if opset >= WANTED {
        return Ok(());
    }
    let known = infer(graph);
    let mut refused = Vec::new();
    if opset < 11 {
        refused.push(format!("operator set {opset} itself"));
    }
    let mut axes = Vec::new();
    for (at, node) in graph.nodes.iter().enumerate() {
        let rank = |value: Option<&str>| value.and_then(|v| known.get(v)).map(|k| k.dims.len() as i64);
        match node.op.as_str() {
            _ if !node.domain.is_empty() => {}
            op if UNCHANGED.contains(&op) => {}
            "Squeeze" | "Unsqueeze" | "ReduceSum" => axes.push((at, "axes")),
            "Split" => axes.push((at, "split")),
            // Before 13 everything from the axis on was one row: the same only where the axis is the last.
            "Softmax" | "LogSoftmax"
                if rank(node.input(0)).is_some_and(|r| [r - 1, -1].contains(&node.int("axis", 1))) => {}
            op => refused.push(format!("{op} ({:?})", node.name)),
        }
    }
    if !refused.is_empty() {
        return Err(Error::unsupported(format!(
            "the model is of operator set {opset}; a scale per channel needs {WANTED}, and these cannot be brought there: \
             {}; export it with opset_version={WANTED} or later",
            refused.join(", ")
        )));
    }
    for (at, name) in axes {
        let Some(Attr::Ints(values)) = graph.nodes[at].attrs.remove(name) else { continue };
        let constant = format!("{HELPER_PREFIX}{}/{name}", graph.nodes[at].name);
        let constant = graph.add_constant(&constant, Tensor::vector(values));
        graph.nodes[at].inputs.push(constant);
    }
    for node in graph.nodes.iter_mut().filter(|n| n.is("Softmax") || n.is("LogSoftmax")) {
        pin_axis(node);
    }
    graph.opsets.insert(String::new(), WANTED);
    Ok(())
}

/// The default changed from 1 to −1.
fn pin_axis(node: &mut Node) {
    let axis = node.int("axis", 1);
    node.attrs.insert("axis".into(), Attr::Int(axis));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Builder, Dim};

    fn graph(softmax_axis: Option<i64>) -> Graph {
        let mut b = Builder::new("t");
        let x = b.input("x", vec![Dim::Fixed(2), Dim::Fixed(3), Dim::Fixed(1)]);
        let s = b.op("Squeeze", "s", &[&x], &[("axes", Attr::Ints(vec![2]))]);
        let attrs: Vec<_> = softmax_axis.map(|a| ("axis", Attr::Int(a))).into_iter().collect();
        let p = b.op("Softmax", "p", &[&s], &attrs);
        b.output("out", &p, vec![Dim::Fixed(2), Dim::Fixed(3)]);
        let mut graph = b.finish().unwrap();
        graph.opsets.insert(String::new(), 11);
        graph
    }

    #[test]
    fn axes_become_inputs_and_defaults_are_written_out() {
        let mut g = graph(None);
        upgrade(&mut g).unwrap();
        assert_eq!((g.opset(), g.nodes[1].int("axis", 9)), (13, 1));
        assert_eq!(g.nodes[0].ints("axes"), None);
        let axes = g.dense(&g.nodes[0].inputs[1]).unwrap();
        assert_eq!(axes.view::<i64>().unwrap(), [2]);
        g.check().unwrap();
    }

    #[test]
    fn what_changed_its_meaning_is_refused_by_name() {
        let why = upgrade(&mut graph(Some(0))).unwrap_err().to_string();
        assert!(why.contains("Softmax (\"p\")") && why.contains("operator set 11"), "{why}");
        let mut old = graph(Some(1));
        old.opsets.insert(String::new(), 9);
        assert!(upgrade(&mut old).unwrap_err().to_string().contains("operator set 9 itself"));
    }
}
