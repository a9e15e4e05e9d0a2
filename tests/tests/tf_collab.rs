//! TF-Collab on the development clips, on every engine: as good as PyTorch, frame by frame.

use tapetum_tests::goldens::engines;
use tapetum_tests::tf_collab::{CLIPS, Figures, Reference, evaluate, folder, json, play};

fn hold_against_pytorch(clip: &str, engine: &str, f: &Figures) {
    let reference: Reference = json("reference.json");
    let want = &reference.end_to_end[clip];
    let near = |what: &str, got: f64, want: f64| {
        assert!((got - want).abs() <= 0.005, "{clip} on {engine}: {what} {got:.4}, PyTorch {want:.4}");
    };
    near("accuracy", f.accuracy, want.cls_acc);
    near("outside IoU", f.outside_iou, want.det_outside_iou);
    near("mask IoU", f.mask_iou, want.seg_iou_end_to_end);
    let times: Vec<_> = want.but.iter().map(|b| b.pred_but_s).collect();
    assert_eq!(f.but_s.len(), times.len(), "{clip} on {engine}");
    for (got, want) in f.but_s.iter().zip(&times) {
        let same = match (got, want) {
            (Some(got), Some(want)) => (got - want).abs() <= 1.0 / 30.0 + 1e-3,
            (got, want) => got.is_none() && want.is_none(),
        };
        assert!(same, "{clip} on {engine}: break-up times {:?}, PyTorch {times:?}", f.but_s);
    }
    // Decoders round colours differently, so a frame on the edge between two classes may fall on the other side.
    assert!(f.other_class <= 2, "{clip} on {engine}: {} frames of another class", f.other_class);
}

#[test]
fn the_clips_come_out_as_in_pytorch() {
    let cache = tempfile::tempdir().unwrap();
    for engine in engines() {
        // The embedded engine takes its time: the table (`tf-collab-table`) has all clips.
        let clips = if engine.name() == "tract" { &CLIPS[2..] } else { &CLIPS[..] };
        for clip in clips {
            let figures = evaluate(clip, engine.name(), cache.path()).unwrap();
            hold_against_pytorch(clip, engine.name(), &figures);
        }
    }
}

#[test]
fn single_frames_come_out_as_in_pytorch() {
    let reference: Reference = json("reference.json");
    let cache = tempfile::tempdir().unwrap();
    for engine in engines() {
        let source = folder().join("dev_b_png");
        let (seen, _) = play(&source.to_string_lossy(), engine.name(), cache.path(), true).unwrap();
        assert_eq!(seen.len(), reference.frames.len());
        for (got, want) in seen.iter().zip(&reference.frames) {
            let place = format!("{} on {}", want.png, engine.name());
            for (a, b) in got.probs.iter().zip(&want.cls_probs) {
                assert!((a - b).abs() < 1e-4, "{place}: {:?}, PyTorch {:?}", got.probs, want.cls_probs);
            }
            assert_eq!(got.mask.as_ref().map(|(r, _)| r.xyxy()), want.crop_rect_x1y1x2y2, "{place}");
            if let Some(seg) = &want.seg {
                let off = got.area.abs_diff(seg.area_px_frame);
                assert!(off <= 1, "{place}: {} px, PyTorch {} px", got.area, seg.area_px_frame);
            }
        }
    }
}
