//! Published networks at full width, made up from a seed: they are recognised from their own tensors, fold, and prove.

use tapetum_models::checkpoint;
use tapetum_models::fuse::{FuseOptions, fuse};
use tapetum_models::zoo::{FAMILIES, InputSize, Weights};

/// (family, variants, side of a small input).
const NETWORKS: &[(&str, &[&str], usize)] = &[
    ("mobileone", &["s0", "s1", "s2", "s3", "s4"], 64),
    ("tfnet", &["s0", "s0-no_ppm", "s0-no_skip", "s0-no_ppm-no_skip", "s1"], 64),
    ("tfcls", &["s0"], 64),
    ("tfdet", &["s0"], 64),
    ("deanet", &["dim32"], 32),
    ("lmdvit", &["tiny"], 128),
    ("osnet", &["x0_25", "x0_5", "x0_75", "x1_0"], 64),
    ("reid-bnneck", &["resnet18", "resnet50"], 64),
];

/// Learned values of the deployed networks, as published or as counted in PyTorch.
const DEPLOYED: &[(&str, &str, u64)] =
    &[("mobileone", "s0", 2_078_504), ("tfnet", "s0", 651_282), ("deanet", "dim32", 3_653_377)];

#[test]
fn published_networks_fold_and_prove() {
    let folder = tempfile::tempdir().unwrap();
    let (file, model) = (folder.path().join("w.safetensors"), folder.path().join("m.onnx"));
    for &(name, variants, side) in NETWORKS {
        let family = FAMILIES.iter().find(|f| f.name() == name).unwrap();
        for &variant in variants {
            for seed in [1, 2] {
                let network = family.variant(variant).unwrap();
                let mut weights = Weights::seeded(seed);
                network.build(&mut weights, network.default_size()).unwrap();
                let Weights::Seeded { made, .. } = weights else { unreachable!() };
                checkpoint::write_safetensors(&file, &made, &Default::default()).unwrap();
                let size = Some(InputSize::Fixed { height: side, width: side });
                let options = FuseOptions { size, ..FuseOptions::default() };
                let fused = fuse(&file, &model, &options, &mut |_| {})
                    .unwrap_or_else(|e| panic!("{name} {variant} from seed {seed}: {e}"));
                assert_eq!(fused.description.variant, variant, "{name}");
                let error = fused.figures.max_rel();
                println!("{name} {variant} seed {seed}: {error:.1e}");
                // Rounding alone, well below what the proof allows: made-up weights are tame.
                assert!(error < 5e-5, "{name} {variant} from seed {seed}: {error:e}");
                if let Some((.., want)) = DEPLOYED.iter().find(|(n, v, _)| *n == name && *v == variant) {
                    assert_eq!(fused.parameters_after, *want, "{name} {variant}");
                }
            }
        }
    }
}
