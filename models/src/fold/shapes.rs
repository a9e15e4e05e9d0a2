//! What rules may take for granted about shapes and element types. Nothing is assumed: unknown stays unknown.

use tapetum_runtime::{DType, Data};

use crate::graph::{Constant, Dim, Graph, Index};

/// How far back a shape or type is looked for through nodes that keep it.
const REACH: usize = 64;

/// Operators whose first output has the first input's shape and type.
const KEEPS_SHAPE: [&str; 19] = [
    "Relu",
    "LeakyRelu",
    "PRelu",
    "Elu",
    "Selu",
    "Sigmoid",
    "HardSigmoid",
    "HardSwish",
    "Tanh",
    "Gelu",
    "Erf",
    "Clip",
    "Softmax",
    "Identity",
    "Dropout",
    "BatchNormalization",
    "InstanceNormalization",
    "LayerNormalization",
    "Neg",
];

/// Operators whose first output has the first input's type, whatever its shape.
const KEEPS_TYPE: [&str; 19] = [
    "Conv",
    "ConvTranspose",
    "Gemm",
    "MatMul",
    "Add",
    "Sub",
    "Mul",
    "Div",
    "MaxPool",
    "AveragePool",
    "GlobalAveragePool",
    "ReduceMean",
    "Reshape",
    "Transpose",
    "Concat",
    "Slice",
    "Resize",
    "Flatten",
    "Pad",
];

/// The extents of `value`, as far as they are known; `None` if not even the rank is.
pub(super) fn dims(index: &Index<'_>, value: &str) -> Option<Vec<Dim>> {
    let mut value = value;
    for _ in 0..REACH {
        if let Some(constant) = index.graph().constants.get(value) {
            return Some(constant.shape().iter().map(|&d| Dim::Fixed(d)).collect());
        }
        if let Some(known) = index.known(value) {
            return Some(known.dims.clone());
        }
        let (_, node) = index.producer(value)?;
        if node.output() != value {
            return None;
        }
        let weight = |at| node.input(at).and_then(|w| index.graph().constants.get(w)).map(Constant::shape);
        if node.is("Conv") {
            return images(weight(1)?.first().copied()?, weight(1)?.len());
        }
        if node.is("ConvTranspose") {
            let groups = usize::try_from(node.int("group", 1)).ok()?;
            return images(weight(1)?.get(1)?.checked_mul(groups)?, weight(1)?.len());
        }
        if node.is("Gemm") {
            return Some(vec![Dim::Unknown, Dim::Unknown]);
        }
        if !KEEPS_SHAPE.iter().any(|op| node.is(op)) {
            return None;
        }
        value = node.input(0)?;
    }
    None
}

fn images(channels: usize, rank: usize) -> Option<Vec<Dim>> {
    (rank >= 3).then(|| {
        let mut dims = vec![Dim::Unknown; rank];
        dims[1] = Dim::Fixed(channels);
        dims
    })
}

/// The rank of `value`.
pub(super) fn rank(index: &Index<'_>, value: &str) -> Option<usize> {
    dims(index, value).map(|d| d.len())
}

/// The element type of `value`. What folds hold in `f64` counts as the `f32` it will be.
pub(super) fn dtype(index: &Index<'_>, value: &str) -> Option<DType> {
    let mut value = value;
    for _ in 0..REACH {
        if let Some(tensor) = index.graph().dense(value) {
            let widened = index.graph().widened.contains(value);
            return Some(if widened { DType::F32 } else { tensor.dtype() });
        }
        // Inference sees constants that folds hold in f64 for now, so a float type beside them proves nothing.
        if let Some(known) = index.known(value).filter(|k| k.dtype != DType::F64) {
            return Some(known.dtype);
        }
        let (_, node) = index.producer(value)?;
        let keeps = |ops: &[&str]| ops.iter().any(|op| node.is(op));
        if node.output() != value || !(keeps(&KEEPS_SHAPE) || keeps(&KEEPS_TYPE)) {
            return None;
        }
        value = node.input(0)?;
    }
    None
}

/// Whether an operand of shape `small` leaves a result of extents `big` as it is when it is broadcast into it.
pub(super) fn broadcasts_into(small: &[Dim], big: Option<&[Dim]>) -> bool {
    if small.is_empty() {
        return true;
    }
    let Some(big) = big else { return false };
    let same = |s: &Dim, b: &Dim| *s == Dim::Fixed(1) || (s == b && *s != Dim::Unknown);
    small.len() <= big.len() && small.iter().rev().zip(big.iter().rev()).all(|(s, b)| same(s, b))
}

/// The `f32` numbers called `name` (or those that will be), in `f64`. `None` for other types: a fold would change them.
pub(super) fn floats(graph: &Graph, name: &str) -> Option<Vec<f64>> {
    is_float(graph, name).then(|| graph.dense(name)?.to_f64()).flatten()
}

/// Whether [`floats`] has an answer.
pub(super) fn is_float(graph: &Graph, name: &str) -> bool {
    graph.dense(name).is_some_and(|t| t.dtype() == DType::F32 || graph.widened.contains(name))
}

/// The shape of the float constant `name`.
pub(super) fn float_shape<'g>(graph: &'g Graph, name: &str) -> Option<&'g [usize]> {
    is_float(graph, name).then(|| graph.dense(name).map(|t| t.shape())).flatten()
}

/// The integers of constant `name`.
pub(super) fn ints(graph: &Graph, name: &str) -> Option<Vec<i64>> {
    match graph.dense(name)?.data() {
        Data::I64(v) => Some(v.clone()),
        Data::I32(v) => Some(v.iter().map(|&x| i64::from(x)).collect()),
        _ => None,
    }
}

/// Whether every element of constant `name`, whatever its numeric type, is `value`.
pub(super) fn all_equal(graph: &Graph, name: &str, value: i8) -> bool {
    let Some(tensor) = graph.dense(name) else { return false };
    match tensor.data() {
        Data::F32(v) => v.iter().all(|&x| x == f32::from(value)),
        Data::F64(v) => v.iter().all(|&x| x == f64::from(value)),
        Data::F16(v) => v.iter().all(|x| x.to_f32() == f32::from(value)),
        Data::BF16(v) => v.iter().all(|x| x.to_f32() == f32::from(value)),
        Data::I64(v) => v.iter().all(|&x| x == i64::from(value)),
        Data::I32(v) => v.iter().all(|&x| x == i32::from(value)),
        _ => false,
    }
}

/// `values[c]` for a constant of one number or of `count`; `None` for any other length.
pub(super) fn spread(values: Vec<f64>, count: usize) -> Option<Vec<f64>> {
    match values.len() {
        1 => Some(vec![values[0]; count]),
        n if n == count => Some(values),
        _ => None,
    }
}
