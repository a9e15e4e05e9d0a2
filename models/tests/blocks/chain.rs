//! Operators in a row.

use proptest::prelude::*;
use tapetum_models::graph::{Attr, Builder, Conv2d, Dim, Graph};
use tapetum_models::zoo::difference::Difference;
use tapetum_runtime::seed::Seeded;

use super::Draw;

/// Two convolutions in a row, each with BatchNorm, beside a plain one.
#[derive(Clone, Debug)]
pub struct Sequence {
    kernels: [usize; 2],
    groups: [usize; 2],
    strides: [usize; 2],
    pads: [usize; 2],
    channels: [usize; 3],
    norm: bool,
    bias: [bool; 2],
}

pub fn sequence() -> impl Strategy<Value = Sequence> {
    let two = |options: Vec<usize>| prop::array::uniform2(prop::sample::select(options));
    let of = (two(vec![1, 1, 3]), two(vec![1, 2, 3]), two(vec![1, 2]), two(vec![0, 0, 1]));
    (of, prop::array::uniform3(1usize..=2), any::<(bool, [bool; 2])>()).prop_map(
        |((kernels, groups, strides, pads), c, (norm, bias))| {
            let both = groups[0] * groups[1];
            let channels = [c[0] * groups[0], c[1] * both, c[2] * groups[1]];
            Sequence { kernels, groups, strides, pads, channels, norm, bias }
        },
    )
}

impl Sequence {
    pub fn graph(&self, seed: u64) -> Graph {
        let mut draw = Draw(Seeded::new(seed));
        let mut b = Builder::new("sequence");
        let mut x = b.input("x", [1, self.channels[0], 9, 10].map(Dim::Fixed).to_vec());
        for i in 0..2 {
            let (k, groups) = (self.kernels[i], self.groups[i]);
            let weight = draw.tensor(&[self.channels[i + 1], self.channels[i] / groups, k, k]);
            let bias = self.bias[i].then(|| draw.tensor(&[self.channels[i + 1]]));
            let spec = Conv2d { stride: self.strides[i], pad: self.pads[i], groups };
            x = b.conv(&format!("block.{i}.conv"), &x, weight, bias, spec);
            if self.norm {
                let norm = draw.norm(self.channels[i + 1]);
                x = b.batch_norm(&format!("block.{i}.bn"), &x, norm);
            }
        }
        b.output("y", &x, vec![Dim::Unknown; 4]);
        b.finish().unwrap()
    }
}

/// Something affine, and what follows it.
#[derive(Clone, Debug)]
pub struct Chain {
    head: Head,
    tail: Vec<Tail>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Head {
    Conv,
    Transposed,
    Gemm { trans_a: bool, trans_b: bool, bias: usize },
    MatMul,
    MatMulAdd,
    LayerNorm,
    Differences,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tail {
    Norm,
    Scale(bool),
    Divide(bool),
    Shift(bool),
    Minus(bool),
    From(bool),
    One(u8),
}

pub fn chain() -> impl Strategy<Value = Chain> {
    let head = prop_oneof![
        Just(Head::Conv),
        Just(Head::Transposed),
        any::<(bool, bool)>().prop_flat_map(|(trans_a, trans_b)| {
            (0usize..4).prop_map(move |bias| Head::Gemm { trans_a, trans_b, bias })
        }),
        Just(Head::MatMul),
        Just(Head::MatMulAdd),
        Just(Head::LayerNorm),
        Just(Head::Differences),
    ];
    let tail = prop_oneof![
        Just(Tail::Norm),
        any::<bool>().prop_map(Tail::Scale),
        any::<bool>().prop_map(Tail::Divide),
        any::<bool>().prop_map(Tail::Shift),
        any::<bool>().prop_map(Tail::Minus),
        any::<bool>().prop_map(Tail::From),
        (0u8..6).prop_map(Tail::One),
    ];
    (head, prop::collection::vec(tail, 1..4)).prop_map(|(head, tail)| Chain { head, tail })
}

impl Chain {
    /// A MatMul's shift stays an Add of its own; everything else ends in its head.
    pub fn most_nodes(&self) -> usize {
        match self.head {
            Head::MatMulAdd => 2,
            // Two shifts with nothing between stay two.
            Head::MatMul => 1 + self.tail.len(),
            Head::LayerNorm if self.tail.contains(&Tail::Norm) => 2 + self.tail.len(),
            _ => 1,
        }
    }

    pub fn graph(&self, seed: u64) -> Graph {
        let mut draw = Draw(Seeded::new(seed));
        let mut b = Builder::new("chain");
        let image = matches!(self.head, Head::Conv | Head::Transposed | Head::Differences);
        let (c, mut y) = (6, String::new());
        match self.head {
            Head::Conv => {
                let x = b.input("x", [2, 4, 7, 6].map(Dim::Fixed).to_vec());
                let w = draw.tensor(&[6, 2, 3, 3]);
                y = b.conv("head", &x, w, None, Conv2d { stride: 2, pad: 1, groups: 2 });
            }
            Head::Transposed => {
                let x = b.input("x", [2, 4, 4, 3].map(Dim::Fixed).to_vec());
                let (w, bias) = (draw.tensor(&[4, 3, 3, 3]), draw.tensor(&[6]));
                let (w, bias) = (b.param("head.weight", w), b.param("head.bias", bias));
                let attrs = [
                    ("strides", Attr::Ints(vec![2; 2])),
                    ("pads", Attr::Ints(vec![1; 4])),
                    ("output_padding", Attr::Ints(vec![1; 2])),
                    ("group", Attr::Int(2)),
                ];
                y = b.op("ConvTranspose", "head", &[&x, &w, &bias], &attrs);
            }
            Head::Differences => {
                let x = b.input("x", [2, 4, 7, 6].map(Dim::Fixed).to_vec());
                for (i, d) in Difference::ALL.into_iter().enumerate() {
                    let w = draw.tensor(&[&[6, 4], d.taps_shape()].concat());
                    let (w, bias) = (b.param(&format!("head.{i}.weight"), w), draw.tensor(&[6]));
                    let bias = b.param(&format!("head.{i}.bias"), bias);
                    let matrix = b.helper(d.name(), d.tensor());
                    let rows = b.reshape(&format!("head.{i}/rows"), &w, &[-1, d.taps() as i64]);
                    let flat = b.binary("MatMul", &format!("head.{i}/flat"), &rows, &matrix);
                    let kernel = b.reshape(&format!("head.{i}/kernel"), &flat, &[6, 4, 3, 3]);
                    let pads = [("pads", Attr::Ints(vec![1; 4]))];
                    let one = b.op("Conv", &format!("head.{i}"), &[&x, &kernel, &bias], &pads);
                    y = if i == 0 { one } else { b.binary("Add", &format!("head/add{i}"), &y, &one) };
                }
            }
            Head::Gemm { trans_a, trans_b, bias } => {
                let x = b.input("x", (if trans_a { [5, 3] } else { [3, 5] }).map(Dim::Fixed).to_vec());
                let w = draw.tensor(if trans_b { &[6, 5] } else { &[5, 6] });
                let shape: &[usize] = [&[][..], &[], &[6], &[1, 6]][bias];
                let bias = (bias > 0).then(|| draw.tensor(shape)).map(|t| b.param("head.bias", t));
                let w = b.param("head.weight", w);
                let mut inputs = vec![&*x, &*w];
                inputs.extend(bias.as_deref());
                let attrs = [
                    ("transA", Attr::Int(i64::from(trans_a))),
                    ("transB", Attr::Int(i64::from(trans_b))),
                    ("alpha", Attr::Float(0.5)),
                    ("beta", Attr::Float(-3.0)),
                ];
                y = b.op("Gemm", "head", &inputs, &attrs);
            }
            Head::MatMul | Head::MatMulAdd => {
                let x = b.input("x", [3, 5].map(Dim::Fixed).to_vec());
                let (w, bias) = (draw.tensor(&[5, 6]), draw.tensor(&[6]));
                let w = b.param("head.weight", w);
                y = b.binary("MatMul", "head", &x, &w);
                if self.head == Head::MatMulAdd {
                    let bias = b.param("head.bias", bias);
                    y = b.binary("Add", "head/add", &bias, &y);
                }
            }
            Head::LayerNorm => {
                let x = b.input("x", [3, 6].map(Dim::Fixed).to_vec());
                let gamma = draw.factors(&[6]);
                let gamma = b.param("head.weight", gamma);
                let attrs = [("axis", Attr::Int(-1)), ("epsilon", Attr::Float(1e-5))];
                y = b.op("LayerNormalization", "head", &[&x, &gamma], &attrs);
            }
        }
        for (i, tail) in self.tail.iter().enumerate() {
            y = self.follow(&mut b, &mut draw, (i, *tail), &y, (c, image));
        }
        b.output("y", &y, vec![Dim::Unknown; if image { 4 } else { 2 }]);
        b.finish().unwrap()
    }

    fn follow(
        &self,
        b: &mut Builder,
        draw: &mut Draw,
        (i, tail): (usize, Tail),
        y: &str,
        (c, image): (usize, bool),
    ) -> String {
        let name = format!("tail{i}");
        let (op, full, flipped) = match tail {
            Tail::Norm => {
                let norm = draw.norm(c);
                return b.batch_norm(&name, y, norm);
            }
            Tail::Scale(full) => ("Mul", full, true),
            Tail::Divide(full) => ("Div", full, false),
            Tail::Shift(full) => ("Add", full, false),
            Tail::Minus(full) => ("Sub", full, false),
            Tail::From(full) => ("Sub", full, true),
            Tail::One(n) => {
                let rank = usize::from(n % 3);
                let op = if n < 3 { "Mul" } else { "Add" };
                let one = draw.factors(&vec![1; rank]);
                let one = b.param(&format!("{name}.c"), one);
                return b.binary(op, &name, y, &one);
            }
        };
        let shape = match (image, full) {
            (true, true) => vec![1, c, 1, 1],
            (true, false) => vec![c, 1, 1],
            (false, true) => vec![1, c],
            (false, false) => vec![c],
        };
        let constant = draw.factors(&shape);
        let constant = b.param(&format!("{name}.c"), constant);
        if flipped { b.binary(op, &name, &constant, y) } else { b.binary(op, &name, y, &constant) }
    }
}
