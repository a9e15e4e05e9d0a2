//! TF-Cls: frame classifier over TF-Net's encoder (the classification step of TF-Collab, arXiv:2510.05615).

use tapetum_runtime::Result;
use tapetum_runtime::contract::{Activation, OutputKind, PadRule};

use super::blocks::{self, check_size};
use super::contract::{self, Ports};
use super::mobileone_block::Assembly;
use super::mobileone_forms::Forms;
use super::tfnet_encoder::{Encoder, one_branch};
use super::{Description, Family, Form, InputSize, Network, SizeRule, Weights};
use crate::checkpoint::StateDict;
use crate::graph::{Dim, Graph};

/// TF-Cls in all widths.
pub struct TfClsFamily;

/// Clear, closed, broken, blur.
const PUBLISHED_CLASSES: usize = 4;
const INPUT: (usize, usize) = (224, 224);

/// One TF-Cls: the encoder, global average, `linear`, softmax.
pub struct TfCls {
    encoder: Encoder,
    classes: usize,
    forms: Forms,
}

impl Family for TfClsFamily {
    fn name(&self) -> &'static str {
        "tfcls"
    }

    fn variants(&self) -> Vec<String> {
        vec!["s0".into()]
    }

    fn variant(&self, name: &str) -> Result<Box<dyn Network>> {
        Ok(Box::new(TfCls::published(name, Form::Training)?))
    }

    fn recognise(&self, state: &StateDict) -> Result<Option<Box<dyn Network>>> {
        if !Encoder::is_in(state) || !state.contains("linear.weight") {
            return Ok(None);
        }
        let (encoder, forms) = (Encoder::read(state)?, Forms::read(state)?);
        let classes = blocks::linear_outputs(state, "linear")?;
        Ok(Some(Box::new(TfCls { encoder, classes, forms })))
    }
}

impl TfCls {
    /// The published network `name` (`s0`) in `form`.
    ///
    /// # Errors
    /// [`tapetum_runtime::ErrorKind::InvalidConfig`] naming the variants there are.
    pub fn published(name: &str, form: Form) -> Result<Self> {
        let encoder = Encoder::published(name).filter(|_| name == "s0");
        let encoder = encoder.ok_or_else(|| blocks::unknown_variant(&TfClsFamily, name))?;
        let forms = one_branch(encoder.blocks()).in_form(form, 1);
        Ok(Self { encoder, classes: PUBLISHED_CLASSES, forms })
    }
}

impl Network for TfCls {
    fn description(&self) -> Description {
        let mut details = Vec::from(self.encoder.details());
        details.push(("branches", self.forms.describe_branches()));
        details.push(("classes", self.classes.to_string()));
        let (variant, form) = (self.encoder.variant(), self.forms.form());
        Description { network: "tfcls", variant, form, details }
    }

    fn default_size(&self) -> InputSize {
        InputSize::Fixed { height: INPUT.0, width: INPUT.1 }
    }

    fn size_rule(&self) -> SizeRule {
        SizeRule { fixed_multiple: 1, dynamic_multiple: 1, min: 32, batch: None }
    }

    fn contract(&self, size: InputSize) -> Ports {
        let labels = contract::labels(self.classes, &["clear", "closed", "broken", "blur"]);
        let kind = OutputKind::Classes { labels, activation: Activation::None };
        Ports {
            input: contract::rgb(size, &self.size_rule(), contract::STRETCH, PadRule::None),
            outputs: vec![contract::output("probabilities", kind)],
        }
    }

    fn build(&self, weights: &mut Weights, size: InputSize) -> Result<Graph> {
        let rule = self.size_rule();
        check_size("TF-Cls", &rule, size)?;
        let mut net = Assembly::new("tfcls", weights, &self.forms);
        let image = net.graph.input("image", size.image_dims(&rule));
        let features = self.encoder.add(&mut net, &image)?;
        let x = blocks::global_average(&mut net.graph, "gap", &features.levels[3]);
        let (c_in, c_out) = (self.encoder.features(), self.classes);
        let logits = blocks::linear(&mut net.graph, net.weights, "linear", &x, c_in, c_out)?;
        let probabilities = blocks::softmax(&mut net.graph, "softmax", &logits, 1);
        net.graph.output("probabilities", &probabilities, vec![Dim::symbol("batch"), Dim::Fixed(c_out)]);
        net.graph.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_those_of_the_trained_networks() {
        let parameters = |form| {
            let network = TfCls::published("s0", form).unwrap();
            network.build(&mut Weights::seeded(1), network.default_size()).unwrap().parameters()
        };
        assert_eq!(parameters(Form::Training), 591_556);
        assert_eq!(parameters(Form::Deployment), 529_364);
    }
}
