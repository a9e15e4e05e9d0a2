//! What the fold suites share.
#![allow(dead_code)] // each suite uses its part

use std::collections::BTreeMap;

use tapetum_models::fold::{FoldReport, fold_all};
use tapetum_models::graph::{Dim, Graph};
use tapetum_runtime::seed::Seeded;

use crate::reference::{self, Array};

/// Allowed |difference| of two forms of a network, relative to `max(1, |out|max)`: weights are rounded once.
pub const FOLDED: f64 = 5e-6;

/// A folded copy and what was done.
pub fn folded(graph: &Graph) -> (Graph, FoldReport) {
    let mut after = graph.clone();
    let report = fold_all(&mut after).unwrap_or_else(|e| panic!("{e}"));
    assert!(after.widened.is_empty());
    (after, report)
}

/// Seeded inputs for `graph`; open extents are 2.
pub fn inputs(graph: &Graph, seed: u64) -> BTreeMap<String, Array> {
    let mut rng = Seeded::new(seed ^ 0x5EED);
    let one = |v: &tapetum_models::graph::Value| {
        let shape: Vec<usize> = v.dims.iter().map(|d| Dim::fixed(d).unwrap_or(2)).collect();
        let n = shape.iter().product();
        (v.name.clone(), Array::new(&shape, rng.vec(n, -2.0, 2.0).into_iter().map(f64::from).collect()))
    };
    graph.inputs.iter().map(one).collect()
}

/// Largest difference of the outputs, relative to `max(1, |out|max)`.
pub fn error(before: &Graph, after: &Graph, seed: u64) -> f64 {
    let inputs = inputs(before, seed);
    let (want, got) = (reference::run(before, &inputs), reference::run(after, &inputs));
    assert_eq!(got.len(), want.len());
    let names = |g: &Graph| g.outputs.iter().map(|o| o.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(before), names(after));
    let one = |(g, w): (&Array, &Array)| reference::distance(g, w) / w.max_abs().max(1.0);
    got.iter().zip(&want).map(one).fold(0.0, f64::max)
}

#[track_caller]
pub fn same_function(before: &Graph, after: &Graph, seed: u64, what: &str) {
    let error = error(before, after, seed);
    assert!(error <= FOLDED, "{what}, seed {seed}: error {error:e}");
}

/// Nodes by operator.
pub fn histogram(graph: &Graph) -> BTreeMap<String, usize> {
    let mut ops = BTreeMap::new();
    for node in &graph.nodes {
        *ops.entry(node.op.clone()).or_default() += 1;
    }
    ops
}
