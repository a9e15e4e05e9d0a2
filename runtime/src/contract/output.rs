//! What the outputs of a model mean.

use serde::{Deserialize, Serialize};

/// One output of the graph.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputContract {
    /// The graph output.
    pub name: String,
    /// What it means.
    pub kind: OutputKind,
}

/// What an output means and how a finding is made of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum OutputKind {
    /// `[N, labels]`: one score per class.
    Classes {
        /// In the order of the scores.
        labels: Vec<String>,
        /// What turns the scores into probabilities.
        activation: Activation,
    },
    /// Boxes with scores.
    Boxes {
        /// In the order of the scores.
        labels: Vec<String>,
        /// How they lie in the tensor.
        layout: BoxLayout,
        /// Boxes that score less are dropped, 0–1.
        score_threshold: f32,
        /// Of two boxes of a class that overlap more, the lesser is dropped, 0–1; absent: none is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        iou_threshold: Option<f32>,
    },
    /// `[N, C, H, W]`: a probability per class and pixel of the input.
    Mask {
        /// In the order of the channels; with one channel, what the foreground is.
        labels: Vec<String>,
        /// How a pixel's class is decided.
        rule: MaskRule,
    },
    /// `[N, C, H, W]`: a picture of the input's size and colour order.
    Image {
        /// The values of black and of white.
        range: [f32; 2],
        /// Whether values outside of the range are cut to it; they are an error otherwise.
        clamp: bool,
        /// Whether the input's padding is cut off again.
        crop: bool,
    },
    /// `[N, dim]`: an appearance vector.
    Embedding {
        /// Its length.
        dim: usize,
        /// How two are compared.
        metric: Metric,
    },
    /// `[N, 1, H / stride, W / stride]`: 1 where the network worked, 0 where it passed a window over.
    Decision {
        /// Pixels of the input per element.
        stride: usize,
        /// Pixels of the input that the grid of windows is moved right and down; it goes round at the edges.
        #[serde(default, skip_serializing_if = "is_zero")]
        shift: usize,
    },
    /// Nothing that a finding is made of.
    Aux,
}

fn is_zero(n: &usize) -> bool {
    *n == 0
}

/// What is still to be applied to raw scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// Nothing: the graph gives probabilities.
    None,
    /// Softmax over the classes: one of them holds.
    Softmax,
    /// Sigmoid per class: any of them may hold.
    Sigmoid,
}

/// How boxes lie in the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BoxLayout {
    /// `[1, 4 + labels, N]`: centre x, centre y, width, height in pixels of the input, then a score 0–1 per class.
    CxcywhScores,
    /// The same, transposed: `[1, N, 4 + labels]`.
    CxcywhScoresRows,
    /// `[1, 5 + labels, H, W]`, one box per cell: objectness; tanh offsets of the cell's centre, in cells; sigmoid
    /// width and height, as a fraction of the input; class scores. The score is `obj^0.6 · class^0.4`.
    GridObjOffsets,
}

/// How a pixel's class is decided.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum MaskRule {
    /// The channel with the greatest value; the first of equals.
    Argmax,
    /// Foreground where the only channel is greater than `above`, 0–1.
    Threshold {
        /// The probability.
        above: f32,
    },
}

/// How two embeddings are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Cosine similarity: the angle alone counts.
    Cosine,
    /// Euclidean distance.
    Euclidean,
}
