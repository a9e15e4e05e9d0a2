//! Pictures in, pictures out, against PyTorch and NumPy: padding, network, crop and rounding, whole and in tiles, on every
//! engine. `tests/peers/make_restoration_vectors.py` made the data.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use tapetum_runtime::finding::Restored;
use tapetum_tests::goldens::engines;
use tapetum_tests::restoration::{fused, pipeline, restore};

#[derive(Deserialize)]
struct Index {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    golden: String,
    input: String,
    output: String,
    width: usize,
    height: usize,
    tile: Option<usize>,
    overlap: Option<usize>,
    /// Samples of the result that lie so near to a rounding boundary that float noise may decide.
    near_ties: usize,
    /// '1' per kept window; only for pictures that are not cut up.
    decisions: Option<Vec<Vec<String>>>,
}

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/restoration")
}

/// How `case` differs from PyTorch, if it does.
fn check(case: &Case, made: &Restored) -> Result<(), String> {
    let want = image::open(data().join(&case.output)).unwrap().into_rgb8();
    let size = (made.image.width(), made.image.height());
    if size != (case.width, case.height) {
        return Err(format!("it is {size:?}"));
    }
    let off: Vec<u8> =
        made.image.data().iter().zip(want.as_raw()).map(|(a, b)| a.abs_diff(*b)).filter(|d| *d > 0).collect();
    let most = off.iter().max().copied().unwrap_or(0);
    if most > 1 || off.len() > case.near_ties {
        let (n, allowed) = (off.len(), case.near_ties);
        return Err(format!(
            "{n} samples differ by up to {most}; only {allowed} lie near a rounding boundary"
        ));
    }
    let [decisions] = case.decisions.as_deref().unwrap_or_default() else { return Ok(()) };
    for (n, decision) in decisions.iter().enumerate() {
        let kept = decision.bytes().filter(|b| *b == b'1').count() as f32 / decision.len() as f32;
        let got = made.kept.fractions.get(n).copied().unwrap_or(f32::NAN);
        if (got - kept).abs() > 1e-6 || got.is_nan() {
            return Err(format!("decision {n} kept {got} of the windows, PyTorch's {kept}"));
        }
    }
    Ok(())
}

#[test]
fn pictures_come_out_as_from_pytorch_whole_and_in_tiles() {
    let index = std::fs::read_to_string(data().join("index.json")).unwrap();
    let Index { cases } = serde_json::from_str(&index).unwrap();
    let tiled = cases.iter().filter(|c| c.tile.is_some()).count();
    assert!(cases.len() >= 16 && tiled >= 4, "{} cases, {tiled} in tiles", cases.len());
    let folder = tempfile::tempdir().unwrap();
    let mut wrong = Vec::new();
    for golden in ["deanet_train_dim8", "lmdvit_tiny_dim8"] {
        let model = fused(golden, folder.path());
        for engine in engines() {
            for case in cases.iter().filter(|c| c.golden == golden) {
                let keys = match (case.tile, case.overlap) {
                    (Some(tile), Some(overlap)) => format!("tile = {tile}\noverlap = {overlap}"),
                    _ => String::new(),
                };
                let source = data().join(&case.input);
                let ran = restore(&pipeline(&model, &keys).unwrap(), engine.name(), source.to_str().unwrap());
                let outcome = ran.unwrap().frames.remove(0).and_then(|made| check(case, &made));
                if let Err(why) = outcome {
                    wrong.push(format!("{} on {}: {why}", case.output, engine.name()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
