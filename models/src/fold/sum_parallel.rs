//! Parallel branches over one input add up to one branch.

use std::collections::BTreeMap;

use super::addtree::Sum;
use super::example::Example;
use super::names::Names;
use super::view::{Conv, Linear, Pads};
use super::{FoldRule, Patch, Refusal};
use crate::graph::{Attr, Conv2d, Graph, Index, Node};

/// Convolutions of the same input and geometry in one sum become one convolution; products of the same input with
/// constant matrices become one product.
///
/// ```text
/// W' = Σ Wᵢ    [C_out, C_in / groups, k...], ConvTranspose [C_in, C_out / groups, k...], or [K, N]
/// b' = Σ bᵢ    [C_out], or [N]
/// ```
///
/// Which Adds join them plays no part: a sum may be written in any order and with other addends in between, as long
/// as nobody reads its partial results.
///
/// Not touched: convolutions that differ in input, weight shape, groups, strides, dilations or pads, and those that
/// anything else reads.
///
/// Source: Ding et al., *RepVGG*, arXiv:2101.03697; Vasu et al., *MobileOne*, arXiv:2206.04040.
pub(super) struct SumParallel;

impl FoldRule for SumParallel {
    fn name(&self) -> &'static str {
        "sum_parallel"
    }

    fn equation(&self) -> &'static str {
        "Σ (Wᵢ*x + bᵢ) = (Σ Wᵢ)*x + Σ bᵢ"
    }

    fn check(&self, graph: &Index<'_>, at: usize) -> Result<Option<Patch>, Refusal> {
        let Some(sum) = Sum::ending_at(graph, at) else { return Ok(None) };
        let mut groups: BTreeMap<Kind<'_>, Vec<Branch<'_>>> = BTreeMap::new();
        for leaf in &sum.leaves {
            if let Some((kind, branch)) = Branch::of(graph, leaf) {
                groups.entry(kind).or_default().push(branch);
            }
        }
        groups.retain(|_, branches| branches.len() > 1);
        if groups.is_empty() {
            return Ok(None);
        }
        let mut patch = Patch::removing(sum.adds.clone());
        let branches = || groups.values().flatten();
        patch.remove.extend(branches().map(Branch::at));
        let merged: Vec<&str> = groups.values().filter_map(|g| Some(g.first()?.value())).collect();
        let addends: Vec<&str> = sum
            .leaves
            .iter()
            .copied()
            .filter(|leaf| merged.contains(leaf) || !branches().any(|b| b.value() == *leaf))
            .collect();
        let output = sum.root.output();
        let alone = addends.len() == 1;
        for group in groups.values() {
            let to = if alone { output } else { group.first().map_or("", Branch::value) };
            let node = merge(group, to, &mut patch)?;
            patch = patch.with_node(node);
        }
        Ok(Some(add_up(graph, patch, &sum, &addends)))
    }

    fn example(&self, seed: u64) -> Graph {
        let mut e = Example::new("sum_parallel", seed);
        let (groups, k, stride) = (e.pick(&[1, 2]), e.pick(&[1, 3]), e.pick(&[1, 2]));
        let x = e.image(4);
        let spec = Conv2d { stride, pad: k / 2, groups };
        let branches: Vec<String> = (0..3)
            .map(|i| {
                let (weight, bias) = (e.tensor(&[6, 4 / groups, k, k]), e.tensor(&[6]));
                e.b.conv(&format!("block.conv.{i}"), &x, weight, (i > 0).then_some(bias), spec)
            })
            .collect();
        let right = e.b.binary("Add", "block.right", &branches[1], &branches[2]);
        let y = e.b.binary("Add", "block.sum", &branches[0], &right);
        e.finish(&y, 4)
    }
}

/// What summands must agree in.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Kind<'g> {
    Conv {
        input: &'g str,
        shape: &'g [usize],
        groups: usize,
        strides: Vec<usize>,
        dilations: Vec<usize>,
        pads: Result<Pads, &'g str>,
        /// A ConvTranspose's `output_padding` and `output_shape`.
        transposed: Option<[Option<&'g [i64]>; 2]>,
    },
    Linear {
        input: &'g str,
        gemm: bool,
        trans_a: bool,
        k: usize,
        n: usize,
    },
}

enum Branch<'g> {
    Conv(Conv<'g>),
    Linear(Linear<'g>),
}

impl<'g> Branch<'g> {
    fn of(index: &Index<'g>, value: &str) -> Option<(Kind<'g>, Self)> {
        if let Some(linear) = Linear::only_for(index, value) {
            let input = linear.node.input(0)?;
            let trans_a = linear.gemm && linear.node.int("transA", 0) != 0;
            let kind = Kind::Linear { input, gemm: linear.gemm, trans_a, k: linear.k, n: linear.n };
            return Some((kind, Self::Linear(linear)));
        }
        let conv = Conv::only_for(index, value)?;
        let kind = Kind::Conv {
            input: conv.input(),
            shape: conv.shape,
            groups: conv.groups,
            strides: conv.strides.clone(),
            dilations: conv.dilations.clone(),
            pads: conv.pads.clone().ok_or_else(|| conv.node.str("auto_pad").unwrap_or_default()),
            transposed: conv
                .transposed
                .then(|| [conv.node.ints("output_padding"), conv.node.ints("output_shape")]),
        };
        Some((kind, Self::Conv(conv)))
    }

    fn at(&self) -> usize {
        match self {
            Self::Conv(c) => c.at,
            Self::Linear(l) => l.at,
        }
    }

    fn node(&self) -> &'g Node {
        match self {
            Self::Conv(c) => c.node,
            Self::Linear(l) => l.node,
        }
    }

    fn value(&self) -> &'g str {
        self.node().output()
    }

    /// `[K, N]` for products, whatever their `transB`.
    fn weight(&self) -> Vec<f64> {
        match self {
            Self::Conv(c) => c.weight(),
            Self::Linear(l) if l.trans_b => {
                let stored = l.weight();
                (0..l.k * l.n).map(|i| stored[i % l.n * l.k + i / l.n]).collect()
            }
            Self::Linear(l) => l.weight(),
        }
    }

    fn bias(&self) -> Vec<f64> {
        match self {
            Self::Conv(c) => c.bias(),
            Self::Linear(l) => l.bias(),
        }
    }
}

fn merge(branches: &[Branch<'_>], output: &str, patch: &mut Patch) -> Result<Node, Refusal> {
    let Some((first, rest)) = branches.split_first() else { return Err(Refusal::new("an empty sum")) };
    let (mut weight, mut bias) = (first.weight(), first.bias());
    for branch in rest {
        weight.iter_mut().zip(branch.weight()).for_each(|(sum, w)| *sum += w);
        bias.iter_mut().zip(branch.bias()).for_each(|(sum, b)| *sum += b);
    }
    let nodes: Vec<&Node> = branches.iter().map(Branch::node).collect();
    let names = Names::parallel(&nodes);
    let biased = nodes.iter().any(|n| n.input(2).is_some());
    let shape = match first {
        Branch::Conv(c) => c.shape.to_vec(),
        Branch::Linear(l) => vec![l.k, l.n],
    };
    let weight = patch.widened(&names.weight(), &shape, weight)?;
    if !biased {
        let mut node = first.node().clone();
        node.name.clone_from(&names.node);
        node.inputs.truncate(1);
        node.inputs.push(weight);
        node.outputs = vec![output.into()];
        if let Branch::Linear(l) = first
            && l.gemm
        {
            node.attrs.insert("transB".into(), Attr::Int(0));
            node.attrs.insert("alpha".into(), Attr::Float(1.0));
        }
        return Ok(node);
    }
    let bias = patch.widened(&names.bias(), &[bias.len()], bias)?;
    Ok(match first {
        Branch::Conv(c) => c.rebuilt(&names.node, &weight, &bias, output),
        Branch::Linear(l) => l.as_gemm(&names.node, &weight, &bias, output).with("transB", Attr::Int(0)),
    })
}

/// Adds up what is left, the last Add writing the sum's own value.
fn add_up(graph: &Index<'_>, mut patch: Patch, sum: &Sum<'_>, addends: &[&str]) -> Patch {
    let Some((&first, rest)) = addends.split_first() else { return patch };
    let output = sum.root.output();
    let taken = |v: &str| {
        graph.producer(v).is_some()
            || graph.graph().constants.contains_key(v)
            || graph.graph().inputs.iter().any(|i| i.name == v)
    };
    let mut partial = first.to_owned();
    let mut n = 0;
    for (i, addend) in rest.iter().enumerate() {
        let (to, name) = if i + 1 == rest.len() {
            (output.to_owned(), sum.root.name.clone())
        } else {
            let mut fresh = format!("{output}.part{n}");
            while taken(&fresh) {
                n += 1;
                fresh = format!("{output}.part{n}");
            }
            n += 1;
            (fresh.clone(), fresh)
        };
        patch = patch.with_node(Node::new("Add", &name, &[&partial, addend], &[&to]));
        partial = to;
    }
    patch
}
