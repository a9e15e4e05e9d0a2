//! The proof fails where it must, and says where.

use std::path::PathBuf;

use tapetum_models::fuse::FuseOptions;
use tapetum_models::graph::{Builder, Constant, Conv2d, Dim, Graph};
use tapetum_models::proof::{ProofOptions, TOLERANCE, prove};
use tapetum_models::zoo::InputSize;
use tapetum_models::{fold, onnx, open, probe};
use tapetum_runtime::backend::by_name;
use tapetum_runtime::{ErrorKind, Tensor};
use tapetum_tests::goldens;

fn write(folder: &tempfile::TempDir, name: &str, graph: &Graph) -> PathBuf {
    let path = folder.path().join(name);
    onnx::write(graph, &mut std::fs::File::create(&path).unwrap()).unwrap();
    path
}

fn options(shape: &[usize]) -> ProofOptions {
    ProofOptions {
        backend: by_name("tract").unwrap(),
        seeds: vec![1, 2],
        shapes: vec![shape.to_vec()],
        tolerance: TOLERANCE,
    }
}

/// Scales the largest value of `name`.
fn spoil(graph: &mut Graph, name: &str, by: f32) {
    let tensor = graph.dense(name).unwrap();
    let mut values = tensor.f32s().unwrap().to_vec();
    let largest = (0..values.len()).max_by(|&a, &b| values[a].abs().total_cmp(&values[b].abs())).unwrap();
    values[largest] *= by;
    let spoiled = Tensor::new(tensor.shape(), values).unwrap();
    graph.constants.insert(name.into(), Constant::Dense(std::sync::Arc::new(spoiled)));
}

#[test]
fn a_wrong_weight_fails_and_the_first_layer_that_differs_is_named() {
    let case = goldens::folder().join("tfnet_w0125_no_ppm/checkpoint.safetensors");
    let size = Some(InputSize::Fixed { height: 64, width: 64 });
    let training = open::open(&case, &FuseOptions { size, ..FuseOptions::default() }).unwrap().graph;
    let mut deployed = training.clone();
    fold::fold_all(&mut deployed).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (before, good) = (write(&folder, "t.onnx", &training), write(&folder, "d.onnx", &deployed));
    let shape = [1, 3, 64, 64];
    let proven = prove(Some(&before), &good, &options(&shape), &mut |_, _| {}).unwrap();
    assert!(proven.figures.max_rel() < 1e-5);

    for layer in ["encoder.stem.1", "encoder.stage3.2", "decoder.up2.fusion.1"] {
        let mut wrong = deployed.clone();
        spoil(&mut wrong, &format!("{layer}.weight"), 1.5);
        let wrong = write(&folder, "w.onnx", &wrong);
        let error =
            prove(Some(&before), &wrong, &options(&shape), &mut |_, _| {}).err().expect("it must fail");
        assert_eq!(error.kind(), ErrorKind::ProofFailed);
        assert!(
            error.to_string().contains(&format!("first layer that differs is \"{layer}")),
            "{layer}: {error}"
        );
    }
}

#[test]
fn a_saturated_output_does_not_hide_a_difference() {
    let build = |scale: f32| {
        let mut b = Builder::new("t");
        let dims = vec![Dim::Fixed(1), Dim::Fixed(3), Dim::Fixed(8), Dim::Fixed(8)];
        let x = b.input("image", dims.clone());
        let scores = b.conv("scores", &x, Tensor::full(&[3, 3, 1, 1], scale), None, Conv2d::default());
        let y = b.unary("Sigmoid", "y", &scores);
        b.output("probabilities", &y, dims);
        b.finish().unwrap()
    };
    let (right, wrong) = (build(1000.0), build(2000.0));
    let folder = tempfile::tempdir().unwrap();
    let shape = [1, 3, 8, 8];
    let probes = probe::saturating(&right);
    assert_eq!(probes.iter().map(|v| v.name.as_str()).collect::<Vec<_>>(), ["scores"]);
    let before = write(&folder, "t.onnx", &probe::with_outputs(&right, &probes));
    let after = write(&folder, "d.onnx", &probe::with_outputs(&wrong, &probes));
    let error = prove(Some(&before), &after, &options(&shape), &mut |_, _| {}).err().expect("it must fail");
    assert!(error.to_string().contains("\"scores\""), "{error}");
}

/// Where the fold has taken the softmax away, the scores' differences are what is compared.
#[test]
fn saturated_classes_do_not_hide_a_difference_of_their_scores() {
    let build = |scale: f32| {
        let mut b = Builder::new("t");
        let mut dims = vec![Dim::Fixed(1), Dim::Fixed(3), Dim::Fixed(8), Dim::Fixed(8)];
        let x = b.input("image", dims.clone());
        let weight = Tensor::new(&[2, 3, 1, 1], [[scale; 3], [-scale; 3]].concat()).unwrap();
        let scores = b.conv("scores", &x, weight, None, Conv2d::default());
        let y = b.op("Softmax", "y", &[&scores], &[("axis", tapetum_models::graph::Attr::Int(1))]);
        dims[1] = Dim::Fixed(2);
        b.output("probabilities", &y, dims);
        b.finish().unwrap()
    };
    let training = build(1000.0);
    let (mut right, mut wrong) = (training.clone(), build(2000.0));
    fold::fold_all(&mut right).unwrap();
    fold::fold_all(&mut wrong).unwrap();
    let probes = probe::saturating(&right);
    assert_eq!(probes.iter().map(|v| v.name.as_str()).collect::<Vec<_>>(), ["scores/differences"]);
    let folder = tempfile::tempdir().unwrap();
    let before = write(&folder, "t.onnx", &probe::with_outputs(&training, &probes));
    let prove = |deployed: &Graph| {
        let after = write(&folder, "d.onnx", &probe::with_outputs(deployed, &probes));
        prove(Some(&before), &after, &options(&[1, 3, 8, 8]), &mut |_, _| {})
    };
    assert_eq!(prove(&right).unwrap().figures.outputs.len(), 2);
    let error = prove(&wrong).err().expect("it must fail");
    assert!(error.to_string().contains("\"scores/differences\""), "{error}");
}

#[test]
fn a_value_that_is_not_a_number_fails() {
    let build = |bias: f32| {
        let mut b = Builder::new("t");
        let dims = vec![Dim::Fixed(1), Dim::Fixed(3), Dim::Fixed(4), Dim::Fixed(4)];
        let x = b.input("image", dims.clone());
        let by = b.param("by", Tensor::full(&[1, 3, 1, 1], bias));
        let y = b.binary("Mul", "y", &x, &by);
        b.output("out", &y, dims);
        b.finish().unwrap()
    };
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (write(&folder, "a.onnx", &build(f32::NAN)), write(&folder, "b.onnx", &build(f32::NAN)));
    assert!(prove(Some(&a), &b, &options(&[1, 3, 4, 4]), &mut |_, _| {}).is_err());
    assert!(prove(None, &b, &options(&[1, 3, 4, 4]), &mut |_, _| {}).is_err());
}
