//! DEA-Net: single-image dehazing with detail-enhanced convolutions and content-guided attention.
//!
//! Source: Chen, He, Lu: *DEA-Net: Single image dehazing based on detail-enhanced convolution and content-guided
//! attention*, arXiv:2301.04805. Input `image` `[N, 3, H, W]` RGB in 0..1, output `restored` of the same shape. Padding
//! the image to the [`SizeRule`], cropping and clamping are not part of the graph.

mod attention;
mod deconv;
mod network;

use tapetum_runtime::contract::{PadRule, ResizeRule};
use tapetum_runtime::{Error, Result};

use super::contract::{self, Ports};
use super::{Description, Family, Form, InputSize, Network, SizeRule, Weights, blocks};
use crate::checkpoint::StateDict;
use crate::graph::{Builder, Graph};

/// Channels at full resolution of the published network.
const PUBLISHED: usize = 32;
/// The published network; `dim<n>` names one of n channels.
const PUBLISHED_NAME: &str = "dim32";
/// The channel attention works on an eighth of four times the base channels.
const SMALLEST: usize = 2;

/// Blocks of one kind that follow each other.
#[derive(Clone, Copy, Debug)]
struct Stack {
    /// Their names without the number.
    prefix: &'static str,
    /// How many.
    count: usize,
    /// Channels, in multiples of the base.
    width: usize,
    /// Whether each ends in a content-guided attention.
    attends: bool,
}

const DOWN_1: Stack = Stack { prefix: "down_level1_block", count: 4, width: 1, attends: false };
const DOWN_2: Stack = Stack { prefix: "down_level2_block", count: 4, width: 2, attends: false };
const BOTTOM: Stack = Stack { prefix: "level3_block", count: 8, width: 4, attends: true };
const UP_2: Stack = Stack { prefix: "up_level2_block", count: 4, width: 2, attends: false };
const UP_1: Stack = Stack { prefix: "up_level1_block", count: 4, width: 1, attends: false };
/// In the order of execution.
const STACKS: [Stack; 5] = [DOWN_1, DOWN_2, BOTTOM, UP_2, UP_1];

impl Stack {
    /// Names of the blocks, in order.
    fn blocks(self) -> impl Iterator<Item = String> {
        (1..=self.count).map(move |i| format!("{}{i}", self.prefix))
    }
}

/// DEA-Net in every width and both forms.
pub struct DeaNetFamily;

impl Family for DeaNetFamily {
    fn name(&self) -> &'static str {
        "deanet"
    }

    fn variants(&self) -> Vec<String> {
        vec![PUBLISHED_NAME.into()]
    }

    fn variant(&self, name: &str) -> Result<Box<dyn Network>> {
        if name != PUBLISHED_NAME {
            return Err(blocks::unknown_variant(self, name));
        }
        Ok(Box::new(DeaNet { base_dim: PUBLISHED, form: Form::Training }))
    }

    fn recognise(&self, state: &StateDict) -> Result<Option<Box<dyn Network>>> {
        let first = format!("{}1.", DOWN_1.prefix);
        if !state.names().any(|n| n.starts_with(&first)) {
            return Ok(None);
        }
        Ok(Some(Box::new(DeaNet { base_dim: base_dim(state)?, form: form(state)? })))
    }
}

fn base_dim(state: &StateDict) -> Result<usize> {
    let name = "down1.0.weight";
    match state.shape(name) {
        Some(&[c, 3, 3, 3]) if c >= SMALLEST => Ok(c),
        Some(shape) => Err(Error::bad_file(format!(
            "DEA-Net: {name:?} is {shape:?}, it should be [C, 3, 3, 3] with C of at least {SMALLEST}"
        ))),
        None => Err(Error::bad_file(format!(
            "DEA-Net: there is no {name:?}, whose shape tells the number of channels"
        ))),
    }
}

/// The form that all detail-enhanced convolutions are in.
fn form(state: &StateDict) -> Result<Form> {
    let mut first: Option<(String, Form)> = None;
    for at in STACKS.into_iter().flat_map(Stack::blocks).map(|block| format!("{block}.conv1")) {
        let here = deconv::form(state, &at)?;
        match &first {
            None => first = Some((at, here)),
            Some((_, form)) if *form == here => {}
            Some((other, form)) => {
                let (form, here) = (form.name(), here.name());
                return Err(Error::bad_file(format!(
                    "DEA-Net: {other:?} is in {form} form and {at:?} in {here} form; a checkpoint has one form"
                )));
            }
        }
    }
    first.map(|(_, form)| form).ok_or_else(|| Error::internal("DEA-Net has no blocks"))
}

/// One DEA-Net.
#[derive(Clone, Copy, Debug)]
struct DeaNet {
    /// Channels at full resolution; twice and four times as many at half and quarter resolution.
    base_dim: usize,
    /// Form of the detail-enhanced convolutions.
    form: Form,
}

impl Network for DeaNet {
    fn description(&self) -> Description {
        let detail = match self.form {
            Form::Training => "five branches each",
            Form::Deployment => "folded",
        };
        Description {
            network: DeaNetFamily.name(),
            variant: format!("dim{}", self.base_dim),
            form: self.form,
            details: vec![
                ("base_dim", self.base_dim.to_string()),
                ("detail-enhanced convolutions", detail.into()),
            ],
        }
    }

    /// Open: the network is convolutional throughout, every engine plans it for any size, and cameras differ.
    fn default_size(&self) -> InputSize {
        InputSize::Dynamic
    }

    fn size_rule(&self) -> SizeRule {
        SizeRule { fixed_multiple: 4, dynamic_multiple: 4, min: 16, batch: None }
    }

    fn contract(&self, size: InputSize) -> Ports {
        let rule = self.size_rule();
        let pad = PadRule::ReflectRightBottom { multiple: rule.dynamic_multiple };
        Ports {
            input: contract::rgb(size, &rule, ResizeRule::None, pad),
            outputs: vec![contract::restored()],
        }
    }

    fn build(&self, weights: &mut Weights, size: InputSize) -> Result<Graph> {
        let rule = self.size_rule();
        blocks::check_size("DEA-Net", &rule, size)?;
        let mut b = Builder::new(DeaNetFamily.name());
        let dims = size.image_dims(&rule);
        let image = b.input("image", dims.clone());
        let restored = network::network(&mut b, weights, &image, *self)?;
        b.output("restored", &restored, dims);
        b.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(form: Form) -> u64 {
        let net = DeaNet { base_dim: PUBLISHED, form };
        net.build(&mut Weights::seeded(1), InputSize::Dynamic).unwrap().parameters()
    }

    #[test]
    fn the_published_network_has_the_published_number_of_parameters() {
        assert_eq!(parameters(Form::Training), 7_789_313);
        assert_eq!(parameters(Form::Deployment), 3_653_377);
    }

    #[test]
    fn sizes_that_do_not_fit_are_refused_with_the_rule() {
        let net = DeaNet { base_dim: 2, form: Form::Deployment };
        let size = InputSize::Fixed { height: 12, width: 30 };
        let message = net.build(&mut Weights::seeded(1), size).unwrap_err().to_string();
        assert!(message.contains("multiples of 4, at least 16") && message.contains("12×30"), "{message}");
    }
}
