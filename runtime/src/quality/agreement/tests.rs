use half::f16;

use super::*;
use crate::{
    ErrorKind,
    contract::{Activation, BoxLayout, MaskRule, Metric},
};

fn agreement(kind: OutputKind) -> Agreement {
    Agreement::new(&OutputContract { name: "out".into(), kind })
}

fn labels(n: usize) -> Vec<String> {
    (0..n).map(|n| format!("label {n}")).collect()
}

fn tensor(shape: &[usize], values: &[f32]) -> Tensor {
    Tensor::new(shape, values.to_vec()).unwrap()
}

/// The figure of one run.
fn of(kind: OutputKind, shape: &[usize], want: &[f32], got: &[f32]) -> Figure {
    let mut agreement = agreement(kind);
    agreement.add(&tensor(shape, want), &tensor(shape, got)).unwrap();
    agreement.figure().unwrap()
}

fn classes() -> OutputKind {
    OutputKind::Classes { labels: labels(2), activation: Activation::Softmax }
}

fn mask(n: usize, rule: MaskRule) -> OutputKind {
    OutputKind::Mask { labels: labels(n), rule }
}

fn image(clamp: bool) -> OutputKind {
    OutputKind::Image { range: [0.0, 1.0], clamp, crop: false }
}

fn boxes() -> OutputKind {
    let layout = BoxLayout::CxcywhScoresRows;
    OutputKind::Boxes { labels: labels(1), layout, score_threshold: 0.5, iou_threshold: Some(0.5) }
}

#[test]
fn top_1_is_the_share_of_samples_with_the_same_class() {
    let mut all = agreement(classes());
    assert_eq!(all.figure(), None);
    let want = tensor(&[2, 2], &[0.0, 1.0, 5.0, 4.9]);
    all.add(&want, &want).unwrap();
    // The second of two goes over.
    all.add(&want, &tensor(&[2, 2], &[0.4, 0.5, 4.8, 4.9])).unwrap();
    let figure = all.figure().unwrap();
    assert_eq!(
        (figure.metric, figure.value, figure.gate, figure.samples),
        ("top-1 agreement", 0.75, 0.99, 4)
    );
    assert!(!figure.passes());
    assert_eq!(figure.to_string(), "top-1 agreement 0.7500 (gate 0.99)");
}

#[test]
fn box_iou_is_the_mean_over_the_boxes_of_either() {
    // Rows of cx, cy, w, h, score. The second box of the candidate is half a width to the right: IoU 1/3; a third
    // scores too little to be a box.
    let want = [10.0, 10.0, 8.0, 8.0, 0.9, 40.0, 10.0, 8.0, 8.0, 0.8, 90.0, 10.0, 8.0, 8.0, 0.4];
    let got = [10.0, 10.0, 8.0, 8.0, 0.7, 44.0, 10.0, 8.0, 8.0, 0.8, 90.0, 10.0, 8.0, 8.0, 0.2];
    let figure = of(boxes(), &[1, 3, 5], &want, &got);
    assert_eq!(figure.metric, "box IoU");
    assert!((figure.value - (1.0 + 1.0 / 3.0) / 2.0).abs() < 1e-6, "{figure}");
    assert!((figure.worst.unwrap() - 1.0 / 3.0).abs() < 1e-6, "{figure:?}");
    // A box more counts as 0.
    let mut more = want;
    more[14] = 0.6;
    let figure = of(boxes(), &[1, 3, 5], &want, &more);
    assert!((figure.value - 2.0 / 3.0).abs() < 1e-6 && figure.worst == Some(0.0), "{figure:?}");
}

#[test]
fn without_any_box_nothing_was_compared() {
    let none = [10.0, 10.0, 8.0, 8.0, 0.1];
    let figure = of(boxes(), &[1, 1, 5], &none, &none);
    assert!(!figure.passes());
    assert!(figure.to_string().contains("no box of either in 1 samples"), "{figure}");
}

#[test]
fn boxes_that_cannot_be_decoded_are_the_candidates_failure_and_the_references_error() {
    let layout = BoxLayout::GridObjOffsets;
    let kind = OutputKind::Boxes { labels: labels(1), layout, score_threshold: 0.5, iou_threshold: None };
    let cell = |obj: f32| tensor(&[1, 6, 1, 1], &[obj, 0.0, 0.0, 0.0, 0.0, 1.0]);
    let mut all = agreement(kind);
    all.add(&cell(1.0), &cell(1.0)).unwrap();
    assert!(all.figure().unwrap().passes());
    // A negative objectness has no power of 0.6.
    all.add(&cell(1.0), &cell(-0.1)).unwrap();
    assert!(all.figure().unwrap().to_string().contains("no number"), "{:?}", all.figure());
    assert!(all.add(&cell(-0.1), &cell(1.0)).is_err());
}

#[test]
fn mask_iou_pools_pixels_of_samples_and_averages_classes() {
    let rule = MaskRule::Threshold { above: 0.5 };
    // Two samples: 3 of both and 4 of either; 0 of both and 1 of either: 3/5, not the mean of 3/4 and 0.
    let want = [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0];
    let got = [1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0];
    let figure = of(mask(1, rule), &[2, 1, 2, 2], &want, &got);
    assert_eq!((figure.metric, figure.value), ("mask IoU", 0.6));
    // Three classes, four pixels; want 1 1 2 0, got 1 2 2 0: class 1 has 1 of 2, class 2 has 1 of 2.
    let channels =
        |c: [usize; 4]| -> Vec<f32> { (0..3).flat_map(|k| c.map(|c| f32::from(u8::from(c == k)))).collect() };
    let (want, got) = (channels([1, 1, 2, 0]), channels([1, 2, 2, 0]));
    let figure = of(mask(3, MaskRule::Argmax), &[1, 3, 2, 2], &want, &got);
    assert_eq!((figure.value, figure.worst), (0.5, Some(0.5)));
}

#[test]
fn masks_without_foreground_do_not_pass_trivially() {
    let figure = of(mask(1, MaskRule::Threshold { above: 0.5 }), &[1, 1, 1, 2], &[0.0; 2], &[0.1; 2]);
    assert!(!figure.passes());
    assert!(figure.to_string().contains("no foreground of either"), "{figure}");
    // Foreground of one alone is an IoU of 0.
    let figure = of(mask(1, MaskRule::Threshold { above: 0.5 }), &[1, 1, 1, 2], &[0.0; 2], &[0.9; 2]);
    assert_eq!((figure.value, figure.trouble), (0.0, None));
}

#[test]
fn psnr_is_of_the_pooled_error_within_the_contracts_range() {
    // Errors of 0.1 in one of two images: mse 0.005 over both, 0.01 in the worst.
    let mut all = agreement(image(true));
    let black = tensor(&[1, 1, 1, 2], &[0.0, 0.0]);
    all.add(&black, &black).unwrap();
    assert_eq!(all.figure().unwrap().value, f64::INFINITY);
    assert!(all.figure().unwrap().passes());
    all.add(&black, &tensor(&[1, 1, 1, 2], &[0.1, 0.1])).unwrap();
    let figure = all.figure().unwrap();
    assert!((figure.value - 10.0 * 200f64.log10()).abs() < 1e-5, "{figure}");
    assert!((figure.worst.unwrap() - 20.0).abs() < 1e-5, "{figure:?}");
    assert_eq!(figure.to_string(), "PSNR 23.0 dB (gate 40 dB)");
    // What is cut off is not seen.
    assert_eq!(of(image(true), &[1, 1, 1, 1], &[1.0], &[1.7]).value, f64::INFINITY);
    assert!(of(image(false), &[1, 1, 1, 1], &[1.0], &[1.7]).value < 4.0);
}

#[test]
fn cosine_is_the_mean_and_tells_the_worst() {
    let kind = OutputKind::Embedding { dim: 2, metric: Metric::Cosine };
    let figure = of(kind.clone(), &[2, 2], &[1.0, 0.0, 0.0, 2.0], &[3.0, 0.0, 3.0, 4.0]);
    assert_eq!((figure.metric, figure.value, figure.worst), ("cosine similarity", 0.9, Some(0.8)));
    assert_eq!(of(kind, &[1, 2], &[1.0, 0.0], &[0.0, 0.0]).value, 0.0);
}

#[test]
fn decisions_agree_window_by_window() {
    let kind = OutputKind::Decision { stride: 8, shift: 0 };
    let figure = of(kind, &[1, 1, 2, 2], &[1.0, 0.0, 1.0, 0.0], &[1.0, 1.0, 1.0, 0.0]);
    assert_eq!((figure.metric, figure.value), ("decision agreement", 0.75));
}

#[test]
fn a_candidate_without_numbers_fails_whatever_the_rest_is() {
    let mut all = agreement(classes());
    let want = tensor(&[1, 2], &[0.0, 1.0]);
    for _ in 0..500 {
        all.add(&want, &want).unwrap();
    }
    all.add(&want, &tensor(&[1, 2], &[0.0, f32::NAN])).unwrap();
    let figure = all.figure().unwrap();
    assert!(figure.value > 0.99 && !figure.passes(), "{figure:?}");
    assert!(figure.to_string().contains("the candidate gave NaN at element 1"), "{figure}");
}

#[test]
fn what_cannot_be_compared_is_an_error_that_names_the_output() {
    let mut all = agreement(classes());
    let want = tensor(&[1, 2], &[0.0, 1.0]);
    for (reference, candidate) in [
        (&want, &tensor(&[2, 1], &[0.0, 1.0])),
        (&tensor(&[1, 2], &[f32::INFINITY, 1.0]), &want),
        (&Tensor::scalar(1f32), &Tensor::scalar(1f32)),
        (&want, &Tensor::new(&[1, 2], vec![0i64, 1]).unwrap()),
    ] {
        let e = all.add(reference, candidate).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::BadInput);
        assert!(e.to_string().contains("\"out\""), "{e}");
    }
    let e = agreement(mask(2, MaskRule::Argmax)).add(&want, &want).unwrap_err();
    assert!(e.to_string().contains("[2, H, W]"), "{e}");
}

#[test]
fn half_floats_are_widened_and_aux_outputs_give_no_figure() {
    let mut all = agreement(classes());
    let half = Tensor::new(&[1, 2], vec![f16::from_f32(0.0), f16::from_f32(1.0)]).unwrap();
    all.add(&tensor(&[1, 2], &[0.0, 1.0]), &half).unwrap();
    assert_eq!(all.figure().unwrap().value, 1.0);
    let mut aux = agreement(OutputKind::Aux);
    aux.add(&half, &Tensor::scalar(1f32)).unwrap();
    assert_eq!(aux.figure(), None);
}
