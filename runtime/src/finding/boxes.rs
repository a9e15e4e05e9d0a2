//! Detection: a model's boxes and scores → boxes in the frame, without those that say the same twice.

use crate::{Error, Result, contract::BoxLayout};

/// Candidates that are looked at; with more, those with the lowest scores are left out.
const MOST_CANDIDATES: usize = 4096;

/// Boxes of a frame, the highest score first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Boxes(pub Vec<Detection>);

/// One box.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Detection {
    /// Index into the contract's labels.
    pub label: usize,
    /// 0–1.
    pub score: f32,
    /// Left, top, right, bottom in pixels of the frame; may reach beyond its edges.
    pub xyxy: [f32; 4],
}

/// Makes [`Boxes`] of a model's output.
///
/// Every label that reaches the threshold at a place gives a candidate of its own: labels may share a place (the rings
/// of one eye share their centre). Overlaps are settled within a label, the higher score winning.
#[derive(Clone, Debug)]
pub struct BoxDecoder {
    layout: BoxLayout,
    labels: usize,
    score_threshold: f32,
    iou_threshold: Option<f32>,
}

/// How the values of one output lie.
struct Grid {
    /// Number of places.
    places: usize,
    /// Cells in a row and a column; 1 where places are no grid.
    width: usize,
    height: usize,
    /// Distance between two values of one place, and between two places of one value.
    value_stride: usize,
    place_stride: usize,
}

impl BoxDecoder {
    /// `score_threshold`: boxes that score less are dropped. `iou_threshold`: of two boxes of a label that overlap more,
    /// the lesser is dropped; `None`: none is.
    pub fn new(layout: BoxLayout, labels: usize, score_threshold: f32, iou_threshold: Option<f32>) -> Self {
        Self { layout, labels, score_threshold, iou_threshold }
    }

    /// Reads the output for one image: `shape` without the batch, as [`BoxLayout`] says. `input` is the width and height
    /// of the network's input in pixels, `to_frame` maps its pixels to the frame's.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] if the shape is another, or a box that scores enough holds no numbers.
    pub fn run(
        &self,
        shape: &[usize],
        values: &[f32],
        input: (usize, usize),
        to_frame: impl Fn(f32, f32) -> (f32, f32),
        out: &mut Boxes,
    ) -> Result<()> {
        let grid = self.grid(shape, values.len())?;
        out.0.clear();
        let first_score = self.values_before_scores();
        for place in 0..grid.places {
            for label in 0..self.labels {
                let at = |value: usize| values[value * grid.value_stride + place * grid.place_stride];
                let score = match self.layout {
                    BoxLayout::GridObjOffsets => at(0).powf(0.6) * at(first_score + label).powf(0.4),
                    BoxLayout::CxcywhScores | BoxLayout::CxcywhScoresRows => at(first_score + label),
                };
                if score.is_nan() {
                    let what = format!("the score of box {place}, label {label} is no number");
                    return Err(Error::bad_input(what));
                }
                if score < self.score_threshold {
                    continue;
                }
                let [cx, cy, w, h] = self.centre_and_size(&grid, place, input, at);
                let (x1, y1) = to_frame(cx - w / 2.0, cy - h / 2.0);
                let (x2, y2) = to_frame(cx + w / 2.0, cy + h / 2.0);
                let xyxy = [x1, y1, x2, y2];
                if !xyxy.iter().all(|v| v.is_finite()) {
                    return Err(Error::bad_input(format!("box {place} scores {score} and is {xyxy:?}")));
                }
                out.0.push(Detection { label, score, xyxy });
            }
        }
        // By score, then by label and place; a stable sort would take memory.
        out.0.sort_unstable_by(|a, b| {
            let key = |d: &Detection| (d.label, d.xyxy[0].to_bits(), d.xyxy[1].to_bits());
            b.score.total_cmp(&a.score).then_with(|| key(a).cmp(&key(b)))
        });
        out.0.truncate(MOST_CANDIDATES);
        if let Some(threshold) = self.iou_threshold {
            suppress(&mut out.0, threshold);
        }
        Ok(())
    }

    fn values_before_scores(&self) -> usize {
        match self.layout {
            BoxLayout::CxcywhScores | BoxLayout::CxcywhScoresRows => 4,
            BoxLayout::GridObjOffsets => 5,
        }
    }

    fn grid(&self, shape: &[usize], len: usize) -> Result<Grid> {
        let each = self.values_before_scores() + self.labels;
        let grid = match (self.layout, shape) {
            (BoxLayout::CxcywhScores, &[values, places]) if values == each => {
                Grid { places, width: 1, height: 1, value_stride: places, place_stride: 1 }
            }
            (BoxLayout::CxcywhScoresRows, &[places, values]) if values == each => {
                Grid { places, width: 1, height: 1, value_stride: 1, place_stride: values }
            }
            (BoxLayout::GridObjOffsets, &[values, height, width]) if values == each => {
                let places = height * width;
                Grid { places, width, height, value_stride: places, place_stride: 1 }
            }
            _ => {
                let want = match self.layout {
                    BoxLayout::CxcywhScores => format!("[{each}, N]"),
                    BoxLayout::CxcywhScoresRows => format!("[N, {each}]"),
                    BoxLayout::GridObjOffsets => format!("[{each}, H, W]"),
                };
                let what = format!("the model gave boxes of {shape:?} per image, the contract says {want}");
                return Err(Error::bad_input(what));
            }
        };
        if grid.places * each != len {
            return Err(Error::bad_input(format!("{len} values are not {} boxes of {each}", grid.places)));
        }
        Ok(grid)
    }

    /// In pixels of the network's input.
    fn centre_and_size(
        &self,
        grid: &Grid,
        place: usize,
        input: (usize, usize),
        at: impl Fn(usize) -> f32,
    ) -> [f32; 4] {
        match self.layout {
            BoxLayout::CxcywhScores | BoxLayout::CxcywhScoresRows => [at(0), at(1), at(2), at(3)],
            BoxLayout::GridObjOffsets => {
                let (column, row) = ((place % grid.width) as f32, (place / grid.width) as f32);
                let (width, height) = (input.0 as f32, input.1 as f32);
                let sigmoid = |v: f32| 1.0 / (1.0 + (-v).exp());
                [
                    (column + at(1).tanh()) / grid.width as f32 * width,
                    (row + at(2).tanh()) / grid.height as f32 * height,
                    sigmoid(at(3)) * width,
                    sigmoid(at(4)) * height,
                ]
            }
        }
    }
}

/// Greedy non-maximum suppression within each label; `boxes` are sorted by score and stay so.
fn suppress(boxes: &mut Vec<Detection>, threshold: f32) {
    let mut kept = 0;
    for n in 0..boxes.len() {
        let candidate = boxes[n];
        let repeats = |b: &Detection| b.label == candidate.label && iou(b.xyxy, candidate.xyxy) > threshold;
        if !boxes[..kept].iter().any(repeats) {
            boxes[kept] = candidate;
            kept += 1;
        }
    }
    boxes.truncate(kept);
}

/// Intersection over union of two boxes (left, top, right, bottom); 0 where neither has an area.
pub fn iou(a: [f32; 4], b: [f32; 4]) -> f32 {
    let side = |lo: f32, hi: f32| (hi - lo).max(0.0);
    let area = |r: [f32; 4]| side(r[0], r[2]) * side(r[1], r[3]);
    let both = side(a[0].max(b[0]), a[2].min(b[2])) * side(a[1].max(b[1]), a[3].min(b[3]));
    let any = area(a) + area(b) - both;
    if any > 0.0 { both / any } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAME: fn(f32, f32) -> (f32, f32) = |x, y| (x, y);

    /// Three places, two labels.
    const COLUMNS: [f32; 18] = [
        10.0, 11.0, 50.0, // cx
        10.0, 10.0, 50.0, // cy
        8.0, 8.0, 20.0, // w
        8.0, 8.0, 10.0, // h
        0.9, 0.8, 0.1, // scores of label 0
        0.3, 0.2, 0.7, // scores of label 1
    ];

    fn decode(layout: BoxLayout, shape: &[usize], values: &[f32], iou: Option<f32>) -> Result<Boxes> {
        let mut boxes = Boxes::default();
        BoxDecoder::new(layout, 2, 0.25, iou).run(shape, values, (64, 64), SAME, &mut boxes)?;
        Ok(boxes)
    }

    #[test]
    fn both_orders_of_the_ultralytics_layout_say_the_same() {
        let rows: Vec<f32> = (0..3).flat_map(|p| (0..6).map(move |v| COLUMNS[v * 3 + p])).collect();
        let columns = decode(BoxLayout::CxcywhScores, &[6, 3], &COLUMNS, None).unwrap();
        assert_eq!(columns, decode(BoxLayout::CxcywhScoresRows, &[3, 6], &rows, None).unwrap());
        let found: Vec<(usize, f32)> = columns.0.iter().map(|b| (b.label, b.score)).collect();
        assert_eq!(found, [(0, 0.9), (0, 0.8), (1, 0.7), (1, 0.3)]);
        assert_eq!(columns.0[2].xyxy, [40.0, 45.0, 60.0, 55.0]);
    }

    #[test]
    fn the_lesser_of_two_that_overlap_goes_but_other_labels_stay() {
        let kept = decode(BoxLayout::CxcywhScores, &[6, 3], &COLUMNS, Some(0.5)).unwrap();
        let found: Vec<(usize, f32)> = kept.0.iter().map(|b| (b.label, b.score)).collect();
        assert_eq!(found, [(0, 0.9), (1, 0.7), (1, 0.3)]);
    }

    #[test]
    fn a_grid_of_offsets() {
        // One label, a grid of 2 × 2 in an input of 64 × 64: only the lower right cell scores.
        let mut values = vec![0f32; 6 * 4];
        for (value, v) in [(0, 0.5), (1, 0.5), (2, 0.0), (3, 0.0), (4, -1.0), (5, 0.8)] {
            values[value * 4 + 3] = v;
        }
        let mut boxes = Boxes::default();
        let decoder = BoxDecoder::new(BoxLayout::GridObjOffsets, 1, 0.3, Some(0.45));
        decoder.run(&[6, 2, 2], &values, (64, 64), SAME, &mut boxes).unwrap();
        let [b] = boxes.0[..] else { panic!("{boxes:?}") };
        assert!((b.score - 0.5f32.powf(0.6) * 0.8f32.powf(0.4)).abs() < 1e-6);
        let (cx, w) = ((1.0 + 0.5f32.tanh()) * 32.0, 32.0);
        let (cy, h) = (32.0, 64.0 / (1.0 + 1f32.exp()));
        let want = [cx - w / 2.0, cy - h / 2.0, cx + w / 2.0, cy + h / 2.0];
        assert!(b.xyxy.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-4), "{b:?} {want:?}");
    }

    #[test]
    fn wrong_shapes_and_boxes_without_numbers_are_refused() {
        assert!(decode(BoxLayout::CxcywhScores, &[7, 3], &COLUMNS, None).is_err());
        assert!(decode(BoxLayout::CxcywhScores, &[6, 4], &COLUMNS, None).is_err());
        assert!(decode(BoxLayout::CxcywhScores, &[6, 0], &[], None).unwrap().0.is_empty());
        for at in [0, 9, 12] {
            let mut values = COLUMNS;
            values[at] = f32::NAN;
            assert!(decode(BoxLayout::CxcywhScores, &[6, 3], &values, None).is_err(), "{at}");
        }
    }

    #[test]
    fn overlap_of_boxes_without_an_area_is_none() {
        assert_eq!(iou([0.0; 4], [0.0; 4]), 0.0);
        assert_eq!(iou([0.0, 0.0, 2.0, 2.0], [1.0, 0.0, 3.0, 2.0]), 1.0 / 3.0);
        assert_eq!(iou([5.0, 5.0, 1.0, 1.0], [0.0, 0.0, 9.0, 9.0]), 0.0);
    }

    #[test]
    fn suppression_leaves_what_comparing_every_pair_leaves() {
        for seed in 0..50 {
            let mut random = crate::seed::Seeded::new(seed);
            let mut boxes: Vec<Detection> = (0..60)
                .map(|_| {
                    let (x, y) = (random.uniform(0.0, 50.0), random.uniform(0.0, 50.0));
                    let (w, h) = (random.uniform(1.0, 30.0), random.uniform(1.0, 30.0));
                    let label = random.below(3) as usize;
                    Detection { label, score: random.uniform(0.0, 1.0), xyxy: [x, y, x + w, y + h] }
                })
                .collect();
            boxes.sort_by(|a, b| b.score.total_cmp(&a.score));
            let mut gone = vec![false; boxes.len()];
            for a in 0..boxes.len() {
                for b in a + 1..boxes.len() {
                    let same = boxes[a].label == boxes[b].label;
                    gone[b] |= !gone[a] && same && iou(boxes[a].xyxy, boxes[b].xyxy) > 0.4;
                }
            }
            let want: Vec<_> = boxes.iter().zip(&gone).filter(|(_, g)| !**g).map(|(b, _)| *b).collect();
            suppress(&mut boxes, 0.4);
            assert_eq!(boxes, want, "seed {seed}");
        }
    }
}
