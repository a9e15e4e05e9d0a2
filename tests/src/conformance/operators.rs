//! Which operators our graphs use.

use std::collections::BTreeSet;

use tapetum_models::{fold, fuse::FuseOptions, open};

use crate::goldens;

/// Every operator in the goldens' graphs, in training form (proofs run it) and in deployment form.
///
/// # Panics
/// If a golden cannot be opened or folded.
pub fn of_the_goldens() -> BTreeSet<String> {
    let mut operators = BTreeSet::new();
    for case in goldens::all() {
        let opened = open::open(&case.file, &FuseOptions::default());
        let mut graph = opened.unwrap_or_else(|e| panic!("{}: {e}", case.name)).graph;
        operators.extend(graph.nodes.iter().map(|n| n.op.clone()));
        fold::fold_all(&mut graph).unwrap_or_else(|e| panic!("{}: {e}", case.name));
        operators.extend(graph.nodes.iter().map(|n| n.op.clone()));
    }
    operators
}
