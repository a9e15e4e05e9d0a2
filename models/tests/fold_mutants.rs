//! Is the comparison sharp? Wrong folds on the same driver, each of which it must catch, and the right one, which it
//! must not.

mod blocks;
mod reference;
mod support;

use blocks::{Block, Branch};
use support::{FOLDED, error};
use tapetum_models::fold::{FoldRule, Patch, RULES, Refusal, fold_with};
use tapetum_models::graph::{Attr, Graph, Index, Node};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mistake {
    None,
    /// The identity kernel of a grouped block as if it had one group.
    GroupsIgnored,
    /// The centre of every kernel at tap 4.
    CentreFour,
    /// b' = b + β − μ
    ShiftUnscaled,
    /// b' = b · s + β
    MeanForgotten,
    /// b' = β − μ · s
    BiasForgotten,
    /// s = γ / √σ²
    EpsDropped,
    /// s = |γ| / √(σ² + ε)
    SignLost,
    /// s = γ / (σ² + ε)
    RootForgotten,
    /// A grown kernel one column beside its place.
    GrownOffByOne,
}

fn values(graph: &Graph, node: &Node, i: usize) -> Vec<f64> {
    node.input(i).and_then(|n| graph.dense_f64(n)).map(|(_, v)| v).unwrap_or_default()
}

/// `s` and what is added to `b · s`.
fn normalise(graph: &Graph, bn: &Node, b: &[f64], mistake: Mistake) -> (Vec<f64>, Vec<f64>) {
    let [gamma, beta, mean, var] = [1, 2, 3, 4].map(|i| values(graph, bn, i));
    let eps = if mistake == Mistake::EpsDropped { 0.0 } else { f64::from(bn.float("epsilon", 1e-5)) };
    let scale = |c: usize| match mistake {
        Mistake::SignLost => gamma[c].abs() / (var[c] + eps).sqrt(),
        Mistake::RootForgotten => gamma[c] / (var[c] + eps),
        _ => gamma[c] / (var[c] + eps).sqrt(),
    };
    let s: Vec<f64> = (0..gamma.len()).map(scale).collect();
    let bias = (0..gamma.len()).map(|c| match mistake {
        Mistake::ShiftUnscaled => b[c] + beta[c] - mean[c],
        Mistake::MeanForgotten => b[c] * s[c] + beta[c],
        Mistake::BiasForgotten => beta[c] - mean[c] * s[c],
        _ => (b[c] - mean[c]) * s[c] + beta[c],
    });
    (s.clone(), bias.collect())
}

/// `conv_then_bn` and `bn_as_conv` in one, for blocks of one kernel size with step 1.
struct Normalise(Mistake, usize);

impl FoldRule for Normalise {
    fn name(&self) -> &'static str {
        "normalise"
    }
    fn equation(&self) -> &'static str {
        "as conv_then_bn and bn_as_conv"
    }
    fn example(&self, _: u64) -> Graph {
        Graph::default()
    }
    fn check(&self, index: &Index<'_>, at: usize) -> Result<Option<Patch>, Refusal> {
        let graph = index.graph();
        let bn = &graph.nodes[at];
        if !bn.is("BatchNormalization") {
            return Ok(None);
        }
        let x = bn.input(0).unwrap();
        if let Some((conv_at, conv)) = index.producer(x).filter(|(_, n)| n.is("Conv")) {
            let (shape, mut w) = graph.dense_f64(conv.input(1).unwrap()).unwrap();
            let b = if conv.input(2).is_some() { values(graph, conv, 2) } else { vec![0.0; shape[0]] };
            let (s, b) = normalise(graph, bn, &b, self.0);
            w.chunks_mut(shape[1..].iter().product())
                .zip(&s)
                .for_each(|(w, s)| w.iter_mut().for_each(|w| *w *= s));
            let mut patch = Patch::removing([conv_at, at]);
            let w = patch.widened("w", &shape, w)?;
            let b = patch.widened("b", &[shape[0]], b)?;
            let mut node = conv.clone();
            node.inputs = vec![conv.inputs[0].clone(), w, b];
            node.outputs.clone_from(&bn.outputs);
            return Ok(Some(patch.with_node(node)));
        }
        let (c, groups) =
            (values(graph, bn, 1).len(), if self.0 == Mistake::GroupsIgnored { 1 } else { self.1 });
        let k = graph
            .nodes
            .iter()
            .find_map(|n| Some(n.ints("kernel_shape")?[0] as usize).filter(|&k| k > 1))
            .unwrap();
        let centre = if self.0 == Mistake::CentreFour { 4 } else { k * k / 2 };
        let (s, b) = normalise(graph, bn, &vec![0.0; c], self.0);
        let per_group = c / self.1;
        let mut w = vec![0.0; c * per_group * k * k];
        for (o, s) in s.iter().enumerate() {
            let within = (o % (c / groups)).min(per_group - 1);
            w[(o * per_group + within) * k * k + centre] = *s;
        }
        let mut patch = Patch::removing([at]);
        let w = patch.widened("w", &[c, per_group, k, k], w)?;
        let b = patch.widened("b", &[c], b)?;
        let pads = Attr::Ints(vec![k as i64 / 2; 4]);
        let node = Node::new("Conv", "skip", &[x, &w, &b], &[bn.output()]);
        let node = node.with("pads", pads).with("group", Attr::Int(self.1 as i64));
        Ok(Some(patch.with_node(node.with("kernel_shape", Attr::Ints(vec![k as i64; 2])))))
    }
}

/// `grow_kernel` for 1×1 beside k×k.
struct Grow(Mistake);

impl FoldRule for Grow {
    fn name(&self) -> &'static str {
        "grow"
    }
    fn equation(&self) -> &'static str {
        "as grow_kernel"
    }
    fn example(&self, _: u64) -> Graph {
        Graph::default()
    }
    fn check(&self, index: &Index<'_>, at: usize) -> Result<Option<Patch>, Refusal> {
        let graph = index.graph();
        let conv = &graph.nodes[at];
        let largest = graph.nodes.iter().filter_map(|n| n.ints("kernel_shape")).map(|k| k[0]).max();
        let Some(k) = largest.filter(|&k| conv.ints("kernel_shape") == Some(&[1, 1]) && k > 1) else {
            return Ok(None);
        };
        let (mut shape, small) = graph.dense_f64(conv.input(1).unwrap()).unwrap();
        let k = k as usize;
        let place = match self.0 {
            Mistake::GrownOffByOne => k * k / 2 + 1,
            Mistake::CentreFour => 4,
            _ => k * k / 2,
        };
        let mut grown = vec![0.0; small.len() * k * k];
        small.iter().enumerate().for_each(|(i, w)| grown[i * k * k + place] = *w);
        (shape[2], shape[3]) = (k, k);
        let mut patch = Patch::removing([at]);
        let mut node = conv.clone();
        node.inputs[1] = patch.widened("w", &shape, grown)?;
        node.attrs.insert("kernel_shape".into(), Attr::Ints(vec![k as i64; 2]));
        node.attrs.insert("pads".into(), Attr::Ints(vec![k as i64 / 2; 4]));
        Ok(Some(patch.with_node(node)))
    }
}

fn block(kernel: usize, groups: usize) -> Graph {
    let branches = vec![Branch::Full, Branch::Full, Branch::Full, Branch::Point, Branch::Skip];
    Block { seed: 11, channels: [6, 6], groups, kernel, stride: 1, branches, order: 0, odd: None }.graph()
}

/// The error of folding `block` with this mistake.
fn error_with(before: &Graph, groups: usize, mistake: Mistake) -> f64 {
    let (normalise, grow) = (Normalise(mistake, groups), Grow(mistake));
    let sum = *RULES.iter().find(|r| r.name() == "sum_parallel").unwrap();
    let mut after = before.clone();
    fold_with(&mut after, &[&normalise, &grow, sum]).unwrap();
    assert_eq!(after.nodes.len(), 1, "{mistake:?} folds as far as the right rules do");
    error(before, &after, 3)
}

#[test]
fn the_right_fold_passes_and_every_wrong_one_is_caught() {
    for (kernel, groups) in [(3, 1), (3, 2), (5, 3), (5, 6)] {
        let before = block(kernel, groups);
        let right = error_with(&before, groups, Mistake::None);
        assert!(right <= FOLDED, "kernel {kernel}, groups {groups}: {right:e}");
    }
    let mistakes = [
        (Mistake::GroupsIgnored, 3, 2),
        (Mistake::CentreFour, 5, 1),
        (Mistake::ShiftUnscaled, 3, 1),
        (Mistake::MeanForgotten, 3, 1),
        (Mistake::BiasForgotten, 3, 1),
        (Mistake::EpsDropped, 3, 2),
        (Mistake::SignLost, 3, 1),
        (Mistake::RootForgotten, 3, 1),
        (Mistake::GrownOffByOne, 3, 1),
    ];
    for (mistake, kernel, groups) in mistakes {
        let wrong = error_with(&block(kernel, groups), groups, mistake);
        println!("{mistake:?}: {wrong:.1e}");
        assert!(wrong > 20.0 * FOLDED, "{mistake:?} is not caught: {wrong:e}");
    }
}
