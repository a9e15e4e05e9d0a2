//! The operators by their definitions, in `f64`, with no cleverness and nothing shared with the folds.
//!
//! Integers are held as `f64` too: everything here is far below 2⁵³.
#![allow(dead_code)] // each suite uses its part

use std::collections::BTreeMap;

use tapetum_models::graph::{Attr, Graph, Node};
use tapetum_runtime::{Data, Tensor};

/// A dense row-major array.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    pub shape: Vec<usize>,
    pub data: Vec<f64>,
}

impl Array {
    pub fn new(shape: &[usize], data: Vec<f64>) -> Self {
        assert_eq!(shape.iter().product::<usize>(), data.len());
        Self { shape: shape.to_vec(), data }
    }

    pub fn of(tensor: &Tensor) -> Self {
        let data = match tensor.data() {
            Data::I64(v) => v.iter().map(|&x| x as f64).collect(),
            Data::I32(v) => v.iter().map(|&x| f64::from(x)).collect(),
            Data::Bool(v) => v.iter().map(|&x| f64::from(u8::from(x))).collect(),
            _ => tensor.to_f64().expect("numbers"),
        };
        Self { shape: tensor.shape().to_vec(), data }
    }

    pub fn max_abs(&self) -> f64 {
        self.data.iter().fold(0.0, |m, x| m.max(x.abs()))
    }

    fn at(&self, index: &[usize]) -> f64 {
        let flat = index.iter().zip(&self.shape).fold(0, |at, (i, d)| at * d + i);
        self.data[flat]
    }

    /// Element at `index` of the array this one is broadcast to.
    fn broadcast(&self, index: &[usize]) -> f64 {
        let lead = index.len() - self.shape.len();
        let own: Vec<usize> =
            self.shape.iter().zip(&index[lead..]).map(|(d, i)| if *d == 1 { 0 } else { *i }).collect();
        self.at(&own)
    }

    fn ints(&self) -> Vec<i64> {
        self.data.iter().map(|&x| x as i64).collect()
    }
}

/// Largest |difference|; infinite if shapes differ or a number is not one.
pub fn distance(got: &Array, want: &Array) -> f64 {
    if got.shape != want.shape {
        return f64::INFINITY;
    }
    let pairs = got.data.iter().zip(&want.data);
    pairs.map(|(a, b)| if (a - b).is_nan() { f64::INFINITY } else { (a - b).abs() }).fold(0.0, f64::max)
}

/// Outputs of `graph`, in order.
pub fn run(graph: &Graph, inputs: &BTreeMap<String, Array>) -> Vec<Array> {
    let mut values = inputs.clone();
    for name in graph.constants.keys() {
        let tensor = graph.dense(name).expect("a dense constant");
        values.insert(name.clone(), Array::of(tensor));
    }
    for node in &graph.nodes {
        let read = |i: usize| node.input(i).map(|v| values[v].clone());
        let made = evaluate(node, &read);
        values.insert(node.output().to_owned(), made);
    }
    graph.outputs.iter().map(|o| values[&o.name].clone()).collect()
}

/// Every index of `shape`, in row-major order.
fn each(shape: &[usize]) -> impl Iterator<Item = Vec<usize>> + use<> {
    let shape = shape.to_vec();
    (0..shape.iter().product()).map(move |mut flat: usize| {
        let mut index = vec![0; shape.len()];
        for i in (0..shape.len()).rev() {
            index[i] = flat % shape[i];
            flat /= shape[i];
        }
        index
    })
}

fn build(shape: &[usize], value: impl Fn(&[usize]) -> f64) -> Array {
    Array::new(shape, each(shape).map(|i| value(&i)).collect())
}

fn numbers(node: &Node, name: &str, default: Vec<i64>) -> Vec<i64> {
    node.ints(name).map_or(default, <[i64]>::to_vec)
}

fn evaluate(node: &Node, read: &dyn Fn(usize) -> Option<Array>) -> Array {
    let arg = |i: usize| read(i).unwrap_or_else(|| panic!("{} has no input {i}", node.name));
    match node.op.as_str() {
        "Conv" => conv(node, &arg(0), &arg(1), read(2).as_ref()),
        "ConvTranspose" => conv_transpose(node, &arg(0), &arg(1), read(2).as_ref()),
        "BatchNormalization" => {
            let (x, part) = (arg(0), [arg(1), arg(2), arg(3), arg(4)].map(|p| p.data));
            let eps = f64::from(node.float("epsilon", 1e-5));
            build(&x.shape, |i| {
                let c = i[1];
                (x.at(i) - part[2][c]) / (part[3][c] + eps).sqrt() * part[0][c] + part[1][c]
            })
        }
        "LayerNormalization" => layer_norm(node, &arg(0), &arg(1), read(2).as_ref()),
        "Add" => elementwise(&arg(0), &arg(1), |a, b| a + b),
        "Sub" => elementwise(&arg(0), &arg(1), |a, b| a - b),
        "Mul" => elementwise(&arg(0), &arg(1), |a, b| a * b),
        "Div" => elementwise(&arg(0), &arg(1), |a, b| a / b),
        "Relu" => map(arg(0), |x| x.max(0.0)),
        "Sigmoid" => map(arg(0), |x| 1.0 / (1.0 + (-x).exp())),
        "Neg" => map(arg(0), |x| -x),
        "Sqrt" => map(arg(0), f64::sqrt),
        "Identity" | "Dropout" | "Cast" | "CastLike" => arg(0),
        "MatMul" => matmul(&arg(0), &arg(1)),
        "Gemm" => gemm(node, arg(0), arg(1), read(2)),
        "AveragePool" => average_pool(node, &arg(0)),
        "GlobalAveragePool" => {
            let x = arg(0);
            let plane: usize = x.shape[2..].iter().product();
            let mut shape = x.shape.clone();
            shape[2..].fill(1);
            Array::new(&shape, x.data.chunks(plane).map(|p| p.iter().sum::<f64>() / plane as f64).collect())
        }
        "ReduceMean" => reduce_mean(node, &arg(0), read(1)),
        "Reshape" => reshape(arg(0), &arg(1).ints()),
        "Flatten" => {
            let x = arg(0);
            let rows = x.shape[..node.int("axis", 1) as usize].iter().product::<usize>();
            let columns = x.data.len() / rows;
            Array::new(&[rows, columns], x.data)
        }
        "Transpose" => {
            let x = arg(0);
            let perm = numbers(node, "perm", (0..x.shape.len() as i64).rev().collect());
            let shape: Vec<usize> = perm.iter().map(|&p| x.shape[p as usize]).collect();
            build(&shape, |i| {
                let mut from = vec![0; i.len()];
                perm.iter().zip(i).for_each(|(&p, &v)| from[p as usize] = v);
                x.at(&from)
            })
        }
        "Unsqueeze" => {
            let mut x = arg(0);
            let mut axes = read(1).map_or_else(|| numbers(node, "axes", vec![]), |a| a.ints());
            let rank = (x.shape.len() + axes.len()) as i64;
            axes.iter_mut().for_each(|a| *a = (*a + rank) % rank);
            axes.sort_unstable();
            axes.iter().for_each(|&a| x.shape.insert(a as usize, 1));
            x
        }
        "Squeeze" => {
            let mut x = arg(0);
            let rank = x.shape.len() as i64;
            let axes = read(1).map_or_else(|| numbers(node, "axes", vec![]), |a| a.ints());
            let axes: Vec<usize> = axes.iter().map(|a| ((a + rank) % rank) as usize).collect();
            x.shape = (0..x.shape.len()).filter(|i| !axes.contains(i)).map(|i| x.shape[i]).collect();
            x
        }
        "Concat" => {
            let parts: Vec<Array> = (0..node.inputs.len()).map(arg).collect();
            let rank = parts[0].shape.len() as i64;
            let axis = ((node.int("axis", 0) + rank) % rank) as usize;
            let mut shape = parts[0].shape.clone();
            shape[axis] = parts.iter().map(|p| p.shape[axis]).sum();
            build(&shape, |i| {
                let mut from = i.to_vec();
                for part in &parts {
                    if from[axis] < part.shape[axis] {
                        return part.at(&from);
                    }
                    from[axis] -= part.shape[axis];
                }
                unreachable!()
            })
        }
        "Shape" => {
            let x = arg(0);
            let end = node.int("end", x.shape.len() as i64) as usize;
            let dims: Vec<f64> =
                x.shape[node.int("start", 0) as usize..end].iter().map(|&d| d as f64).collect();
            Array::new(&[dims.len()], dims)
        }
        "Expand" => {
            let (x, to) = (arg(0), arg(1));
            let zeros = build(&to.data.iter().map(|&d| d as usize).collect::<Vec<_>>(), |_| 0.0);
            elementwise(&x, &zeros, |a, b| a + b)
        }
        "ConstantOfShape" => {
            let value = match node.attrs.get("value") {
                Some(Attr::Tensor(t)) => Array::of(t).data[0],
                _ => 0.0,
            };
            build(&arg(0).data.iter().map(|&d| d as usize).collect::<Vec<_>>(), |_| value)
        }
        "Pad" => {
            let (x, pads) = (arg(0), arg(1).ints());
            let rank = x.shape.len();
            let shape: Vec<usize> =
                (0..rank).map(|i| (x.shape[i] as i64 + pads[i] + pads[rank + i]) as usize).collect();
            build(&shape, |i| {
                let from: Vec<i64> = i.iter().zip(&pads).map(|(&i, p)| i as i64 - p).collect();
                let inside = from.iter().zip(&x.shape).all(|(&f, &d)| (0..d as i64).contains(&f));
                if inside { x.at(&from.iter().map(|&f| f as usize).collect::<Vec<_>>()) } else { 0.0 }
            })
        }
        "Slice" => slice(&arg(0), [1, 2, 3, 4].map(|i| arg(i).ints())),
        "Gather" => {
            let (x, at) = (arg(0), arg(1));
            let axis = node.int("axis", 0) as usize;
            let shape = [&x.shape[..axis], &at.shape[..], &x.shape[axis + 1..]].concat();
            build(&shape, |i| {
                let (before, rest) = i.split_at(axis);
                let (pick, after) = rest.split_at(at.shape.len());
                let n = x.shape[axis] as i64;
                x.at(&[before, &[((at.at(pick) as i64 + n) % n) as usize], after].concat())
            })
        }
        "Softmax" => softmax(&arg(0), node.int("axis", -1)),
        "Resize" => resize(node, &arg(0), &arg(2)),
        other => panic!("the reference does not know {other}"),
    }
}

fn softmax(x: &Array, axis: i64) -> Array {
    let axis = axis.rem_euclid(x.shape.len() as i64) as usize;
    build(&x.shape, |i| {
        let along = (0..x.shape[axis]).map(|n| {
            let mut at = i.to_vec();
            at[axis] = n;
            // The exponent's difference: nothing overflows.
            (x.at(&at) - x.at(i)).exp()
        });
        1.0 / along.sum::<f64>()
    })
}

/// Linear, half-pixel, along every axis whose scale is not 1.
fn resize(node: &Node, x: &Array, scales: &Array) -> Array {
    let mode = node.str("coordinate_transformation_mode").unwrap_or("half_pixel");
    assert!(node.str("mode") == Some("linear") && mode == "half_pixel", "{}", node.name);
    (0..x.shape.len()).filter(|&axis| scales.data[axis] != 1.0).fold(x.clone(), |x, axis| {
        let (scale, last) = (scales.data[axis], x.shape[axis] - 1);
        let mut shape = x.shape.clone();
        shape[axis] = (x.shape[axis] as f64 * scale) as usize;
        build(&shape, |i| {
            let from = ((i[axis] as f64 + 0.5) / scale - 0.5).clamp(0.0, last as f64);
            let part = |n: usize| {
                let mut at = i.to_vec();
                at[axis] = n.min(last);
                x.at(&at)
            };
            let low = from as usize;
            part(low) * (1.0 - from.fract()) + part(low + 1) * from.fract()
        })
    })
}

fn map(mut x: Array, f: impl Fn(f64) -> f64) -> Array {
    x.data.iter_mut().for_each(|v| *v = f(*v));
    x
}

fn elementwise(a: &Array, b: &Array, f: impl Fn(f64, f64) -> f64) -> Array {
    let rank = a.shape.len().max(b.shape.len());
    let dim = |s: &[usize], i: usize| if i + s.len() < rank { 1 } else { s[i + s.len() - rank] };
    let shape: Vec<usize> = (0..rank)
        .map(|i| match (dim(&a.shape, i), dim(&b.shape, i)) {
            (1, d) | (d, 1) => d,
            (d, e) if d == e => d,
            _ => panic!("{:?} and {:?} do not broadcast", a.shape, b.shape),
        })
        .collect();
    build(&shape, |i| f(a.broadcast(i), b.broadcast(i)))
}

/// Kernel extents, strides, dilations, and pads before and after, for an input of these extents.
struct Window {
    strides: Vec<i64>,
    dilations: Vec<i64>,
    before: Vec<i64>,
    after: Vec<i64>,
}

fn window(node: &Node, extents: &[usize], kernel: &[usize]) -> Window {
    let rank = kernel.len();
    let strides = numbers(node, "strides", vec![1; rank]);
    let dilations = numbers(node, "dilations", vec![1; rank]);
    let pads = numbers(node, "pads", vec![0; 2 * rank]);
    let (mut before, mut after) = (pads[..rank].to_vec(), pads[rank..].to_vec());
    let same = node.str("auto_pad").unwrap_or("NOTSET");
    if same.starts_with("SAME") {
        for i in 0..rank {
            let (n, k) = (extents[i] as i64, (kernel[i] as i64 - 1) * dilations[i] + 1);
            let outputs = (n + strides[i] - 1) / strides[i];
            let total = ((outputs - 1) * strides[i] + k - n).max(0);
            before[i] = if same == "SAME_UPPER" { total / 2 } else { total - total / 2 };
            after[i] = total - before[i];
        }
    }
    Window { strides, dilations, before, after }
}

impl Window {
    fn outputs(&self, extents: &[usize], kernel: &[usize]) -> Vec<usize> {
        (0..kernel.len())
            .map(|i| {
                let reach = (kernel[i] as i64 - 1) * self.dilations[i] + 1;
                ((extents[i] as i64 + self.before[i] + self.after[i] - reach) / self.strides[i] + 1) as usize
            })
            .collect()
    }

    /// Where tap `tap` of output `out` meets the input, if it does.
    fn meets(&self, out: &[usize], tap: &[usize], extents: &[usize]) -> Option<Vec<usize>> {
        (0..out.len())
            .map(|i| {
                let at = out[i] as i64 * self.strides[i] + tap[i] as i64 * self.dilations[i] - self.before[i];
                (0..extents[i] as i64).contains(&at).then_some(at as usize)
            })
            .collect()
    }
}

fn conv(node: &Node, x: &Array, w: &Array, bias: Option<&Array>) -> Array {
    let (kernel, extents) = (&w.shape[2..], &x.shape[2..]);
    let win = window(node, extents, kernel);
    let groups = node.int("group", 1) as usize;
    assert_eq!(x.shape[1], w.shape[1] * groups, "{}: channels", node.name);
    let outs_per_group = w.shape[0] / groups;
    let mut shape = vec![x.shape[0], w.shape[0]];
    shape.extend(win.outputs(extents, kernel));
    build(&shape, |i| {
        let (n, o) = (i[0], i[1]);
        let mut sum = bias.map_or(0.0, |b| b.data[o]);
        for c in 0..w.shape[1] {
            for tap in each(kernel) {
                if let Some(at) = win.meets(&i[2..], &tap, extents) {
                    let from = [&[n, o / outs_per_group * w.shape[1] + c], &at[..]].concat();
                    sum += x.at(&from) * w.at(&[&[o, c], &tap[..]].concat());
                }
            }
        }
        sum
    })
}

/// By scattering: every input adds its kernel to the output.
fn conv_transpose(node: &Node, x: &Array, w: &Array, bias: Option<&Array>) -> Array {
    let (kernel, extents) = (&w.shape[2..], &x.shape[2..]);
    let rank = kernel.len();
    let groups = node.int("group", 1) as usize;
    let (ins, outs) = (w.shape[0] / groups, w.shape[1]);
    let strides = numbers(node, "strides", vec![1; rank]);
    let dilations = numbers(node, "dilations", vec![1; rank]);
    let pads = numbers(node, "pads", vec![0; 2 * rank]);
    let extra = numbers(node, "output_padding", vec![0; rank]);
    let mut shape = vec![x.shape[0], outs * groups];
    for i in 0..rank {
        let full =
            strides[i] * (extents[i] as i64 - 1) + (kernel[i] as i64 - 1) * dilations[i] + 1 + extra[i];
        shape.push((full - pads[i] - pads[rank + i]) as usize);
    }
    let mut y = build(&shape, |i| bias.map_or(0.0, |b| b.data[i[1]]));
    for i in each(&x.shape) {
        for o in 0..outs {
            for tap in each(kernel) {
                let to: Option<Vec<usize>> = (0..rank)
                    .map(|a| {
                        let at = i[2 + a] as i64 * strides[a] + tap[a] as i64 * dilations[a] - pads[a];
                        (0..shape[2 + a] as i64).contains(&at).then_some(at as usize)
                    })
                    .collect();
                let Some(to) = to else { continue };
                let to = [&[i[0], i[1] / ins * outs + o], &to[..]].concat();
                let flat = to.iter().zip(&shape).fold(0, |at, (i, d)| at * d + i);
                y.data[flat] += x.at(&i) * w.at(&[&[i[1], o], &tap[..]].concat());
            }
        }
    }
    y
}

fn average_pool(node: &Node, x: &Array) -> Array {
    let kernel: Vec<usize> = numbers(node, "kernel_shape", vec![]).iter().map(|&k| k as usize).collect();
    let extents = &x.shape[2..];
    let win = window(node, extents, &kernel);
    let counts_pads = node.int("count_include_pad", 0) != 0;
    let mut shape = x.shape[..2].to_vec();
    shape.extend(win.outputs(extents, &kernel));
    build(&shape, |i| {
        let met: Vec<f64> = each(&kernel)
            .filter_map(|tap| win.meets(&i[2..], &tap, extents))
            .map(|at| x.at(&[&i[..2], &at[..]].concat()))
            .collect();
        let divisor = if counts_pads { kernel.iter().product() } else { met.len() };
        met.iter().sum::<f64>() / divisor as f64
    })
}

fn reduce_mean(node: &Node, x: &Array, axes: Option<Array>) -> Array {
    let rank = x.shape.len() as i64;
    let axes = axes.map_or_else(|| numbers(node, "axes", (0..rank).collect()), |a| a.ints());
    let axes: Vec<usize> = axes.iter().map(|a| ((a + rank) % rank) as usize).collect();
    let mut shape = x.shape.clone();
    axes.iter().for_each(|&a| shape[a] = 1);
    let over: Vec<usize> = axes.iter().map(|&a| x.shape[a]).collect();
    let mut y = build(&shape, |i| {
        let mut sum = 0.0;
        for inner in each(&over) {
            let mut from = i.to_vec();
            axes.iter().zip(&inner).for_each(|(&a, &v)| from[a] = v);
            sum += x.at(&from);
        }
        sum / over.iter().product::<usize>() as f64
    });
    if node.int("keepdims", 1) == 0 {
        y.shape = (0..y.shape.len()).filter(|i| !axes.contains(i)).map(|i| y.shape[i]).collect();
    }
    y
}

fn layer_norm(node: &Node, x: &Array, gamma: &Array, beta: Option<&Array>) -> Array {
    assert_eq!(node.int("axis", -1), -1);
    let n = *x.shape.last().expect("an axis");
    let eps = f64::from(node.float("epsilon", 1e-5));
    let rows = x.data.chunks(n).flat_map(|row| {
        let mean = row.iter().sum::<f64>() / n as f64;
        let var = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n as f64;
        let one = |(c, v): (usize, &f64)| {
            (v - mean) / (var + eps).sqrt() * gamma.data[c] + beta.map_or(0.0, |b| b.data[c])
        };
        row.iter().enumerate().map(one).collect::<Vec<_>>()
    });
    Array::new(&x.shape, rows.collect())
}

fn matmul(a: &Array, b: &Array) -> Array {
    assert_eq!(b.shape.len(), 2, "the reference multiplies by matrices only");
    let (k, n) = (b.shape[0], b.shape[1]);
    let mut shape = a.shape.clone();
    *shape.last_mut().expect("an axis") = n;
    build(&shape, |i| {
        let (rest, column) = i.split_at(i.len() - 1);
        (0..k).map(|p| a.at(&[rest, &[p]].concat()) * b.at(&[p, column[0]])).sum()
    })
}

fn gemm(node: &Node, a: Array, b: Array, c: Option<Array>) -> Array {
    let turn = |x: Array, by: i64| {
        if by == 0 { x } else { build(&[x.shape[1], x.shape[0]], |i| x.at(&[i[1], i[0]])) }
    };
    let (a, b) = (turn(a, node.int("transA", 0)), turn(b, node.int("transB", 0)));
    let (alpha, beta) = (f64::from(node.float("alpha", 1.0)), f64::from(node.float("beta", 1.0)));
    let product = map(matmul(&a, &b), |x| alpha * x);
    match c {
        Some(c) => elementwise(&product, &map(c, |x| beta * x), |a, b| a + b),
        None => product,
    }
}

/// Positive steps only.
fn slice(x: &Array, [starts, ends, axes, steps]: [Vec<i64>; 4]) -> Array {
    let kept: Vec<Vec<usize>> = (0..x.shape.len())
        .map(|a| {
            let n = x.shape[a] as i64;
            let Some(j) =
                axes.iter().position(|&axis| (axis + x.shape.len() as i64) as usize % x.shape.len() == a)
            else {
                return (0..x.shape[a]).collect();
            };
            let from = |v: i64| if v < 0 { v + n } else { v };
            let inside = |&i: &i64| (from(starts[j])..from(ends[j])).contains(&i);
            let in_step = |i: &i64| (i - from(starts[j])) % steps[j] == 0;
            (0..n).filter(inside).filter(in_step).map(|i| i as usize).collect()
        })
        .collect();
    let shape: Vec<usize> = kept.iter().map(Vec::len).collect();
    build(&shape, |i| x.at(&i.iter().zip(&kept).map(|(&i, k)| k[i]).collect::<Vec<_>>()))
}

fn reshape(x: Array, to: &[i64]) -> Array {
    let mut shape: Vec<usize> =
        to.iter().enumerate().map(|(i, &d)| if d == 0 { x.shape[i] } else { d.max(1) as usize }).collect();
    if let Some(open) = to.iter().position(|&d| d == -1) {
        shape[open] = x.data.len() / shape.iter().product::<usize>();
    }
    Array::new(&shape, x.data)
}
