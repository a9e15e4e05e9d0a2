//! A better picture in place of the frame's: dehazing, deblurring.

use tapetum_runtime::{
    Error, Image, Result,
    contract::OutputKind,
    finding::{Finding, image::ImageDecoder},
};

use super::{Input, Net, Plan, Stage, StageKind, foreign, needed};

/// `kind = "restore"`: later stages look at what it made. The whole picture is restored.
pub static RESTORE: StageKind = StageKind {
    name: "restore",
    takes_model: true,
    reads: |output| matches!(output, OutputKind::Image { .. }),
    keys: &[],
    read: |reader, table, _| {
        if table.has("crop") {
            reader.note(table.place("crop"), "restore takes no crop: it restores the whole picture");
        }
        Some(Box::new(Restore))
    },
};

struct Restore;

impl Plan for Restore {
    fn build(&self, net: Option<Net>) -> Result<Box<dyn Stage>> {
        let net = needed(net)?;
        let colour = net.contract.input.colour;
        let decoder = net.contract.outputs.iter().find_map(|o| match o.kind {
            OutputKind::Image { range, clamp, crop } => Some(ImageDecoder::new(range, clamp, crop, colour)),
            _ => None,
        });
        let decoder = decoder.ok_or_else(|| Error::bad_file("the model has no output of a picture"))?;
        Ok(Box::new(Restorer { net, decoder }))
    }
}

struct Restorer {
    net: Net,
    decoder: ImageDecoder,
}

impl Stage for Restorer {
    fn blank(&self) -> Finding {
        Finding::Image(Image::default())
    }

    fn run(&mut self, input: &Input<'_>, out: &mut Finding) -> Result<()> {
        let Finding::Image(image) = out else { return Err(foreign()) };
        let decoder = &self.decoder;
        self.net.each(input.image, &input.regions[..1], |output| {
            decoder.run(output.shape, output.values, output.placement.valid, image)
        })
    }
}
