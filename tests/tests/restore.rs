//! Restoration from end to end: the pictures that a pipeline makes are the network's own, whole, in tiles, and where
//! work is spared.

use std::path::Path;

use image::RgbImage;
use tapetum::source::images::Images;
use tapetum_runtime::backend::{Backend, LoadOptions, ModelSource};
use tapetum_runtime::finding::{Restored, Tiles};
use tapetum_runtime::quality::psnr;
use tapetum_runtime::{Image, PixelFormat, Tensor};
use tapetum_tests::goldens::engines;
use tapetum_tests::restoration::{fused, pipeline, restore};

const DEHAZE: &str = "deanet_train_dim8";
const DEBLUR: &str = "lmdvit_tiny_dim8";

/// What the network itself makes of a picture whose sides are multiples of 16, rounded as pictures are.
fn by_hand(engine: &'static dyn Backend, model: &Path, picture: &RgbImage) -> Vec<u8> {
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

fn picture(width: u32, height: u32, n: u32) -> RgbImage {
    let pixel =
        |x: u32, y: u32| image::Rgb([(x * 2 + n * 40) as u8, (y * 3) as u8, (x * y / 9 + n * n) as u8]);
    RgbImage::from_fn(width, height, pixel)
}

/// Writes the pictures into a folder of their own, as a source.
fn frames<P, C>(folder: &Path, pictures: &[image::ImageBuffer<P, C>]) -> String
where
    P: image::Pixel + image::PixelWithColorType,
    [P::Subpixel]: image::EncodableLayout,
    C: std::ops::Deref<Target = [P::Subpixel]>,
{
    let frames = folder.join("frames");
    std::fs::create_dir_all(&frames).unwrap();
    for (n, picture) in pictures.iter().enumerate() {
        picture.save(frames.join(format!("{n}.png"))).unwrap();
    }
    frames.to_str().unwrap().to_owned()
}

fn restored(model: &Path, keys: &str, engine: &str, source: &str) -> Vec<Restored> {
    let ran = restore(&pipeline(model, keys).unwrap(), engine, source).unwrap();
    assert!(ran.outcome.summary.frames.failed.is_empty(), "{:?}", ran.outcome.summary.frames);
    ran.frames.into_iter().map(|frame| frame.unwrap()).collect()
}

fn worst(a: &[u8], b: &[u8]) -> u8 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0)
}

#[test]
fn a_pipeline_makes_what_the_network_makes_of_each_picture() {
    let folder = tempfile::tempdir().unwrap();
    // 128 × 128 needs no padding under either rule.
    let pictures = [0, 1, 2].map(|n| picture(128, 128, n));
    let source = frames(folder.path(), &pictures);
    for net in [DEHAZE, DEBLUR] {
        let model = fused(net, folder.path());
        for engine in engines() {
            let made = restored(&model, "", engine.name(), &source);
            assert_eq!(made.len(), 3);
            for (made, picture) in made.iter().zip(&pictures) {
                let off = worst(made.image.data(), &by_hand(engine, &model, picture));
                assert!(off <= 1, "{net} on {}: off by {off}", engine.name());
                assert_ne!(made.image.data(), picture.as_raw(), "{net}: nothing was done");
                assert_eq!(made.tiles, Tiles { run: 1, ..Tiles::default() });
                assert_eq!(made.kept.share().is_some(), net == DEBLUR);
            }
        }
    }
}

#[test]
fn kept_windows_are_those_that_the_decisions_say() {
    let folder = tempfile::tempdir().unwrap();
    let shown = picture(128, 128, 1);
    let source = frames(folder.path(), std::slice::from_ref(&shown));
    let model = fused(DEBLUR, folder.path());
    for engine in engines() {
        let made = restored(&model, "", engine.name(), &source).remove(0);
        let planes = (0..3).flat_map(|c| shown.pixels().map(move |p| f32::from(p.0[c]) / 255.0)).collect();
        let input = Tensor::new(&[1, 3, 128, 128], planes).unwrap();
        let mut session = engine.load(ModelSource::Path(&model), &LoadOptions::default()).unwrap();
        let outputs = session.run(&[input]).unwrap();
        let decisions: Vec<&Tensor> = session
            .outputs()
            .iter()
            .zip(&outputs)
            .filter(|(port, _)| port.name.starts_with("decision_"))
            .map(|(_, tensor)| tensor)
            .collect();
        assert_eq!(decisions.len(), 13);
        let mut map = vec![0u8; 128 * 128];
        for (n, decision) in decisions.iter().enumerate() {
            let values = decision.f32s().unwrap();
            let share = values.iter().sum::<f32>() / values.len() as f32;
            assert!((made.kept.fractions[n] - share).abs() < 1e-6, "decision {n}");
            let [_, _, rows, columns] = *decision.shape() else { panic!("rank") };
            let side = 128 / columns;
            // The depths of this network's layers are 1, 2, 4, 1, 1, 1, 3, 2, 1: the second of two is shifted.
            let shift = if [2, 4, 9, 11].contains(&n) { side / 2 } else { 0 };
            for at in (0..rows * columns).filter(|&at| values[at] > 0.5) {
                for y in 0..side {
                    for x in 0..side {
                        let (x, y) = (at % columns * side + x + shift, at / columns * side + y + shift);
                        map[y % 128 * 128 + x % 128] = 1;
                    }
                }
            }
        }
        assert_eq!(made.kept.map, map);
    }
}

#[test]
fn frames_of_any_size_come_back_in_their_size() {
    let folder = tempfile::tempdir().unwrap();
    let sizes = [(1, 1), (7, 5), (127, 129), (130, 40), (3, 300)];
    let pictures: Vec<RgbImage> = sizes.iter().map(|&(w, h)| picture(w, h, 2)).collect();
    let source = frames(folder.path(), &pictures);
    for net in [DEHAZE, DEBLUR] {
        let model = fused(net, folder.path());
        for engine in engines() {
            let made = restored(&model, "", engine.name(), &source);
            let got: Vec<_> =
                made.iter().map(|m| (m.image.width() as u32, m.image.height() as u32)).collect();
            assert_eq!(got, sizes, "{net} on {}", engine.name());
        }
    }
}

#[test]
fn grey_pictures_are_restored_as_three_equal_channels() {
    let folder = tempfile::tempdir().unwrap();
    let grey = image::GrayImage::from_fn(64, 48, |x, y| image::Luma([(x * 3 + y) as u8]));
    let source = frames(&folder.path().join("grey"), std::slice::from_ref(&grey));
    let colour = image::DynamicImage::ImageLuma8(grey).into_rgb8();
    let same = frames(&folder.path().join("rgb"), &[colour]);
    let model = fused(DEHAZE, folder.path());
    for engine in engines() {
        let [a, b] = [&source, &same].map(|source| restored(&model, "", engine.name(), source).remove(0));
        assert_eq!(a.image, b.image);
    }
}

#[test]
fn a_static_camera_restores_only_what_changed() {
    let folder = tempfile::tempdir().unwrap();
    let first = picture(300, 200, 0);
    let mut nearly = first.clone();
    nearly.pixels_mut().for_each(|p| p.0[1] = p.0[1].saturating_add(2));
    let mut corner = first.clone();
    corner.put_pixel(299, 199, image::Rgb([255, 0, 255]));
    // The last but one has drifted by 4 from what was restored, though by 2 only from the one before.
    let mut drifted = first.clone();
    drifted.pixels_mut().for_each(|p| p.0[1] = p.0[1].saturating_add(4));
    let pictures = [first.clone(), first.clone(), nearly, corner, drifted, picture(160, 200, 0)];
    let source = frames(folder.path(), &pictures);
    let model = fused(DEHAZE, folder.path());
    let engine = "tract";
    let tiling = "tile = 128\noverlap = 32";
    let made = restored(&model, &format!("{tiling}\nreuse_within = 2"), engine, &source);
    let again = restored(&model, tiling, engine, &source);
    let runs: Vec<_> = made.iter().map(|m| (m.tiles.run, m.tiles.reused)).collect();
    assert_eq!(runs, [(6, 0), (0, 6), (0, 6), (1, 5), (6, 0), (4, 0)]);
    for n in [0, 1, 3, 4, 5] {
        assert_eq!(made[n].image, again[n].image, "picture {n}");
    }
    assert_eq!(made[2].image, made[0].image);
    // Every second frame at the latest.
    let young = restored(&model, &format!("{tiling}\nreuse_within = 2\nreuse_frames = 1"), engine, &source);
    assert_eq!(young[2].tiles.run, 6);
    assert_eq!(young[2].image, again[2].image);
}

#[test]
fn tiles_that_are_sharp_or_still_stay_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    // The left half is a smooth ramp, the right half a chequerboard; in the second picture the left half moves.
    let show = |n: u32| {
        RgbImage::from_fn(256, 128, |x, y| match x {
            0..128 => image::Rgb([(x / 2 + n * 20) as u8; 3]),
            _ => image::Rgb([((x + y) % 2 * 255) as u8; 3]),
        })
    };
    let pictures = [show(0), show(1), show(1)];
    let source = frames(folder.path(), &pictures);
    let model = fused(DEBLUR, folder.path());
    let tiling = "tile = 128\noverlap = 0";
    for engine in engines() {
        let sharp = restored(&model, &format!("{tiling}\nskip_sharp = 1000"), engine.name(), &source);
        assert_eq!(sharp[0].tiles, Tiles { run: 1, sharp: 1, ..Tiles::default() });
        let still = restored(&model, &format!("{tiling}\nskip_still = 3"), engine.name(), &source);
        let ways: Vec<_> = still.iter().map(|s| (s.tiles.run, s.tiles.still)).collect();
        assert_eq!(ways, [(2, 0), (1, 1), (0, 2)]);
        // What was passed over is the frame's own, and counts as pruned.
        let right =
            |image: &Image| (0..128).flat_map(|y| image.row(y)[200 * 3..].to_vec()).collect::<Vec<u8>>();
        let own = Image::new(256, 128, PixelFormat::Rgb8, pictures[1].clone().into_raw()).unwrap();
        assert_eq!(right(&still[1].image), right(&own));
        assert_eq!(still[2].image.data(), pictures[2].as_raw());
        assert_eq!(still[2].kept.share(), Some(0.0));
        let (once, twice) = (&still[1].kept.fractions, &restored(&model, tiling, engine.name(), &source)[1]);
        assert!(once.iter().zip(&twice.kept.fractions).all(|(a, b)| a <= b));
    }
}

#[test]
fn what_cannot_be_restored_is_refused_with_the_rule() {
    let folder = tempfile::tempdir().unwrap();
    let model = fused(DEBLUR, folder.path());
    let mistakes = "tile = 8\noverlap = -1\nskip_sharp = \"much\"\nreuse_frames = 3\nreuse_wihtin = 2";
    let e = pipeline(&model, mistakes).err().unwrap().to_string();
    for part in ["10:8: tile must be from 16", "skip_sharp", "did you mean \"reuse_within\"", "overlap"] {
        assert!(e.contains(part), "{part:?} is not in {e}");
    }
    let source = frames(folder.path(), &[picture(40, 40, 0)]);
    let tight = pipeline(&model, "memory_mib = 1").unwrap();
    let e = restore(&tight, "tract", &source).err().unwrap().to_string();
    assert!(e.contains("memory_mib = 1 does not hold the smallest tile, 128×128"), "{e}");
}

#[test]
fn the_demo_network_takes_haze_out_of_scenes_that_it_has_never_seen() {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../pipelines/demo");
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("dehaze.onnx");
    let options = tapetum_models::fuse::FuseOptions::default();
    tapetum_models::fuse::fuse(&demo.join("dehaze.safetensors"), &model, &options, &mut |_| {}).unwrap();
    let read = |which: &str| {
        let images = Images::open(demo.join("haze").join(which).to_str().unwrap()).unwrap();
        let one = |path| {
            let mut image = Image::default();
            tapetum::source::images::read(path, &mut image).map(|()| image).unwrap()
        };
        images.paths().iter().map(|path| one(path)).collect::<Vec<Image>>()
    };
    let (hazy, clear) = (read("hazy"), read("clear"));
    let mean = |pictures: &[Image]| {
        let sum: f64 = pictures.iter().zip(&clear).map(|(a, b)| psnr(a, b).unwrap()).sum();
        sum / clear.len() as f64
    };
    let source = demo.join("haze/hazy").to_string_lossy().into_owned();
    for engine in engines() {
        let made: Vec<Image> =
            restored(&model, "", engine.name(), &source).into_iter().map(|m| m.image).collect();
        assert_eq!(made.len(), 7);
        // 15.24 → 20.82 when it was trained.
        let (before, after) = (mean(&hazy), mean(&made));
        assert!((before - 15.24).abs() < 0.01, "{before}");
        assert!((after - 20.82).abs() < 0.05, "{}: {before} → {after} dB", engine.name());
    }
}
