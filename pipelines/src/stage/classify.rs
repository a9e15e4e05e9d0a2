//! One class for the picture.

use tapetum_runtime::{
    Error, Result,
    contract::OutputKind,
    finding::{Class, Finding, classes::ClassDecoder},
};

use super::{Input, Net, Plan, Stage, StageKind, foreign, needed};

/// `kind = "classify"`. With a `crop`, the region with the highest-scoring box is classified.
pub static CLASSIFY: StageKind = StageKind {
    name: "classify",
    takes_model: true,
    reads: |output| matches!(output, OutputKind::Classes { .. }),
    labels: &[],
    keys: &[],
    read: |_, _, _| Some(Box::new(Classify)),
};

struct Classify;

impl Plan for Classify {
    fn build(&self, net: Option<Net>) -> Result<Box<dyn Stage>> {
        let net = needed(net)?;
        let decoder = net.contract.outputs.iter().find_map(|o| match &o.kind {
            OutputKind::Classes { labels, activation } => Some(ClassDecoder::new(labels.len(), *activation)),
            _ => None,
        });
        let decoder = decoder.ok_or_else(|| Error::bad_file("the model has no output of classes"))?;
        Ok(Box::new(Classifier { net, decoder }))
    }
}

struct Classifier {
    net: Net,
    decoder: ClassDecoder,
}

impl Stage for Classifier {
    fn blank(&self) -> Finding {
        Finding::Class(Class::default())
    }

    fn run(&mut self, input: &Input<'_>, out: &mut Finding) -> Result<()> {
        let Finding::Class(class) = out else { return Err(foreign()) };
        let decoder = &mut self.decoder;
        self.net.each(input.image, &input.regions[..1], |output| decoder.run(output.values, class))
    }
}
