//! TF-Net: segmentation of tear-film break-up (arXiv:2510.05615).
//!
//! Encoder, optional pyramid pooling, and three decoder steps that each double the size and, in the variants that have
//! skip connections, take in the encoder's features of that size.

use tapetum_runtime::Result;
use tapetum_runtime::contract::{MaskRule, OutputKind, PadRule};

use super::blocks::{self, check_size};
use super::contract::{self, Ports};
use super::mobileone_block::{Assembly, Block};
use super::mobileone_forms::{self as mob, Forms};
use super::ppm::PyramidPooling;
use super::resample::{self, extent};
use super::tfnet_encoder::{Encoder, STRIDE, one_branch, strided};
use super::{Description, Family, Form, InputSize, Network, SizeRule, Weights};
use crate::checkpoint::StateDict;
use crate::graph::{Dim, Graph};

/// TF-Net in all widths and its four variants.
pub struct TfNetFamily;

/// Suffixes of the variants' names: `(suffix, pyramid pooling, skip connections)`.
const VARIANTS: [(&str, bool, bool); 4] = [
    ("", true, true),
    ("-no_ppm", false, true),
    ("-no_skip", true, false),
    ("-no_ppm-no_skip", false, false),
];

const PUBLISHED_CLASSES: usize = 2;
const INPUT: (usize, usize) = (512, 512);

/// The decoder's steps, from the coarsest, and the encoder level each one's skip connection comes from.
const STEPS: [(&str, usize); 3] = [("decoder.up4", 2), ("decoder.up3", 1), ("decoder.up2", 0)];

/// One TF-Net.
pub struct TfNet {
    encoder: Encoder,
    pyramid: Option<PyramidPooling>,
    skip: bool,
    classes: usize,
    forms: Forms,
}

/// One step of the decoder.
struct Step {
    name: &'static str,
    /// Encoder level whose size this step arrives at.
    level: usize,
    /// The two blocks after the concatenation.
    fusion: [Block; 2],
}

impl Family for TfNetFamily {
    fn name(&self) -> &'static str {
        "tfnet"
    }

    fn variants(&self) -> Vec<String> {
        let of = |suffix: &str| Encoder::published_names().map(|size| format!("{size}{suffix}")).collect();
        VARIANTS.iter().flat_map(|(suffix, ..)| -> Vec<_> { of(suffix) }).collect()
    }

    fn variant(&self, name: &str) -> Result<Box<dyn Network>> {
        Ok(Box::new(TfNet::published(name, Form::Training)?))
    }

    fn recognise(&self, state: &StateDict) -> Result<Option<Box<dyn Network>>> {
        let decoder = |name: &str| name.starts_with("decoder.") || name.starts_with("final_conv.");
        if !Encoder::is_in(state) || !state.names().any(decoder) {
            return Ok(None);
        }
        Ok(Some(Box::new(TfNet::read(state)?)))
    }
}

impl TfNet {
    /// The published network `name` (`s0` to `s6`, with `-no_ppm` and `-no_skip`) in `form`.
    ///
    /// # Errors
    /// [`tapetum_runtime::ErrorKind::InvalidConfig`] naming the variants there are.
    pub fn published(name: &str, form: Form) -> Result<Self> {
        let (size, suffix) = name.split_at(name.find('-').unwrap_or(name.len()));
        let variant = VARIANTS.iter().find(|(s, ..)| *s == suffix);
        let (Some(encoder), Some(&(_, ppm, skip))) = (Encoder::published(size), variant) else {
            return Err(blocks::unknown_variant(&TfNetFamily, name));
        };
        let pyramid = ppm.then(|| PyramidPooling::over(encoder.features()));
        let mut network =
            Self { encoder, pyramid, skip, classes: PUBLISHED_CLASSES, forms: Forms::default() };
        network.forms = one_branch(network.blocks()).in_form(form, 1);
        Ok(network)
    }

    fn read(state: &StateDict) -> Result<Self> {
        let encoder = Encoder::read(state)?;
        let has_pyramid = state.names().any(|name| name.starts_with("ppm."));
        let pyramid = if has_pyramid {
            let c_out = mob::channels_out(state, "ppm.fusion")?;
            Some(PyramidPooling { c_in: encoder.features(), c_out })
        } else {
            None
        };
        let mut network = Self {
            encoder,
            pyramid,
            skip: false,
            classes: blocks::linear_outputs(state, "final_conv")?,
            forms: Forms::read(state)?,
        };
        // With a skip connection the first step takes more channels than the part before it gives.
        network.skip = mob::channels_in(state, "decoder.up4.fusion.0")? > network.bottleneck();
        Ok(network)
    }

    /// Channels that the decoder starts from.
    fn bottleneck(&self) -> usize {
        self.pyramid.map_or(self.encoder.features(), |p| p.c_out)
    }

    fn steps(&self) -> [Step; 3] {
        let mut c_in = self.bottleneck();
        STEPS.map(|(name, level)| {
            let skip = if self.skip { self.encoder.channels[level] } else { 0 };
            let c_out = c_in / 2;
            let fusion = [Block::dense(c_in + skip, c_out, 3, 1), Block::dense(c_out, c_out, 3, 1)];
            c_in = c_out;
            Step { name, level, fusion }
        })
    }

    fn blocks(&self) -> Vec<(String, Block)> {
        let mut all = self.encoder.blocks();
        all.extend(self.pyramid.iter().flat_map(PyramidPooling::blocks));
        all.extend(self.steps().iter().flat_map(Step::blocks));
        all
    }

    fn variant(&self) -> String {
        let same = |v: &&(&str, bool, bool)| (v.1, v.2) == (self.pyramid.is_some(), self.skip);
        let suffix = VARIANTS.iter().find(same).map_or("", |v| v.0);
        format!("{}{suffix}", self.encoder.variant())
    }
}

impl Step {
    fn blocks(&self) -> [(String, Block); 2] {
        [0, 1].map(|i| (format!("{}.fusion.{i}", self.name), self.fusion[i]))
    }

    /// Doubles `x`, brings it to the skip connection's size where that differs (only at sizes that 16 does not
    /// divide), joins both and fuses.
    fn add(&self, net: &mut Assembly<'_>, x: &str, skip: Option<&str>, size: InputSize) -> Result<String> {
        let mut x = resample::double(&mut net.graph, &format!("{}/up", self.name), x);
        if let Some(skip) = skip {
            let here = 2 << self.level;
            let doubled = extent(strided(size, 2 * here)).map(|(h, w)| (2 * h, 2 * w));
            if let (Some(from), Some(to)) = (doubled, extent(strided(size, here)))
                && from != to
            {
                x = resample::resize_to(&mut net.graph, &format!("{}/match", self.name), &x, from, to)?;
            }
            x = net.graph.concat(&format!("{}/concat", self.name), &[&x, skip], 1);
        }
        for (name, block) in self.blocks() {
            x = net.block(&name, &x, block)?;
        }
        Ok(x)
    }
}

impl Network for TfNet {
    fn description(&self) -> Description {
        let yes_no = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
        let mut details = Vec::from(self.encoder.details());
        details.extend([
            ("pyramid_pooling", yes_no(self.pyramid.is_some())),
            ("skip_connections", yes_no(self.skip)),
            ("branches", self.forms.describe_branches()),
            ("classes", self.classes.to_string()),
            ("activation", if self.classes == 1 { "sigmoid" } else { "softmax" }.to_owned()),
        ]);
        Description { network: "tfnet", variant: self.variant(), form: self.forms.form(), details }
    }

    fn default_size(&self) -> InputSize {
        InputSize::Fixed { height: INPUT.0, width: INPUT.1 }
    }

    fn size_rule(&self) -> SizeRule {
        let fixed_multiple = if self.skip { 2 } else { STRIDE };
        SizeRule { fixed_multiple, dynamic_multiple: STRIDE, min: STRIDE, batch: None }
    }

    fn contract(&self, size: InputSize) -> Ports {
        let (labels, rule) = match self.classes {
            1 => (contract::labels(1, &["tfbu"]), MaskRule::Threshold { above: 0.5 }),
            n => (contract::labels(n, &["background", "tfbu"]), MaskRule::Argmax),
        };
        Ports {
            input: contract::rgb(size, &self.size_rule(), contract::STRETCH, PadRule::None),
            outputs: vec![contract::output("probabilities", OutputKind::Mask { labels, rule })],
        }
    }

    fn build(&self, weights: &mut Weights, size: InputSize) -> Result<Graph> {
        let rule = self.size_rule();
        let name = if self.skip { "TF-Net" } else { "TF-Net without skip connections" };
        check_size(name, &rule, size)?;
        let mut net = Assembly::new("tfnet", weights, &self.forms);
        let mut dims = size.image_dims(&rule);
        let image = net.graph.input("image", dims.clone());
        let features = self.encoder.add(&mut net, &image)?;
        let mut x = features.levels[3].clone();
        if let Some(pyramid) = self.pyramid {
            x = pyramid.add(&mut net, &x, strided(size, STRIDE))?;
        }
        let mut channels = self.bottleneck();
        for step in self.steps() {
            let skip = self.skip.then_some(features.levels[step.level].as_str());
            x = step.add(&mut net, &x, skip, size)?;
            channels = step.fusion[1].c_out;
        }
        let scores = net.pointwise("final_conv", &x, channels, self.classes)?;
        let scores = resample::double(&mut net.graph, "final_up", &scores);
        let probabilities = if self.classes == 1 {
            net.graph.unary("Sigmoid", "sigmoid", &scores)
        } else {
            blocks::softmax(&mut net.graph, "softmax", &scores, 1)
        };
        dims[1] = Dim::Fixed(self.classes);
        net.graph.output("probabilities", &probabilities, dims);
        net.graph.finish()
    }
}

#[cfg(test)]
mod tests {
    use tapetum_runtime::ErrorKind;

    use super::*;

    fn parameters(name: &str, form: Form) -> u64 {
        let network = TfNet::published(name, form).unwrap();
        network.build(&mut Weights::seeded(1), network.default_size()).unwrap().parameters()
    }

    #[test]
    fn parameters_are_the_published_ones() {
        assert_eq!(parameters("s0", Form::Training), 721_026);
        assert_eq!(parameters("s0", Form::Deployment), 651_282);
        let millions = |name, form| (parameters(name, form) as f64 / 1e5).round() / 10.0;
        let sizes = ["s1", "s2", "s3", "s4"];
        assert_eq!(sizes.map(|n| millions(n, Form::Training)), [2.6, 5.7, 10.2, 15.9]);
        assert_eq!(sizes.map(|n| millions(n, Form::Deployment)), [2.3, 5.2, 9.2, 14.4]);
    }

    #[test]
    fn the_largest_sizes_have_the_published_parameters() {
        let hundredths = |name, form| (parameters(name, form) as f64 / 1e4).round() as u64;
        assert_eq!((hundredths("s5", Form::Training), hundredths("s5", Form::Deployment)), (2291, 2069));
        assert_eq!((hundredths("s6", Form::Training), hundredths("s6", Form::Deployment)), (4071, 3677));
    }

    /// Weights of either form, made up and read back, are recognised as what they were made for.
    #[test]
    fn every_variant_is_recognised_in_both_forms() {
        let size = InputSize::Fixed { height: 48, width: 64 };
        for suffix in VARIANTS.map(|v| v.0) {
            for form in [Form::Training, Form::Deployment] {
                let network = TfNet::published(&format!("s0{suffix}"), form).unwrap();
                let mut weights = Weights::seeded(7);
                let graph = network.build(&mut weights, size).unwrap();
                let Weights::Seeded { made, .. } = weights else { unreachable!() };
                let state = StateDict::new(made);
                let found = TfNetFamily.recognise(&state).unwrap().expect("TF-Net's names");
                assert_eq!(found.description(), network.description());
                assert_eq!(found.description().variant, format!("s0{suffix}"));
                assert_eq!(found.description().form, form);
                let again = found.build(&mut Weights::Checkpoint(state), size).unwrap();
                assert_eq!(again, graph);
            }
        }
    }

    #[test]
    fn training_form_holds_the_operators_of_training() {
        let count = |form, op: &str| {
            let network = TfNet::published("s0", form).unwrap();
            let graph = network.build(&mut Weights::seeded(1), network.default_size()).unwrap();
            graph.nodes.iter().filter(|n| n.is(op)).count()
        };
        // 14 encoder and 6 decoder blocks of 3×3 with two convolutions each, 6 pointwise blocks with one, final_conv.
        assert_eq!(count(Form::Training, "Conv"), 2 * 20 + 6 + 1);
        // One BatchNorm per convolution but the last, and one per block that keeps its channels and size.
        assert_eq!(count(Form::Training, "BatchNormalization"), 46 + 10 + 3);
        assert_eq!(count(Form::Deployment, "Conv"), 27);
        assert_eq!(count(Form::Deployment, "BatchNormalization"), 0);
        assert_eq!(count(Form::Deployment, "Add"), 0);
        assert_eq!(count(Form::Training, "Resize"), 8);
    }

    #[test]
    fn sizes_that_do_not_fit_are_refused_with_the_rule() {
        let build = |name, height, width| {
            let network = TfNet::published(name, Form::Training).unwrap();
            network.build(&mut Weights::seeded(1), InputSize::Fixed { height, width })
        };
        let error = build("s0", 71, 104).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        for part in ["multiples of 2", "71×104", "at least 16"] {
            assert!(error.to_string().contains(part), "{error}");
        }
        let error = build("s0-no_skip", 72, 104).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        assert!(error.to_string().contains("multiples of 16"), "{error}");
        assert!(build("s0", usize::MAX - 1, 16).is_err());
        assert!(build("s0", 72, 104).is_ok());
        assert!(TfNetFamily.variant("s7").err().unwrap().to_string().contains("s0-no_ppm-no_skip"));
    }
}
