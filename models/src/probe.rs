//! Values that a proof looks at besides the outputs.
//!
//! A softmax or sigmoid at the end squeezes everything into 0–1, and where it saturates, two networks with very
//! different scores give the same output. The proof compares what goes into such an operator too.

use tapetum_runtime::Tensor;

use crate::fold::DIFFERENCES;
use crate::graph::{Graph, HELPER_PREFIX, Node, Value, infer};

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
    for value in values {
        let made = |name: &str| graph.nodes.iter().any(|n| n.outputs.iter().any(|o| o == name));
        if made(&value.name) {
            probed.outputs.push(value.clone());
        } else if let Some(scores) = value.name.strip_suffix(DIFFERENCES).filter(|scores| made(scores)) {
            // What the fold has the convolution make, the form before it has as two scores.
            let signs = Tensor::new(&[2, 2, 1, 1], vec![1.0f32, -1.0, -1.0, 1.0]).expect("four signs");
            let signs = probed.add_constant(&format!("{HELPER_PREFIX}signs"), signs);
            probed.nodes.push(Node::new("Conv", &value.name, &[scores, &signs], &[&value.name]));
            probed.outputs.push(value.clone());
        }
    }
    probed
}
