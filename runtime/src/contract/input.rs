//! How a frame becomes the input of a model.

use serde::{Deserialize, Serialize};

/// How the input is made. The steps, in order: resize, colour order, `x · scale`, `(x − mean) / std`, padding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputContract {
    /// The graph input, `[N, C, H, W]`, `f32`.
    pub name: String,
    /// Which `H` and `W` the graph takes.
    pub size: SizePolicy,
    /// How a frame of another size is brought there.
    pub resize: ResizeRule,
    /// The order of the channels.
    pub colour: Colour,
    /// Factor on the 8-bit value, usually 1/255.
    pub scale: f32,
    /// Subtracted after scaling, one per channel.
    pub mean: Vec<f32>,
    /// Divided by after that, one per channel.
    pub std: Vec<f32>,
    /// How the size is rounded up without scaling.
    pub pad: PadRule,
}

/// Which heights and widths, in pixels, the graph takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[allow(missing_docs)] // the fields say it
pub enum SizePolicy {
    /// Exactly this.
    Fixed { height: usize, width: usize },
    /// Any multiple of `of` from the minimum on.
    Multiple { of: usize, min_height: usize, min_width: usize },
    /// Any multiple of `multiple` between the bounds, inclusive.
    Range { min_height: usize, min_width: usize, max_height: usize, max_width: usize, multiple: usize },
}

/// How a frame is brought to the size. The result is 8-bit, rounded as the named library rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ResizeRule {
    /// Not at all: the frame's own size, padded by the [`PadRule`].
    None,
    /// Each axis on its own; the aspect ratio is not kept.
    Stretch {
        /// The kernel.
        filter: Filter,
    },
    /// The largest size of the same aspect ratio that fits, centred.
    Letterbox {
        /// The kernel.
        filter: Filter,
        /// The 8-bit value of the border.
        fill: u8,
    },
    /// The shorter side to `shorter_side` pixels, then the centre of the input's size.
    ShorterSideCrop {
        /// The kernel.
        filter: Filter,
        /// Length of the shorter side, in pixels.
        shorter_side: usize,
    },
}

/// A resampling kernel, by the library whose result it reproduces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Filter {
    /// OpenCV's `INTER_NEAREST`.
    Nearest,
    /// OpenCV's `INTER_LINEAR`: two taps per axis whatever the scale, so downscaling aliases.
    Bilinear,
    /// Pillow's `BILINEAR`: the kernel widens with the scale.
    BilinearAntialiased,
    /// OpenCV's `INTER_AREA`.
    Area,
}

/// The order of the colour channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Colour {
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red.
    Bgr,
    /// One channel: luma, BT.601.
    Grey,
}

impl Colour {
    /// Number of channels.
    pub fn channels(self) -> usize {
        match self {
            Self::Rgb | Self::Bgr => 3,
            Self::Grey => 1,
        }
    }
}

/// How the height and the width are rounded up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum PadRule {
    /// Not at all.
    None,
    /// Mirrored at the right and the bottom edge (the edge itself not repeated), up to a multiple of `multiple`.
    ReflectRightBottom {
        /// In pixels.
        multiple: usize,
    },
    /// With zeros all around, the image centred (the smaller half before it), up to a multiple of `multiple`.
    ZeroCentred {
        /// In pixels.
        multiple: usize,
    },
}

impl PadRule {
    /// The multiple that is padded to, if any.
    pub fn multiple(self) -> Option<usize> {
        match self {
            Self::None => None,
            Self::ReflectRightBottom { multiple } | Self::ZeroCentred { multiple } => Some(multiple),
        }
    }
}
