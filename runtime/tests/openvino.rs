//! What is OpenVINO's own: precision, placement, and where it differs. Runs where ONNX Runtime with OpenVINO is loaded
//! (`TAPETUM_ORT`, or the user's cache); says so where it is not.

mod common;

use common::{
    engines, golden,
    onnx::{F32, I64, Onnx},
    tensor,
};
use tapetum_runtime::{
    ErrorKind, Tensor,
    backend::{self, Backend, EngineOptions, LoadOptions, ModelSource, Precision, Profile},
};

/// OpenVINO, if this process has it; else that is said, by [`engines`].
fn openvino() -> Option<&'static dyn Backend> {
    // Asked for first, so that the library is chosen for it.
    let wanted = backend::by_name("ort:openvino").unwrap();
    let _ = wanted.probe();
    engines().into_iter().find(|e| e.name() == wanted.name())
}

fn with(change: impl FnOnce(&mut EngineOptions)) -> LoadOptions {
    let mut options = LoadOptions { threads: Some(2), ..LoadOptions::default() };
    change(&mut options.engines);
    options
}

#[test]
fn computes_fp32_unless_told_and_bf16_where_told() {
    let Some(engine) = openvino() else { return };
    let folder = golden("onnx_mobileone_4branch_ts");
    let input = tensor(&folder.join("io.safetensors"), "input");
    let model = folder.join("model.onnx");
    let run = |options: &LoadOptions| -> tapetum_runtime::Result<(Precision, Tensor)> {
        let mut session = engine.load(ModelSource::Path(&model), options)?;
        Ok((session.precision(), session.run(std::slice::from_ref(&input))?.remove(0)))
    };
    let worst = |got: &Tensor| {
        let want = tensor(&folder.join("io.safetensors"), "output");
        let (got, want) = (got.f32s().unwrap(), want.f32s().unwrap());
        let scale = want.iter().fold(1f32, |m, w| m.max(w.abs()));
        got.iter().zip(want).map(|(g, w)| (g - w).abs()).fold(0f32, f32::max) / scale
    };
    let (precision, exact) = run(&with(|_| {})).unwrap();
    assert_eq!(precision, Precision::Fp32);
    assert!(worst(&exact) < 5e-5, "{}", worst(&exact));
    match run(&with(|o| o.openvino.precision = Precision::Bf16)) {
        Ok((precision, rounded)) => {
            assert_eq!(precision, Precision::Bf16);
            // It was bf16 that ran: far from fp32, and not farther than its rounding explains.
            assert!((1e-4..Precision::Bf16.tolerance()).contains(&worst(&rounded)), "{}", worst(&rounded));
        }
        // A processor without bf16: refused, not run in fp32 and called bf16.
        Err(e) => assert_eq!(e.kind(), ErrorKind::Unsupported, "{e}"),
    }
}

#[test]
fn every_node_is_counted_and_those_left_to_the_cpu_are_an_error() {
    let Some(engine) = openvino() else { return };
    let whole = golden("onnx_mobileone_4branch_ts").join("model.onnx");
    let session = engine.load(ModelSource::Path(&whole), &LoadOptions::default()).unwrap();
    // One fused node for OpenVINO, 125 of the model.
    assert_eq!(session.placement(), [("openvino".to_owned(), 125)]);

    let divided = golden("onnx_mobileone_4branch_dynamo").join("model.onnx");
    let load = |min_share| {
        let options = LoadOptions { min_share, ..LoadOptions::default() };
        engine.load(ModelSource::Path(&divided), &options)
    };
    let error = load(None).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let text = error.to_string();
    assert!(text.contains("238 of 250") && text.contains("on cpu: 12 Cast"), "{text}");
    let session = load(Some(0.95)).unwrap();
    let mut placement = session.placement().to_vec();
    placement.sort();
    assert_eq!(placement, [("cpu".to_owned(), 12), ("openvino".to_owned(), 238)]);
}

#[test]
fn what_the_provider_refuses_is_told_in_its_words() {
    let Some(engine) = openvino() else { return };
    let model = golden("onnx_mobileone_4branch_ts").join("model.onnx");
    let options = with(|o| o.openvino.device = "GPU.7".into());
    let error = engine.load(ModelSource::Path(&model), &options).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Environment);
    let text = error.to_string();
    assert!(text.contains("openvino cannot run") && !text.contains(".cc:"), "{text}");
}

/// No NPU is at hand to see it refuse; but a provider that no longer knew the entry would go on as if nothing was said.
#[test]
fn the_entry_that_forbids_the_npus_own_fallback_is_one_that_the_provider_reads() {
    let Some(engine) = openvino() else { return };
    let library = engine.find().unwrap().library.unwrap();
    let provider = std::fs::read(library.with_file_name("libonnxruntime_providers_openvino.so")).unwrap();
    let entry = b"session.disable_cpu_ep_fallback";
    assert!(provider.windows(entry.len()).any(|bytes| bytes == entry));
}

#[test]
fn computes_int64_as_int32() {
    let Some(engine) = openvino() else { return };
    let bytes = Onnx::default()
        .input("x", I64, &[2])
        .node("Identity", &["x"], &["y"], &[])
        .output("y", I64, Some(&[2]))
        .bytes();
    let mut session = engine.load(ModelSource::Bytes(&bytes), &LoadOptions::default()).unwrap();
    let small = Tensor::vector(vec![i64::from(i32::MIN), i64::from(i32::MAX)]);
    assert_eq!(session.run(std::slice::from_ref(&small)).unwrap(), [small]);
    // The day this holds, the exception in `engines.rs` and the line in ENGINES.md must go.
    let large = Tensor::vector(vec![i64::MIN, i64::MAX]);
    assert_ne!(session.run(std::slice::from_ref(&large)).unwrap(), [large]);
}

#[test]
fn shapes_that_it_was_not_built_for_are_refused_with_both() {
    let Some(engine) = openvino() else { return };
    let bytes = Onnx::default()
        .input("image", F32, &[-1, 1, -1, -1])
        .node("Relu", &["image"], &["y"], &[])
        .output("y", F32, Some(&[-1, 1, -1, -1]))
        .bytes();
    let load = |profile| {
        let options = LoadOptions { profile, ..LoadOptions::default() };
        engine.load(ModelSource::Bytes(&bytes), &options)
    };
    let of = |input: &str, least: &[usize], most: &[usize]| Profile::new(input, least, most, most).unwrap();
    let profile = of("image", &[1, 1, 2, 4], &[2, 1, 8, 4]);
    let mut session = load(Some(profile.clone())).unwrap();
    assert_eq!(session.profile(), Some(&profile));
    for inside in [[1, 1, 2, 4], [2, 1, 8, 4], [2, 1, 5, 4]] {
        assert_eq!(session.run(&[Tensor::full(&inside, 1f32)]).unwrap(), [Tensor::full(&inside, 1f32)]);
    }
    for outside in [[3, 1, 8, 4], [1, 1, 9, 4], [1, 1, 8, 5]] {
        let error = session.run(&[Tensor::full(&outside, 1f32)]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadInput);
        let text = error.to_string();
        assert!(text.contains(&format!("{outside:?}")) && text.contains("[1 to 2, 1, 2 to 8, 4]"), "{text}");
    }
    // A profile for another model is a mistake of whoever asks.
    for wrong in [of("picture", &[1, 1, 2, 4], &[1, 1, 2, 4]), of("image", &[1, 3, 2, 4], &[1, 3, 2, 4])] {
        assert_eq!(load(Some(wrong)).err().unwrap().kind(), ErrorKind::InvalidConfig);
    }
    // Without one, whatever comes is computed.
    let mut open = load(None).unwrap();
    assert_eq!(open.run(&[Tensor::full(&[3, 1, 9, 5], 1f32)]).unwrap(), [Tensor::full(&[3, 1, 9, 5], 1f32)]);
}
