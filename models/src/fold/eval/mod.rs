//! A small evaluator over constants, for what exporters leave between a network's parameters and its operators.
//!
//! Floating-point results are in `f64` and integers in `i64`. Nothing larger than the caller's limit is ever allocated.

mod layout;

use layout::{concat, expand, gather, reshape, slice, squeeze, transpose, unsqueeze};
use tapetum_runtime::{DType, Data, Tensor};

use crate::graph::{Attr, Graph, Node};

/// A constant as the evaluator sees it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Value {
    /// F32, F64, I64, I32 or Bool.
    pub(super) dtype: DType,
    pub(super) shape: Vec<usize>,
    pub(super) numbers: Numbers,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Numbers {
    Float(Vec<f64>),
    Int(Vec<i64>),
}

impl Value {
    /// Constant `name`; `None` for element types that are not computed with.
    pub(super) fn read(graph: &Graph, name: &str) -> Option<Self> {
        let tensor = graph.dense(name)?;
        let dtype = if graph.widened.contains(name) { DType::F32 } else { tensor.dtype() };
        Self::of(tensor, dtype)
    }

    fn of(tensor: &Tensor, dtype: DType) -> Option<Self> {
        let numbers = match tensor.data() {
            Data::F32(_) | Data::F64(_) => Numbers::Float(tensor.to_f64()?),
            Data::I64(v) => Numbers::Int(v.clone()),
            Data::I32(v) => Numbers::Int(v.iter().map(|&x| i64::from(x)).collect()),
            Data::Bool(v) => Numbers::Int(v.iter().map(|&x| i64::from(x)).collect()),
            _ => return None,
        };
        Some(Self { dtype, shape: tensor.shape().to_vec(), numbers })
    }

    pub(super) fn ints(values: Vec<i64>) -> Self {
        Self { dtype: DType::I64, shape: vec![values.len()], numbers: Numbers::Int(values) }
    }

    pub(super) fn len(&self) -> usize {
        match &self.numbers {
            Numbers::Float(v) => v.len(),
            Numbers::Int(v) => v.len(),
        }
    }

    fn as_ints(&self) -> Option<&[i64]> {
        if let Numbers::Int(v) = &self.numbers { Some(v) } else { None }
    }

    /// As a stored tensor; `F32` values stay in `f64`.
    pub(super) fn into_tensor(self) -> Option<Tensor> {
        let shape = &self.shape;
        match (self.dtype, self.numbers) {
            (DType::F32 | DType::F64, Numbers::Float(v)) => Tensor::new(shape, v).ok(),
            (DType::I64, Numbers::Int(v)) => Tensor::new(shape, v).ok(),
            (DType::I32, Numbers::Int(v)) => {
                let v: Result<Vec<i32>, _> = v.into_iter().map(i32::try_from).collect();
                Tensor::new(shape, v.ok()?).ok()
            }
            (DType::Bool, Numbers::Int(v)) => Tensor::new(shape, v.iter().map(|&x| x != 0).collect()).ok(),
            _ => None,
        }
    }

    /// The elements at these positions, under another shape.
    fn pick(&self, shape: Vec<usize>, positions: impl Iterator<Item = usize>) -> Option<Self> {
        let numbers = match &self.numbers {
            Numbers::Float(v) => Numbers::Float(positions.map(|i| v.get(i).copied()).collect::<Option<_>>()?),
            Numbers::Int(v) => Numbers::Int(positions.map(|i| v.get(i).copied()).collect::<Option<_>>()?),
        };
        Some(Self { dtype: self.dtype, shape, numbers })
    }

    /// A different element type. `None` where that would lose more than the conversion itself does.
    pub(super) fn cast(self, to: DType) -> Option<Self> {
        let numbers = match (self.numbers, to) {
            (Numbers::Float(v), DType::F64 | DType::F32) => Numbers::Float(v),
            // A fraction may be the rounding of the f64 arithmetic, which truncation would make into a whole one.
            (Numbers::Float(v), DType::I64 | DType::I32) => {
                let whole = v.iter().all(|x| x.fract() == 0.0 && x.abs() < 9e15);
                Numbers::Int(whole.then(|| v.iter().map(|&x| x as i64).collect())?)
            }
            (Numbers::Int(v), DType::F32 | DType::F64) => {
                Numbers::Float(v.iter().map(|&x| x as f64).collect())
            }
            (Numbers::Int(v), DType::I64) => Numbers::Int(v),
            (Numbers::Int(v), DType::I32) if v.iter().all(|&x| i32::try_from(x).is_ok()) => Numbers::Int(v),
            (Numbers::Int(v), DType::Bool) => Numbers::Int(v.iter().map(|&x| i64::from(x != 0)).collect()),
            _ => return None,
        };
        Some(Self { dtype: to, shape: self.shape, numbers })
    }
}

/// What `node` makes of `inputs` (`None`: left out), if that is known here and has at most `limit` elements.
pub(super) fn evaluate(node: &Node, inputs: &[Option<Value>], limit: usize) -> Option<Value> {
    let at = |i: usize| inputs.get(i).and_then(Option::as_ref);
    let x = at(0)?;
    let axes = || at(1).and_then(Value::as_ints).or_else(|| node.ints("axes")).map(<[i64]>::to_vec);
    match node.op.as_str() {
        "Reshape" => reshape(x, at(1)?.as_ints()?, node.int("allowzero", 0) != 0),
        "Transpose" => transpose(x, node.ints("perm")),
        "Unsqueeze" => unsqueeze(x, &axes()?),
        "Squeeze" => squeeze(x, axes().as_deref()),
        "Concat" => concat(inputs, node.int("axis", i64::MIN), limit),
        "Slice" => slice(x, at(1)?, at(2)?, (at(3), at(4)), (node.inputs.len() > 3, node.inputs.len() > 4)),
        "Gather" => gather(x, at(1)?, node.int("axis", 0), limit),
        "Expand" => expand(x, at(1)?.as_ints()?, limit),
        "ConstantOfShape" => constant_of_shape(x.as_ints()?, node.attrs.get("value"), limit),
        "Range" => range(x, at(1)?, at(2)?, limit),
        "Add" | "Sub" | "Mul" | "Div" => arithmetic(&node.op, x, at(1)?, limit),
        "Neg" => map(x, |v| -v, i64::checked_neg),
        "Sqrt" => map(x, f64::sqrt, |_| None),
        "MatMul" => matmul(x, at(1)?, limit),
        _ => None,
    }
}

/// Row-major steps of `shape`.
fn steps(shape: &[usize]) -> Vec<usize> {
    let mut steps = vec![1; shape.len()];
    for i in (1..shape.len()).rev() {
        steps[i - 1] = steps[i] * shape[i];
    }
    steps
}

fn count(shape: &[usize], limit: usize) -> Option<usize> {
    shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).filter(|&n| n <= limit)
}

fn axis(axis: i64, rank: usize) -> Option<usize> {
    let at = if axis < 0 { axis.checked_add(i64::try_from(rank).ok()?)? } else { axis };
    usize::try_from(at).ok().filter(|&a| a < rank)
}

/// Walks the positions of `shape` in row-major order with these steps in another array.
fn walk(shape: &[usize], steps: &[usize]) -> impl Iterator<Item = usize> + use<> {
    let (shape, steps) = (shape.to_vec(), steps.to_vec());
    let n: usize = shape.iter().product();
    (0..n).map(move |mut i| {
        let mut at = 0;
        for (d, s) in shape.iter().zip(&steps).rev() {
            at += i % d * s;
            i /= d;
        }
        at
    })
}

/// The shape that both broadcast to.
fn broadcast(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let dim = |s: &[usize], i: usize| (i + s.len()).checked_sub(rank).map_or(1, |i| s[i]);
    (0..rank)
        .map(|i| match (dim(a, i), dim(b, i)) {
            (1, d) | (d, 1) => Some(d),
            (d, e) => (d == e).then_some(d),
        })
        .collect()
}

/// Steps with which an operand of `shape` is read when it is broadcast to `to`.
fn broadcast_steps(shape: &[usize], to: &[usize]) -> Vec<usize> {
    let own = steps(shape);
    let lead = to.len() - shape.len();
    (0..to.len()).map(|i| if i < lead || shape[i - lead] == 1 { 0 } else { own[i - lead] }).collect()
}

fn constant_of_shape(shape: &[i64], value: Option<&Attr>, limit: usize) -> Option<Value> {
    let shape: Vec<usize> = shape.iter().map(|&d| usize::try_from(d).ok()).collect::<Option<_>>()?;
    let n = count(&shape, limit)?;
    let one = match value {
        None => Value { dtype: DType::F32, shape: vec![1], numbers: Numbers::Float(vec![0.0]) },
        Some(Attr::Tensor(t)) if t.len() == 1 => Value::of(t, t.dtype())?,
        Some(_) => return None,
    };
    one.pick(shape, std::iter::repeat_n(0, n))
}

fn range(start: &Value, end: &Value, step: &Value, limit: usize) -> Option<Value> {
    let one = |v: &Value| v.as_ints().filter(|v| v.len() == 1).map(|v| v[0]);
    let (start, end, step) = (one(start)?, one(end)?, one(step)?);
    if step == 0 {
        return None;
    }
    let n = (i128::from(end) - i128::from(start)).div_euclid(i128::from(step));
    let exact = (i128::from(end) - i128::from(start)) % i128::from(step) == 0;
    let n = usize::try_from((n + i128::from(!exact && step > 0)).max(0)).ok().filter(|&n| n <= limit)?;
    let values = (0..n as i64).map(|i| start.checked_add(i.checked_mul(step)?)).collect::<Option<_>>()?;
    Some(Value::ints(values))
}

fn map(x: &Value, float: impl Fn(f64) -> f64, int: impl Fn(i64) -> Option<i64>) -> Option<Value> {
    let numbers = match &x.numbers {
        Numbers::Float(v) => Numbers::Float(v.iter().map(|&v| float(v)).collect()),
        Numbers::Int(v) => Numbers::Int(v.iter().map(|&v| int(v)).collect::<Option<_>>()?),
    };
    Some(Value { dtype: x.dtype, shape: x.shape.clone(), numbers })
}

fn arithmetic(op: &str, a: &Value, b: &Value, limit: usize) -> Option<Value> {
    if a.dtype != b.dtype || a.dtype == DType::Bool {
        return None;
    }
    let shape = broadcast(&a.shape, &b.shape)?;
    count(&shape, limit)?;
    let left = walk(&shape, &broadcast_steps(&a.shape, &shape));
    let pairs = left.zip(walk(&shape, &broadcast_steps(&b.shape, &shape)));
    let numbers = match (&a.numbers, &b.numbers) {
        (Numbers::Float(a), Numbers::Float(b)) => {
            let one = |(i, j): (usize, usize)| match op {
                "Add" => a[i] + b[j],
                "Sub" => a[i] - b[j],
                "Mul" => a[i] * b[j],
                _ => a[i] / b[j],
            };
            Numbers::Float(pairs.map(one).collect())
        }
        (Numbers::Int(a), Numbers::Int(b)) => {
            let one = |(i, j): (usize, usize)| match op {
                "Add" => a[i].checked_add(b[j]),
                "Sub" => a[i].checked_sub(b[j]),
                "Mul" => a[i].checked_mul(b[j]),
                _ => a[i].checked_div(b[j]),
            };
            Numbers::Int(pairs.map(one).collect::<Option<_>>()?)
        }
        _ => return None,
    };
    Some(Value { dtype: a.dtype, shape, numbers })
}

fn matmul(a: &Value, b: &Value, limit: usize) -> Option<Value> {
    let (Numbers::Float(x), Numbers::Float(y)) = (&a.numbers, &b.numbers) else { return None };
    let (&[m, k], &[k2, n]) = (&a.shape[..], &b.shape[..]) else { return None };
    let shape = vec![m, n];
    if k != k2 || a.dtype != b.dtype || count(&[m, n, k], limit.saturating_mul(4096)).is_none() {
        return None;
    }
    count(&shape, limit)?;
    let mut out = vec![0.0; m * n];
    for i in 0..m {
        for (p, row) in y.chunks_exact(n.max(1)).enumerate() {
            let factor = x[i * k + p];
            for (sum, v) in out[i * n..(i + 1) * n].iter_mut().zip(row) {
                *sum += factor * v;
            }
        }
    }
    Some(Value { dtype: a.dtype, shape, numbers: Numbers::Float(out) })
}
