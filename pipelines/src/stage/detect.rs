//! Boxes with labels and scores.

use tapetum_runtime::{
    Error, Result,
    contract::OutputKind,
    finding::{Boxes, Finding, boxes::BoxDecoder},
    settings::{Reader, Table},
};

use super::{Input, Net, Plan, Stage, StageKind, foreign, needed};
use crate::config::Earlier;

/// `kind = "detect"`. With a `crop`, every region is searched and the boxes of all are put together.
pub static DETECT: StageKind = StageKind {
    name: "detect",
    takes_model: true,
    reads: |output| matches!(output, OutputKind::Boxes { .. }),
    labels: &[],
    keys: &["score_threshold", "iou_threshold", "most_per_label"],
    read,
};

struct Detect {
    score: Option<f32>,
    iou: Option<f32>,
    /// Boxes kept per label, those with the highest scores.
    most_per_label: Option<usize>,
}

fn read<'t>(reader: &mut Reader<'t>, table: &Table<'t>, _: &Earlier<'_>) -> Option<Box<dyn Plan>> {
    let mut share = |key: &str| {
        let value = reader.number(table, key)?;
        if !(0.0..=1.0).contains(&value) {
            reader.note(table.place(key), format!("{key} must be from 0 to 1, this is {value}"));
        }
        Some(value)
    };
    let (score, iou) = (share("score_threshold"), share("iou_threshold"));
    let most_per_label = reader.count(table, "most_per_label");
    if most_per_label == Some(0) {
        reader.note(table.place("most_per_label"), "most_per_label must be at least 1");
    }
    Some(Box::new(Detect { score, iou, most_per_label }))
}

impl Plan for Detect {
    fn build(&self, net: Option<Net>) -> Result<Box<dyn Stage>> {
        let net = needed(net)?;
        let found = net.contract.outputs.iter().find_map(|o| match &o.kind {
            OutputKind::Boxes { labels, layout, score_threshold, iou_threshold } => {
                let score = self.score.unwrap_or(*score_threshold);
                let decoder = BoxDecoder::new(*layout, labels.len(), score, self.iou.or(*iou_threshold));
                Some((decoder, labels.len()))
            }
            _ => None,
        });
        let (decoder, labels) = found.ok_or_else(|| Error::bad_file("the model has no output of boxes"))?;
        let most = self.most_per_label.unwrap_or(usize::MAX);
        Ok(Box::new(Detector { net, decoder, most, kept: vec![0; labels], region: Boxes::default() }))
    }
}

struct Detector {
    net: Net,
    decoder: BoxDecoder,
    most: usize,
    /// Per label, how many boxes were kept.
    kept: Vec<usize>,
    region: Boxes,
}

impl Stage for Detector {
    fn blank(&self) -> Finding {
        Finding::Boxes(Boxes::default())
    }

    fn run(&mut self, input: &Input<'_>, out: &mut Finding) -> Result<()> {
        let Finding::Boxes(boxes) = out else { return Err(foreign()) };
        boxes.0.clear();
        let (decoder, region) = (&self.decoder, &mut self.region);
        self.net.each(input.image, input.regions, |output| {
            let place = output.placement;
            decoder.run(output.shape, output.values, place.input, |x, y| place.to_frame(x, y), region)?;
            boxes.0.extend_from_slice(&region.0);
            Ok(())
        })?;
        if input.regions.len() > 1 {
            boxes.0.sort_unstable_by(|a, b| b.score.total_cmp(&a.score));
        }
        self.kept.fill(0);
        boxes.0.retain(|b| {
            let kept = &mut self.kept[b.label];
            *kept += 1;
            *kept <= self.most
        });
        Ok(())
    }
}
