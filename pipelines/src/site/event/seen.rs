//! What the event machine looks at, from a stage's finding.

use tapetum_runtime::finding::Finding;

/// One thing on a frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Seen<'a> {
    /// As the model calls it.
    pub label: &'a str,
    /// 0–1.
    pub score: f32,
    /// x1, y1, x2, y2 in frame pixels.
    pub xyxy: [f32; 4],
}

impl<'a> Seen<'a> {
    /// What `finding` holds, for events: each box, or the class of the whole frame of `size`; other kinds hold nothing. `labels`
    /// are the stage's; a box without a label of its own is passed over.
    pub fn all(
        finding: &'a Finding,
        labels: &'a [String],
        size: (usize, usize),
    ) -> impl Iterator<Item = Self> + 'a {
        let (boxes, class) = match finding {
            Finding::Boxes(boxes) => (boxes.0.as_slice(), None),
            Finding::Class(class) => (&[][..], Some(class)),
            _ => (&[][..], None),
        };
        let boxes = boxes.iter().map(|found| (found.label, found.score, found.xyxy));
        let class = class.and_then(|class| {
            let score = *class.probs.get(class.label)?;
            Some((class.label, score, [0.0, 0.0, size.0 as f32, size.1 as f32]))
        });
        boxes.chain(class).filter_map(|(label, score, xyxy)| {
            let label = labels.get(label)?;
            // A score that is no number would never be the highest, nor below any threshold.
            (score.is_finite() && xyxy.iter().all(|v| v.is_finite())).then_some(Seen { label, score, xyxy })
        })
    }
}
