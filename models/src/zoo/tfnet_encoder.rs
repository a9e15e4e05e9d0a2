//! The encoder that TF-Net, TF-Cls and TF-Det share ("MobileOne-mini": every block dense and 3×3).
//!
//! Source: arXiv:2510.05615; the blocks are MobileOne's (arXiv:2206.04040).

use tapetum_runtime::{Error, Result};

use super::InputSize;
use super::blocks;
use super::mobileone_block::{Assembly, Block};
use super::mobileone_forms::{self as mob, Branches, Forms, Stored};
use crate::checkpoint::StateDict;

/// Channels at width 1.
const BASE: [usize; 4] = [64, 128, 256, 512];

/// Published sizes and their widths.
const PUBLISHED: [(&str, f64); 7] =
    [("s0", 0.25), ("s1", 0.5), ("s2", 0.75), ("s3", 1.0), ("s4", 1.25), ("s5", 1.5), ("s6", 2.0)];

/// Input pixels per cell of the last stage, on each axis.
pub const STRIDE: usize = 16;

/// A group of blocks under one name; the first block has the stride.
struct Group {
    name: &'static str,
    blocks: usize,
    stride: usize,
    /// Index into [`Encoder::channels`].
    level: usize,
}

const GROUPS: [Group; 5] = [
    Group { name: "stem", blocks: 2, stride: 2, level: 0 },
    Group { name: "stage1", blocks: 2, stride: 1, level: 0 },
    Group { name: "stage2", blocks: 3, stride: 2, level: 1 },
    Group { name: "stage3", blocks: 4, stride: 2, level: 2 },
    Group { name: "stage4", blocks: 3, stride: 2, level: 3 },
];

/// The encoder's only degree of freedom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoder {
    /// Channels at ½, ¼, ⅛ and 1/16 of the input's size.
    pub channels: [usize; 4],
}

/// What the encoder gives, one value per level.
pub struct Features {
    /// `[N, channels[i], ⌈H / 2ⁱ⁺¹⌉, ⌈W / 2ⁱ⁺¹⌉]` for level `i`.
    pub levels: [String; 4],
}

impl Encoder {
    /// The published sizes, smallest first.
    pub fn published_names() -> impl Iterator<Item = &'static str> {
        PUBLISHED.iter().map(|(name, _)| *name)
    }

    /// The published size `name`, `s0` to `s6`.
    pub fn published(name: &str) -> Option<Self> {
        let (_, width) = PUBLISHED.iter().find(|(n, _)| *n == name)?;
        Some(Self { channels: BASE.map(|c| (c as f64 * width) as usize) })
    }

    /// Whether `state` has this encoder's names.
    pub fn is_in(state: &StateDict) -> bool {
        mob::is_block(state, "encoder.stem.0")
    }

    /// Reads the channels from the first block of each level.
    ///
    /// # Errors
    /// [`tapetum_runtime::ErrorKind::BadFile`] if a block is missing, or the numbers of blocks are not this encoder's.
    pub fn read(state: &StateDict) -> Result<Self> {
        let mut channels = [0; 4];
        for group in &GROUPS {
            let name = format!("encoder.{}", group.name);
            let found = blocks::count_children(state, &name)?;
            if found != group.blocks {
                let wanted = group.blocks;
                return Err(Error::bad_file(format!("{name} has {found} blocks, TF-Net's has {wanted}")));
            }
            channels[group.level] = mob::channels_out(state, &format!("{name}.0"))?;
        }
        Ok(Self { channels })
    }

    /// Names and sizes of its blocks, in order.
    pub fn blocks(&self) -> Vec<(String, Block)> {
        self.grouped().into_iter().map(|(_, name, block)| (name, block)).collect()
    }

    fn grouped(&self) -> Vec<(usize, String, Block)> {
        let mut all = Vec::new();
        let mut c_in = 3;
        for group in &GROUPS {
            for i in 0..group.blocks {
                let (c_out, stride) = (self.channels[group.level], if i == 0 { group.stride } else { 1 });
                let name = format!("encoder.{}.{i}", group.name);
                all.push((group.level, name, Block::dense(c_in, c_out, 3, stride)));
                c_in = c_out;
            }
        }
        all
    }

    /// Adds the encoder on the image `x`.
    ///
    /// # Errors
    /// As [`Assembly::block`].
    pub fn add(&self, net: &mut Assembly<'_>, x: &str) -> Result<Features> {
        let mut levels = [const { String::new() }; 4];
        let mut x = x.to_owned();
        for (level, name, block) in self.grouped() {
            x = net.block(&name, &x, block)?;
            levels[level].clone_from(&x);
        }
        Ok(Features { levels })
    }

    /// Channels of the last stage.
    pub fn features(&self) -> usize {
        self.channels[3]
    }

    /// The width that gives these channels.
    fn width(&self) -> f64 {
        self.channels[3] as f64 / BASE[3] as f64
    }

    /// `s0` to `s6` where the channels match, else the width: `w0.125`.
    pub fn variant(&self) -> String {
        let published = Self::published_names().find(|n| Self::published(n) == Some(*self));
        published.map_or_else(|| format!("w{}", self.width()), str::to_owned)
    }

    /// Width and channels, for reports.
    pub fn details(&self) -> [(&'static str, String); 2] {
        [("width", self.width().to_string()), ("channels", blocks::join(self.channels, "-"))]
    }
}

/// Every block of a published network with one training branch.
pub fn one_branch(blocks: impl IntoIterator<Item = (String, Block)>) -> Forms {
    let mut forms = Forms::default();
    for (name, _) in blocks {
        forms.set(name, Stored { branches: Branches::Trained { convs: 1 }, squeeze: None });
    }
    forms
}

/// The extents of an image of `size` after convolutions of stride 2 that make `by` in all.
pub fn strided(size: InputSize, by: usize) -> InputSize {
    match size {
        InputSize::Fixed { height, width } => {
            InputSize::Fixed { height: height.div_ceil(by), width: width.div_ceil(by) }
        }
        InputSize::Dynamic => InputSize::Dynamic,
    }
}
