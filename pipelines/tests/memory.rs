//! The largest network of the zoo is fused in memory that is bounded by its checkpoint's size.
#![cfg(target_os = "linux")]

use std::process::Command;

/// Peak resident memory of the largest child that has ended, in bytes.
fn children_peak() -> u64 {
    // SAFETY: an all-zero `rusage` is a valid value of that plain C struct.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live, writable `rusage`.
    let got = unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage) };
    assert_eq!(got, 0, "getrusage");
    usage.ru_maxrss as u64 * 1024
}

fn tapetum(args: &[&str]) {
    let out = Command::new(env!("CARGO_BIN_EXE_tapetum")).args(args).output().expect("the program starts");
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
}

#[test]
fn lmdvit_fuses_within_four_times_its_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    tapetum(&["init", "lmdvit", "--variant", "released", "-o", &at("w.safetensors")]);
    let checkpoint = std::fs::metadata(at("w.safetensors")).unwrap().len();
    assert!(checkpoint > 218_000_000, "{checkpoint} bytes");
    tapetum(&["fuse", &at("w.safetensors"), "-o", &at("m.onnx"), "--json"]);
    let peak = children_peak();
    println!("checkpoint {checkpoint} bytes, peak {peak} bytes: {:.2}×", peak as f64 / checkpoint as f64);
    assert!(peak < 4 * checkpoint, "peak {peak} bytes for a checkpoint of {checkpoint}");
}
