//! Restoration from end to end: a checkpoint's pictures, as a pipeline writes them, are the network's own.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use tapetum::assemble::{Options, assemble};
use tapetum::config::{Choice, PipelineFile};
use tapetum::executor::{Run, run};
use tapetum::{sink, source};
use tapetum_runtime::Tensor;
use tapetum_runtime::backend::{Backend, LoadOptions, ModelSource};
use tapetum_runtime::clock::Monotonic;
use tapetum_tests::goldens::{self, engines};

/// A pipeline that restores with the golden checkpoint `net`, fused before.
fn pipeline(net: &str, folder: &Path) -> PipelineFile {
    let checkpoint =
        ["checkpoint.pth", "checkpoint.safetensors"].map(|f| goldens::folder().join(net).join(f));
    let checkpoint = checkpoint.iter().find(|path| path.is_file()).unwrap();
    let model = folder.join("net.onnx");
    let options = tapetum_models::fuse::FuseOptions::default();
    tapetum_models::fuse::fuse(checkpoint, &model, &options, &mut |_| {}).unwrap();
    let text = format!(
        "[pipeline]\nname = \"restore\"\n[model.net]\nfile = {model:?}\n\
         [[stage]]\nname = \"clear\"\nkind = \"restore\"\nmodel = \"net\"\n"
    );
    PipelineFile::parse(text, &folder.join("restore.toml")).unwrap()
}

/// Restores `frames` frames of `spec` into `out`.
fn restore(file: &PipelineFile, engine: &str, spec: &str, out: &Path, frames: usize) {
    let options = Options { engine: Some(Choice::Exactly(engine.to_owned())), ..Options::default() };
    let mut pipeline = assemble(file, &options, spec, false, &mut |_| {}).unwrap();
    pipeline.info.sinks = vec!["pictures"];
    let sinks = vec![sink::open("pictures", out, &pipeline.info).unwrap()];
    let stop = AtomicBool::new(false);
    let source = source::open(spec).unwrap();
    let clock = Monotonic::start();
    let outcome = run(&pipeline, Run { source, sinks, clock: &clock, stop: &stop, watch: &mut |_, _| {} });
    assert!(outcome.source_error.is_none());
    assert_eq!((outcome.summary.frames.delivered, outcome.summary.frames.failed.len()), (frames as u64, 0));
}

/// What the network itself makes of a picture whose sides are multiples of 16, rounded as pictures are.
fn by_hand(engine: &'static dyn Backend, model: &Path, picture: &image::RgbImage) -> Vec<u8> {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let planes = (0..3).flat_map(|c| picture.pixels().map(move |p| f32::from(p.0[c]) / 255.0)).collect();
    let input = Tensor::new(&[1, 3, height, width], planes).unwrap();
    let load = LoadOptions { threads: Some(2), ..LoadOptions::default() };
    let outputs = engine.load(ModelSource::Path(model), &load).unwrap().run(&[input]).unwrap();
    let values = outputs[0].f32s().unwrap();
    let plane = width * height;
    let byte = |at: usize, c: usize| (values[c * plane + at] * 255.0 + 0.5).clamp(0.0, 255.0) as u8;
    (0..plane).flat_map(|at| [0, 1, 2].map(|c| byte(at, c))).collect()
}

#[test]
fn a_pipeline_writes_what_the_network_makes_of_each_picture() {
    for (net, width, height) in [("deanet_train_dim8", 96, 64), ("lmdvit_tiny_dim8", 96, 64)] {
        let folder = tempfile::tempdir().unwrap();
        let frames = folder.path().join("in");
        std::fs::create_dir(&frames).unwrap();
        let picture = |n: u32| {
            let pixel =
                |x: u32, y: u32| image::Rgb([(x * 2 + n * 40) as u8, (y * 3) as u8, (x * y / 9) as u8]);
            image::RgbImage::from_fn(width, height, pixel)
        };
        (0..3).for_each(|n| picture(n).save(frames.join(format!("{n}.png"))).unwrap());
        let file = pipeline(net, folder.path());
        for engine in engines() {
            let out = folder.path().join(engine.name());
            std::fs::create_dir(&out).unwrap();
            restore(&file, engine.name(), &frames.to_string_lossy(), &out, 3);
            for n in 0..3 {
                let written = image::open(out.join(format!("restored/{n:06}.png"))).unwrap().into_rgb8();
                let expected = by_hand(engine, &folder.path().join("net.onnx"), &picture(n));
                let off = written.as_raw().iter().zip(&expected).map(|(a, b)| a.abs_diff(*b)).max();
                assert!(off <= Some(1), "{net} on {}: picture {n} is off by {off:?}", engine.name());
                assert_ne!(written, picture(n), "{net}: nothing was done");
            }
        }
    }
}
