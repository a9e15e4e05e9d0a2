//! MobileOne, image classifier (Vasu et al., arXiv:2206.04040, section 3.3, tables 2 and 3).
//!
//! `stage0` is one dense 3×3 block with stride 2; stages 1 to 4 are pairs of a depthwise 3×3 block (stride 2 in the
//! first pair of a stage) and a pointwise block; then global average and one linear layer.

use tapetum_runtime::contract::{Activation, Filter, OutputKind, ResizeRule};
use tapetum_runtime::{Error, Result};

use super::blocks::{self, check_size};
use super::contract::{self, Ports};
use super::mobileone_block::{Assembly, Block};
use super::mobileone_forms::{self as mob, Branches, Forms, Stored};
use super::{Description, Family, Form, InputSize, Network, SizeRule, Weights};
use crate::checkpoint::StateDict;
use crate::graph::{Dim, Graph};

/// The published evaluation resizes the shorter side to this, in pixels, before the centre crop.
const SHORTER_SIDE: usize = 256;

/// MobileOne in all widths and depths.
pub struct MobileOneFamily;

/// A published configuration.
struct Published {
    name: &'static str,
    /// Multipliers of [`BASE`], per stage.
    width: [f64; 4],
    /// k×k branches per block in stages 1 to 4.
    branches: usize,
    squeeze_excite: bool,
}

/// Channels of stages 1 to 4 at width 1.
const BASE: [usize; 4] = [64, 128, 256, 512];
/// Pairs in stages 1 to 4 of every published network.
const PAIRS: [usize; 4] = [2, 8, 10, 1];
const IMAGENET_CLASSES: usize = 1000;
const INPUT: (usize, usize) = (224, 224);

#[rustfmt::skip]
const PUBLISHED: [Published; 5] = [
    Published { name: "s0", width: [0.75, 1.0, 1.0, 2.0], branches: 4, squeeze_excite: false },
    Published { name: "s1", width: [1.5, 1.5, 2.0, 2.5],  branches: 1, squeeze_excite: false },
    Published { name: "s2", width: [1.5, 2.0, 2.5, 4.0],  branches: 1, squeeze_excite: false },
    Published { name: "s3", width: [2.0, 2.5, 3.0, 4.0],  branches: 1, squeeze_excite: false },
    Published { name: "s4", width: [3.0, 3.5, 3.5, 4.0],  branches: 1, squeeze_excite: true },
];

/// One MobileOne.
pub struct MobileOne {
    /// Channels of `stage0`.
    stem: usize,
    /// Stages 1 to 4.
    stages: [Stage; 4],
    classes: usize,
    forms: Forms,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stage {
    width: usize,
    pairs: usize,
}

impl Family for MobileOneFamily {
    fn name(&self) -> &'static str {
        "mobileone"
    }

    fn variants(&self) -> Vec<String> {
        PUBLISHED.iter().map(|p| p.name.to_owned()).collect()
    }

    fn variant(&self, name: &str) -> Result<Box<dyn Network>> {
        Ok(Box::new(MobileOne::published(name, Form::Training)?))
    }

    fn recognise(&self, state: &StateDict) -> Result<Option<Box<dyn Network>>> {
        if !mob::is_block(state, "stage0") {
            return Ok(None);
        }
        Ok(Some(Box::new(MobileOne::read(state)?)))
    }
}

impl MobileOne {
    /// The published network `name` (`s0` to `s4`) in `form`.
    ///
    /// # Errors
    /// [`tapetum_runtime::ErrorKind::InvalidConfig`] naming the variants there are.
    pub fn published(name: &str, form: Form) -> Result<Self> {
        let Some(published) = PUBLISHED.iter().find(|p| p.name == name) else {
            return Err(blocks::unknown_variant(&MobileOneFamily, name));
        };
        let stages = std::array::from_fn(|i| Stage {
            width: (BASE[i] as f64 * published.width[i]) as usize,
            pairs: PAIRS[i],
        });
        let mut network = Self {
            stem: BASE[0].min(stages[0].width),
            stages,
            classes: IMAGENET_CLASSES,
            forms: Forms::default(),
        };
        for (name, place) in network.blocks() {
            let (convs, squeeze) = match place.pair {
                None => (1, false),
                Some(pair) => (published.branches, published.squeeze_excite && place.late(pair)),
            };
            let squeeze = squeeze.then_some(place.block.c_out / 16);
            network.forms.set(name, Stored { branches: Branches::Trained { convs }, squeeze });
        }
        network.forms = network.forms.in_form(form, published.branches);
        Ok(network)
    }

    fn read(state: &StateDict) -> Result<Self> {
        let mut stages = [Stage { width: 0, pairs: 0 }; 4];
        for (i, stage) in stages.iter_mut().enumerate() {
            *stage = Stage::read(state, &format!("stage{}", i + 1))?;
        }
        Ok(Self {
            stem: mob::channels_out(state, "stage0")?,
            stages,
            classes: blocks::linear_outputs(state, "linear")?,
            forms: Forms::read(state)?,
        })
    }

    /// Every block by name, in order.
    fn blocks(&self) -> Vec<(String, Place)> {
        let stem = Place { stage: 0, pairs: 0, pair: None, block: Block::dense(3, self.stem, 3, 2) };
        let mut all = vec![("stage0".to_owned(), stem)];
        let mut channels = self.stem;
        for (stage, &Stage { width, pairs }) in (1..).zip(&self.stages) {
            for pair in 0..pairs {
                let stride = if pair == 0 { 2 } else { 1 };
                let two = [Block::depthwise(channels, stride), Block::pointwise(channels, width)];
                for (half, block) in two.into_iter().enumerate() {
                    let place = Place { stage, pairs, pair: Some(pair), block };
                    all.push((format!("stage{stage}.{}", 2 * pair + half), place));
                }
                channels = width;
            }
        }
        all
    }

    /// The published network with these channels, depths and places of squeeze-and-excite.
    fn published_name(&self) -> Option<&'static str> {
        let same = |p: &&Published| {
            Self::published(p.name, self.forms.form()).is_ok_and(|other| {
                other.stem == self.stem
                    && other.stages == self.stages
                    && other.forms.excited().eq(self.forms.excited())
            })
        };
        PUBLISHED.iter().find(same).map(|p| p.name)
    }
}

/// One block and where it stands.
struct Place {
    stage: usize,
    /// Pairs in this stage.
    pairs: usize,
    /// `None` for `stage0`.
    pair: Option<usize>,
    block: Block,
}

impl Place {
    /// Whether a network with squeeze-and-excite has it here: the later half of stage 3, all of stage 4.
    fn late(&self, pair: usize) -> bool {
        self.stage == 4 || self.stage == 3 && pair >= self.pairs - self.pairs / 2
    }
}

impl Stage {
    fn read(state: &StateDict, name: &str) -> Result<Self> {
        let blocks = blocks::count_children(state, name)?;
        if blocks == 0 || blocks % 2 == 1 {
            return Err(Error::bad_file(format!(
                "{name} has {blocks} blocks; MobileOne's stages are pairs of a depthwise and a pointwise block"
            )));
        }
        Ok(Self { width: mob::channels_out(state, &format!("{name}.1"))?, pairs: blocks / 2 })
    }
}

impl Network for MobileOne {
    fn description(&self) -> Description {
        let widths = self.stages.iter().zip(BASE).map(|(s, base)| s.width as f64 / base as f64);
        let widths = blocks::join(widths, "-");
        let excited = self.forms.excited().count();
        let variant = self.published_name().map_or_else(|| format!("w{widths}"), str::to_owned);
        Description {
            network: "mobileone",
            variant,
            form: self.forms.form(),
            details: vec![
                ("widths", widths),
                ("channels", blocks::join(self.stages.iter().map(|s| s.width), "-")),
                ("pairs", blocks::join(self.stages.iter().map(|s| s.pairs), "-")),
                ("branches", self.forms.describe_branches()),
                ("squeeze_excite", if excited == 0 { "no".into() } else { format!("{excited} blocks") }),
                ("classes", self.classes.to_string()),
            ],
        }
    }

    fn default_size(&self) -> InputSize {
        InputSize::Fixed { height: INPUT.0, width: INPUT.1 }
    }

    fn size_rule(&self) -> SizeRule {
        SizeRule { fixed_multiple: 1, dynamic_multiple: 1, min: 32, batch: None }
    }

    fn contract(&self, size: InputSize) -> Ports {
        let filter = Filter::BilinearAntialiased;
        let resize = ResizeRule::ShorterSideCrop { filter, shorter_side: SHORTER_SIDE };
        let resize = match size {
            InputSize::Fixed { height, width } if height.max(width) > SHORTER_SIDE => contract::STRETCH,
            _ => resize,
        };
        let kind = OutputKind::Classes {
            labels: contract::labels(self.classes, &[]),
            activation: Activation::Softmax,
        };
        Ports {
            input: contract::imagenet(size, &self.size_rule(), resize),
            outputs: vec![contract::output("logits", kind)],
        }
    }

    fn build(&self, weights: &mut Weights, size: InputSize) -> Result<Graph> {
        let rule = self.size_rule();
        check_size("MobileOne", &rule, size)?;
        let mut net = Assembly::new("mobileone", weights, &self.forms);
        let mut x = net.graph.input("image", size.image_dims(&rule));
        for (name, place) in self.blocks() {
            x = net.block(&name, &x, place.block)?;
        }
        let x = blocks::global_average(&mut net.graph, "gap", &x);
        let features = self.stages[3].width;
        let logits = blocks::linear(&mut net.graph, net.weights, "linear", &x, features, self.classes)?;
        net.graph.output("logits", &logits, vec![Dim::symbol("batch"), Dim::Fixed(self.classes)]);
        net.graph.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(name: &str, form: Form) -> u64 {
        let network = MobileOne::published(name, form).unwrap();
        network.build(&mut Weights::seeded(1), network.default_size()).unwrap().parameters()
    }

    /// Table 2 of the paper gives 2.1, 4.8, 7.8, 10.1 and 14.8 M for the deployed networks.
    #[test]
    fn parameters_are_the_published_ones() {
        assert_eq!(parameters("s0", Form::Training), 5_293_272);
        assert_eq!(parameters("s0", Form::Deployment), 2_078_504);
        assert_eq!(parameters("s1", Form::Training), 4_825_192);
        let millions = |name| (parameters(name, Form::Deployment) as f64 / 1e5).round() / 10.0;
        assert_eq!(["s0", "s1", "s2", "s3", "s4"].map(millions), [2.1, 4.8, 7.8, 10.1, 14.8]);
    }

    #[test]
    fn published_names_are_found_from_sizes_in_both_forms() {
        for published in &PUBLISHED {
            for form in [Form::Training, Form::Deployment] {
                let network = MobileOne::published(published.name, form).unwrap();
                let description = network.description();
                assert_eq!((description.variant.as_str(), description.form), (published.name, form));
            }
        }
        let excited = |name| MobileOne::published(name, Form::Training).unwrap().forms.excited().count();
        assert_eq!((excited("s0"), excited("s4")), (0, 12));
    }
}
