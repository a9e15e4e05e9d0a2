//! An appearance vector per region.

use tapetum_runtime::{
    Error, Result,
    contract::{Metric, OutputKind},
    finding::{Embeddings, Finding},
};

use super::{Input, Net, Plan, Stage, StageKind, foreign, needed};

/// `kind = "embed"`.
pub static EMBED: StageKind = StageKind {
    name: "embed",
    takes_model: true,
    reads: |output| matches!(output, OutputKind::Embedding { .. }),
    labels: &[],
    keys: &[],
    read: |_, _, _| Some(Box::new(Embed)),
};

struct Embed;

impl Plan for Embed {
    fn build(&self, net: Option<Net>) -> Result<Box<dyn Stage>> {
        let net = needed(net)?;
        let found = net.contract.outputs.iter().find_map(|o| match o.kind {
            OutputKind::Embedding { dim, metric } => Some((dim, metric)),
            _ => None,
        });
        let (dim, metric) =
            found.ok_or_else(|| Error::bad_file("the model has no output of an embedding"))?;
        Ok(Box::new(Embedder { net, dim, metric }))
    }
}

struct Embedder {
    net: Net,
    dim: usize,
    metric: Metric,
}

impl Stage for Embedder {
    fn blank(&self) -> Finding {
        Finding::Embeddings(Embeddings::default())
    }

    fn run(&mut self, input: &Input<'_>, out: &mut Finding) -> Result<()> {
        let Finding::Embeddings(embeddings) = out else { return Err(foreign()) };
        embeddings.clear(self.dim);
        let metric = self.metric;
        self.net.each(input.image, input.regions, |output| {
            embeddings.push(output.placement.roi, output.values, metric)
        })
    }
}
