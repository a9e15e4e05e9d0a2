//! What exporters leave around a network's layers is cleared away, and only that.

mod blocks;
mod reference;
mod support;

use blocks::Draw;
use support::{folded, histogram, same_function};
use tapetum_models::graph::{Attr, Builder, Conv2d, Dim, Graph};
use tapetum_runtime::Tensor;
use tapetum_runtime::seed::Seeded;

fn start(dims: &[usize]) -> (Builder, Draw, String) {
    let mut b = Builder::new("clearing");
    let x = b.input("x", dims.iter().copied().map(Dim::Fixed).collect());
    (b, Draw(Seeded::new(9)), x)
}

fn end(mut b: Builder, y: &str) -> Graph {
    b.output("y", y, vec![]);
    b.finish().unwrap()
}

/// Folds, and expects these operators to be left.
#[track_caller]
fn clears_to(before: &Graph, left: &[(&str, usize)]) -> Graph {
    let (after, report) = folded(before);
    let have: Vec<(String, usize)> = histogram(&after).into_iter().collect();
    let want: Vec<(String, usize)> = left.iter().map(|(op, n)| ((*op).to_owned(), *n)).collect();
    assert_eq!(have, want, "{:?}\n{:?}", report.applied, report.refused);
    same_function(before, &after, 4, "clearing");
    after
}

#[test]
fn every_constant_operator_gives_what_its_definition_gives() {
    type Make = fn(&mut Builder, &str) -> String;
    let cases: [(&str, Make); 13] = [
        ("reshape", |b, c| b.reshape("r", c, &[0, -1, 2])),
        ("transpose", |b, c| b.transpose("r", c, &[2, 0, 1])),
        ("unsqueeze", |b, c| {
            let axes = b.ints(&[0, -1]);
            b.binary("Unsqueeze", "r", c, &axes)
        }),
        ("slice", |b, c| {
            let [starts, ends, axes, steps] = [[1, -3], [9, -1], [1, 2], [2, 1]].map(|v| b.ints(&v));
            b.op("Slice", "r", &[c, &starts, &ends, &axes, &steps], &[])
        }),
        ("gather", |b, c| {
            let at = b.helper("at", Tensor::new(&[2, 2], vec![2i64, 0, -1, 1]).unwrap());
            b.op("Gather", "r", &[c, &at], &[("axis", Attr::Int(1))])
        }),
        ("concat", |b, c| b.concat("r", &[c, c], 1)),
        ("expand", |b, c| {
            let to = b.ints(&[2, 1, 3, 4]);
            b.binary("Expand", "r", c, &to)
        }),
        ("add", |b, c| b.binary("Add", "r", c, c)),
        ("mul", |b, c| {
            let row = b.helper("row", Tensor::new(&[3, 1], vec![0.5f32, -2.0, 3.0]).unwrap());
            b.binary("Mul", "r", &row, c)
        }),
        ("sub and neg", |b, c| {
            let n = b.unary("Neg", "n", c);
            b.binary("Sub", "r", c, &n)
        }),
        ("sqrt and div", |b, c| {
            let square = b.binary("Mul", "square", c, c);
            let root = b.unary("Sqrt", "root", &square);
            b.binary("Div", "r", c, &root)
        }),
        ("matmul", |b, c| {
            let flat = b.reshape("flat", c, &[6, 4]);
            let m = b.helper("m", Tensor::new(&[4, 2], (0..8).map(|i| i as f32 - 3.5).collect()).unwrap());
            b.binary("MatMul", "r", &flat, &m)
        }),
        ("squeeze", |b, c| {
            let (one, axes) = (b.reshape("one", c, &[1, 2, 1, 12]), b.ints(&[0, 2]));
            b.binary("Squeeze", "r", &one, &axes)
        }),
    ];
    for (what, make) in cases {
        let (mut b, mut draw, x) = start(&[1]);
        let c = draw.tensor(&[2, 3, 4]);
        let c = b.param("c", c);
        let r = make(&mut b, &c);
        // Not affine in x, so nothing takes the constant in.
        let s = b.unary("Sigmoid", "s", &x);
        let y = b.binary("Mul", "m2", &s, &r);
        println!("{what}");
        clears_to(&end(b, &y), &[("Mul", 1), ("Sigmoid", 1)]);
    }
}

#[test]
fn zeros_expanded_to_the_shape_of_what_they_are_added_to() {
    // `0.expand(shape) + conv(x)` with a shape that is only known at run time.
    let (mut b, mut draw) = (Builder::new("zeros"), Draw(Seeded::new(2)));
    let x = b.input("x", vec![Dim::symbol("n"), Dim::Fixed(3), Dim::symbol("h"), Dim::symbol("w")]);
    let w = draw.tensor(&[4, 3, 1, 1]);
    let conv = b.conv("conv", &x, w, None, Conv2d::default());
    let (shape, zero) = (b.unary("Shape", "shape", &conv), b.float(0.0));
    let zero = b.binary("CastLike", "like", &zero, &conv);
    let zeros = b.binary("Expand", "zeros", &zero, &shape);
    let y = b.binary("Add", "sum", &zeros, &conv);
    let y = b.unary("Relu", "relu", &y);
    clears_to(&end(b, &y), &[("Conv", 1), ("Relu", 1)]);
    // The shape of something else may be larger.
    let (mut b, mut draw) = (Builder::new("zeros"), Draw(Seeded::new(2)));
    let x = b.input("x", vec![Dim::symbol("n"), Dim::Fixed(3), Dim::symbol("h"), Dim::symbol("w")]);
    let other = b.input("other", vec![Dim::symbol("m"), Dim::Fixed(4), Dim::symbol("h"), Dim::symbol("w")]);
    let w = draw.tensor(&[4, 3, 1, 1]);
    let conv = b.conv("conv", &x, w, None, Conv2d::default());
    let (shape, zero) = (b.unary("Shape", "shape", &other), b.float(0.0));
    let zeros = b.binary("Expand", "zeros", &zero, &shape);
    let y = b.binary("Add", "sum", &zeros, &conv);
    let before = end(b, &y);
    let (after, _) = folded(&before);
    assert_eq!(histogram(&after)["Add"], 1);
}

#[test]
fn nodes_that_pass_their_input_through_go() {
    let (mut b, _, x) = start(&[2, 4, 5, 5]);
    let y = b.unary("Dropout", "dropout", &x);
    let y = b.op("Cast", "cast", &[&y], &[("to", Attr::Int(1))]);
    let y = b.transpose("transpose", &y, &[0, 1, 2, 3]);
    let y = b.reshape("reshape", &y, &[0, 4, -1, 5]);
    let y = b.concat("concat", &[&y], 1);
    let pads = b.ints(&[0; 8]);
    let y = b.binary("Pad", "pad", &y, &pads);
    let axes = b.ints(&[2]);
    let y = b.binary("Unsqueeze", "unsqueeze", &y, &axes);
    let y = b.binary("Squeeze", "squeeze", &y, &axes);
    let attrs = [("kernel_shape", Attr::Ints(vec![1, 1])), ("strides", Attr::Ints(vec![1, 1]))];
    let y = b.op("AveragePool", "pool", &[&y], &attrs);
    let one = b.helper("one", Tensor::full(&[4, 1, 1], 1f32));
    let y = b.binary("Div", "div", &y, &one);
    let y = b.unary("Relu", "relu", &y);
    clears_to(&end(b, &y), &[("Relu", 1)]);
}

#[test]
fn nodes_that_change_their_input_stay() {
    let (mut b, _, x) = start(&[2, 4, 5, 5]);
    let y = b.op("Cast", "cast", &[&x], &[("to", Attr::Int(11))]);
    let y = b.op("Cast", "back", &[&y], &[("to", Attr::Int(1))]);
    let y = b.transpose("transpose", &y, &[0, 1, 3, 2]);
    let y = b.reshape("reshape", &y, &[4, 2, 5, 5]);
    let zero = b.float(0.0);
    let y = b.binary("Sub", "sub", &zero, &y);
    let one = b.float(1.0);
    let y = b.binary("Div", "div", &one, &y);
    let left = [("Cast", 2), ("Div", 1), ("Reshape", 1), ("Sub", 1), ("Transpose", 1)];
    clears_to(&end(b, &y), &left);
}

#[test]
fn parallel_products_become_one() {
    for gemm in [false, true] {
        let (mut b, mut draw, x) = start(&[3, 5]);
        let mut parts = Vec::new();
        for i in 0..3i64 {
            let turned = gemm && i == 1;
            let (w, c) = (draw.tensor(if turned { &[6, 5] } else { &[5, 6] }), draw.tensor(&[6]));
            let (w, c) = (b.param(&format!("fc.{i}.weight"), w), b.param(&format!("fc.{i}.bias"), c));
            let attrs =
                [("transB", Attr::Int(i64::from(turned))), ("alpha", Attr::Float(0.5 * i as f32 + 1.0))];
            parts.push(if gemm {
                b.op("Gemm", &format!("fc.{i}"), &[&x, &w, &c], &attrs)
            } else {
                b.binary("MatMul", &format!("fc.{i}"), &x, &w)
            });
        }
        let sum = b.binary("Add", "add", &parts[0], &parts[1]);
        let y = b.binary("Add", "sum", &parts[2], &sum);
        let after = clears_to(&end(b, &y), &[(if gemm { "Gemm" } else { "MatMul" }, 1)]);
        assert!(after.constants.contains_key("fc.weight"), "{:?}", after.constants.keys());
    }
}

#[test]
fn batch_norm_of_a_product_with_axes_appended_and_taken_away() {
    let (mut b, mut draw, x) = start(&[3, 5]);
    let (w, norm) = (draw.tensor(&[5, 6]), draw.norm(6));
    let w = b.param("fc.weight", w);
    let fc = b.binary("MatMul", "fc", &x, &w);
    let axes = b.ints(&[2]);
    let wide = b.binary("Unsqueeze", "wide", &fc, &axes);
    let bn = b.batch_norm("bn", &wide, norm);
    let y = b.binary("Squeeze", "narrow", &bn, &axes);
    let y = b.unary("Relu", "relu", &y);
    clears_to(&end(b, &y), &[("Gemm", 1), ("Relu", 1)]);
}

#[test]
fn a_diverse_branch_block() {
    // k×k · BN + 1×1 · BN + (1×1 · BN → k×k · BN over padded borders) + pool · BN, as DBB has them.
    let (mut b, mut draw, x) = start(&[1, 4, 7, 6]);
    let same = Conv2d { pad: 1, ..Conv2d::default() };
    let mut parts = Vec::new();
    for (i, (k, spec)) in [(3, same), (1, Conv2d::default())].into_iter().enumerate() {
        let (w, norm) = (draw.tensor(&[4, 4, k, k]), draw.norm(4));
        let conv = b.conv(&format!("dbb.{i}.conv"), &x, w, None, spec);
        parts.push(b.batch_norm(&format!("dbb.{i}.bn"), &conv, norm));
    }
    let (w, norm) = (draw.tensor(&[4, 4, 1, 1]), draw.norm(4));
    // Without a bias of its own, a 1×1 before a padded kernel is exact.
    let point = b.conv("dbb.2.idconv1", &x, w, None, Conv2d::default());
    let w = draw.tensor(&[4, 4, 3, 3]);
    let conv = b.conv("dbb.2.conv", &point, w, None, same);
    parts.push(b.batch_norm("dbb.2.bn", &conv, norm));
    let attrs = [
        ("kernel_shape", Attr::Ints(vec![3, 3])),
        ("pads", Attr::Ints(vec![1; 4])),
        ("count_include_pad", Attr::Int(1)),
    ];
    let pool = b.op("AveragePool", "dbb.3.pool", &[&x], &attrs);
    let norm = draw.norm(4);
    parts.push(b.batch_norm("dbb.3.bn", &pool, norm));
    let sum = parts
        .iter()
        .skip(1)
        .enumerate()
        .fold(parts[0].clone(), |sum, (i, part)| b.binary("Add", &format!("dbb.add{i}"), &sum, part));
    let after = clears_to(&end(b, &sum), &[("Conv", 1)]);
    assert_eq!(after.nodes[0].name, "dbb");
}
