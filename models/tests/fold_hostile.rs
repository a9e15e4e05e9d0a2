//! Hostile graphs: folding them is an error or a refusal, never a panic, and takes no memory that the file does not.

use tapetum_models::fold::{RULES, fold_all};
use tapetum_models::graph::{Attr, Constant, Graph};
use tapetum_runtime::Tensor;

/// Every attribute and input of every example, replaced by something absurd: an error or a refusal, never a panic.
#[test]
fn absurd_attributes_and_missing_inputs_do_no_harm() {
    let absurd = [
        Attr::Int(i64::MIN),
        Attr::Int(0),
        Attr::Int(i64::MAX),
        Attr::Ints(vec![]),
        Attr::Ints(vec![-1; 9]),
        Attr::Ints(vec![i64::MAX; 2]),
        Attr::Ints(vec![i64::MAX; 4]),
        Attr::Ints(vec![i64::MIN; 4]),
        Attr::Ints(vec![0; 2]),
        Attr::Str("SAME".into()),
        Attr::Float(f32::NAN),
    ];
    let names = [
        "group",
        "pads",
        "strides",
        "dilations",
        "kernel_shape",
        "auto_pad",
        "axis",
        "perm",
        "to",
        "transB",
        "alpha",
        "epsilon",
        "spatial",
        "start",
        "end",
    ];
    let strange = [
        Tensor::vector::<f32>(vec![]),
        Tensor::scalar(f32::NAN),
        Tensor::full(&[1; 9], 1f32),
        Tensor::full(&[0, 4, 3, 3], 1f32),
        Tensor::full(&[6, 0, 3, 3], 1f32),
        Tensor::vector(vec![i64::MAX; 4]),
        Tensor::vector(vec![i64::MIN; 4]),
        Tensor::vector(vec![true; 4]),
    ];
    let try_it = |graph: &Graph| {
        let mut graph = graph.clone();
        fold_all(&mut graph).unwrap();
    };
    for graph in RULES.iter().flat_map(|r| (0..4).map(|seed| r.example(seed))) {
        for at in 0..graph.nodes.len() {
            for (name, attr) in names.iter().flat_map(|n| absurd.iter().map(move |a| (n, a))) {
                let mut g = graph.clone();
                g.nodes[at].attrs.insert((*name).into(), attr.clone());
                try_it(&g);
            }
            for keep in 0..graph.nodes[at].inputs.len() {
                let mut g = graph.clone();
                g.nodes[at].inputs.truncate(keep);
                try_it(&g);
                let mut g = graph.clone();
                g.nodes[at].inputs[keep].clear();
                try_it(&g);
            }
        }
        for (name, tensor) in graph.constants.keys().flat_map(|n| strange.iter().map(move |t| (n, t))) {
            let mut g = graph.clone();
            g.constants.insert(name.clone(), Constant::Dense(tensor.clone().into()));
            try_it(&g);
        }
    }
}
