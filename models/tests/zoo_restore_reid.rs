//! DEA-Net, OSNet and BNNeck ResNet against PyTorch: what a checkpoint is recognised as, and what the graph computes on
//! every engine that can run here.

mod zoo_common;

use std::io::Write;
use std::path::{Path, PathBuf};

use tapetum_models::checkpoint::StateDict;
use tapetum_models::graph::Graph;
use tapetum_models::onnx;
use tapetum_models::zoo::{Description, FAMILIES, Form, InputSize, Weights};
use tapetum_runtime::backend::{Backend, LoadOptions, ModelSource};
use tapetum_runtime::seed::Seeded;
use tapetum_runtime::{ErrorKind, Tensor};
use zoo_common::{engines, error, open, recognise};

/// `rel_tol` of every golden here (`case.json`).
const REL_TOL: f32 = 1e-5;
/// Between two plans of one engine, which may add in another order.
const SAME: f32 = 2e-6;

/// A golden and what its checkpoint must be recognised as.
struct Case {
    folder: &'static str,
    checkpoint: &'static str,
    network: &'static str,
    variant: &'static str,
    form: Form,
    details: &'static [(&'static str, &'static str)],
    /// `params_in_checkpoint` of `case.json` without the classifier.
    parameters: u64,
    /// Tensors left aside.
    ignored: &'static [&'static str],
    output: &'static str,
}

const CASES: [Case; 5] = [
    Case {
        folder: "deanet_train_dim8",
        checkpoint: "checkpoint.pth",
        network: "deanet",
        variant: "dim8",
        form: Form::Training,
        details: &[("base_dim", "8"), ("detail-enhanced convolutions", "five branches each")],
        parameters: 513_065,
        ignored: &[],
        output: "restored",
    },
    Case {
        folder: "deanet_deploy_dim8",
        checkpoint: "checkpoint.safetensors",
        network: "deanet",
        variant: "dim8",
        form: Form::Deployment,
        details: &[("base_dim", "8"), ("detail-enhanced convolutions", "folded")],
        parameters: 253_225,
        ignored: &[],
        output: "restored",
    },
    Case {
        folder: "osnet_x0_25",
        checkpoint: "checkpoint.pth",
        network: "osnet",
        variant: "x0_25",
        form: Form::Training,
        details: &[("channels", "16-64-96-128"), ("feature", "512"), ("width", "0.25")],
        parameters: 207_507 - 11 * 513,
        ignored: &["classifier.bias", "classifier.weight"],
        output: "embedding",
    },
    Case {
        folder: "reid_bnneck_bottleneck",
        checkpoint: "checkpoint.safetensors",
        network: "reid-bnneck",
        variant: "Bottleneck 1-2-1-1",
        form: Form::Training,
        details: &[
            ("block", "Bottleneck"),
            ("blocks per stage", "1-2-1-1"),
            ("channels", "8, 32-64-128-256"),
            ("feature", "256"),
        ],
        parameters: 134_728 - 5 * 256,
        ignored: &["classifier.weight"],
        output: "embedding",
    },
    Case {
        folder: "reid_bnneck_resnet",
        checkpoint: "checkpoint.safetensors",
        network: "reid-bnneck",
        variant: "BasicBlock 1-1-1-1",
        form: Form::Training,
        details: &[
            ("block", "BasicBlock"),
            ("blocks per stage", "1-1-1-1"),
            ("channels", "16, 16-32-64-128"),
            ("feature", "128"),
        ],
        parameters: 310_352 - 5 * 128,
        ignored: &["classifier.weight"],
        output: "embedding",
    },
];

impl Case {
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

fn image(shape: [usize; 4], seed: u64) -> Tensor {
    Tensor::new(&shape, Seeded::new(seed).vec(shape.iter().product(), 0.0, 1.0)).unwrap()
}

/// Images below each other along the batch axis.
fn stack(parts: &[&Tensor]) -> Tensor {
    let values: Vec<f32> = parts.iter().flat_map(|t| t.f32s().unwrap()).copied().collect();
    let mut shape = parts[0].shape().to_vec();
    shape[0] = parts.iter().map(|t| t.shape()[0]).sum();
    Tensor::new(&shape, values).unwrap()
}

#[test]
fn checkpoints_are_recognised_and_used_to_the_last_tensor() {
    for case in &CASES {
        let state = case.state();
        let network = recognise(&state).unwrap().unwrap_or_else(|| panic!("{}", case.folder));
        let details = case.details.iter().map(|&(key, value)| (key, value.to_owned())).collect();
        let variant = case.variant.to_owned();
        let expected = Description { network: case.network, variant, form: case.form, details };
        assert_eq!(network.description(), expected);

        let mut weights = Weights::Checkpoint(state);
        let graph = network.build(&mut weights, network.default_size()).unwrap();
        assert_eq!(graph.parameters(), case.parameters, "{}", case.folder);
        assert_eq!(graph.outputs[0].name, case.output);
        let Weights::Checkpoint(rest) = weights else { unreachable!() };
        let accounting = rest.finish().unwrap();
        let ignored: Vec<&str> = accounting
            .ignored
            .iter()
            .map(|(name, _)| name.as_str())
            .filter(|name| !name.ends_with("num_batches_tracked"))
            .collect();
        assert_eq!(ignored, case.ignored, "{}", case.folder);
    }
}

#[test]
fn graphs_compute_what_pytorch_computes() {
    let engines = engines();
    for case in &CASES {
        let [input, want] = case.io();
        let [_, _, height, width] = *input.shape() else { panic!("{:?}", input.shape()) };
        for size in [InputSize::Fixed { height, width }, InputSize::Dynamic] {
            let graph = case.graph(size);
            for &backend in &engines {
                let got = run(backend, &graph, &[&input]).remove(0);
                let error = error(&got, &want);
                writeln!(std::io::stdout(), "{} {size:?} {}: {error:.1e}", case.folder, backend.name())
                    .unwrap();
                assert!(error <= REL_TOL, "{} on {}: {error:e}", case.folder, backend.name());
            }
        }
    }
}

#[test]
fn any_batch_and_size_of_a_dynamic_graph_equals_the_fixed_one() {
    let engines = engines();
    for case in &CASES {
        // The smallest, and an odd one where the network takes it.
        let sizes = if case.network == "deanet" { [(16, 16), (20, 36)] } else { [(16, 16), (67, 41)] };
        for (height, width) in sizes {
            let [first, second] = [1, 2].map(|seed| image([1, 3, height, width], seed));
            let both = stack(&[&first, &second]);
            for &backend in &engines {
                let fixed = run(backend, &case.graph(InputSize::Fixed { height, width }), &[&first, &second]);
                let dynamic = run(backend, &case.graph(InputSize::Dynamic), &[&first, &both]);
                let what = format!("{} {height}×{width} on {}", case.folder, backend.name());
                let alone = error(&dynamic[0], &fixed[0]);
                assert!(alone <= SAME, "{what}: alone {alone:e}");
                let together = error(&dynamic[1], &stack(&[&fixed[0], &fixed[1]]));
                assert!(together <= SAME, "{what}: batch of 2 {together:e}");
            }
        }
    }
}

#[test]
fn published_variants_build_and_are_recognised_by_their_own_weights() {
    for family in FAMILIES.iter().filter(|f| ["deanet", "osnet", "reid-bnneck"].contains(&f.name())) {
        for name in family.variants() {
            let network = family.variant(&name).unwrap();
            let mut weights = Weights::seeded(3);
            network.build(&mut weights, network.default_size()).unwrap();
            let Weights::Seeded { made, .. } = weights else { unreachable!() };
            let found = recognise(&StateDict::new(made)).unwrap().unwrap();
            assert_eq!(found.description(), network.description());
            assert_eq!(found.description().variant, name);
        }
        let unknown = family.variant("x9").err().unwrap();
        assert_eq!(unknown.kind(), ErrorKind::InvalidConfig);
        assert!(unknown.to_string().contains(&family.variants()[0]), "{unknown}");
    }
}

/// A golden's checkpoint with one change; the message must hold every word.
fn refused(case: &Case, change: impl FnOnce(&mut StateDict), words: &[&str]) {
    let mut state = case.state();
    change(&mut state);
    let outcome = recognise(&state).and_then(|network| {
        let size = InputSize::Fixed { height: 64, width: 64 };
        network.expect("names of the family").build(&mut Weights::Checkpoint(state), size)
    });
    let error = outcome.expect_err("the checkpoint is damaged");
    assert_eq!(error.kind(), ErrorKind::BadFile, "{error}");
    let message = error.to_string();
    assert!(words.iter().all(|w| message.contains(w)), "{message:?} should say {words:?}");
}

#[test]
fn damaged_checkpoints_are_refused_with_the_name() {
    let [train, deploy, osnet, bottleneck, basic] = &CASES;
    let plain = || Tensor::full(&[8, 8, 3, 3], 0f32);
    refused(
        train,
        |s| s.ignore("up_level1_block2.conv1.conv1_3.conv.weight", "test"),
        &["up_level1_block2.conv1.conv1_3.conv.weight", "[8, 8, 3]"],
    );
    // One folded block among trained ones, both forms of one block, and neither.
    let fold = |s: &mut StateDict| {
        let branches: Vec<String> =
            s.names().filter(|n| n.starts_with("up_level1_block3.conv1.")).map(str::to_owned).collect();
        branches.iter().for_each(|n| s.ignore(n, "test"));
        s.insert("up_level1_block3.conv1.weight", plain());
    };
    refused(train, fold, &["up_level1_block3.conv1", "training form", "deployment form"]);
    refused(
        train,
        |s| drop(s.insert("down_level1_block1.conv1.weight", plain())),
        &["down_level1_block1.conv1", "twice"],
    );
    refused(deploy, |s| s.ignore("level3_block7.conv1.weight", "test"), &["level3_block7.conv1", "neither"]);
    refused(deploy, |s| s.ignore("down1.0.weight", "test"), &["down1.0.weight"]);
    refused(deploy, |s| drop(s.insert("down1.0.weight", plain())), &["down1.0.weight", "[8, 8, 3, 3]"]);

    refused(osnet, |s| s.ignore("fc.0.weight", "test"), &["fc.0.weight"]);
    refused(
        osnet,
        |s| drop(s.insert("conv3.0.conv3.conv.weight", Tensor::full(&[90, 24, 1, 1], 0f32))),
        &["90", "multiple of 4"],
    );
    refused(
        osnet,
        |s| s.ignore("conv2.1.conv2c.2.bn.running_var", "test"),
        &["conv2.1.conv2c.2.bn.running_var"],
    );

    refused(bottleneck, |s| s.ignore("base.layer2.1.bn3.bias", "test"), &["base.layer2.1.bn3.bias", "[64]"]);
    refused(
        basic,
        |s| drop(s.insert("base.layer1.2.conv1.weight", Tensor::full(&[16, 16, 3, 3], 0f32))),
        &["base.layer1.2", "no base.layer1.1"],
    );
    refused(basic, |s| s.ignore("bottleneck.running_mean", "test"), &["bottleneck.running_mean"]);
}
