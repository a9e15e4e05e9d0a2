//! The zoo's networks fold to exactly the layers their papers deploy.

mod reference;
mod support;

use std::collections::BTreeMap;
use std::path::Path;

use support::{folded, histogram};
use tapetum_models::checkpoint::{self, Limits};
use tapetum_models::graph::Graph;
use tapetum_models::zoo::{FAMILIES, InputSize, Weights};

fn training(folder: &str) -> Graph {
    let at = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/goldens").join(folder);
    let file = ["checkpoint.safetensors", "checkpoint.pth"].map(|f| at.join(f));
    let file = file.iter().find(|f| f.exists()).unwrap();
    let state = checkpoint::open(file, &Limits::default()).unwrap().0;
    let network = FAMILIES.iter().find_map(|f| f.recognise(&state).unwrap()).unwrap();
    let size = InputSize::Fixed { height: 128, width: 128 };
    network.build(&mut Weights::Checkpoint(state), size).unwrap()
}

/// Folds; `layers` is how many Conv, ConvTranspose, Gemm and MatMul there are afterwards.
#[track_caller]
fn folds_to(folder: &str, layers: [usize; 4], counts: &[(&str, usize)]) -> Graph {
    let before = training(folder);
    let (after, report) = folded(&before);
    let ops = histogram(&after);
    let have = ["Conv", "ConvTranspose", "Gemm", "MatMul"].map(|op| ops.get(op).copied().unwrap_or(0));
    assert_eq!(have, layers, "{folder}: {:?}", report.counts());
    // The BNNeck follows a mean of ReLUs: there is nothing before it that could take it in.
    let left = ops.get("BatchNormalization").copied().unwrap_or(0);
    assert_eq!(left, usize::from(folder.contains("bnneck")), "{folder}: {:?}", report.refused);
    let want: BTreeMap<&str, usize> = counts.iter().copied().collect();
    assert_eq!(report.counts(), want, "{folder}");
    after
}

#[test]
fn mobileone() {
    let after = folds_to(
        "mobileone_tiny_4branch",
        [21, 0, 1, 0],
        &[("bn_as_conv", 13), ("conv_then_bn", 92), ("grow_kernel", 11), ("sum_parallel", 21)],
    );
    assert!(after.constants.contains_key("stage1.0.weight"));
}

#[test]
fn tfnet() {
    folds_to(
        "tfnet_w025_full",
        [27, 0, 0, 6],
        &[
            ("bn_as_conv", 13),
            ("conv_then_bn", 46),
            ("grow_kernel", 20),
            ("sum_parallel", 20),
            ("two_class_softmax", 1),
        ],
    );
}

#[test]
fn deanet() {
    // Ten of the 96 are written as two.
    folds_to(
        "deanet_train_dim8",
        [106, 2, 0, 0],
        &[("difference_kernel", 96), ("interleaved_groups", 10), ("sum_parallel", 24)],
    );
}

#[test]
fn osnet() {
    folds_to("osnet_x0_25", [187, 0, 1, 0], &[("conv_then_bn", 79), ("linear_then_bn", 1)]);
}

#[test]
fn bnneck() {
    folds_to("reid_bnneck_bottleneck", [20, 0, 0, 0], &[("conv_then_bn", 20)]);
    folds_to("reid_bnneck_resnet", [12, 0, 0, 0], &[("conv_then_bn", 12)]);
}
