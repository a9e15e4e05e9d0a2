//! Many regions of one picture: run together they give what each gives alone, in their order, on every engine.

use std::path::Path;

use tapetum::source;
use tapetum::stage::{Engine, Net};
use tapetum_models::fuse::{FuseOptions, fuse};
use tapetum_runtime::backend::{Backend, LoadOptions, ModelSource};
use tapetum_runtime::contract::{Contract, ContractOverride, OutputKind};
use tapetum_runtime::{Frame, Image, Rect};
use tapetum_tests::goldens::engines;

/// An eye and 21 regions of it, large and small, some of them reaching the picture's edges.
fn picture() -> (Image, Vec<Rect>) {
    let mut frame = Frame::default();
    source::open("synthetic:eye?size=320x240&seed=5").unwrap().next(&mut frame).unwrap();
    let regions = (0..21usize).map(|n| {
        let (width, height) = (20 + 13 * n, 16 + 10 * n);
        Rect { x: (320 - width) * (n % 3) / 2, y: (240 - height) * (n % 2), width, height }
    });
    (frame.image, regions.collect())
}

fn run(engine: &'static dyn Backend, model: &Path, contract: &Contract, batch: usize) -> Vec<Vec<f32>> {
    let load = LoadOptions { threads: Some(2), ..LoadOptions::default() };
    let session = engine.load(ModelSource::Path(model), &load).unwrap();
    let reads = |o: &tapetum_runtime::contract::OutputContract| matches!(o.kind, OutputKind::Classes { .. });
    let mut net = Net::new(Engine::alone(session, batch), contract, reads).unwrap();
    let (image, regions) = picture();
    let mut given = Vec::new();
    let each = net.each(&image, &regions, |output| {
        assert_eq!((output.region, output.placement.roi), (given.len(), regions[given.len()]));
        given.push(output.values.to_vec());
        Ok(())
    });
    each.unwrap();
    given
}

#[test]
fn many_regions_at_once_give_what_each_gives_alone() {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../pipelines/demo");
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("tf-cls.onnx");
    let changes = std::fs::read_to_string(demo.join("tf-cls.contract.toml")).unwrap();
    let contract = Some(ContractOverride::from_toml(&changes, "tf-cls.contract.toml").unwrap());
    let options = FuseOptions { contract, ..FuseOptions::default() };
    let contract = fuse(&demo.join("tf-cls.pt"), &model, &options, &mut |_| {}).unwrap().contract;
    for engine in engines() {
        let alone = run(engine, &model, &contract, 1);
        assert_eq!(alone.len(), 21);
        let differ = alone.windows(2).filter(|w| (w[0][0] - w[1][0]).abs() > 1e-3).count();
        assert!(
            differ >= 5,
            "only {differ} regions differ from the one before: nothing was tested {alone:?}"
        );
        for batch in [2, 8, 64] {
            let together = run(engine, &model, &contract, batch);
            for (region, (a, b)) in alone.iter().zip(&together).enumerate() {
                let off = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(off < 1e-5, "{}, {batch} at once: region {region} is off by {off}", engine.name());
            }
            assert_eq!(together.len(), 21);
        }
    }
}
