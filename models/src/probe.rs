//! Values that a proof looks at besides the outputs.
//!
//! A softmax or sigmoid at the end squeezes everything into 0–1, and where it saturates, two networks with very
//! different scores give the same output. The proof compares what goes into such an operator too.

use crate::graph::{Graph, Value, infer};

const SATURATING: [&str; 6] = ["Softmax", "Sigmoid", "HardSigmoid", "Tanh", "Clip", "LogSoftmax"];

/// The inputs of saturating operators that make a graph output.
pub fn saturating(graph: &Graph) -> Vec<Value> {
    let known = infer::infer(graph);
    let ends = graph.nodes.iter().filter(|n| graph.is_output(n.output()));
    let squeezed = ends.filter(|n| SATURATING.iter().any(|op| n.is(op)));
    let value = |name: &str| {
        let k = known.get(name)?;
        Some(Value { name: name.to_owned(), dtype: k.dtype, dims: k.dims.clone() })
    };
    let inner = |name: &&str| !graph.is_output(name) && !graph.inputs.iter().any(|v| v.name == *name);
    squeezed.filter_map(|n| n.input(0)).filter(inner).filter_map(value).collect()
}

/// `graph` with those of `values` that it makes as further outputs. Weights are shared, not copied.
pub fn with_outputs(graph: &Graph, values: &[Value]) -> Graph {
    let mut probed = graph.clone();
    let made = |v: &&Value| graph.nodes.iter().any(|n| n.outputs.contains(&v.name));
    probed.outputs.extend(values.iter().filter(made).cloned());
    probed
}
