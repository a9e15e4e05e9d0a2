//! An engine that fails under `tapetum run`, as its user sees it.

use std::process::Command;

use serde_json::Value;
use tapetum_models::graph::{Attr, Builder, Dim};
use tapetum_models::onnx;
use tapetum_runtime::{DType, Tensor};

#[test]
fn a_failing_engine_is_told_at_once_in_the_summary_and_in_the_report() {
    let folder = tempfile::tempdir().unwrap();
    // A row of a table by the picture's mean; white is beyond its end, which tract panics on.
    let mut b = Builder::new("picky");
    let x = b.input("image", [1, 3, 8, 8].map(Dim::Fixed).to_vec());
    let axes = ("axes", Attr::Ints(vec![1, 2, 3]));
    let mean = b.op("ReduceMean", "mean", &[&x], &[axes, ("keepdims", Attr::Int(0))]);
    let factor = b.float(3.5);
    let scaled = b.binary("Mul", "scaled", &mean, &factor);
    let row = b.cast("row", &scaled, DType::I32);
    let table = b.param("table", Tensor::new(&[3, 4], vec![0.5f32; 12]).unwrap());
    let y = b.op("Gather", "found", &[&table, &row], &[("axis", Attr::Int(0))]);
    b.output("y", &y, vec![Dim::Fixed(1), Dim::Fixed(4)]);
    let file = |name: &str| folder.path().join(name);
    onnx::write(&b.finish().unwrap(), &mut std::fs::File::create(file("picky.onnx")).unwrap()).unwrap();
    let contract = "[output.y]\nkind = { embedding = { dim = 4, metric = \"cosine\" } }\n";
    std::fs::write(file("picky.toml"), contract).unwrap();
    let pipeline = "[pipeline]\nname = \"picky\"\n[model.picky]\nfile = \"picky.onnx\"\ncontract = \"picky.toml\"\n\
                    [[stage]]\nname = \"look\"\nkind = \"embed\"\nmodel = \"picky\"\n";
    std::fs::write(file("pipeline.toml"), pipeline).unwrap();
    std::fs::create_dir(file("frames")).unwrap();
    for (n, grey) in [100, 255, 100].into_iter().enumerate() {
        let picture = image::GrayImage::from_pixel(16, 16, image::Luma([grey]));
        picture.save(file("frames").join(format!("{n}.png"))).unwrap();
    }
    let run = Command::new(env!("CARGO_BIN_EXE_tapetum"))
        .current_dir(folder.path())
        .args(["run", "pipeline.toml", "--source", "frames", "--engine", "tract", "--workers", "1"])
        .args(["--sink", "jsonl", "--sink", "report"])
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{out}{err}");
    assert!(err.contains("look: frame 1: tract/fp32 restarted: tract panicked running"), "{err}");
    assert!(out.contains("look: 1 restart of its engine"), "{out}");
    assert!(out.contains("1 failed (look)"), "{out}");
    let summary: Value = serde_json::from_slice(&std::fs::read(file("out/summary.json")).unwrap()).unwrap();
    assert_eq!(summary["engine_faults"]["look"]["restarts"], 1);
    let report = std::fs::read_to_string(file("out/report.html")).unwrap();
    assert!(report.contains("frame 1: tract/fp32 restarted: tract panicked"), "the report does not tell");
}
