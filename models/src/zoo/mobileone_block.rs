//! The MobileOne block: several linear branches while training, one convolution when deployed.
//!
//! ```text
//! training    y = Σᵢ BN(convᵢ k×k (x)) + BN(conv 1×1 (x)) [k > 1] + BN(x) [C_in = C_out, stride 1]
//! deployment  y = conv k×k (x) + b
//! both        out = ReLU(SE(y)), SE only where the checkpoint has it
//! ```
//!
//! Source: Vasu et al., *MobileOne: An Improved One millisecond Mobile Backbone*, arXiv:2206.04040, section 3.2 and
//! figure 3. Tensor names under a block are `rbr_conv.{i}.{conv, bn}`, `rbr_scale.{conv, bn}`, `rbr_skip`,
//! `reparam_conv` and `se.{reduce, expand}`.

use tapetum_runtime::Result;

use super::Weights;
use super::blocks::{self, ConvShape};
use super::mobileone_forms::{Branches, Forms};
use crate::graph::{Builder, Conv2d};

/// A block as its place in the network determines it. Padding is always `kernel / 2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Input channels.
    pub c_in: usize,
    /// Output channels.
    pub c_out: usize,
    /// Side of the square kernel.
    pub kernel: usize,
    /// Step in both axes.
    pub stride: usize,
    /// Groups of every convolution in the block.
    pub groups: usize,
}

impl Block {
    /// Every output channel sees every input channel.
    pub fn dense(c_in: usize, c_out: usize, kernel: usize, stride: usize) -> Self {
        Self { c_in, c_out, kernel, stride, groups: 1 }
    }

    /// 3×3, each channel on its own.
    pub fn depthwise(channels: usize, stride: usize) -> Self {
        Self { c_in: channels, c_out: channels, kernel: 3, stride, groups: channels }
    }

    /// 1×1 across channels.
    pub fn pointwise(c_in: usize, c_out: usize) -> Self {
        Self::dense(c_in, c_out, 1, 1)
    }

    /// Whether training has a 1×1 branch beside the k×k ones.
    pub fn has_scale(&self) -> bool {
        self.kernel > 1
    }

    /// Whether training has a BatchNorm of the input: exactly where the block could be the identity.
    pub fn has_skip(&self) -> bool {
        self.c_in == self.c_out && self.stride == 1
    }

    fn conv(&self, kernel: usize, bias: bool) -> ConvShape {
        let spec = Conv2d { stride: self.stride, pad: kernel / 2, groups: self.groups };
        ConvShape { c_in: self.c_in, c_out: self.c_out, kernel, spec, bias }
    }
}

/// What a network of MobileOne blocks is built with.
pub struct Assembly<'a> {
    /// The graph.
    pub graph: Builder,
    /// Where tensors come from.
    pub weights: &'a mut Weights,
    /// How each block is stored.
    pub forms: &'a Forms,
}

impl<'a> Assembly<'a> {
    /// An empty graph called `name`.
    pub fn new(name: &str, weights: &'a mut Weights, forms: &'a Forms) -> Self {
        Self { graph: Builder::new(name), weights, forms }
    }

    /// Adds block `name` on `x` in the form it is stored in; returns `[N, C_out, ⌈H / stride⌉, ⌈W / stride⌉]`.
    ///
    /// # Errors
    /// As [`Forms::get`] and [`Weights::take`].
    pub fn block(&mut self, name: &str, x: &str, block: Block) -> Result<String> {
        let stored = self.forms.get(name)?;
        let mut y = match stored.branches {
            // A made-up gate is about one half; the branches make up for it.
            Branches::Trained { convs } => {
                self.branches(name, x, block, convs, if stored.squeeze.is_some() { 1.25 } else { 1.0 })?
            }
            Branches::Folded => {
                self.conv(&format!("{name}.reparam_conv"), x, block.conv(block.kernel, true))?
            }
        };
        if let Some(hidden) = stored.squeeze {
            y = self.squeeze_excite(&format!("{name}.se"), &y, block.c_out, hidden)?;
        }
        Ok(self.graph.unary("Relu", &format!("{name}.activation"), &y))
    }

    /// Adds 1×1 convolution `name` with bias.
    ///
    /// # Errors
    /// As [`Weights::take`].
    pub fn pointwise(&mut self, name: &str, x: &str, c_in: usize, c_out: usize) -> Result<String> {
        let shape = ConvShape { c_in, c_out, kernel: 1, spec: Conv2d::default(), bias: true };
        self.conv(name, x, shape)
    }

    /// The sum of the training branches, as a chain of additions; made-up weights give it the size `gain`.
    fn branches(&mut self, name: &str, x: &str, block: Block, convs: usize, gain: f32) -> Result<String> {
        let all = convs + usize::from(block.has_scale()) + usize::from(block.has_skip());
        let gain = gain / (all as f32).sqrt();
        let mut sum = self.conv_norm(&format!("{name}.rbr_conv.0"), x, block, block.kernel, gain)?;
        let mut others = Vec::new();
        for i in 1..convs {
            let branch = format!("{name}.rbr_conv.{i}");
            others.push(self.conv_norm(&branch, x, block, block.kernel, gain)?);
        }
        if block.has_scale() {
            others.push(self.conv_norm(&format!("{name}.rbr_scale"), x, block, 1, gain)?);
        }
        if block.has_skip() {
            others.push(self.norm(&format!("{name}.rbr_skip"), x, block.c_in, gain)?);
        }
        for (n, branch) in others.iter().enumerate() {
            sum = self.graph.binary("Add", &format!("{name}/add.{n}"), &sum, branch);
        }
        Ok(sum)
    }

    fn conv_norm(&mut self, name: &str, x: &str, block: Block, kernel: usize, gain: f32) -> Result<String> {
        let y = self.conv(&format!("{name}.conv"), x, block.conv(kernel, false))?;
        self.norm(&format!("{name}.bn"), &y, block.c_out, gain)
    }

    /// BatchNorm; made-up weights are scaled by `gain`, so that a sum of branches stays in range.
    fn norm(&mut self, name: &str, x: &str, channels: usize, gain: f32) -> Result<String> {
        let norm = blocks::norm_gained(self.weights, name, channels, gain)?;
        Ok(self.graph.batch_norm(name, x, norm))
    }

    /// `x · sigmoid(expand(ReLU(reduce(mean(x)))))`; Hu et al., arXiv:1709.01507, section 3.
    fn squeeze_excite(&mut self, name: &str, x: &str, channels: usize, hidden: usize) -> Result<String> {
        let mean = self.graph.unary("GlobalAveragePool", &format!("{name}/pool"), x);
        let y = self.pointwise(&format!("{name}.reduce"), &mean, channels, hidden)?;
        let y = self.graph.unary("Relu", &format!("{name}/relu"), &y);
        // Made-up gates stay away from 0 and 1, where a sigmoid's argument is large and rounding is seen in the output.
        let expand = format!("{name}.expand");
        let weight =
            self.weights.take_gained(&format!("{expand}.weight"), &[channels, hidden, 1, 1], 0.02)?;
        let bias = self.weights.take(&format!("{expand}.bias"), &[channels])?;
        let y = self.graph.conv(&expand, &y, weight, Some(bias), Conv2d::default());
        let gate = self.graph.unary("Sigmoid", &format!("{name}/sigmoid"), &y);
        Ok(self.graph.binary("Mul", &format!("{name}/scale"), x, &gate))
    }

    fn conv(&mut self, name: &str, x: &str, shape: ConvShape) -> Result<String> {
        blocks::conv(&mut self.graph, self.weights, name, x, shape)
    }
}
