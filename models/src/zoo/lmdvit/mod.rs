//! LMD-ViT: local motion deblurring by window pruning (Li et al., arXiv:2306.14268).
//!
//! A U-shaped window transformer. Small predictors decide per 8×8 window whether it is blurred; the other windows pass
//! untouched. The graph gathers the kept windows, computes on those alone and scatters them back, without control
//! flow, for any number of kept windows including none.
//!
//! | file | one idea |
//! |---|---|
//! | [`config`] | sizes from tensor names and shapes |
//! | [`emit`] | the layers that everything here is made of |
//! | [`plane`] | a feature map as tokens; which tokens a window has |
//! | [`predictor`] | which windows are kept |
//! | [`attention`] | window attention with relative position bias and shift mask |
//! | [`mlp`] | the feed-forward part with its depthwise convolution inside the window |
//! | [`windows`] | the windows that blocks work on: kept ones gathered and scattered, or all |
//! | [`block`] | a transformer block |
//! | [`joints`] | convolutions between pictures and tokens, and between resolutions |
//! | [`network`] | layers and the U |

mod attention;
mod block;
mod config;
mod emit;
mod joints;
mod mlp;
mod network;
mod plane;
mod predictor;
mod windows;

use tapetum_runtime::contract::{OutputKind, PadRule, ResizeRule};
use tapetum_runtime::{Error, Result};

use super::contract::{self, Ports};
use super::{Description, Family, Form, InputSize, Network, SizeRule, Weights, blocks};
use crate::checkpoint::StateDict;
use crate::graph::Graph;
use config::Config;

/// LMD-ViT of any width and depth, in the released kind: three input channels, every layer prunes, the depthwise
/// convolution of the feed-forward part stays inside its window ("LeFF local"; a checkpoint trained without that has
/// the same names and shapes and cannot be told apart).
///
/// Input `image [1, 3, H, W]`, RGB in 0..1. Outputs `restored [1, 3, H, W]`, `gate [1, 1, H, W]` and one
/// `decision_i [1, 1, h, w]` per predictor in execution order, 1 where a window was kept. Padding the image to
/// multiples of 128, cropping and clamping are not part of the graph.
pub struct LmdVitFamily;

impl Family for LmdVitFamily {
    fn name(&self) -> &'static str {
        "lmdvit"
    }

    fn variants(&self) -> Vec<String> {
        config::PUBLISHED.iter().map(|(name, _)| (*name).to_owned()).collect()
    }

    fn variant(&self, name: &str) -> Result<Box<dyn Network>> {
        let found = config::PUBLISHED.iter().find(|(n, _)| *n == name);
        let (_, config) = found.ok_or_else(|| {
            Error::config(format!("lmdvit has no variant {name:?}; there are {}", self.variants().join(", ")))
        })?;
        Ok(Box::new(Deblur { config: config.clone(), prune: true }))
    }

    fn recognise(&self, state: &StateDict) -> Result<Option<Box<dyn Network>>> {
        let config = config::infer(state).map_err(|e| e.at("lmdvit"))?;
        Ok(config.map(|config| Box::new(Deblur { config, prune: true }) as Box<dyn Network>))
    }
}

/// One LMD-ViT.
struct Deblur {
    config: Config,
    prune: bool,
}

impl Network for Deblur {
    fn description(&self) -> Description {
        let mut details = self.config.details();
        if !self.prune {
            details.push(("pruning", "none".into()));
        }
        Description {
            network: LmdVitFamily.name(),
            variant: self.config.variant(),
            form: Form::Deployment,
            details,
        }
    }

    fn default_size(&self) -> InputSize {
        InputSize::Dynamic
    }

    fn size_rule(&self) -> SizeRule {
        let multiple = self.config.multiple();
        SizeRule { fixed_multiple: multiple, dynamic_multiple: multiple, min: multiple, batch: Some(1) }
    }

    fn contract(&self, size: InputSize) -> Ports {
        let rule = self.size_rule();
        let pad = PadRule::ZeroCentred { multiple: rule.dynamic_multiple };
        let mut outputs = vec![contract::restored(), contract::output("gate", OutputKind::Aux)];
        let decisions = if self.prune { self.config.decisions() } else { Vec::new() };
        for (i, (stride, shift)) in decisions.into_iter().enumerate() {
            outputs.push(contract::output(&format!("decision_{i}"), OutputKind::Decision { stride, shift }));
        }
        Ports { input: contract::rgb(size, &rule, ResizeRule::None, pad), outputs }
    }

    fn without_pruning(&self) -> Option<Box<dyn Network>> {
        Some(Box::new(Self { config: self.config.clone(), prune: false }))
    }

    fn build(&self, weights: &mut Weights, size: InputSize) -> Result<Graph> {
        let rule = self.size_rule();
        blocks::check_size("LMD-ViT", &rule, size)?;
        if !self.prune {
            for predictor in self.config.predictors() {
                weights.ignore_prefix(&format!("{predictor}."), "every window is computed");
            }
        }
        network::build(&self.config, self.prune, weights, size, rule)
    }
}
