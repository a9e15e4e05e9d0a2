//! Training-form ONNX files as exporters write them fold to one convolution per block, with nothing left over.
//!
//! What they compute is compared with PyTorch by the suites of the `tests` crate, on every engine; the folded files are
//! left in cargo's temporary folder for a look.

mod reference;
mod support;

use std::collections::BTreeMap;
use std::path::Path;

use reference::Array;
use safetensors::SafeTensors;
use support::{FOLDED, folded, histogram};
use tapetum_models::graph::Graph;
use tapetum_models::onnx;

fn golden(name: &str) -> (Graph, serde_json::Value, Vec<u8>) {
    let at = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/goldens").join(name);
    let file = |part: &str| std::fs::read(at.join(part)).unwrap_or_else(|e| panic!("{name}/{part}: {e}"));
    let graph = onnx::read(file("model.onnx").into()).unwrap();
    (graph, serde_json::from_slice(&file("case.json")).unwrap(), file("io.safetensors"))
}

fn array(io: &[u8], name: &str) -> Array {
    let tensors = SafeTensors::deserialize(io).unwrap();
    let t = tensors.tensor(name).unwrap();
    let values = t.data().as_chunks::<4>().0.iter().map(|b| f64::from(f32::from_le_bytes(*b)));
    Array::new(t.shape(), values.collect())
}

fn clean(name: &str, allowed: &[&str]) -> Graph {
    let (before, case, _) = golden(name);
    let (after, report) = folded(&before);
    let ops = histogram(&after);
    let count = |op: &str| ops.get(op).copied().unwrap_or(0) as u64;
    let expected = case["convs_and_gemms_expected_after_folding"].as_u64().unwrap();
    assert_eq!(count("Conv") + count("Gemm"), expected, "{name}: {ops:?}\n{:#?}", report.refused);
    for op in ops.keys() {
        assert!(allowed.contains(&op.as_str()), "{name}: {op} is left over: {ops:?}");
    }
    let skips = count("BatchNormalization");
    assert_eq!(skips, 0, "{name}: {:?}", report.refused);
    println!("{name}: {:?} {ops:?}", report.counts());
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.folded.onnx"));
    onnx::write(&after, &mut std::fs::File::create(path).unwrap()).unwrap();
    after
}

/// Folded and unfolded in the `f64` reference, and the folded form against PyTorch's `f32` output.
fn agrees(name: &str, after: &Graph) {
    let (before, case, io) = golden(name);
    let inputs = BTreeMap::from([(before.inputs[0].name.clone(), array(&io, "input"))]);
    let (want, got) = (reference::run(&before, &inputs), reference::run(after, &inputs));
    let scale = want[0].max_abs().max(1.0);
    let folding = reference::distance(&got[0], &want[0]) / scale;
    assert!(folding <= FOLDED, "{name}: folding error {folding:e}");
    let against_torch = reference::distance(&got[0], &array(&io, "output")) / scale;
    println!("{name}: folding {folding:.2e}, against PyTorch {against_torch:.2e}");
    assert!(against_torch <= case["rel_tol"].as_f64().unwrap(), "{name}: {against_torch:e}");
}

#[test]
fn mobileone_from_torchscript() {
    let name = "onnx_mobileone_4branch_ts";
    let after = clean(name, &["Conv", "Relu", "GlobalAveragePool", "Reshape", "Gemm"]);
    agrees(name, &after);
}

#[test]
fn mobileone_from_dynamo() {
    let name = "onnx_mobileone_4branch_dynamo";
    let after = clean(name, &["Conv", "Relu", "ReduceMean", "Reshape", "Gemm"]);
    agrees(name, &after);
    assert!(after.constants.contains_key("stage1.0.weight"), "{:?}", after.constants.keys());
}

#[test]
fn tfnet_from_dynamo() {
    let allowed = ["Conv", "Relu", "ReduceMean", "AveragePool", "Concat", "Resize", "Sigmoid"];
    let after = clean("onnx_tfnet_dynamo", &allowed);
    assert!(after.constants.contains_key("encoder.stage1.0.weight"), "{:?}", after.constants.keys());
    // The pool over single pixels is gone, the pools to 2 and 3 stay.
    assert_eq!(histogram(&after)["AveragePool"], 2);
}
