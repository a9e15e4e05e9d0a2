//! Box IoU: what both decode to, matched within each label.

use crate::{
    Result,
    finding::{BoxDecoder, Boxes, Detection, boxes::iou},
};

/// Boxes of both, matched.
pub(super) struct BoxTally {
    decoder: BoxDecoder,
    /// Σ of the IoU of matched boxes.
    overlap: f64,
    /// Matched pairs and boxes that only one of both has.
    boxes: u64,
    /// The least of any pair; 0 once a box is left over.
    worst: f64,
    /// What is wrong with the first output of the candidate that cannot be decoded.
    pub trouble: Option<String>,
    found: [Boxes; 2],
}

impl BoxTally {
    pub fn new(decoder: BoxDecoder) -> Self {
        Self { decoder, overlap: 0.0, boxes: 0, worst: 1.0, trouble: None, found: Default::default() }
    }

    /// Mean IoU over all boxes of either; `None` where neither ever found one.
    pub fn mean(&self) -> Option<(f64, f64)> {
        (self.boxes > 0).then(|| (self.overlap / self.boxes as f64, self.worst))
    }

    /// Adds one image's boxes. What cannot be decoded of the candidate is trouble, of the reference an error.
    ///
    /// The size of the input is not needed: IoU, and with it suppression, is the same in any unit per axis.
    pub fn add(&mut self, shape: &[usize], reference: &[f32], candidate: &[f32]) -> Result<()> {
        let [want, got] = &mut self.found;
        let decode = |values: &[f32], found: &mut Boxes| {
            self.decoder.run(shape, values, (1024, 1024), |x, y| (x, y), found)
        };
        decode(reference, want)?;
        if let Err(e) = decode(candidate, got) {
            self.trouble.get_or_insert_with(|| e.to_string());
            return Ok(());
        }
        for overlap in overlaps(&want.0, &got.0) {
            self.overlap += overlap;
            self.boxes += 1;
            self.worst = self.worst.min(overlap);
        }
        Ok(())
    }
}

/// The IoU of each pair, pairs of one label taken by falling IoU; 0 for each box that is left over on either side.
fn overlaps(want: &[Detection], got: &[Detection]) -> Vec<f64> {
    let mut pairs: Vec<(f32, usize, usize)> = Vec::new();
    for (w, wanted) in want.iter().enumerate() {
        for (g, given) in got.iter().enumerate().filter(|(_, given)| given.label == wanted.label) {
            let overlap = iou(wanted.xyxy, given.xyxy);
            if overlap > 0.0 {
                pairs.push((overlap, w, g));
            }
        }
    }
    pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (mut used_w, mut used_g) = (vec![false; want.len()], vec![false; got.len()]);
    let mut out = Vec::with_capacity(want.len().max(got.len()));
    for (overlap, w, g) in pairs {
        if !used_w[w] && !used_g[g] {
            (used_w[w], used_g[g]) = (true, true);
            out.push(f64::from(overlap));
        }
    }
    let left = used_w.iter().chain(&used_g).filter(|used| !**used).count();
    out.resize(out.len() + left, 0.0);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(label: usize, x: f32) -> Detection {
        Detection { label, score: 0.9, xyxy: [x, 0.0, x + 4.0, 4.0] }
    }

    #[test]
    fn boxes_pair_within_their_label_by_falling_overlap() {
        // Half of one over the other: 8 / 24.
        assert_eq!(overlaps(&[found(0, 0.0)], &[found(0, 2.0)]), [f64::from(8f32 / 24.0)]);
        // Another label at the same place is no match: both are left over.
        assert_eq!(overlaps(&[found(0, 0.0)], &[found(1, 0.0)]), [0.0, 0.0]);
        // The exact pair comes first although the first box overlaps it too.
        let pairs = overlaps(&[found(0, 1.0), found(0, 0.0)], &[found(0, 0.0)]);
        assert_eq!(pairs, [1.0, 0.0]);
        assert!(overlaps(&[], &[]).is_empty());
    }
}
