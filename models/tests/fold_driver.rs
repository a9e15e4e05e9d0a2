//! The driver: it ends, names the rule at fault, keeps names and outputs, rounds once, and is fast.

mod blocks;
mod reference;
mod support;

use std::time::{Duration, Instant};

use blocks::{Block, Branch, Draw};
use support::{folded, histogram, same_function};
use tapetum_models::fold::{FoldRule, Patch, Refusal, fold_all, fold_with};
use tapetum_models::graph::{Attr, Builder, Conv2d, Dim, Graph, Index, Node};
use tapetum_runtime::ErrorKind;
use tapetum_runtime::seed::Seeded;

/// Replaces a Relu by what `0` makes of it.
struct Rogue(fn(&Node) -> Node);

impl FoldRule for Rogue {
    fn name(&self) -> &'static str {
        "rogue"
    }
    fn equation(&self) -> &'static str {
        "x = x"
    }
    fn check(&self, graph: &Index<'_>, at: usize) -> Result<Option<Patch>, Refusal> {
        let node = &graph.graph().nodes[at];
        Ok(node.is("Relu").then(|| Patch::removing([at]).with_node(self.0(node))))
    }
    fn example(&self, _: u64) -> Graph {
        let mut b = Builder::new("rogue");
        let x = b.input("x", vec![Dim::Fixed(2)]);
        let bn = b.unary("Relu", "a", &x);
        let y = b.unary("Relu", "b", &bn);
        b.output("y", &y, vec![Dim::Fixed(2)]);
        b.finish().unwrap()
    }
}

#[test]
fn a_rule_that_does_not_shrink_is_an_error_with_its_name() {
    let rule = Rogue(Node::clone);
    let error = fold_with(&mut rule.example(0), &[&rule]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert!(error.to_string().contains("rogue did not shrink the graph at node \"a\""), "{error}");
}

/// Drops the first node without a word about its value.
struct Breaker;

impl FoldRule for Breaker {
    fn name(&self) -> &'static str {
        "breaker"
    }
    fn equation(&self) -> &'static str {
        "x = nothing"
    }
    fn check(&self, graph: &Index<'_>, at: usize) -> Result<Option<Patch>, Refusal> {
        Ok((at == 0 && graph.graph().nodes.len() > 1).then(|| Patch::removing([at])))
    }
    fn example(&self, seed: u64) -> Graph {
        Rogue(Node::clone).example(seed)
    }
}

#[test]
fn a_rule_that_breaks_the_graph_is_an_error_with_its_name() {
    let error = fold_with(&mut Breaker.example(0), &[&Breaker]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert!(error.to_string().contains("after fold rule breaker"), "{error}");
}

/// Conv · BN · scale + 1×1 · BN: what each weight is, written out, and rounded once.
#[test]
fn chained_folds_are_rounded_once() {
    let mut draw = Draw(Seeded::new(77));
    let mut b = Builder::new("once");
    let x = b.input("x", [1, 3, 5, 5].map(Dim::Fixed).to_vec());
    let (w1, b1, w2) = (draw.tensor(&[4, 3, 3, 3]), draw.tensor(&[4]), draw.tensor(&[4, 3, 1, 1]));
    let (n1, n2, g) = (draw.norm(4), draw.norm(4), draw.factors(&[4, 1, 1]));
    let spec = Conv2d { pad: 1, ..Conv2d::default() };
    let one = b.conv("block.a.conv", &x, w1.clone(), Some(b1.clone()), spec);
    let one = b.batch_norm("block.a.bn", &one, n1.clone());
    let gamma = b.param("block.a.gamma", g.clone());
    let one = b.binary("Mul", "block.a.scaled", &one, &gamma);
    let two = b.conv("block.b.conv", &x, w2.clone(), None, Conv2d::default());
    let two = b.batch_norm("block.b.bn", &two, n2.clone());
    let y = b.binary("Add", "block.sum", &one, &two);
    b.output("y", &y, vec![Dim::Unknown; 4]);
    let (after, _) = folded(&b.finish().unwrap());
    assert_eq!(histogram(&after).into_iter().collect::<Vec<_>>(), [("Conv".to_owned(), 1)]);
    let [weight, bias] =
        ["block.weight", "block.bias"].map(|n| after.dense(n).unwrap().f32s().unwrap().to_vec());
    let f = |t: &tapetum_runtime::Tensor, i: usize| f64::from(t.f32s().unwrap()[i]);
    let scale =
        |n: &tapetum_models::graph::Norm, c| f(&n.gamma, c) / (f(&n.var, c) + f64::from(n.eps)).sqrt();
    for o in 0..4 {
        let (s1, s2, s) = (scale(&n1, o), scale(&n2, o), f(&g, o));
        for i in 0..27 {
            let centre = if i % 9 == 4 { f(&w2, o * 3 + i / 9) * s2 } else { 0.0 };
            let want = f(&w1, o * 27 + i) * s1 * s + centre;
            assert_eq!(weight[o * 27 + i].to_bits(), (want as f32).to_bits(), "weight {o} {i}");
        }
        let t1 = f(&n1.beta, o) - f(&n1.mean, o) * s1;
        let t2 = f(&n2.beta, o) - f(&n2.mean, o) * s2;
        let want = (f(&b1, o) * s1 + t1) * s + 0.0 + (0.0 * s2 + t2);
        assert_eq!(bias[o].to_bits(), (want as f32).to_bits(), "bias {o}");
    }
}

#[test]
fn exporter_names_lose_what_was_merged() {
    let mut draw = Draw(Seeded::new(5));
    let mut b = Builder::new("names");
    let x = b.input("x", [1, 4, 5, 5].map(Dim::Fixed).to_vec());
    let mut parts = Vec::new();
    for i in 0..2 {
        let w = draw.tensor(&[4, 4, 1, 1]);
        let w = b.param(&format!("onnx::Conv_{i}"), w);
        let name = format!("/stage1/stage1.0/rbr_conv.{i}/conv/Conv");
        let conv = b.op("Conv", &name, &[&x, &w], &[]);
        let norm = draw.norm(4);
        parts.push(b.batch_norm(
            &format!("/stage1/stage1.0/rbr_conv.{i}/bn/BatchNormalization"),
            &conv,
            norm,
        ));
    }
    let y = b.binary("Add", "/stage1/stage1.0/Add", &parts[0], &parts[1]);
    b.output("out", &y, vec![Dim::Unknown; 4]);
    let (after, _) = folded(&b.finish().unwrap());
    assert_eq!(after.nodes[0].name, "/stage1/stage1.0/rbr_conv");
    assert_eq!(after.nodes[0].outputs, ["out"]);
}

#[test]
fn neighbours_in_one_block_keep_their_names() {
    let mut draw = Draw(Seeded::new(6));
    let mut b = Builder::new("basic block");
    let mut x = b.input("x", [1, 4, 5, 5].map(Dim::Fixed).to_vec());
    for i in 1..3 {
        let (w, norm) = (draw.tensor(&[4, 4, 3, 3]), draw.norm(4));
        x = b.conv(&format!("layer1.0.conv{i}"), &x, w, None, Conv2d::default());
        x = b.batch_norm(&format!("layer1.0.bn{i}"), &x, norm);
        x = b.unary("Relu", &format!("layer1.0.relu{i}"), &x);
    }
    b.output("y", &x, vec![Dim::Unknown; 4]);
    let (after, _) = folded(&b.finish().unwrap());
    let convs: Vec<&str> = after.nodes.iter().filter(|n| n.is("Conv")).map(|n| &*n.name).collect();
    assert_eq!(convs[0], "layer1.0.conv1");
    assert!(after.constants.contains_key("layer1.0.conv1.weight"), "{:?}", after.constants.keys());
}

#[test]
fn outputs_keep_their_names_through_no_ops() {
    let mut b = Builder::new("outputs");
    let x = b.input("x", [1, 4, 5, 5].map(Dim::Fixed).to_vec());
    let relu = b.unary("Relu", "relu", &x);
    let other = b.unary("Neg", "neg", &relu);
    let one = b.unary("Identity", "one", &relu);
    let two = b.unary("Identity", "two", &one);
    for (name, value) in [("a", &two), ("b", &other), ("c", &one), ("d", &x)] {
        b.output(name, value, vec![Dim::Unknown; 4]);
    }
    let before = b.finish().unwrap();
    let (after, _) = folded(&before);
    same_function(&before, &after, 1, "outputs");
    // `a` and `c` are the same value under two names, and `d` is an input: one Identity each.
    assert_eq!(histogram(&after)["Identity"], 2);
}

#[test]
fn old_operator_sets_are_left_alone_with_a_reason() {
    let mut graph = Rogue(Node::clone).example(0);
    graph.opsets.insert(String::new(), 8);
    let report = fold_all(&mut graph).unwrap();
    assert!(report.applied.is_empty());
    assert!(report.refused[0].reason.contains("this graph is in 8"), "{:?}", report.refused);
}

/// 3000 nodes, more than 1000 folds.
#[test]
fn large_graphs_fold_in_seconds() {
    let mut draw = Draw(Seeded::new(1));
    let mut b = Builder::new("large");
    let mut x = b.input("x", [1, 4, 5, 5].map(Dim::Fixed).to_vec());
    for block in 0..230 {
        let mut sum: Option<String> = None;
        for i in 0..4 {
            let k = if i == 3 { 1 } else { 3 };
            let (w, norm) = (draw.tensor(&[4, 4, k, k]), draw.norm(4));
            let spec = Conv2d { pad: k / 2, ..Conv2d::default() };
            let conv = b.conv(&format!("net.{block}.conv.{i}.conv"), &x, w, None, spec);
            let bn = b.batch_norm(&format!("net.{block}.conv.{i}.bn"), &conv, norm);
            sum = Some(match sum {
                None => bn,
                Some(sum) => b.binary("Add", &format!("net.{block}.add{i}"), &sum, &bn),
            });
        }
        let norm = draw.norm(4);
        let skip = b.batch_norm(&format!("net.{block}.skip"), &x, norm);
        let y = b.binary("Add", &format!("net.{block}.add"), &sum.unwrap(), &skip);
        x = b.unary("Relu", &format!("net.{block}.relu"), &y);
    }
    b.output("y", &x, vec![Dim::Unknown; 4]);
    let mut graph = b.finish().unwrap();
    let nodes = graph.nodes.len();
    let start = Instant::now();
    let report = fold_all(&mut graph).unwrap();
    let took = start.elapsed();
    println!("{nodes} nodes, {} folds, {took:?}", report.applied.len());
    assert_eq!(graph.nodes.len(), 2 * 230);
    assert!(report.applied.len() > 1000);
    assert!(took < Duration::from_secs(20), "{took:?}");
    assert!(graph.nodes.iter().any(|n| n.name == "net.17"));
}

#[test]
fn a_block_with_its_tail_as_the_graph_output() {
    let branches = vec![Branch::Full, Branch::Point, Branch::Skip];
    let block =
        Block { seed: 1, channels: [4, 4], groups: 4, kernel: 3, stride: 1, branches, order: 1, odd: None };
    let (after, _) = folded(&block.graph());
    assert_eq!(after.nodes[0].outputs, ["y"]);
    assert_eq!(after.nodes[0].ints("pads"), Some(&[1i64, 1, 1, 1][..]));
    assert_eq!(after.nodes[0].attrs.get("group"), Some(&Attr::Int(4)));
}
