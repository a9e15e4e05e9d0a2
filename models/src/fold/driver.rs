//! Applies rules until none applies, keeps the account, and makes sure that it ends.

use std::collections::BTreeMap;

use tapetum_runtime::{Error, Result};

use super::patch::{self, Patch};
use super::{FoldRule, RULES};
use crate::graph::{Graph, Node};

/// The oldest operator set that the rules know (since 7 broadcasting is NumPy's, since 9 BatchNormalization has its
/// present form).
const OLDEST_OPSET: i64 = 9;

/// One use of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// [`FoldRule::name`].
    pub rule: &'static str,
    /// The node at which the pattern ended.
    pub node: String,
}

/// One pattern that stays as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// [`FoldRule::name`].
    pub rule: &'static str,
    /// The node at which the pattern ends.
    pub node: String,
    /// Why, in one line.
    pub reason: String,
}

/// What [`fold_all`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoldReport {
    /// Every fold, in order.
    pub applied: Vec<Applied>,
    /// What the rules refused in the graph as it ended.
    pub refused: Vec<Refused>,
}

impl FoldReport {
    /// How often each rule was applied.
    pub fn counts(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for applied in &self.applied {
            *counts.entry(applied.rule).or_default() += 1;
        }
        counts
    }
}

/// Applies [`RULES`] to `graph` until none applies.
///
/// # Errors
/// [`tapetum_runtime::ErrorKind::Internal`], naming the rule, if a rule breaks an invariant of the graph or does not
/// lower the measure of [`FoldRule`].
pub fn fold_all(graph: &mut Graph) -> Result<FoldReport> {
    fold_with(graph, RULES)
}

/// Applies `rules`, in this order, to `graph` until none applies.
///
/// # Errors
/// As [`fold_all`].
pub fn fold_with(graph: &mut Graph, rules: &[&dyn FoldRule]) -> Result<FoldReport> {
    let mut report = FoldReport::default();
    if graph.opset() < OLDEST_OPSET {
        let reason =
            format!("the rules know operator sets from {OLDEST_OPSET}; this graph is in {}", graph.opset());
        report.refused.push(Refused { rule: "opset", node: graph.name.clone(), reason });
        return Ok(report);
    }
    graph.remove_dead();
    loop {
        let before = report.applied.len();
        report.refused.clear();
        for &rule in rules {
            while pass(graph, rule, &mut report)? {}
        }
        // A round without a fold has asked every rule about the graph as it is now, so its refusals stand.
        if report.applied.len() == before {
            break;
        }
    }
    graph.round_widened();
    graph.check()?;
    Ok(report)
}

/// Asks `rule` about every node, carries out what does not overlap, and says whether it has to be asked again.
///
/// One index serves a whole pass: a fold never changes what a surviving value means, and two patches that remove
/// different nodes do not see each other.
fn pass(graph: &mut Graph, rule: &dyn FoldRule, report: &mut FoldReport) -> Result<bool> {
    let index = graph.index();
    let mut touched = vec![false; graph.nodes.len()];
    let (mut patches, mut refused) = (Vec::new(), Vec::new());
    for at in 0..graph.nodes.len() {
        let node = &graph.nodes[at].name;
        let patch = match rule.check(&index, at) {
            Ok(None) => continue,
            Err(reason) => {
                refused.push(Refused { rule: rule.name(), node: node.clone(), reason: reason.to_string() });
                continue;
            }
            Ok(Some(patch)) => patch,
        };
        // Where a graph output takes over another value's name, that value's producer is changed too.
        let taken_over = patch.replace.iter().filter(|(from, _)| graph.is_output(from));
        let producers = taken_over.filter_map(|(_, to)| index.producer(to)).map(|(at, _)| at);
        let touches: Vec<usize> = patch.remove.iter().copied().chain(producers).collect();
        if touches.iter().any(|&at| touched.get(at).copied().unwrap_or(true)) {
            continue;
        }
        if measure(graph, &patch, patch.insert.iter())
            >= measure(graph, &patch, patch.remove.iter().map(|&at| &graph.nodes[at]))
        {
            return Err(Error::internal(format!(
                "fold rule {} did not shrink the graph at node {node:?}",
                rule.name()
            )));
        }
        touches.into_iter().for_each(|at| touched[at] = true);
        report.applied.push(Applied { rule: rule.name(), node: node.clone() });
        patches.push(patch);
    }
    if patches.is_empty() {
        report.refused.append(&mut refused);
        return Ok(false);
    }
    let last = report.applied.last().map(|a| a.node.clone()).unwrap_or_default();
    patch::apply(graph, patches);
    graph.remove_dead();
    graph
        .check()
        .map_err(|e| Error::internal(format!("after fold rule {} at {last:?}: {e}", rule.name())))?;
    Ok(true)
}

/// Number of Reshapes, of nodes, of Softmaxes, of BatchNormalizations, of AveragePools, and the negated sum of kernel areas.
fn measure<'a>(
    graph: &'a Graph,
    patch: &'a Patch,
    nodes: impl Iterator<Item = &'a Node>,
) -> (usize, usize, usize, usize, usize, i128) {
    let mut sum = (0, 0, 0, 0, 0, 0);
    for node in nodes {
        sum.0 += usize::from(node.is("Reshape"));
        sum.1 += 1;
        sum.2 += usize::from(node.is("Softmax"));
        sum.3 += usize::from(node.is("BatchNormalization"));
        sum.4 += usize::from(node.is("AveragePool"));
        if node.is("Conv") {
            let shape = node.input(1).and_then(|w| patch.constant_shape(graph, w)).unwrap_or(&[]);
            sum.5 -= shape.iter().skip(2).map(|&k| k as i128).product::<i128>();
        }
    }
    sum
}
