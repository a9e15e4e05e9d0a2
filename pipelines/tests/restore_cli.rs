//! `tapetum restore` and the shipped restoration pipelines, as a user meets them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn tapetum(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tapetum")).args(args).output().expect("the program starts")
}

fn done(args: &[&str]) -> String {
    let out = tapetum(args);
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

fn refused(args: &[&str], code: i32, words: &str) {
    let out = tapetum(args);
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(code), "{args:?}: {said}");
    assert!(said.contains(words), "{words:?} is not in {said}");
}

/// A small network that darkens and the folder it is in; some pictures beside it.
fn stage() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let net = folder.path().join("net.onnx").to_string_lossy().into_owned();
    let golden = root().join("../tests/goldens/deanet_deploy_dim8");
    let checkpoint = ["checkpoint.pth", "checkpoint.safetensors"].map(|f| golden.join(f));
    let checkpoint = checkpoint.iter().find(|f| f.is_file()).unwrap();
    done(&["fuse", &checkpoint.to_string_lossy(), "-o", &net]);
    let pictures = folder.path().join("in");
    std::fs::create_dir(&pictures).unwrap();
    for n in 0..3u32 {
        let pixel = |x, y| image::Rgb([(x * 7) as u8, (y * 9) as u8, (n * 80) as u8]);
        image::RgbImage::from_fn(32, 24, pixel).save(pictures.join(format!("p{n}.png"))).unwrap();
    }
    (folder, net)
}

#[test]
fn a_picture_a_folder_and_a_video() {
    let (folder, net) = stage();
    let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    done(&["restore", &at("in/p1.png"), "--net", &net]);
    let alone = image::open(folder.path().join("in/p1-restored.png")).unwrap().into_rgb8();
    assert_eq!(alone.dimensions(), (32, 24));
    std::fs::remove_file(folder.path().join("in/p1-restored.png")).unwrap();

    let said = done(&["restore", &at("in"), "--net", &net, "-o", &at("out"), "--json"]);
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&said["restored"]["frames"], &said["network"]), (&3.into(), &"deanet dim8".into()));
    assert_eq!(image::open(folder.path().join("out/p1.png")).unwrap().into_rgb8(), alone);

    // Truth, input and result beside each other; the truth is what comes out, so the result is exact.
    let said = done(&[
        "restore",
        &at("in"),
        "--net",
        &net,
        "-o",
        &at("sides"),
        "--compare",
        &at("out"),
        "--side-by-side",
        "--json",
    ]);
    let said: Value = serde_json::from_str(&said).unwrap();
    let frames = said["compared"]["frames"].as_array().unwrap();
    assert_eq!((frames.len(), &frames[1]["name"]), (3, &"p1.png".into()));
    assert!(frames.iter().all(|f| f["psnr_after"].is_null() && f["ssim_after"] == 1.0), "{frames:?}");
    assert!(frames.iter().all(|f| f["psnr_before"].as_f64().is_some_and(|v| v < 60.0)), "{frames:?}");
    let sides = image::open(folder.path().join("sides/p1.png")).unwrap().into_rgb8();
    assert_eq!(sides.dimensions(), (3 * 32 + 2 * 8, 24));
    assert_eq!(sides.get_pixel(40 + 3, 5), alone.get_pixel(3, 5));

    let clip = root().join("demo/haze/clip.avi").to_string_lossy().into_owned();
    done(&["restore", &clip, "--net", &net, "-o", &at("clip.avi"), "--reuse-within", "255"]);
    let again =
        done(&["restore", &at("clip.avi"), "--net", &net, "-o", &at("b.avi"), "--json", "--tile", "256"]);
    let again: Value = serde_json::from_str(&again).unwrap();
    assert_eq!(again["restored"]["frames"], 24);
    assert_eq!(again["restored"]["tiles"]["run"], 48);
}

#[test]
fn what_cannot_be_is_said() {
    let (folder, net) = stage();
    let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    refused(&["restore", &at("in/p0.png"), "--net", &net, "-o", &at("in/p0.png")], 2, "overwrite the input");
    refused(&["restore", &at("in"), "--net", &net, "-o", &at("in")], 2, "overwrite the input");
    refused(&["restore", &at("in/p0.png"), "--net", &net, "-o", &at("p0.tga")], 2, "png, jpg and bmp");
    refused(
        &["restore", &at("in"), "--net", &net, "-o", &at("o"), "--compare", &at("in/p0.png")],
        2,
        "one picture",
    );
    std::fs::create_dir(folder.path().join("truth")).unwrap();
    std::fs::copy(folder.path().join("in/p0.png"), folder.path().join("truth/p0.png")).unwrap();
    refused(
        &["restore", &at("in"), "--net", &net, "-o", &at("o"), "--compare", &at("truth")],
        2,
        "2 of 3: p1, p2",
    );
    let small = image::RgbImage::new(8, 8);
    small.save(folder.path().join("small.png")).unwrap();
    refused(
        &["restore", &at("in/p0.png"), "--net", &net, "-o", &at("x.png"), "--compare", &at("small.png")],
        1,
        "8×8",
    );
    refused(&["restore", &at("in"), "--net", &at("none.onnx")], 2, "none.onnx");
    std::fs::write(folder.path().join("in/p2.png"), b"\x89PNG\r\n\x1a\n").unwrap();
    refused(&["restore", &at("in"), "--net", &net, "-o", &at("o")], 1, "1 of the frames were not restored");
    assert!(folder.path().join("o/p1.png").is_file());
}

#[test]
fn shipped_pipelines_take_other_models() {
    let (_folder, net) = stage();
    let pipeline = |name: &str| root().join(name).to_string_lossy().into_owned();
    assert!(done(&["check", &pipeline("dehaze.toml")]).contains("is sound"));
    let other = format!("dehazer={net}");
    assert!(done(&["check", &pipeline("dehaze.toml"), "--model", &other]).contains("deanet"));
    refused(&["check", &pipeline("deblur.toml")], 2, "--model deblurrer=FILE");
    refused(&["check", &pipeline("dehaze.toml"), "--model", "dehaser=x"], 2, "did you mean \"dehazer\"");
    refused(&["check", &pipeline("dehaze.toml"), "--model", "dehazer"], 2, "is not NAME=FILE");
    let deblur = root().join("../tests/goldens/lmdvit_tiny_dim8");
    let checkpoint = ["checkpoint.pth", "checkpoint.safetensors"].map(|f| deblur.join(f));
    let checkpoint = checkpoint.iter().find(|f| f.is_file()).unwrap();
    let other = format!("deblurrer={}", checkpoint.display());
    assert!(done(&["check", &pipeline("deblur.toml"), "--model", &other]).contains("lmdvit"));
}

#[test]
fn by_day_and_by_night_only_what_is_hazy_is_restored() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let text = std::fs::read_to_string(root().join("day-and-night.toml")).unwrap();
    let demo = root().join("demo").display().to_string();
    // The detector is not part of this repository: another one in its place, which finds nothing here.
    let text = text
        .replace(
            "file = \"FastestDet.onnx\"\ncontract = \"contracts/fastestdet.toml\"",
            "checkpoint = \"demo/tf-det.pt\"\ncontract = \"demo/tf-det.contract.toml\"",
        )
        .replace("demo/", &format!("{demo}/"))
        .replace("every = 10", "every = 1")
        .replace("[\"ort:tensorrt\", \"ort:openvino\", \"ort:cpu\", \"tract\"]", "\"tract\"");
    std::fs::write(at("night.toml"), &text).unwrap();
    assert!(done(&["check", &at("night.toml")]).contains("is sound"));
    std::fs::create_dir(at("in")).unwrap();
    for (n, scene) in ["clear/0_street", "hazy/0_street", "clear/2_hills", "hazy/2_hills"].iter().enumerate()
    {
        let picture = image::open(format!("{demo}/haze/{scene}.png")).unwrap().into_rgb8();
        picture.save(at(&format!("in/{}.png", 2 * n))).unwrap();
        // The same at night.
        let night = image::RgbImage::from_fn(picture.width(), picture.height(), |x, y| {
            image::Rgb(picture.get_pixel(x, y).0.map(|v| v / 8))
        });
        night.save(at(&format!("in/{}.png", 2 * n + 1))).unwrap();
    }
    done(&["run", &at("night.toml"), "--source", &at("in"), "--sink", "jsonl", "--out", &at("out")]);
    let lines = std::fs::read_to_string(at("out/results.jsonl")).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let light: Vec<&str> = lines.iter().map(|l| l["findings"]["light"]["class"].as_str().unwrap()).collect();
    assert_eq!(light, ["clear", "dark", "hazy", "dark", "clear", "dark", "hazy", "dark"]);
    for line in &lines {
        let restored = line["findings"]["dehaze"]["skipped"].is_null();
        assert_eq!(restored, line["findings"]["light"]["class"] == "hazy", "{line}");
    }
    // A condition on what cannot be is refused with its place.
    std::fs::write(at("night.toml"), text.replace("[\"hazy\"]", "[\"foggy\"]")).unwrap();
    refused(&["check", &at("night.toml")], 2, "foggy");
}
