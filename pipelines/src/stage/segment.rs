//! A class per pixel.

use tapetum_runtime::{
    Error, Rect, Result,
    contract::OutputKind,
    finding::{Finding, Mask, mask::MaskDecoder},
};

use super::{Input, Net, Plan, Stage, StageKind, foreign, needed};

/// `kind = "segment"`. With a `crop`, every region gets a part of the mask.
pub static SEGMENT: StageKind = StageKind {
    name: "segment",
    takes_model: true,
    reads: |output| matches!(output, OutputKind::Mask { .. }),
    labels: &[],
    keys: &[],
    read: |_, _, _| Some(Box::new(Segment)),
};

struct Segment;

impl Plan for Segment {
    fn build(&self, net: Option<Net>) -> Result<Box<dyn Stage>> {
        let net = needed(net)?;
        let decoder = net.contract.outputs.iter().find_map(|o| match &o.kind {
            OutputKind::Mask { labels, rule } => Some(MaskDecoder::new(*rule, labels.len())),
            _ => None,
        });
        let decoder = decoder.ok_or_else(|| Error::bad_file("the model has no output of a mask"))?;
        Ok(Box::new(Segmenter { net, decoder }))
    }
}

struct Segmenter {
    net: Net,
    decoder: MaskDecoder,
}

impl Stage for Segmenter {
    fn blank(&self) -> Finding {
        Finding::Mask(Mask::default())
    }

    fn run(&mut self, input: &Input<'_>, out: &mut Finding) -> Result<()> {
        let Finding::Mask(mask) = out else { return Err(foreign()) };
        mask.clear();
        let decoder = &mut self.decoder;
        self.net.each(input.image, input.regions, |output| {
            let place = output.placement;
            // The part of the frame that the network saw: a centre crop leaves some of the region out.
            let [x1, y1, x2, y2] = place.valid.xyxy().map(|v| v as f32);
            let ((x1, y1), (x2, y2)) = (place.to_frame(x1, y1), place.to_frame(x2, y2));
            let seen = Rect::round([x1, y1, x2, y2], input.image.width(), input.image.height());
            decoder.run(output.shape, output.values, place.valid, seen, mask.push())
        })
    }
}
