//! MobileOne, TF-Net, TF-Cls and TF-Det against PyTorch: what a checkpoint is recognised as, and what the graph computes
//! on every engine that can run here.

mod zoo_common;

use std::path::{Path, PathBuf};

use tapetum_models::checkpoint::StateDict;
use tapetum_models::graph::Graph;
use tapetum_models::onnx;
use tapetum_models::zoo::{FAMILIES, Form, InputSize, Weights};
use tapetum_runtime::backend::{Backend, LoadOptions, ModelSource};
use tapetum_runtime::seed::Seeded;
use tapetum_runtime::{ErrorKind, Tensor};
use zoo_common::{engines, error, open, recognise};

/// Between a fixed and a dynamic graph, which may add in another order.
const SAME: f32 = 1e-5;

/// A golden and what its checkpoint must be recognised as.
struct Case {
    folder: &'static str,
    checkpoint: &'static str,
    network: &'static str,
    variant: &'static str,
    /// Some of the details.
    details: &'static [(&'static str, &'static str)],
    /// `params_in_checkpoint` of `case.json`.
    parameters: u64,
    /// `rel_tol` of `case.json`.
    tolerance: f32,
    /// Whether the golden's size is one that a dynamic graph takes.
    dynamic: bool,
}

const fn tfnet(
    folder: &'static str,
    variant: &'static str,
    details: &'static [(&'static str, &'static str)],
    parameters: u64,
) -> Case {
    Case {
        folder,
        checkpoint: "checkpoint.safetensors",
        network: "tfnet",
        variant,
        details,
        parameters,
        tolerance: 5e-5,
        dynamic: true,
    }
}

const fn mobileone(
    folder: &'static str,
    details: &'static [(&'static str, &'static str)],
    parameters: u64,
) -> Case {
    Case {
        network: "mobileone",
        variant: "w0.25-0.25-0.25-0.25",
        tolerance: 1e-5,
        ..tfnet(folder, "", details, parameters)
    }
}

/// One network in five containers.
const fn container(folder: &'static str, checkpoint: &'static str) -> Case {
    Case { checkpoint, ..tfnet(folder, "w0.0625", &[("channels", "4-8-16-32")], 116_946) }
}

const CASES: [Case; 12] = [
    mobileone(
        "mobileone_tiny_4branch",
        &[("branches", "1 in 1 block, 4 in 20 blocks"), ("pairs", "2-3-4-1"), ("squeeze_excite", "no")],
        128_250,
    ),
    mobileone(
        "mobileone_tiny_se",
        &[("branches", "1"), ("pairs", "1-2-4-1"), ("squeeze_excite", "6 blocks"), ("classes", "10")],
        38_022,
    ),
    tfnet("tfnet_w0125_no_ppm", "w0.125-no_ppm", &[("pyramid_pooling", "no")], 203_298),
    tfnet("tfnet_w0125_no_skip", "w0.125-no_skip", &[("skip_connections", "no")], 232_226),
    tfnet("tfnet_w0125_sigmoid", "w0.125", &[("classes", "1"), ("activation", "sigmoid")], 245_657),
    Case { dynamic: false, ..tfnet("tfnet_w0125_uneven", "w0.125", &[("classes", "2")], 245_666) },
    Case {
        checkpoint: "checkpoint.pth",
        ..tfnet("tfnet_w025_full", "s0", &[("width", "0.25"), ("channels", "16-32-64-128")], 721_026)
    },
    container("container_pth_bf16", "checkpoint.pth"),
    container("container_pth_legacy", "checkpoint.pth"),
    container("container_pth_shared_strided", "checkpoint.pth"),
    container("container_safetensors_bf16", "checkpoint.safetensors"),
    container("container_safetensors_f16", "checkpoint.safetensors"),
];

impl Case {
    fn named(folder: &str) -> &'static Self {
        const { &CASES }.iter().find(|c| c.folder == folder).unwrap()
    }

    fn file(&self, name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/goldens").join(self.folder).join(name)
    }

    fn state(&self) -> StateDict {
        open(&self.file(self.checkpoint))
    }

    /// PyTorch's input and output.
    fn io(&self) -> [Tensor; 2] {
        let mut io = open(&self.file("io.safetensors"));
        ["input", "output"].map(|name| {
            let shape = io.shape(name).unwrap().to_vec();
            io.take(name, &shape).unwrap()
        })
    }

    fn graph(&self, size: InputSize) -> Graph {
        let state = self.state();
        let network = recognise(&state).unwrap().unwrap();
        network.build(&mut Weights::Checkpoint(state), size).unwrap()
    }
}

fn run(backend: &dyn Backend, graph: &Graph, inputs: &[&Tensor]) -> Vec<Tensor> {
    let mut model = Vec::new();
    onnx::write(graph, &mut model).unwrap();
    let mut session = backend.load(ModelSource::Bytes(&model), &LoadOptions::default()).unwrap();
    inputs.iter().map(|&x| session.run(std::slice::from_ref(x)).unwrap().remove(0)).collect()
}

fn images(shape: [usize; 4], seed: u64) -> Tensor {
    Tensor::new(&shape, Seeded::new(seed).vec(shape.iter().product(), 0.0, 1.0)).unwrap()
}

/// Image `at` of a batch, as a batch of one.
fn one_of(batch: &Tensor, at: usize) -> Tensor {
    let mut shape = batch.shape().to_vec();
    shape[0] = 1;
    let n: usize = shape.iter().product();
    Tensor::new(&shape, batch.f32s().unwrap()[at * n..(at + 1) * n].to_vec()).unwrap()
}

#[test]
fn checkpoints_are_recognised_and_used_to_the_last_tensor() {
    for case in &CASES {
        let state = case.state();
        let network = recognise(&state).unwrap().unwrap_or_else(|| panic!("{}", case.folder));
        let found = network.description();
        assert_eq!((found.network, found.variant.as_str()), (case.network, case.variant), "{}", case.folder);
        assert_eq!(found.form, Form::Training);
        for &(key, value) in case.details {
            assert!(found.details.contains(&(key, value.into())), "{}: {key} in {found:?}", case.folder);
        }
        let mut weights = Weights::Checkpoint(state);
        let graph = network.build(&mut weights, network.default_size()).unwrap();
        assert_eq!(graph.parameters(), case.parameters, "{}", case.folder);
        let Weights::Checkpoint(rest) = weights else { unreachable!() };
        rest.finish().unwrap();
    }
}

#[test]
fn graphs_compute_what_pytorch_computes() {
    for case in &CASES {
        let [input, want] = case.io();
        let [_, _, height, width] = *input.shape() else { panic!("{:?}", input.shape()) };
        let fixed = InputSize::Fixed { height, width };
        for size in [fixed, InputSize::Dynamic].into_iter().take(1 + usize::from(case.dynamic)) {
            let graph = case.graph(size);
            for backend in engines() {
                let got = run(backend, &graph, &[&input]).remove(0);
                let error = error(&got, &want);
                let line = format!("{} {size:?} on {}: {error:.1e}", case.folder, backend.name());
                println!("{line}");
                assert!(error <= case.tolerance, "{line}");
            }
        }
    }
}

/// The graph computes its own pooling and resizing sizes; sizes where bins overlap, repeat and copy.
#[test]
fn a_dynamic_graph_equals_the_fixed_one_at_every_size_and_batch() {
    let sizes: [(&str, &[(usize, usize)]); 3] = [
        ("tfnet_w0125_sigmoid", &[(16, 16), (32, 80), (96, 112)]),
        ("tfnet_w0125_no_skip", &[(16, 48)]),
        ("mobileone_tiny_se", &[(32, 32), (67, 41)]),
    ];
    for (folder, sizes) in sizes {
        let case = Case::named(folder);
        let dynamic = case.graph(InputSize::Dynamic);
        for &(height, width) in sizes {
            let fixed = case.graph(InputSize::Fixed { height, width });
            let pair = images([2, 3, height, width], 11);
            let second = one_of(&pair, 1);
            for backend in engines() {
                let what = format!("{folder} {height}×{width} on {}", backend.name());
                let [both, alone] = run(backend, &dynamic, &[&pair, &second]).try_into().unwrap();
                let [want] = run(backend, &fixed, &[&pair]).try_into().unwrap();
                assert!(error(&both, &want) <= SAME, "{what}: batch of 2: {:e}", error(&both, &want));
                let second = error(&one_of(&both, 1), &alone);
                assert!(second <= SAME, "{what}: alone and in a batch: {second:e}");
            }
        }
    }
}

/// A box is where its formula says, on a grid whose last cells reach over the image.
#[test]
fn tf_det_decodes_boxes_in_the_graph() {
    let family = FAMILIES.iter().find(|f| f.name() == "tfdet").unwrap();
    let network = family.variant("s0").unwrap();
    let (height, width) = (50, 77);
    let mut made = Weights::seeded(3);
    network.build(&mut made, InputSize::Dynamic).unwrap();
    let Weights::Seeded { mut made, .. } = made else { unreachable!() };
    // With no weights in the last layer every cell says the same: its bias.
    let bias = [0.25f32, -0.5, 9.0, -0.7, 0.0, 1.5, -2.0];
    made.insert("head.1.weight".into(), Tensor::full(&[7, 64, 1, 1], 0f32));
    made.insert("head.1.bias".into(), Tensor::vector(bias.to_vec()));
    for size in [InputSize::Fixed { height, width }, InputSize::Dynamic] {
        let state = StateDict::new(made.clone());
        let graph = recognise(&state).unwrap().unwrap();
        let graph = graph.build(&mut Weights::Checkpoint(state), size).unwrap();
        for backend in engines() {
            let got = run(backend, &graph, &[&images([1, 3, height, width], 5)]).remove(0);
            let (rows, columns) = (4, 5);
            assert_eq!(got.shape(), [1, 7, rows * columns]);
            let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
            for (at, got) in got.f32s().unwrap().iter().enumerate() {
                let (channel, cell) = (at / (rows * columns), at % (rows * columns));
                let want = match channel {
                    0 => ((cell % columns) as f32 + 0.75) * 16.0,
                    1 => (cell / columns) as f32 * 16.0,
                    2 => 4f32.exp() * 16.0,
                    3 => (-0.7f32).exp() * 16.0,
                    score => sigmoid(bias[score]),
                };
                let what = format!("channel {channel} of cell {cell} on {}", backend.name());
                assert!((got - want).abs() <= 1e-5 * want.max(1.0), "{what}: {got}, want {want}");
            }
        }
    }
}

#[test]
fn published_variants_are_recognised_by_their_own_weights() {
    for family in FAMILIES.iter().filter(|f| ["mobileone", "tfcls", "tfdet"].contains(&f.name())) {
        for name in family.variants() {
            let network = family.variant(&name).unwrap();
            let mut weights = Weights::seeded(3);
            network.build(&mut weights, InputSize::Dynamic).unwrap();
            let Weights::Seeded { made, .. } = weights else { unreachable!() };
            let found = recognise(&StateDict::new(made)).unwrap().unwrap();
            assert_eq!(found.description(), network.description());
            assert_eq!(found.description().variant, name);
        }
        let unknown = family.variant("x9").err().unwrap();
        assert_eq!(unknown.kind(), ErrorKind::InvalidConfig);
        assert!(unknown.to_string().contains("s0"), "{unknown}");
    }
}

/// What `tapetum init` makes is neither all noise nor all zero at its end.
#[test]
fn made_up_weights_keep_activations_in_range() {
    let tract = tapetum_runtime::backend::by_name("tract").unwrap();
    for variant in ["s0", "s1", "s4"] {
        let family = FAMILIES.iter().find(|f| f.name() == "mobileone").unwrap();
        let network = family.variant(variant).unwrap();
        let size = InputSize::Fixed { height: 64, width: 64 };
        let graph = network.build(&mut Weights::seeded(9), size).unwrap();
        let logits = run(tract, &graph, &[&images([1, 3, 64, 64], 5)]).remove(0);
        let largest = logits.f32s().unwrap().iter().fold(0f32, |most, x| most.max(x.abs()));
        println!("{variant}: {largest}");
        assert!((0.1..1000.0).contains(&largest), "{variant}: {largest}");
    }
}

/// A golden's checkpoint with one change is refused; the message must hold every word.
#[track_caller]
fn refused(folder: &str, change: impl FnOnce(&mut StateDict), words: &[&str]) {
    let mut state = Case::named(folder).state();
    change(&mut state);
    let outcome = recognise(&state).and_then(|network| {
        let size = InputSize::Fixed { height: 64, width: 64 };
        let mut weights = Weights::Checkpoint(state);
        network.expect("names of the family").build(&mut weights, size)?;
        let Weights::Checkpoint(rest) = weights else { unreachable!() };
        rest.finish()
    });
    let error = outcome.expect_err("the checkpoint is damaged");
    assert_eq!(error.kind(), ErrorKind::BadFile, "{error}");
    let message = error.to_string();
    assert!(words.iter().all(|w| message.contains(w)), "{message:?} should say {words:?}");
}

fn drop_all(state: &mut StateDict, prefix: &str) {
    let names: Vec<_> = state.names().filter(|n| n.starts_with(prefix)).map(str::to_owned).collect();
    names.iter().for_each(|name| drop(state.remove(name)));
}

#[test]
fn damaged_checkpoints_are_refused_with_the_name() {
    let add = |name: &'static str, shape: &'static [usize]| {
        move |s: &mut StateDict| drop(s.insert(name, Tensor::full(shape, 0f32)))
    };
    let lose = |name: &'static str| move |s: &mut StateDict| drop(s.remove(name));
    let lose_all = |prefix: &'static str| move |s: &mut StateDict| drop_all(s, prefix);

    let tfnet = "tfnet_w0125_uneven";
    let scale = "encoder.stage3.1.rbr_scale.bn.running_var";
    refused(tfnet, lose(scale), &[scale, "[32]"]);
    refused(tfnet, lose_all("encoder.stage3.1.rbr_skip."), &["encoder.stage3.1.rbr_skip.weight"]);
    refused(tfnet, lose_all("encoder.stage3.1."), &["encoder.stage3.3", "no encoder.stage3.1"]);
    refused(tfnet, lose_all("encoder.stage3.3."), &["encoder.stage3 has 3 blocks", "4"]);
    refused(tfnet, lose_all("decoder.up3.fusion.1."), &["no block \"decoder.up3.fusion.1\""]);
    refused(tfnet, lose("final_conv.weight"), &["final_conv.weight"]);
    refused(
        tfnet,
        add("final_conv.weight", &[2, 9, 1, 1]),
        &["final_conv.weight", "[2, 9, 1, 1]", "[2, 8, 1, 1]"],
    );
    refused(tfnet, add("encoder.stage3.0.rbr_extra.weight", &[3]), &["encoder.stage3.0.rbr_extra.weight"]);
    refused(
        tfnet,
        add("decoder.up2.fusion.1.rbr_conv.2.conv.weight", &[8, 8, 3, 3]),
        &["decoder.up2.fusion.1", "{0, 2}", "no rbr_conv.1"],
    );
    refused(
        tfnet,
        add("decoder.up2.fusion.1.reparam_conv.weight", &[8, 8, 3, 3]),
        &["decoder.up2.fusion.1", "both"],
    );
    let half_folded = |s: &mut StateDict| {
        drop_all(s, "ppm.fusion.");
        s.insert("ppm.fusion.reparam_conv.weight", Tensor::full(&[64, 320, 1, 1], 0f32));
        s.insert("ppm.fusion.reparam_conv.bias", Tensor::full(&[64], 0f32));
    };
    refused(tfnet, half_folded, &["\"ppm.fusion\" is in deployment form", "training form"]);

    let mobileone = "mobileone_tiny_se";
    refused(mobileone, lose("stage3.4.se.reduce.weight"), &["stage3.4", "se.reduce.weight"]);
    refused(mobileone, lose("stage3.4.se.expand.bias"), &["stage3.4.se.expand.bias"]);
    refused(mobileone, lose_all("stage2.3."), &["stage2 has 3 blocks", "pairs"]);
    refused(mobileone, lose_all("stage4."), &["stage4"]);
    refused(mobileone, lose("linear.weight"), &["linear.weight"]);
    refused(
        mobileone,
        add("stage0.rbr_conv.0.conv.weight", &[16]),
        &["stage0.rbr_conv.0.conv.weight", "[16]"],
    );
    refused(mobileone, add("stage1.1.rbr_scale.conv.weight", &[16, 16, 1, 1]), &["stage1.1.rbr_scale"]);
}
