//! Pyramid pooling: the feature map beside its averages over 1, 4, 9 and 36 regions.
//!
//! Source: Zhao et al., *Pyramid Scene Parsing Network*, arXiv:1612.01105, section 3.2, with MobileOne blocks as
//! TF-Net (arXiv:2510.05615) has it.

use tapetum_runtime::Result;

use super::InputSize;
use super::mobileone_block::{Assembly, Block};
use super::resample;

/// Regions per axis of each pyramid level.
const BINS: [usize; 4] = [1, 2, 3, 6];

/// Channels of the module; its tensors are `ppm.*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PyramidPooling {
    /// Input channels.
    pub c_in: usize,
    /// Channels of each level and of the output.
    pub c_out: usize,
}

impl PyramidPooling {
    /// With the output channels that TF-Net's width gives: a quarter, and at least 64.
    pub fn over(c_in: usize) -> Self {
        Self { c_in, c_out: 64.max(c_in / 4) }
    }

    /// Names and sizes of its blocks.
    pub fn blocks(&self) -> Vec<(String, Block)> {
        let reduce = Block::pointwise(self.c_in, self.c_out);
        let mut all: Vec<_> = (0..BINS.len()).map(|i| (level(i), reduce)).collect();
        all.push(("ppm.main_branch".into(), reduce));
        all.push(("ppm.fusion".into(), self.fusion()));
        all
    }

    fn fusion(&self) -> Block {
        Block::pointwise(self.c_out * (1 + BINS.len()), self.c_out)
    }

    /// Adds the module on `x` `[N, c_in, H, W]`, whose plane has `size`; returns `[N, c_out, H, W]`.
    ///
    /// # Errors
    /// As [`Assembly::block`] and [`resample::resize_to`].
    pub fn add(&self, net: &mut Assembly<'_>, x: &str, size: InputSize) -> Result<String> {
        let reduce = Block::pointwise(self.c_in, self.c_out);
        let mut levels = vec![net.block("ppm.main_branch", x, reduce)?];
        for (i, &bins) in BINS.iter().enumerate() {
            let pool = format!("ppm.pyramid_branches.{i}.0");
            let pooled = resample::adaptive_average_pool(&mut net.graph, &pool, x, bins, size)?;
            let y = net.block(&level(i), &pooled, reduce)?;
            let up = format!("ppm.pyramid_branches.{i}/up");
            levels.push(match size {
                InputSize::Fixed { height, width } => {
                    resample::resize_to(&mut net.graph, &up, &y, (bins, bins), (height, width))?
                }
                InputSize::Dynamic => resample::resize_like(&mut net.graph, &up, &y, x, self.c_out),
            });
        }
        let levels: Vec<&str> = levels.iter().map(String::as_str).collect();
        let all = net.graph.concat("ppm/concat", &levels, 1);
        net.block("ppm.fusion", &all, self.fusion())
    }
}

fn level(i: usize) -> String {
    format!("ppm.pyramid_branches.{i}.1")
}
