//! Every golden checkpoint reads as an independent reader reads it.

use std::path::{Path, PathBuf};

use tapetum_models::checkpoint::{Format, Limits, Origin, StateDict, is_checkpoint, open};
use tapetum_runtime::{Data, Tensor};

/// What `checkpoint_goldens.py` (Python's pickle, NumPy) says of one checkpoint.
struct Golden {
    case: &'static str,
    wrapper: Option<&'static str>,
    prefix: Option<&'static str>,
    dtypes: &'static [(&'static str, usize)],
    elements: usize,
    /// Over all tensors by name: the sum of element i times i % 97 + 1, so that order matters.
    weighted: f64,
    /// Name, shape and last element of one tensor.
    sample: (&'static str, &'static [usize], f64),
}

#[rustfmt::skip]
const GOLDENS: &[Golden] = &[
    Golden { case: "container_pth_bf16", wrapper: Some("state_dict"), prefix: Some("module."), dtypes: &[("bf16", 284), ("i64", 59)], elements: 119413, weighted: 31417.24214746803, sample: ("encoder.stage3.0.rbr_conv.0.bn.weight", &[16], -1.640625) },
    Golden { case: "container_pth_legacy", wrapper: Some("model_state_dict"), prefix: None, dtypes: &[("f32", 284), ("i64", 59)], elements: 119413, weighted: 33485.9653304543, sample: ("encoder.stage3.0.rbr_conv.0.bn.weight", &[16], -1.3225581645965576) },
    Golden { case: "container_pth_shared_strided", wrapper: Some("net"), prefix: None, dtypes: &[("f32", 284), ("i64", 59)], elements: 119413, weighted: 29739.21261790685, sample: ("encoder.stage3.0.rbr_conv.0.bn.weight", &[16], 1.4281013011932373) },
    Golden { case: "container_safetensors_bf16", wrapper: None, prefix: None, dtypes: &[("bf16", 284), ("i64", 59)], elements: 119413, weighted: 32263.88550639525, sample: ("encoder.stage3.0.rbr_conv.0.bn.weight", &[16], -0.98828125) },
    Golden { case: "container_safetensors_f16", wrapper: None, prefix: None, dtypes: &[("f16", 284), ("i64", 59)], elements: 119413, weighted: 31425.827405810356, sample: ("encoder.stage3.0.rbr_conv.0.bn.weight", &[16], 1.2705078125) },
    Golden { case: "deanet_deploy_dim8", wrapper: None, prefix: None, dtypes: &[("f32", 196)], elements: 253225, weighted: -1303.0149517975588, sample: ("level3_block5.pa.pa2.bias", &[32], -0.02031591720879078) },
    Golden { case: "deanet_train_dim8", wrapper: Some("model"), prefix: None, dtypes: &[("f32", 388)], elements: 513065, weighted: -489.72105324448626, sample: ("level3_block5.conv1.conv1_3.conv.bias", &[32], -0.021054070442914963) },
    Golden { case: "lmdvit_tiny_all_kept", wrapper: None, prefix: None, dtypes: &[("f32", 344), ("i64", 11)], elements: 980797, weighted: 246613996.03830215, sample: ("decoderlayer_3.blocks.1.score_predictor.in_conv.3.bias", &[16], -0.011248963885009289) },
    Golden { case: "lmdvit_tiny_dim8", wrapper: Some("state_dict"), prefix: Some("module."), dtypes: &[("f32", 455), ("i64", 16)], elements: 1190395, weighted: 358722537.7554909, sample: ("dowsample_0.conv.0.bias", &[16], 0.08311937749385834) },
    Golden { case: "mobileone_tiny_4branch", wrapper: None, prefix: None, dtypes: &[("f32", 514), ("i64", 105)], elements: 137635, weighted: 189228.47686224536, sample: ("stage2.5.rbr_conv.3.bn.num_batches_tracked", &[], 0.0) },
    Golden { case: "mobileone_tiny_se", wrapper: None, prefix: None, dtypes: &[("f32", 192), ("i64", 35)], elements: 41385, weighted: 71558.05290061698, sample: ("stage3.2.rbr_skip.bias", &[64], -0.05862252041697502) },
    Golden { case: "osnet_x0_25", wrapper: Some("state_dict"), prefix: Some("module."), dtypes: &[("f32", 487), ("i64", 80)], elements: 214115, weighted: 139737.21581687, sample: ("conv3.0.gate.fc2.weight", &[24, 1, 1, 1], 0.08536960929632187) },
    Golden { case: "reid_bnneck_bottleneck", wrapper: None, prefix: None, dtypes: &[("f32", 105), ("i64", 21)], elements: 137869, weighted: 85030.38460611762, sample: ("base.layer2.1.bn2.weight", &[16], -1.4518468379974365) },
    Golden { case: "reid_bnneck_resnet", wrapper: None, prefix: None, dtypes: &[("f32", 65), ("i64", 13)], elements: 312061, weighted: 43647.53936825517, sample: ("base.layer3.0.bn1.running_var", &[64], 3.1634793281555176) },
    Golden { case: "tfnet_w0125_no_ppm", wrapper: None, prefix: None, dtypes: &[("f32", 254), ("i64", 53)], elements: 206071, weighted: 37808.81363962451, sample: ("encoder.stage2.2.rbr_conv.0.bn.running_var", &[16], 0.051378700882196426) },
    Golden { case: "tfnet_w0125_no_skip", wrapper: None, prefix: None, dtypes: &[("f32", 304), ("i64", 64)], elements: 236418, weighted: 73293.02532943815, sample: ("encoder.stage3.1.rbr_conv.0.conv.weight", &[32, 32, 3, 3], -0.003881865181028843) },
    Golden { case: "tfnet_w0125_sigmoid", wrapper: None, prefix: None, dtypes: &[("f32", 304), ("i64", 64)], elements: 249849, weighted: 72262.19840709498, sample: ("encoder.stage3.1.rbr_conv.0.conv.weight", &[32, 32, 3, 3], -0.0024665037635713816) },
    Golden { case: "tfnet_w0125_uneven", wrapper: None, prefix: None, dtypes: &[("f32", 304), ("i64", 64)], elements: 249858, weighted: 72640.60359971548, sample: ("encoder.stage3.1.rbr_conv.0.conv.weight", &[32, 32, 3, 3], 0.02022007666528225) },
    Golden { case: "tfnet_w025_full", wrapper: Some("model_state_dict"), prefix: None, dtypes: &[("f32", 284), ("i64", 59)], elements: 726733, weighted: 125551.14197171238, sample: ("encoder.stage3.0.rbr_conv.0.bn.weight", &[64], -1.1925911903381348) },
];

fn goldens() -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/goldens")).to_path_buf()
}

fn checkpoint(case: &str) -> PathBuf {
    let folder = goldens().join(case);
    let mut found = ["checkpoint.pth", "checkpoint.safetensors"].into_iter().map(|name| folder.join(name));
    found.find(|path| path.exists()).unwrap_or_else(|| panic!("{case} has no checkpoint"))
}

fn load(case: &str) -> (StateDict, Origin) {
    open(&checkpoint(case), &Limits::default()).unwrap_or_else(|e| panic!("{e}"))
}

fn widened(tensor: &Tensor) -> Vec<f64> {
    match tensor.data() {
        Data::I64(values) => values.iter().map(|&x| x as f64).collect(),
        _ => tensor.to_f64().expect("floats"),
    }
}

#[test]
fn every_golden_reads_as_python_reads_it() {
    for golden in GOLDENS {
        let (state, origin) = load(golden.case);
        let case = golden.case;
        assert_eq!(origin.wrapper.as_deref(), golden.wrapper, "{case}");
        assert_eq!(origin.prefix.as_deref(), golden.prefix, "{case}");
        let dtypes: Vec<_> = origin.dtypes.iter().map(|&(dtype, count)| (dtype.name(), count)).collect();
        assert_eq!(dtypes, golden.dtypes, "{case}");

        let (name, shape, last) = golden.sample;
        let sample = state.get(name).unwrap_or_else(|| panic!("{case} has no {name}"));
        assert_eq!(sample.shape(), shape, "{case}");
        assert_eq!(widened(sample).last(), Some(&last), "{case} {name}");

        let (mut elements, mut weighted) = (0, 0.0);
        for tensor in state.into_tensors().values() {
            let values = widened(tensor);
            elements += values.len();
            weighted += values.iter().zip((1..=97).cycle()).map(|(x, w)| x * f64::from(w)).sum::<f64>();
        }
        assert_eq!(elements, golden.elements, "{case}");
        let error = (weighted - golden.weighted).abs();
        assert!(error <= 1e-9 * golden.weighted.abs(), "{case}: {weighted} instead of {}", golden.weighted);
    }
}

#[test]
fn no_golden_checkpoint_is_left_untested() {
    for entry in std::fs::read_dir(goldens()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let folder = goldens().join(&name);
        let holds_one = ["checkpoint.pth", "checkpoint.safetensors"].iter().any(|f| folder.join(f).exists());
        assert!(
            !holds_one || GOLDENS.iter().any(|golden| golden.case == name),
            "{name} is not in the table; print it with checkpoint_goldens.py"
        );
    }
}

#[test]
fn five_containers_of_one_network_give_the_same_names_and_shapes() {
    let named = |case: &str| -> Vec<(String, Vec<usize>)> {
        let (state, _) = load(case);
        state.into_tensors().into_iter().map(|(name, tensor)| (name, tensor.shape().to_vec())).collect()
    };
    let cases = GOLDENS.iter().map(|g| g.case).filter(|case| case.starts_with("container_"));
    let [first, others @ ..] = &*cases.collect::<Vec<_>>() else { panic!("no container goldens") };
    assert_eq!(others.len(), 4);
    for other in others {
        assert_eq!(named(first), named(other), "{first} and {other}");
    }
}

#[test]
fn origins_say_what_was_found() {
    let (_, zip) = load("container_pth_shared_strided");
    assert_eq!(zip.format, Format::TorchZip);
    assert_eq!(zip.metadata.get("epoch").map(String::as_str), Some("7"));
    assert_eq!(zip.format.to_string(), "PyTorch zip");
    let (_, legacy) = load("container_pth_legacy");
    assert_eq!(legacy.format, Format::TorchLegacy);
    let (_, plain) = load("container_safetensors_f16");
    assert_eq!(plain.format, Format::Safetensors);
    // `sha256sum tests/goldens/container_safetensors_f16/checkpoint.safetensors`
    assert_eq!(plain.sha256, "7739be47b8ebbb4e906774ae8ad24f9d266f9a0b9a477d94064afcc18a050f92");
    assert_eq!(plain.bytes, std::fs::metadata(checkpoint("container_safetensors_f16")).unwrap().len());
}

#[test]
fn halves_are_taken_as_f32_without_loss() {
    for case in ["container_safetensors_f16", "container_pth_bf16"] {
        let (mut state, _) = load(case);
        let name = "final_conv.weight";
        let stored = widened(state.get(name).unwrap());
        let shape = state.shape(name).unwrap().to_vec();
        let taken = state.take(name, &shape).unwrap();
        let taken: Vec<f64> = taken.f32s().unwrap().iter().map(|&x| x.into()).collect();
        assert_eq!(taken, stored, "{case}");
    }
}

#[test]
fn checkpoints_are_told_from_onnx_models() {
    let begins = |path: PathBuf| std::fs::read(path).unwrap().into_iter().take(16).collect::<Vec<u8>>();
    for golden in GOLDENS {
        assert!(is_checkpoint(&begins(checkpoint(golden.case))), "{}", golden.case);
    }
    assert!(!is_checkpoint(&begins(goldens().join("onnx_tfnet_dynamo/model.onnx"))));
    assert!(!is_checkpoint(&begins(goldens().join("onnx_mobileone_4branch_ts/model.onnx"))));
}
