//! A constant and a convolution as the two sides of an operator, on every engine, against values computed by hand.
//!
//! Engines pull a constant beside a convolution into its weights and bias. The easy mistake is to forget on which side
//! it stood: tract does for Sub and Div (see `backend/tract/apart.rs`).

mod common;

use common::{
    engines,
    onnx::{Attr, F32, Onnx},
};
use tapetum_runtime::{
    Tensor,
    backend::{LoadOptions, ModelSource},
    seed::Seeded,
};

const HEIGHT: usize = 4;
const WIDTH: usize = 5;

/// What a convolution is like.
#[derive(Clone, Copy, Debug)]
struct Conv {
    channels: usize,
    kernel: usize,
    depthwise: bool,
    bias: bool,
}

const CONVS: [Conv; 5] = [
    Conv { channels: 3, kernel: 1, depthwise: false, bias: false },
    Conv { channels: 3, kernel: 1, depthwise: false, bias: true },
    Conv { channels: 3, kernel: 3, depthwise: false, bias: true },
    Conv { channels: 3, kernel: 3, depthwise: true, bias: false },
    // A scalar has the shape of one value per channel here.
    Conv { channels: 1, kernel: 3, depthwise: false, bias: false },
];

/// Shapes of a constant: all broadcast to the convolution's output.
fn constants(channels: usize) -> [Vec<usize>; 7] {
    [
        vec![],
        vec![1],
        vec![1, 1, 1, 1],
        vec![channels, 1, 1],
        vec![1, channels, 1, 1],
        vec![1, channels, HEIGHT, WIDTH],
        vec![WIDTH],
    ]
}

type Op = (&'static str, fn(f64, f64) -> f64);
const OPS: [Op; 6] = [
    ("Sub", |a, b| a - b),
    ("Div", |a, b| a / b),
    ("Add", |a, b| a + b),
    ("Mul", |a, b| a * b),
    ("Max", f64::max),
    ("Min", f64::min),
];

/// Weights and bias of a convolution, from a seed.
struct Weights {
    conv: Conv,
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl Weights {
    fn new(conv: Conv, random: &mut Seeded) -> Self {
        let taps = conv.kernel * conv.kernel * if conv.depthwise { 1 } else { conv.channels };
        // The result stays well above 0: it is divided by.
        let weight = random.vec(conv.channels * taps, 0.2, 1.0);
        let bias = if conv.bias { random.vec(conv.channels, 0.5, 1.0) } else { Vec::new() };
        Self { conv, weight, bias }
    }

    /// Adds the node `name`, from `x` to `name`.
    fn add(&self, onnx: Onnx, name: &str) -> Onnx {
        let (k, channels) = (self.conv.kernel as i64, self.conv.channels as i64);
        let (per_group, group) = if self.conv.depthwise { (1, channels) } else { (channels, 1) };
        let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
        let mut inputs = vec!["x", &weight];
        let mut onnx = onnx.floats(&weight, &[channels, per_group, k, k], &self.weight);
        if self.conv.bias {
            onnx = onnx.floats(&bias, &[channels], &self.bias);
            inputs.push(&bias);
        }
        let attributes = [
            ("kernel_shape", Attr::Ints(&[k, k])),
            ("pads", Attr::Ints(&[k / 2; 4])),
            ("group", Attr::Int(group)),
        ];
        onnx.node("Conv", &inputs, &[name], &attributes)
    }

    /// By its definition.
    fn run(&self, x: &[f32]) -> Vec<f64> {
        let (k, channels, plane) = (self.conv.kernel, self.conv.channels, HEIGHT * WIDTH);
        let at = |n: usize, out: usize, y: usize, x_: usize| {
            let inputs = if self.conv.depthwise { out..out + 1 } else { 0..channels };
            let mut sum = self.bias.get(out).map_or(0.0, |b| f64::from(*b));
            for (i, c) in inputs.clone().enumerate() {
                for (dy, dx) in (0..k).flat_map(|dy| (0..k).map(move |dx| (dy, dx))) {
                    let (y, x_) = ((y + dy).wrapping_sub(k / 2), (x_ + dx).wrapping_sub(k / 2));
                    if y < HEIGHT && x_ < WIDTH {
                        let tap = self.weight[((out * inputs.len() + i) * k + dy) * k + dx];
                        let value = x[(n * channels + c) * plane + y * WIDTH + x_];
                        sum += f64::from(tap) * f64::from(value);
                    }
                }
            }
            sum
        };
        let each = |i: usize| at(i / (channels * plane), i / plane % channels, i / WIDTH % HEIGHT, i % WIDTH);
        (0..x.len()).map(each).collect()
    }
}

/// `c` at every place of an output, by the rule of broadcasting.
fn broadcast(shape: &[usize], values: &[f32], channels: usize, len: usize) -> Vec<f64> {
    let at = |i: usize| {
        let place = [0, i / (HEIGHT * WIDTH) % channels, i / WIDTH % HEIGHT, i % WIDTH];
        let axes = shape.iter().enumerate().map(|(axis, &d)| (d, place[axis + place.len() - shape.len()]));
        let index = axes.fold(0, |index, (d, p)| index * d + if d == 1 { 0 } else { p });
        f64::from(values[index])
    };
    (0..len).map(at).collect()
}

/// One output per shape of the constant, each with a convolution of its own.
#[test]
fn a_constant_on_either_side_of_a_convolution() {
    let mut random = Seeded::new(11);
    for (op, compute) in OPS {
        for conv in CONVS {
            for constant_first in [true, false] {
                let sides: Vec<_> = constants(conv.channels)
                    .map(|shape| {
                        let values = random.vec(shape.iter().product(), 0.5, 4.0);
                        (Weights::new(conv, &mut random), shape, values)
                    })
                    .into();
                let onnx = |batch| {
                    let mut onnx = input(conv, batch);
                    for (n, (weights, shape, values)) in sides.iter().enumerate() {
                        let [c, conv_, y] = ["c", "conv", "y"].map(|name| format!("{name}{n}"));
                        let dims: Vec<i64> = shape.iter().map(|&d| d as i64).collect();
                        let names = if constant_first { [&*c, &*conv_] } else { [&*conv_, &*c] };
                        onnx = weights
                            .add(onnx.floats(&c, &dims, values), &conv_)
                            .node(op, &names, &[&y], &[])
                            .output(&y, F32, Some(&extents(conv, batch)));
                    }
                    onnx.bytes()
                };
                let want = |x: &[f32]| {
                    let one = |(weights, shape, values): &(Weights, Vec<usize>, Vec<f32>)| {
                        let c = broadcast(shape, values, conv.channels, x.len());
                        let both = weights.run(x).into_iter().zip(c);
                        both.map(|(v, c)| if constant_first { compute(c, v) } else { compute(v, c) })
                            .collect()
                    };
                    sides.iter().map(one).collect()
                };
                let what = format!("{op}, constant first: {constant_first}, {conv:?}");
                check(conv, &onnx, &want, &mut random, &what);
            }
        }
    }
}

#[test]
fn a_convolution_on_both_sides() {
    let mut random = Seeded::new(12);
    for (op, compute) in OPS {
        let pairs = CONVS.iter().flat_map(|l| CONVS.iter().map(move |r| (*l, *r)));
        for (left, right) in pairs.filter(|(l, r)| l.channels == r.channels) {
            let (a, b) = (Weights::new(left, &mut random), Weights::new(right, &mut random));
            let onnx = |batch| {
                b.add(a.add(input(left, batch), "a"), "b")
                    .node(op, &["a", "b"], &["y"], &[])
                    .output("y", F32, Some(&extents(left, batch)))
                    .bytes()
            };
            let want =
                |x: &[f32]| vec![a.run(x).iter().zip(&b.run(x)).map(|(a, b)| compute(*a, *b)).collect()];
            check(left, &onnx, &want, &mut random, &format!("{op} of {left:?} and {right:?}"));
        }
    }
}

/// The other side has one value per channel and is computed: the mean of each channel.
#[test]
fn a_computed_value_on_either_side_of_a_convolution() {
    let mut random = Seeded::new(13);
    for (op, compute) in OPS {
        for conv in CONVS {
            for names in [["mean", "conv"], ["conv", "mean"]] {
                let weights = Weights::new(conv, &mut random);
                let onnx = |batch| {
                    weights
                        .add(input(conv, batch), "conv")
                        .node("GlobalAveragePool", &["x"], &["mean"], &[])
                        .node(op, &names, &["y"], &[])
                        .output("y", F32, Some(&extents(conv, batch)))
                        .bytes()
                };
                let want = |x: &[f32]| {
                    let mean =
                        |plane: &[f32]| plane.iter().map(|v| f64::from(*v)).sum::<f64>() / plane.len() as f64;
                    let means = x.chunks(HEIGHT * WIDTH).flat_map(|p| std::iter::repeat_n(mean(p), p.len()));
                    let both = weights.run(x).into_iter().zip(means);
                    let one = |(v, m)| if names[0] == "mean" { compute(m, v) } else { compute(v, m) };
                    vec![both.map(one).collect()]
                };
                check(conv, &onnx, &want, &mut random, &format!("{op} of {names:?}, {conv:?}"));
            }
        }
    }
}

fn extents(conv: Conv, batch: i64) -> [i64; 4] {
    [batch, conv.channels as i64, HEIGHT as i64, WIDTH as i64]
}

fn input(conv: Conv, batch: i64) -> Onnx {
    Onnx::default().input("x", F32, &extents(conv, batch))
}

/// Runs the model with a fixed batch on every engine; with an open one, too, for the operators whose sides differ.
fn check(
    conv: Conv,
    onnx: &dyn Fn(i64) -> Vec<u8>,
    want: &dyn Fn(&[f32]) -> Vec<Vec<f64>>,
    random: &mut Seeded,
    what: &str,
) {
    let open = what.starts_with("Sub") || what.starts_with("Div");
    for (batch, written) in [(1, 1), (2, -1)].into_iter().take(1 + usize::from(open)) {
        let bytes = onnx(written);
        let values = random.vec(batch * conv.channels * HEIGHT * WIDTH, 0.2, 1.0);
        let want = want(&values);
        let x = Tensor::new(&[batch, conv.channels, HEIGHT, WIDTH], values).unwrap();
        for engine in engines() {
            let what = format!("{}: {what}, batch {written}", engine.name());
            let mut session = engine
                .load(ModelSource::Bytes(&bytes), &LoadOptions::default())
                .unwrap_or_else(|e| panic!("{what}: {e}"));
            let got = session.run(std::slice::from_ref(&x)).unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_eq!(got.len(), want.len(), "{what}");
            for (at, (got, want)) in got.iter().zip(&want).enumerate() {
                assert_eq!(got.shape(), x.shape(), "{what}, output {at}");
                let scale = want.iter().fold(1f64, |m, w| m.max(w.abs()));
                for (n, (g, w)) in got.f32s().unwrap().iter().zip(want).enumerate() {
                    let off = (f64::from(*g) - w).abs();
                    assert!(off <= 3e-6 * scale, "{what}, output {at}: element {n} is {g}, want {w}");
                }
            }
        }
    }
}
