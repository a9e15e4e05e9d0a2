//! Random blocks for the property suites.
#![allow(dead_code)] // each suite uses its part

pub mod chain;

use proptest::prelude::*;
use tapetum_models::graph::{Attr, Builder, Dim, Graph, Norm};
use tapetum_runtime::Tensor;
use tapetum_runtime::seed::Seeded;

/// Seeded tensors: γ of both signs, σ² over two decades, no two channels alike.
pub struct Draw(pub Seeded);

impl Draw {
    pub fn tensor(&mut self, shape: &[usize]) -> Tensor {
        let n = shape.iter().product();
        Tensor::new(shape, self.0.vec(n, -1.0, 1.0)).unwrap()
    }

    pub fn factors(&mut self, shape: &[usize]) -> Tensor {
        let n: usize = shape.iter().product();
        let sign = |r: &mut Seeded| if r.uniform(0.0, 1.0) < 0.3 { -1.0 } else { 1.0 };
        Tensor::new(shape, (0..n).map(|_| self.0.uniform(0.3, 1.7) * sign(&mut self.0)).collect()).unwrap()
    }

    pub fn norm(&mut self, c: usize) -> Norm {
        let var = (0..c).map(|_| 10f32.powf(self.0.uniform(-1.0, 1.0))).collect();
        Norm {
            gamma: self.factors(&[c]),
            beta: self.tensor(&[c]),
            mean: self.tensor(&[c]),
            var: Tensor::vector::<f32>(var),
            eps: 1e-2,
        }
    }
}

/// One branch of a block, each followed by its BatchNorm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Branch {
    /// k×k
    Full,
    /// 1×1
    Point,
    /// 1×k
    Row,
    /// k×1
    Column,
    /// BatchNorm of the input itself.
    Skip,
    /// k×k average pool.
    Average,
}

/// What is different about the last branch of a near miss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Odd {
    Stride,
    Pads,
    Dilation,
    Groups,
    Input,
    ReadTwice,
    Output,
    SharedWeight,
    Transposed,
}

pub fn odd() -> impl Strategy<Value = Odd> {
    prop::sample::select(vec![
        Odd::Stride,
        Odd::Pads,
        Odd::Dilation,
        Odd::Groups,
        Odd::Input,
        Odd::ReadTwice,
        Odd::Output,
        Odd::SharedWeight,
        Odd::Transposed,
    ])
}

#[derive(Clone, Debug)]
pub struct Block {
    pub seed: u64,
    pub channels: [usize; 2],
    pub groups: usize,
    pub kernel: usize,
    pub stride: usize,
    pub branches: Vec<Branch>,
    /// How the Adds are written.
    pub order: usize,
    pub odd: Option<Odd>,
}

pub fn block() -> impl Strategy<Value = Block> {
    let sizes = (0u64..1 << 40, 1usize..=4, 1usize..=2, 1usize..=2, prop::bool::ANY);
    let rest =
        (prop::sample::select(vec![1usize, 3, 5, 7]), 1usize..=2, any::<[bool; 5]>(), 1usize..=4, 0usize..3);
    (sizes, rest).prop_map(|((seed, groups, i, o, square), (kernel, stride, with, full, order))| {
        let (c_in, c_out) = (groups * i, if square { groups * i } else { groups * o });
        let mut branches = vec![Branch::Full; full];
        let flat = kernel > 1;
        let extra = [
            (flat && with[0], Branch::Point),
            (flat && with[1], Branch::Row),
            (flat && with[2], Branch::Column),
            (c_in == c_out && stride == 1 && with[3], Branch::Skip),
            (c_in == c_out && flat && with[4], Branch::Average),
        ];
        branches.extend(extra.into_iter().filter(|(there, _)| *there).map(|(_, b)| b));
        branches.rotate_left(seed as usize % 3 % full.max(1));
        Block { seed, channels: [c_in, c_out], groups, kernel, stride, branches, order, odd: None }
    })
}

impl Block {
    pub fn graph(&self) -> Graph {
        let mut draw = Draw(Seeded::new(self.seed));
        let mut b = Builder::new("block");
        let [c_in, _] = self.channels;
        let x = b.input("x", vec![Dim::symbol("n"), Dim::Fixed(c_in), Dim::Fixed(8), Dim::Fixed(9)]);
        let other = b.input("other", vec![Dim::symbol("n"), Dim::Fixed(c_in), Dim::Fixed(8), Dim::Fixed(9)]);
        let mut parts = Vec::new();
        for (i, branch) in self.branches.iter().enumerate() {
            let last = i + 1 == self.branches.len();
            let odd = self.odd.filter(|_| last);
            let from = if odd == Some(Odd::Input) { &other } else { &x };
            parts.push(self.branch(&mut b, &mut draw, i, *branch, from, odd));
        }
        let add =
            |b: &mut Builder, i: usize, l: &str, r: &str| b.binary("Add", &format!("stage.0/add{i}"), l, r);
        let mut sum = parts[0].clone();
        for (i, part) in parts.iter().enumerate().skip(1) {
            sum = match self.order {
                0 => add(&mut b, i, &sum, part),
                1 => add(&mut b, i, part, &sum),
                _ if i % 2 == 0 => add(&mut b, i, &sum, part),
                _ => add(&mut b, i, part, &sum),
            };
        }
        if parts.len() == 1 {
            sum = b.unary("Identity", "stage.0/same", &sum);
        }
        b.output("y", &sum, vec![Dim::Unknown; 4]);
        let last = parts.last().unwrap().clone();
        match self.odd {
            Some(Odd::ReadTwice) if parts.len() > 1 => {
                let twice = b.unary("Relu", "twice", &last);
                b.output("z", &twice, vec![Dim::Unknown; 4]);
            }
            Some(Odd::Output) if parts.len() > 1 => b.output("z", &last, vec![Dim::Unknown; 4]),
            _ => {}
        }
        b.finish().unwrap()
    }

    fn branch(
        &self,
        b: &mut Builder,
        draw: &mut Draw,
        i: usize,
        branch: Branch,
        x: &str,
        odd: Option<Odd>,
    ) -> String {
        let [c_in, c_out] = self.channels;
        let (k, p, s) = (self.kernel, self.kernel / 2, self.stride);
        let name = match branch {
            Branch::Full => format!("stage.0.rbr_conv.{i}"),
            Branch::Skip => "stage.0.rbr_skip".into(),
            other => format!("stage.0.rbr_{}", format!("{other:?}").to_lowercase()),
        };
        let (kernel, pads) = match branch {
            Branch::Full | Branch::Average => ([k, k], [p, p]),
            Branch::Point => ([1, 1], [0, 0]),
            Branch::Row => ([1, k], [0, p]),
            Branch::Column => ([k, 1], [p, 0]),
            Branch::Skip => {
                let norm = draw.norm(c_in);
                return b.batch_norm(&name, x, norm);
            }
        };
        let ints = |v: &[usize]| Attr::Ints(v.iter().map(|&v| v as i64).collect());
        let mut attrs = vec![
            ("kernel_shape", ints(&kernel)),
            ("strides", ints(&[s, s])),
            ("pads", ints(&[pads[0], pads[1], pads[0], pads[1]])),
        ];
        if branch == Branch::Average {
            attrs.push(("count_include_pad", Attr::Int(1)));
            let pool = b.op("AveragePool", &format!("{name}.pool"), &[x], &attrs);
            let norm = draw.norm(c_in);
            return b.batch_norm(&format!("{name}.bn"), &pool, norm);
        }
        let mut groups = self.groups;
        // Oddities that keep the output's size, so that the sum is still one.
        match odd {
            Some(Odd::Groups) => groups = 1,
            Some(Odd::Pads) if kernel[0] > 1 => {
                attrs[2] = ("pads", ints(&[pads[0] - 1, pads[1], pads[0] + 1, pads[1]]));
            }
            Some(Odd::Dilation) if kernel[0] == 3 && kernel[1] == 3 => {
                attrs[2] = ("pads", ints(&[2, 2, 2, 2]));
                attrs.push(("dilations", ints(&[2, 2])));
            }
            Some(Odd::Stride) if s == 1 && kernel == [1, 1] => {
                attrs[1] = ("strides", ints(&[8, 9]));
            }
            _ => {}
        }
        attrs.push(("group", Attr::Int(groups as i64)));
        let shared = odd == Some(Odd::SharedWeight);
        if odd == Some(Odd::Transposed) && s == 1 && c_in == c_out {
            let weight = draw.tensor(&[c_in, c_out / groups, kernel[0], kernel[1]]);
            let weight = b.param(&format!("{name}.conv.weight"), weight);
            let conv = b.op("ConvTranspose", &format!("{name}.conv"), &[x, &weight], &attrs);
            let norm = draw.norm(c_out);
            return b.batch_norm(&format!("{name}.bn"), &conv, norm);
        }
        let weight = draw.tensor(&[c_out, c_in / groups, kernel[0], kernel[1]]);
        let weight = b.param(&format!("{name}.conv.weight"), weight);
        let bias = draw.tensor(&[c_out]);
        let biased = draw.0.below(2) == 0;
        let bias = b.param(&format!("{name}.conv.bias"), bias);
        let mut inputs = vec![x, &weight];
        if biased {
            inputs.push(&bias);
        }
        let conv = b.op("Conv", &format!("{name}.conv"), &inputs, &attrs);
        let norm = draw.norm(c_out);
        let y = b.batch_norm(&format!("{name}.bn"), &conv, norm);
        if !shared {
            return y;
        }
        let again = b.op("Conv", &format!("{name}.again"), &inputs, &attrs);
        let again = b.unary("Relu", &format!("{name}.relu"), &again);
        b.binary("Add", &format!("{name}.both"), &again, &y)
    }
}
