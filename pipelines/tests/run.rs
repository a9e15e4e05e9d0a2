//! `tapetum run` from outside: hostile frames are counted, nothing is lost, Ctrl-C leaves complete files.

use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// TF-Collab with its models fused once for all tests of this file.
fn tapetum(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tapetum"));
    command.args(args).env("TAPETUM_CACHE", env!("CARGO_TARGET_TMPDIR"));
    command
}

fn pipeline() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tf-collab.toml").to_string_lossy().into_owned()
}

fn results(out: &Path) -> Vec<Value> {
    let file = std::fs::File::open(out.join("results.jsonl")).unwrap();
    let lines = std::io::BufReader::new(file).lines();
    lines.map(|line| serde_json::from_str(&line.unwrap()).expect("every line is whole")).collect()
}

fn grey(folder: &Path, name: &str, width: u32, height: u32) -> PathBuf {
    let path = folder.join(name);
    let pixels = image::GrayImage::from_fn(width, height, |x, y| image::Luma([(x ^ y) as u8]));
    pixels.save(&path).unwrap();
    path
}

/// What is said of a camera that is not there, and what a build says that reads none.
const NO_CAMERA: &str = match cfg!(all(feature = "v4l", target_os = "linux")) {
    true => "v4l2:/dev/video999: No such file",
    false => "v4l2:/dev/video999: cameras by V4L2 are not in this build",
};

#[test]
fn a_truncated_picture_a_tiny_one_and_a_huge_one_among_good_ones() {
    let folder = tempfile::tempdir().unwrap();
    let frames = folder.path().join("frames");
    std::fs::create_dir(&frames).unwrap();
    grey(&frames, "1.png", 640, 480);
    let cut = grey(&frames, "2.png", 640, 480);
    let bytes = std::fs::read(&cut).unwrap();
    std::fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    grey(&frames, "3.png", 1, 1);
    grey(&frames, "10.png", 5472, 3648);
    std::fs::write(frames.join("11.png"), "no picture").unwrap();
    let out = folder.path().join("out");
    let source = frames.to_string_lossy().into_owned();
    let run = tapetum(&["run", &pipeline(), "--source", &source, "--engine", "tract", "--out"])
        .arg(&out)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{text}\n{}", String::from_utf8_lossy(&run.stderr));
    assert!(text.contains("2 failed (unreadable)"), "{text}");
    assert!(text.contains("2.png") && text.contains("11.png"), "{text}");
    let seen: Vec<u64> = results(&out).iter().map(|r| r["seq"].as_u64().unwrap()).collect();
    assert_eq!(seen, [0, 2, 3]);
    let summary: Value =
        serde_json::from_str(&std::fs::read_to_string(out.join("summary.json")).unwrap()).unwrap();
    assert_eq!(summary["frames"]["captured"], 5);
    assert_eq!(summary["frames"]["delivered"], 3);
    assert_eq!(summary["frames"]["failed"]["unreadable"], 2);
}

#[test]
fn sources_that_are_none_and_models_that_do_not_fit_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out").to_string_lossy().into_owned();
    let text = folder.path().join("video.mp4");
    std::fs::write(&text, "this is no video").unwrap();
    let text = text.to_string_lossy().into_owned();
    let empty = folder.path().to_string_lossy().into_owned() + "/empty";
    std::fs::create_dir(&empty).unwrap();
    for (source, code, says) in [
        ("nowhere.mp4", 2, "nowhere.mp4: there is no such file"),
        (empty.as_str(), 2, "no pictures there (looked for .png"),
        (text.as_str(), 1, "neither an MP4 nor an AVI file"),
        ("synthetic:eyes", 2, "did you mean \"eye\"?"),
        ("rtsp://admin:secret@127.0.0.1:1/cam", 1, "rtsp://127.0.0.1:1/cam: Unable to connect"),
        ("rtsp://admin:secret@127.0.0.1:1/cam#stal=1", 2, "behind # are transport="),
        ("rtsps://admin:secret@camera/1", 1, "not in this build"),
        ("RTSP://admin:secret@camera/1", 1, "rtsp:// (in small letters)"),
        ("rstp://admin:secret@camera/1?x=1", 1, "a source of the kind rstp:… is not in this build"),
        ("loop:rtmp://admin:secret@camera/1", 1, "not in this build"),
        ("v4l2:/dev/video999?sise=640x480", 2, "did you mean \"size\"?"),
        ("v4l2:/dev/video999", 1, NO_CAMERA),
    ] {
        let run = tapetum(&["run", &pipeline(), "--source", source, "--out", &out]).output().unwrap();
        let error = String::from_utf8_lossy(&run.stderr);
        assert!(error.contains(says), "{source}: {error}");
        assert!(!error.contains("secret"), "{error}");
        assert_eq!(run.status.code(), Some(code), "{source}: {error}");
    }
    // A classifier where a localizer is needed.
    let wrong = std::fs::read_to_string(pipeline()).unwrap();
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo").to_string_lossy().into_owned();
    let wrong = wrong.replace("\"demo/", &format!("\"{demo}/")).replace("\"localizer\"", "\"classifier\"");
    let file = folder.path().join("wrong.toml");
    std::fs::write(&file, wrong).unwrap();
    let file = file.to_string_lossy().into_owned();
    for args in [&["check", &file][..], &["run", &file, "--source", "synthetic:bars", "--out", &out]] {
        let run = tapetum(args).output().unwrap();
        let error = String::from_utf8_lossy(&run.stderr);
        assert!(error.contains("wrong.toml:32:9: a stage of kind \"detect\" cannot use tfcls"), "{error}");
        assert_eq!(run.status.code(), Some(2), "{error}");
    }
    let run = tapetum(&["run", &pipeline(), "--source", "synthetic:bars", "--engine", "cuda", "--out", &out]);
    let run = { run }.output().unwrap();
    assert_eq!(run.status.code(), Some(2));
}

#[cfg(unix)]
#[test]
fn after_ctrl_c_everything_delivered_is_complete() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let source = "synthetic:noise?frames=1000000&size=64x64";
    let mut run = tapetum(&["run", &pipeline(), "--source", source, "--engine", "tract", "--out"])
        .arg(&out)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let file = out.join("results.jsonl");
    let started = Instant::now();
    while std::fs::metadata(&file).map_or(0, |m| m.len()) < 5000 {
        assert!(started.elapsed() < Duration::from_secs(120), "nothing is delivered");
        std::thread::sleep(Duration::from_millis(20));
    }
    // SAFETY: sends a signal to the child that was just started and has not been waited for.
    assert_eq!(unsafe { libc::kill(run.id() as i32, libc::SIGINT) }, 0);
    let asked = Instant::now();
    let status = run.wait().unwrap();
    assert!(asked.elapsed() < Duration::from_secs(20), "{:?}", asked.elapsed());
    assert!(status.success(), "{status}");
    let lines = results(&out);
    let summary: Value =
        serde_json::from_str(&std::fs::read_to_string(out.join("summary.json")).unwrap()).unwrap();
    assert_eq!(summary["interrupted"], true);
    let frames = &summary["frames"];
    assert_eq!(frames["delivered"], lines.len());
    let dropped = frames["dropped"]["stopped"].as_u64().unwrap_or(0);
    assert_eq!(frames["captured"].as_u64(), Some(lines.len() as u64 + dropped));
    assert!(lines.iter().enumerate().all(|(n, line)| line["seq"] == n));
}
