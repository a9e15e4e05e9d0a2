//! LMD-ViT: recognised from names and shapes, equal to PyTorch on every engine, right at sizes that are not square, and
//! free of work for pruned windows.

mod zoo_common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use tapetum_models::checkpoint::{self, Limits, StateDict};
use tapetum_models::fold::fold_all;
use tapetum_models::graph::infer::infer;
use tapetum_models::graph::{Constant, Graph, Node};
use tapetum_models::onnx;
use tapetum_models::zoo::{FAMILIES, Family, Form, InputSize, Network, Weights};
use tapetum_runtime::backend::{Backend, LoadOptions, ModelSource, Session};
use tapetum_runtime::seed::Seeded;
use tapetum_runtime::{ErrorKind, Tensor};
use zoo_common::{engines, error};

/// `rel_tol` of both goldens (`case.json`).
const REL_TOL: f32 = 1e-5;
const ALL_KEPT: &str = "lmdvit_tiny_all_kept/checkpoint.safetensors";
const DIM8: &str = "lmdvit_tiny_dim8/checkpoint.pth";
const SIDE: InputSize = InputSize::Fixed { height: 128, width: 128 };

/// What a float64 implementation that rolls, cuts and masks computes from the weights of [`DIM8`]
/// (`lmdvit_reference.py`).
struct Reference {
    height: usize,
    width: usize,
    /// Kept windows of each predictor.
    kept: &'static [usize],
    /// Position and value.
    restored: &'static [(usize, f32)],
}

#[rustfmt::skip]
const REFERENCES: &[Reference] = &[
    Reference { height: 128, width: 256, kept: &[344, 45, 71, 27, 1, 6, 2, 6, 17, 8, 66, 5, 344], restored: &[(13, 0.5219612), (13020, 0.7836456), (26027, 0.2433771), (39034, 0.4457386), (52041, 0.4361297), (65048, 0.3938954), (78055, 0.3236669), (91062, 0.1367829)] },
    Reference { height: 384, width: 128, kept: &[504, 80, 100, 22, 5, 8, 2, 9, 47, 35, 119, 64, 504], restored: &[(13, 0.5209309), (13020, 0.472285), (26027, 0.1969742), (39034, 0.0352471), (52041, 0.4424976), (65048, 0.4418819), (78055, 0.0805611), (91062, 0.1089556)] },
];

fn golden(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/goldens").join(file)
}

fn open(file: &str) -> StateDict {
    checkpoint::open(&golden(file), &Limits::default()).unwrap().0
}

fn family() -> &'static dyn Family {
    FAMILIES.iter().copied().find(|f| f.name() == "lmdvit").unwrap()
}

fn recognise(state: &StateDict) -> Box<dyn Network> {
    family().recognise(state).unwrap().expect("the names of an LMD-ViT")
}

fn graph(file: &str, size: InputSize) -> Graph {
    let state = open(file);
    recognise(&state).build(&mut Weights::Checkpoint(state), size).unwrap()
}

fn load(backend: &dyn Backend, graph: &Graph) -> Box<dyn Session> {
    let mut model = Vec::new();
    onnx::write(graph, &mut model).unwrap();
    backend.load(ModelSource::Bytes(&model), &LoadOptions::default()).unwrap()
}

fn run(backend: &dyn Backend, graph: &Graph, image: &Tensor) -> Vec<Tensor> {
    load(backend, graph).run(std::slice::from_ref(image)).unwrap()
}

/// Adds `by` to every constant whose name ends with `ending`.
fn shift(graph: &mut Graph, ending: &str, by: &[f32]) {
    let mut found = 0;
    for (name, constant) in graph.constants.iter_mut().filter(|(name, _)| name.ends_with(ending)) {
        let Constant::Dense(tensor) = constant else { panic!("{name}") };
        let tensor = std::sync::Arc::make_mut(tensor);
        let values = tensor.view_mut::<f32>().unwrap();
        values.iter_mut().zip(by.iter().cycle()).for_each(|(v, b)| *v += b);
        found += 1;
    }
    assert!(found > 0, "no constant ends with {ending:?}");
}

/// Makes every predictor prune all windows.
fn prune_all(graph: &mut Graph) {
    shift(graph, "score_predictor.out_conv.4.bias", &[-1e4, 1e4]);
}

fn image(height: usize, width: usize, seed: u64) -> Tensor {
    Tensor::new(&[1, 3, height, width], Seeded::new(seed).vec(3 * height * width, 0.0, 1.0)).unwrap()
}

#[test]
fn checkpoints_are_recognised_and_used_to_the_last_tensor() {
    for (file, depths, predictors, parameters, tensors) in [
        (ALL_KEPT, "1,2,1,1,1,1,1,1,2", "11", 935_741, 355),
        (DIM8, "1,2,4,1,1,1,3,2,1", "13", 1_124_859, 471),
    ] {
        let state = open(file);
        let network = recognise(&state);
        let found = network.description();
        let details = [
            ("width", "8"),
            ("window", "8"),
            ("depths", depths),
            ("heads", "1,2,4,8,16,16,8,4,2"),
            ("mlp_ratio", "4"),
            ("modulator", "decoder"),
            ("predictors", predictors),
        ];
        assert_eq!(found.details, details.map(|(k, v)| (k, v.to_owned())), "{file}");
        assert_eq!((found.network, found.form), ("lmdvit", Form::Deployment));
        assert_eq!(found.variant, format!("width 8, depths {depths}"));

        let mut weights = Weights::Checkpoint(state);
        let graph = network.build(&mut weights, network.default_size()).unwrap();
        assert_eq!(graph.parameters(), parameters, "{file}");
        let Weights::Checkpoint(rest) = weights else { unreachable!() };
        let accounting = rest.finish().unwrap();
        assert_eq!((accounting.used, accounting.ignored.len()), (tensors, 0));
    }
}

#[test]
fn graphs_compute_what_pytorch_computes() {
    let engines = engines();
    for file in [ALL_KEPT, DIM8] {
        let io = open(&format!("{}/io.safetensors", Path::new(file).parent().unwrap().display()));
        let io = |name: &str| io.get(name).unwrap_or_else(|| panic!("{file}: no {name}"));
        let input = io("input").clone();
        for size in [SIDE, InputSize::Dynamic] {
            let graph = graph(file, size);
            for &backend in &engines {
                let what = format!("{file} {size:?} {}", backend.name());
                let mut session = load(backend, &graph);
                let got = session.run(std::slice::from_ref(&input)).unwrap();
                let names: Vec<&str> = graph.outputs.iter().map(|o| o.name.as_str()).collect();
                assert_eq!(names[..2], ["restored", "gate"]);
                for (i, (name, got)) in names.iter().zip(&got).enumerate() {
                    if let Some(n) = i.checked_sub(2) {
                        assert_eq!(*name, format!("decision_{n}"));
                    }
                    let want = io(if i == 0 { "output" } else { name });
                    let error = error(got, want);
                    let tolerance = if i < 2 { REL_TOL } else { 0.0 };
                    assert!(error <= tolerance, "{what}: {name} {error:e}");
                }
            }
        }
    }
}

#[test]
fn sizes_that_are_not_square_agree_with_the_reference() {
    let dynamic = graph(DIM8, InputSize::Dynamic);
    for backend in engines() {
        let mut session = load(backend, &dynamic);
        for reference in REFERENCES {
            let (height, width) = (reference.height, reference.width);
            let mut image = image(height, width, height as u64);
            for (at, v) in image.view_mut::<f32>().unwrap().iter_mut().enumerate() {
                let (row, col) = (at / width % height, at % width);
                if row < height / 2 && col < width / 2 {
                    *v = 0.5;
                } else if row >= height / 2 && col >= width / 3 {
                    *v *= 0.25;
                }
            }
            let got = session.run(std::slice::from_ref(&image)).unwrap();
            let kept: Vec<usize> =
                got[2..].iter().map(|d| d.f32s().unwrap().iter().sum::<f32>() as usize).collect();
            assert_eq!(kept, reference.kept, "{height}x{width} on {}", backend.name());
            for &(at, want) in reference.restored {
                let got = got[0].f32s().unwrap()[at];
                let what = format!("{height}x{width} at {at} on {}", backend.name());
                assert!((got - want).abs() <= REL_TOL, "{what}: got {got}, want {want}");
            }
            let fixed = run(backend, &graph(DIM8, InputSize::Fixed { height, width }), &image);
            assert!(error(&got[0], &fixed[0]) <= 2e-6);
        }
    }
}

#[test]
fn pruned_windows_pass_untouched_by_any_block() {
    let plain = {
        let mut graph = graph(DIM8, SIDE);
        prune_all(&mut graph);
        graph
    };
    // What the blocks would compute must not matter.
    let mut other = plain.clone();
    for ending in [".attn.proj.bias", ".mlp.linear2.0.bias", ".norm1.weight", ".modulator.weight"] {
        shift(&mut other, ending, &[3.0, -5.0, 7.0]);
    }
    let image = image(128, 128, 5);
    for backend in engines() {
        let [plain, other] = [&plain, &other].map(|g| run(backend, g, &image));
        assert!(plain[2..].iter().all(|d| d.f32s().unwrap().iter().all(|&v| v == 0.0)));
        assert!(plain[0].f32s().unwrap().iter().all(|v| v.is_finite()));
        assert_eq!(plain, other, "{}", backend.name());
    }
}

#[test]
fn a_session_does_not_remember_earlier_decisions() {
    let graph = graph(DIM8, InputSize::Dynamic);
    let bright = image(128, 128, 8);
    let dark = Tensor::full(&[1, 3, 128, 128], 0f32);
    for backend in engines() {
        let mut session = load(backend, &graph);
        let first = session.run(std::slice::from_ref(&bright)).unwrap();
        session.run(std::slice::from_ref(&dark)).unwrap();
        assert_eq!(session.run(std::slice::from_ref(&bright)).unwrap(), first, "{}", backend.name());
    }
}

#[test]
fn the_graph_has_no_control_flow_and_blocks_work_on_kept_windows_only() {
    let mut graph = graph(DIM8, SIDE);
    assert!(graph.nodes.iter().all(|n| !["If", "Loop", "Scan"].contains(&n.op.as_str())));
    let count = |op: &str| graph.nodes.iter().filter(|n| n.op == op).count();
    let blocks = 1 + 2 + 4 + 1 + 1 + 1 + 3 + 2 + 1;
    assert_eq!((count("ScatterND"), count("NonZero"), count("Softmax")), (blocks, 13, blocks));

    // Everything in a block has as many rows as windows were kept, which only a run can tell. The exceptions: what puts
    // them back into the map, and tables made of nothing but constants, which an engine makes while loading.
    fold_all(&mut graph).unwrap();
    let shapes = infer(&graph);
    let mut constant: BTreeSet<&str> = graph.constants.keys().map(String::as_str).collect();
    let mut dependent = 0;
    for node in graph.nodes.iter().filter(|n| n.name.contains(".blocks.") && !n.name.contains("predictor")) {
        if node.inputs.iter().all(|i| constant.contains(i.as_str())) {
            constant.extend(node.outputs.iter().map(String::as_str));
            continue;
        }
        let known = shapes.get(node.output()).unwrap_or_else(|| panic!("{}: shape not known", node.name));
        let rows = known.dims[0].fixed();
        assert_eq!(rows.is_some(), node.is("ScatterND"), "{} {} {rows:?}", node.op, node.name);
        dependent += usize::from(rows.is_none());
    }
    assert!(dependent > 40 * blocks, "{dependent} nodes in {blocks} blocks");

    // So with nothing kept, what multiplies is in the predictors and between the layers.
    let left = |n: &&Node| n.is("MatMul") || n.is("Gemm") || n.is("Conv") || n.is("ConvTranspose");
    let fixed = |n: &&Node| shapes[n.output()].fixed().is_some();
    let layers = ["score_predictor", "input_proj", "dowsample", "upsample", "output_proj"];
    for node in graph.nodes.iter().filter(left).filter(fixed) {
        assert!(layers.iter().any(|l| node.name.contains(l)), "{} {}", node.op, node.name);
    }
}

#[test]
fn without_pruning_the_result_is_that_of_all_windows_kept() {
    for size in [SIDE, InputSize::Dynamic] {
        let mut kept = graph(DIM8, size);
        shift(&mut kept, "score_predictor.out_conv.4.bias", &[1e4, -1e4]);
        let state = open(DIM8);
        let network = recognise(&state).without_pruning().expect("LMD-ViT prunes");
        let mut weights = Weights::Checkpoint(state);
        let dense = network.build(&mut weights, size).unwrap();
        weights.finish().unwrap();
        for op in ["ScatterND", "NonZero", "GatherND"] {
            assert!(dense.nodes.iter().all(|n| n.op != op), "{op}");
        }
        let ports = network.contract(size);
        let names: Vec<&str> = dense.outputs.iter().map(|o| o.name.as_str()).collect();
        assert_eq!((names.as_slice(), ports.outputs.len()), (&["restored", "gate"][..], 2));
        assert!(network.description().details.contains(&("pruning", "none".into())));

        let image = image(128, if size == SIDE { 128 } else { 256 }, 6);
        for backend in engines() {
            let [kept, dense] = [&kept, &dense].map(|g| run(backend, g, &image));
            assert!(kept[2..].iter().all(|d| d.f32s().unwrap().iter().all(|&v| v == 1.0)));
            for (kept, dense) in kept.iter().zip(&dense) {
                assert!(error(dense, kept) <= 2e-6, "{size:?} on {}", backend.name());
            }
        }
    }
}

#[test]
fn published_variants_build_and_are_recognised_by_their_own_weights() {
    for name in family().variants() {
        let network = family().variant(&name).unwrap();
        let mut weights = Weights::seeded(3);
        let graph = network.build(&mut weights, network.default_size()).unwrap();
        if name == "released" {
            assert_eq!(graph.parameters(), 54_549_163);
            assert_eq!(graph.outputs.len(), 2 + 16);
        }
        let Weights::Seeded { made, .. } = weights else { unreachable!() };
        let found = recognise(&StateDict::new(made)).description();
        assert_eq!(found, network.description());
        assert_eq!(found.variant, name);
    }
    let unknown = family().variant("huge").err().unwrap();
    assert_eq!(unknown.kind(), ErrorKind::InvalidConfig);
    assert!(unknown.to_string().contains("released"), "{unknown}");
}

#[test]
fn sizes_off_the_grid_are_refused() {
    let network = family().variant("tiny").unwrap();
    let size = InputSize::Fixed { height: 256, width: 200 };
    let error = network.build(&mut Weights::seeded(1), size).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    assert!(error.to_string().contains("multiples of 128, at least 128"), "{error}");
}

/// The golden's checkpoint with one change; the message must hold every word.
fn refused(kind: ErrorKind, change: impl FnOnce(&mut StateDict), words: &[&str]) {
    let mut state = open(DIM8);
    change(&mut state);
    let outcome = family()
        .recognise(&state)
        .and_then(|n| n.expect("the family's names").build(&mut Weights::Checkpoint(state), SIDE));
    let error = outcome.expect_err("the checkpoint is changed");
    let message = error.to_string();
    assert!(words.iter().all(|w| message.contains(w)), "{message:?} should say {words:?}");
    assert_eq!(error.kind(), kind, "{message}");
}

#[test]
fn other_kinds_and_damaged_checkpoints_are_refused_with_what_was_found() {
    use ErrorKind::{BadFile, Unsupported};
    let zeros = |shape: &[usize]| Tensor::full(shape, 0f32);
    let drop_all = |s: &mut StateDict, part: &str| {
        let names: Vec<String> = s.names().filter(|n| n.contains(part)).map(str::to_owned).collect();
        assert!(!names.is_empty());
        names.iter().for_each(|n| drop(s.remove(n)));
    };

    // Kinds that were not released.
    refused(
        Unsupported,
        |s| drop_all(s, "score_predictor"),
        &["encoderlayer_0.blocks.0 has no score predictor"],
    );
    refused(
        Unsupported,
        |s| drop_all(s, "encoderlayer_2.blocks.1.score_predictor"),
        &["encoderlayer_2.blocks.1 has no score predictor", "LeFF local"],
    );
    refused(
        Unsupported,
        |s| drop(s.insert("encoderlayer_2.blocks.3.score_predictor.in_conv.0.weight", zeros(&[32, 32]))),
        &["encoderlayer_2.blocks.3 has a score predictor of its own"],
    );
    refused(
        Unsupported,
        |s| drop(s.insert("input_proj.proj.0.weight", zeros(&[8, 4, 3, 3]))),
        &["4 channels"],
    );
    refused(
        Unsupported,
        |s| drop(s.insert("output_proj.proj.0.weight", zeros(&[3, 16, 3, 3]))),
        &["makes 3 channels"],
    );
    refused(
        Unsupported,
        |s| drop(s.insert("conv.blocks.0.mlp.fc1.weight", zeros(&[512, 128]))),
        &["conv.blocks.0.mlp.fc1.weight"],
    );
    refused(
        Unsupported,
        |s| drop(s.insert("encoderlayer_0.blocks.0.modulator.weight", zeros(&[64, 8]))),
        &["encoderlayer_0.blocks.0 has a modulator"],
    );
    refused(Unsupported, |s| drop_all(s, "decoderlayer_1."), &["no layer \"decoderlayer_1\""]);

    // Damage.
    refused(BadFile, |s| drop_all(s, "input_proj.proj.0.weight"), &["input_proj.proj.0.weight"]);
    refused(BadFile, |s| drop_all(s, "dowsample_1.conv.0.bias"), &["dowsample_1.conv.0.bias", "[32]"]);
    refused(
        BadFile,
        |s| drop_all(s, "encoderlayer_2.blocks.1.norm1.weight"),
        &["encoderlayer_2.blocks.1.norm1.weight"],
    );
    refused(
        BadFile,
        |s| drop(s.insert("encoderlayer_0.blocks.0.attn.relative_position_bias_table", zeros(&[200, 1]))),
        &["200 rows"],
    );
    refused(
        BadFile,
        |s| drop(s.insert("conv.blocks.0.attn.relative_position_index", Tensor::full(&[64, 64], 0i64))),
        &["conv.blocks.0.attn.relative_position_index", "indices"],
    );
    refused(
        BadFile,
        |s| drop(s.insert("conv.blocks.0.norm2.bias", zeros(&[64]))),
        &["conv.blocks.0.norm2.bias", "[64]", "[128]"],
    );
}

#[test]
fn other_networks_are_left_alone() {
    let state = open("tfnet_w025_full/checkpoint.pth");
    assert!(family().recognise(&state).unwrap().is_none());
}
