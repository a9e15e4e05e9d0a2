//! int8 and fp16 from file to file, on every engine of this build that runs here.

use std::path::{Path, PathBuf};

use tapetum_models::fuse::{FuseOptions, fuse};
use tapetum_models::graph::{Builder, Conv2d, Dim};
use tapetum_models::onnx;
use tapetum_models::quantize::{QuantizeOptions, Quantized, Range, convert_fp16, quantize};
use tapetum_runtime::backend::{BACKENDS, LoadOptions, ModelSource, Precision, Session};
use tapetum_runtime::contract::{Contract, golden};
use tapetum_runtime::quality::Agreement;
use tapetum_runtime::{ErrorKind, Result, Tensor};

/// A fused model of the goldens, in a folder of its own.
fn fused(case: &str, folder: &Path) -> PathBuf {
    let checkpoint = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/goldens").join(case);
    let file = ["checkpoint.pth", "checkpoint.safetensors"].map(|f| checkpoint.join(f));
    let model = folder.join("fp32.onnx");
    let input = file.iter().find(|f| f.exists()).expect("a golden checkpoint");
    fuse(input, &model, &FuseOptions::default(), &mut |_| {}).unwrap();
    model
}

fn contract(model: &Path) -> Contract {
    let mut file = std::io::BufReader::new(std::fs::File::open(model).unwrap());
    Contract::from_onnx(&mut file).unwrap().unwrap()
}

fn samples(count: u64, shape: &[usize]) -> Vec<Vec<Tensor>> {
    (0..count).map(|seed| vec![golden::input(100 + seed, shape)]).collect()
}

/// The engines that run here.
fn engines() -> Vec<&'static dyn tapetum_runtime::backend::Backend> {
    let there = |b: &&'static dyn tapetum_runtime::backend::Backend| {
        tapetum_parts::there(b.name(), b.find().and_then(|_| b.probe())).is_some()
    };
    BACKENDS.iter().copied().filter(there).collect()
}

fn run(session: &mut dyn Session, samples: &[Vec<Tensor>]) -> Vec<Vec<Tensor>> {
    samples.iter().map(|s| session.run(s).unwrap()).collect()
}

/// Both models on every engine: the golden record holds, and the outputs agree by the metric of the task.
/// `cannot`: an engine that fails, and what it says; it must.
fn agree_everywhere(
    fp32: &Path,
    small: &Path,
    samples: &[Vec<Tensor>],
    least: f64,
    cannot: Option<(&str, &str)>,
) {
    let contract = contract(small);
    for engine in engines() {
        let options = LoadOptions { min_share: Some(0.0), ..LoadOptions::default() };
        let load = |model: &Path| engine.load(ModelSource::Path(model), &options).unwrap();
        let (mut reference, mut session) = (load(fp32), load(small));
        let golden = contract.golden.as_ref().unwrap();
        let checked = golden.check(&mut *session);
        if let Some((_, says)) = cannot.filter(|(name, _)| *name == engine.name()) {
            let e = checked.expect_err("written down as not able to");
            assert!(e.to_string().contains(says), "{e}");
            continue;
        }
        checked.unwrap_or_else(|e| panic!("{}: {e}", engine.name()));
        let (want, got) = (run(&mut *reference, samples), run(&mut *session, samples));
        let mut agreement = Agreement::new(&contract.outputs[0]);
        want.iter().zip(&got).for_each(|(w, g)| agreement.add(&w[0], &g[0]).unwrap());
        let figure = agreement.figure().unwrap();
        println!("{}: {figure}", engine.name());
        assert!(figure.value >= least, "{}: {figure}", engine.name());
    }
}

fn nothing_written(result: Result<Quantized>, output: &Path, kind: ErrorKind, says: &str) {
    let e = result.expect_err("an error");
    assert_eq!(e.kind(), kind, "{e}");
    assert!(e.to_string().contains(says), "{e}");
    assert!(!output.exists());
}

#[test]
fn a_network_in_int8_agrees_on_every_engine() {
    let folder = tempfile::tempdir().unwrap();
    let (fp32, int8) = (fused("osnet_x0_25", folder.path()), folder.path().join("int8.onnx"));
    let samples = samples(8, &[1, 3, 256, 128]);
    let done = quantize(&fp32, &int8, &samples, &QuantizeOptions::default(), &mut |_| {}).unwrap();
    assert!(done.figures[0].passes() && done.figures[0].samples == 4, "{:?}", done.figures);
    assert!(done.bytes < done.bytes_before);
    let quantized: Vec<_> = done.layers.iter().filter(|l| l.kept.is_none()).collect();
    let graph = onnx::read(std::fs::read(&int8).unwrap().into()).unwrap();
    let levels = |name: &str| graph.dense(name).is_some_and(|t| t.view::<i8>().is_ok());
    let stored = graph.nodes.iter().filter(|n| n.is("DequantizeLinear") && levels(&n.inputs[0]));
    assert_eq!(stored.count(), quantized.len());
    let record = contract(&int8).quantization.unwrap();
    assert_eq!((record.precision, record.calibrated, record.judged), (Precision::Int8, 4, 4));
    assert!((record.figures[0].value - done.figures[0].value).abs() < 1e-9);
    agree_everywhere(&fp32, &int8, &samples[..2], 0.98, None);

    // Once is enough, and the model that went in is still the one in fp32.
    let again = quantize(&int8, &folder.path().join("x"), &samples, &QuantizeOptions::default(), &mut |_| {});
    nothing_written(again, &folder.path().join("x"), ErrorKind::Unsupported, "quantized already");
    assert!(contract(&fp32).quantization.is_none());
}

#[test]
fn what_is_told_to_stay_stays_and_every_range_rule_gives_a_model() {
    let folder = tempfile::tempdir().unwrap();
    let (fp32, int8) = (fused("deanet_deploy_dim8", folder.path()), folder.path().join("int8.onnx"));
    let samples = samples(4, &[1, 3, 32, 48]);
    for range in [Range::MinMax, Range::Percentile(0.9999), Range::Entropy] {
        let plain = onnx::read(std::fs::read(&fp32).unwrap().into()).unwrap();
        let stays = plain.nodes.iter().filter(|n| n.is("Conv") && n.name.contains("down2"));
        let keep: Vec<String> = stays.map(|n| n.name.clone()).collect();
        assert!(!keep.is_empty());
        // Hostile random weights: what is held here is that it works, not how well.
        let options =
            QuantizeOptions { range, keep: keep.clone(), gate: Some(5.0), ..QuantizeOptions::default() };
        let done = quantize(&fp32, &int8, &samples, &options, &mut |_| {}).unwrap();
        for name in &keep {
            let layer = done.layers.iter().find(|l| l.name == *name).unwrap();
            assert_eq!(layer.kept.as_deref(), Some("told to"));
        }
        let graph = onnx::read(std::fs::read(&int8).unwrap().into()).unwrap();
        let kept = graph.nodes.iter().filter(|n| keep.contains(&n.name));
        assert!(kept.into_iter().all(|n| graph.dense(&n.inputs[1]).is_some()), "{range:?}");
    }
}

#[test]
fn what_does_not_pass_is_refused_with_the_figure() {
    let folder = tempfile::tempdir().unwrap();
    let (fp32, out) = (fused("mobileone_tiny_4branch", folder.path()), folder.path().join("int8.onnx"));
    let all = samples(4, &contract(&fp32).golden.unwrap().input_shape);
    let with = |gate, keep: &[&str], samples: &[Vec<Tensor>]| {
        let keep = keep.iter().map(|k| (*k).to_owned()).collect();
        let options = QuantizeOptions { gate, keep, equalise: false, ..QuantizeOptions::default() };
        quantize(&fp32, &out, samples, &options, &mut |_| {})
    };
    // No share is 2.
    nothing_written(with(Some(2.0), &[], &all), &out, ErrorKind::ProofFailed, "(gate 2)");
    nothing_written(with(None, &[], &all[..1]), &out, ErrorKind::InvalidConfig, "at least 2 are needed");
    nothing_written(with(None, &["linaer"], &all), &out, ErrorKind::InvalidConfig, "did you mean");
}

#[test]
fn half_floats_agree_where_sums_are_wide() {
    if !engines().iter().any(|engine| engine.name() == "ort") {
        return; // said by `engines`
    }
    let folder = tempfile::tempdir().unwrap();
    let (fp32, half) = (fused("osnet_x0_25", folder.path()), folder.path().join("fp16.onnx"));
    let samples = samples(4, &[1, 3, 256, 128]);
    let done = convert_fp16(&fp32, &half, &samples, &QuantizeOptions::default(), &mut |_| {}).unwrap();
    assert!(done.bytes < done.bytes_before * 6 / 10, "{} → {}", done.bytes_before, done.bytes);
    let graph = onnx::read(std::fs::read(&half).unwrap().into()).unwrap();
    let io = graph.inputs.iter().chain(&graph.outputs);
    assert!(io.into_iter().all(|v| v.dtype == tapetum_runtime::DType::F32));
    // tract sums in half floats, and these weights overflow them.
    agree_everywhere(&fp32, &half, &samples[..2], 0.9999, Some(("tract", "NaN")));
}

/// A model of one convolution with weights of `weight`, a picture in and a picture out.
fn one_layer(weight: f32, folder: &Path) -> PathBuf {
    let plain = folder.join("plain.onnx");
    let mut b = Builder::new("t");
    let x = b.input("image", vec![Dim::symbol("batch"), Dim::Fixed(3), Dim::Fixed(8), Dim::Fixed(8)]);
    let y = b.conv("c", &x, Tensor::full(&[3, 3, 1, 1], weight), None, Conv2d::default());
    b.output("y", &y, vec![Dim::symbol("batch"), Dim::Fixed(3), Dim::Fixed(8), Dim::Fixed(8)]);
    let mut bytes = Vec::new();
    onnx::write(&b.finish().unwrap(), &mut bytes).unwrap();
    std::fs::write(&plain, bytes).unwrap();
    let toml = "[output.y.kind.image]\nrange = [0, 1]\nclamp = true\ncrop = false\n";
    let contract = tapetum_runtime::contract::ContractOverride::from_toml(toml, "y.toml").unwrap();
    let with = FuseOptions { contract: Some(contract), ..FuseOptions::default() };
    let model = folder.join("model.onnx");
    fuse(&plain, &model, &with, &mut |_| {}).unwrap();
    model
}

#[test]
fn a_single_layer_is_quantized() {
    let folder = tempfile::tempdir().unwrap();
    let (model, int8) = (one_layer(0.25, folder.path()), folder.path().join("int8.onnx"));
    let all = samples(4, &[1, 3, 8, 8]);
    let done = quantize(&model, &int8, &all, &QuantizeOptions::default(), &mut |_| {}).unwrap();
    assert!(done.layers.len() == 1 && done.layers[0].kept.is_none(), "{:?}", done.layers);
    agree_everywhere(&model, &int8, &all[1..2], 40.0, None);
}

#[test]
fn weights_beyond_half_floats_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (model, out) = (one_layer(1e5, folder.path()), folder.path().join("fp16.onnx"));
    let all = samples(2, &[1, 3, 8, 8]);
    let got = convert_fp16(&model, &out, &all, &QuantizeOptions::default(), &mut |_| {});
    nothing_written(got, &out, ErrorKind::Unsupported, "c.weight");
}
