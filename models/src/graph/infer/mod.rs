//! Shapes of every value, as far as they can be known.
//!
//! To teach it an operator: one line in `apply` and a function in the file it belongs to (`elementwise`,
//! `window` for convolutions and pools, `layout` for everything that moves elements). Operators not known here
//! leave their outputs without a shape; nothing else depends on them being known.

mod dims;
mod elementwise;
mod layout;
mod window;

use std::collections::BTreeMap;

use tapetum_runtime::{DType, Tensor};

use super::{Dim, Graph, Node, Value};

/// Element type and extents of a value.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    /// Element type.
    pub dtype: DType,
    /// Extents.
    pub dims: Vec<Dim>,
}

impl Known {
    fn new(dtype: DType, dims: Vec<Dim>) -> Self {
        Self { dtype, dims }
    }

    /// Every extent as a number, if all are.
    pub fn fixed(&self) -> Option<Vec<usize>> {
        self.dims.iter().map(Dim::fixed).collect()
    }
}

/// How extents that depend on the data are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presume {
    /// They stay open.
    Nothing,
    /// `NonZero` finds every element: the largest such an extent can be.
    AllKept,
}

/// What is known of each value of `graph`, by name. Values behind operators that are not known here are left out.
pub fn infer(graph: &Graph) -> BTreeMap<String, Known> {
    infer_with(graph, &graph.inputs, Presume::Nothing)
}

/// As [`infer`], with other extents of the inputs.
pub fn infer_with(graph: &Graph, inputs: &[Value], presume: Presume) -> BTreeMap<String, Known> {
    let mut facts = Facts { graph, presume, known: BTreeMap::new(), integers: BTreeMap::new() };
    for v in inputs {
        facts.known.insert(v.name.clone(), Known::new(v.dtype, v.dims.clone()));
    }
    for name in graph.constants.keys() {
        if let Some(tensor) = graph.dense(name) {
            facts.learn_constant(name, tensor);
        }
    }
    for node in &graph.nodes {
        for (name, known) in node.outputs.iter().zip(apply(node, &mut facts).unwrap_or_default()) {
            facts.known.insert(name.clone(), known);
        }
    }
    facts.known
}

/// What is known while walking the graph.
struct Facts<'g> {
    graph: &'g Graph,
    presume: Presume,
    known: BTreeMap<String, Known>,
    /// Contents of small integer values (shapes and what is computed from them).
    integers: BTreeMap<String, Vec<Dim>>,
}

impl Facts<'_> {
    fn learn_constant(&mut self, name: &str, tensor: &Tensor) {
        let dims = tensor.shape().iter().map(|&d| Dim::Fixed(d)).collect();
        self.known.insert(name.into(), Known::new(tensor.dtype(), dims));
        if tensor.rank() <= 1
            && tensor.len() <= 16
            && let Some(values) = integers(tensor)
            && let Some(dims) = values.iter().map(|&v| usize::try_from(v).ok().map(Dim::Fixed)).collect()
        {
            self.integers.insert(name.into(), dims);
        }
    }

    fn of(&self, node: &Node, input: usize) -> Option<&Known> {
        self.known.get(node.input(input)?)
    }

    /// Constant integers at `input`.
    fn constant(&self, node: &Node, input: usize) -> Option<Vec<i64>> {
        integers(self.graph.dense(node.input(input)?)?)
    }

    /// Integers at `input`, possibly symbolic.
    fn values(&self, node: &Node, input: usize) -> Option<&Vec<Dim>> {
        self.integers.get(node.input(input)?)
    }

    /// Axes given as an input (newer operator sets) or as an attribute (older).
    fn axes(&self, node: &Node, input: usize) -> Option<Vec<i64>> {
        match node.input(input) {
            Some(_) => self.constant(node, input),
            None => node.ints("axes").map(<[i64]>::to_vec),
        }
    }
}

fn integers(tensor: &Tensor) -> Option<Vec<i64>> {
    if let Ok(v) = tensor.view::<i64>() {
        return Some(v.to_vec());
    }
    tensor.view::<i32>().ok().map(|v| v.iter().map(|&x| i64::from(x)).collect())
}

/// Position of `axis` (negative counts from the end) in a value of `rank` axes.
fn axis(axis: i64, rank: usize) -> Option<usize> {
    let at = if axis < 0 { axis.checked_add(rank as i64)? } else { axis };
    usize::try_from(at).ok().filter(|&a| a < rank)
}

/// What the outputs of `node` are; `None` if its operator or its inputs are not known.
fn apply(node: &Node, facts: &mut Facts<'_>) -> Option<Vec<Known>> {
    if !node.domain.is_empty() {
        return None;
    }
    let one = match node.op.as_str() {
        "Conv" => window::conv(node, facts),
        "ConvTranspose" => window::conv_transpose(node, facts),
        "MaxPool" | "AveragePool" | "LpPool" => window::pool(node, facts),
        "GlobalAveragePool" | "GlobalMaxPool" => window::global_pool(node, facts),
        "Resize" => window::resize(node, facts),
        "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Max" | "Min" | "Mod" | "And" | "Or" | "Xor" | "Sum"
        | "PRelu" => elementwise::arithmetic(node, facts),
        "Equal" | "Less" | "Greater" | "LessOrEqual" | "GreaterOrEqual" => {
            elementwise::broadcast(node, facts, Some(DType::Bool))
        }
        "Where" => elementwise::select(node, facts),
        "Cast" => elementwise::cast(node, facts),
        "CastLike" => elementwise::cast_like(node, facts),
        "MatMul" => elementwise::matmul(node, facts),
        "Gemm" => elementwise::gemm(node, facts),
        "ReduceMean" | "ReduceSum" | "ReduceMax" | "ReduceMin" | "ReduceL2" | "ReduceProd" => {
            elementwise::reduce(node, facts)
        }
        "Shape" => layout::shape_of(node, facts),
        "Reshape" => layout::reshape(node, facts),
        "Transpose" => layout::transpose(node, facts),
        "Concat" => layout::concat(node, facts),
        "Slice" => layout::slice(node, facts),
        "Gather" => layout::gather(node, facts),
        "Squeeze" => layout::squeeze(node, facts),
        "Unsqueeze" => layout::unsqueeze(node, facts),
        "Flatten" => layout::flatten(node, facts),
        "Expand" => layout::expand(node, facts),
        "Pad" => layout::pad(node, facts),
        "Range" => layout::range(node, facts),
        "ConstantOfShape" => layout::constant_of_shape(node, facts),
        "NonZero" => layout::non_zero(node, facts),
        "Split" => return layout::split(node, facts),
        "Relu"
        | "Sigmoid"
        | "Tanh"
        | "Erf"
        | "Gelu"
        | "LeakyRelu"
        | "Elu"
        | "HardSwish"
        | "HardSigmoid"
        | "Softplus"
        | "Softmax"
        | "LogSoftmax"
        | "Exp"
        | "Log"
        | "Sqrt"
        | "Reciprocal"
        | "Neg"
        | "Abs"
        | "Floor"
        | "Ceil"
        | "Clip"
        | "Identity"
        | "Dropout"
        | "BatchNormalization"
        | "LayerNormalization"
        | "InstanceNormalization"
        | "Not"
        | "ScatterND"
        | "ScatterElements"
        | "Sign"
        | "Round"
        | "Sin"
        | "Cos" => elementwise::like_first(node, facts),
        _ => None,
    }?;
    Some(vec![one])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Builder, Conv2d};

    fn shape(graph: &Graph, name: &str) -> String {
        let known = &infer(graph)[name];
        known.dims.iter().map(Dim::to_string).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn symbols_pass_through_strides_and_resizes() {
        let mut b = Builder::new("t");
        let dims = vec![Dim::symbol("batch"), Dim::Fixed(3), Dim::symbol("height"), Dim::Fixed(72)];
        let x = b.input("image", dims);
        let spec = Conv2d { stride: 2, pad: 1, groups: 1 };
        let a = b.conv("a", &x, Tensor::full(&[8, 3, 3, 3], 0.5f32), None, spec);
        let c = b.conv("c", &a, Tensor::full(&[4, 8, 3, 3], 0.5f32), None, spec);
        let p = b.unary("GlobalAveragePool", "p", &c);
        let m = b.binary("Mul", "m", &c, &p);
        b.output("out", &m, vec![Dim::Unknown; 4]);
        let g = b.finish().unwrap();
        assert_eq!(shape(&g, "a"), "batch 8 ceil(height/2) 36");
        assert_eq!(shape(&g, "c"), "batch 4 ceil(height/4) 18");
        assert_eq!(shape(&g, "p"), "batch 4 1 1");
        assert_eq!(shape(&g, "out"), "batch 4 ceil(height/4) 18");
    }

    #[test]
    fn a_border_that_the_kernel_takes_away_leaves_the_symbol() {
        let mut b = Builder::new("t");
        let x = b.input("x", vec![Dim::Fixed(1), Dim::Fixed(2), Dim::symbol("height"), Dim::symbol("w+16")]);
        let border = b.ints(&[0, 0, 3, 3, 0, 0, 3, 3]);
        let padded = b.op("Pad", "padded", &[&x, &border], &[]);
        let y = b.conv("y", &padded, Tensor::full(&[2, 2, 7, 7], 0.5f32), None, Conv2d::default());
        let z = b.conv("z", &y, Tensor::full(&[2, 2, 7, 7], 0.5f32), None, Conv2d::default());
        b.output("out", &z, vec![Dim::Unknown; 4]);
        let g = b.finish().unwrap();
        assert_eq!(shape(&g, "padded"), "1 2 height+6 w+16+6");
        assert_eq!(shape(&g, "y"), "1 2 height w+16");
        assert_eq!(shape(&g, "out"), "1 2 height-6 w+16-6");
    }

    #[test]
    fn a_formula_that_doubles_with_every_node_ends_as_unknown() {
        let mut b = Builder::new("t");
        let mut x = b.input("x", vec![Dim::symbol("a"), Dim::symbol("b")]);
        for n in 0..100 {
            let turned = b.transpose(&format!("turned{n}"), &x, &[1, 0]);
            x = b.binary("Add", &format!("sum{n}"), &x, &turned);
            x = b.concat(&format!("twice{n}"), &[&x, &x], 0);
        }
        b.output("out", &x, vec![Dim::Unknown; 2]);
        let g = b.finish().unwrap();
        assert_eq!(shape(&g, "sum0"), "max(a,b) max(b,a)");
        assert_eq!(shape(&g, "out"), "? ?");
    }

    #[test]
    fn shapes_computed_in_the_graph_are_followed() {
        let mut b = Builder::new("t");
        let x = b.input("x", vec![Dim::symbol("batch"), Dim::Fixed(6), Dim::symbol("h"), Dim::symbol("w")]);
        let s = b.unary("Shape", "s", &x);
        let hw = b.slice("hw", &s, 0, 2, 4);
        let head = b.ints(&[1, -1]);
        let target = b.concat("target", &[&head, &hw], 0);
        let y = b.op("Reshape", "y", &[&x, &target], &[]);
        b.output("out", &y, vec![Dim::Unknown; 4]);
        let g = b.finish().unwrap();
        assert_eq!(shape(&g, "out"), "1 ? h w");
    }
}
