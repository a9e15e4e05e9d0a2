//! What a contract must fulfil, in itself and beside the model that carries it.

use super::*;
use crate::{
    ErrorKind,
    backend::{Port, show_shape},
};

/// Collects what is wrong, so that all of it is told at once.
#[derive(Default)]
struct Findings(Vec<String>);

impl Findings {
    fn must(&mut self, holds: bool, place: &str, what: impl std::fmt::Display) {
        if !holds {
            self.0.push(format!("{place}: {what}"));
        }
    }

    fn size(&mut self, value: usize, place: &str) {
        self.must(value > 0, place, "must not be 0");
    }

    fn unit(&mut self, value: f32, place: &str) {
        self.must((0.0..=1.0).contains(&value), place, format_args!("{value} is not within 0 to 1"));
    }

    fn labels(&mut self, labels: &[String], place: &str) {
        self.must(!labels.is_empty(), place, "there must be at least one label");
        for (n, label) in labels.iter().enumerate() {
            self.must(!label.is_empty(), place, format_args!("label {n} is empty"));
            self.must(!labels[..n].contains(label), place, format_args!("{label:?} is there twice"));
        }
    }

    fn into_result(self, kind: ErrorKind) -> Result<()> {
        match self.0.is_empty() {
            true => Ok(()),
            false => Err(Error::new(kind, format!("contract: {}", self.0.join("; ")))),
        }
    }
}

impl Contract {
    /// Checks every value of the contract by itself.
    ///
    /// # Errors
    /// [`ErrorKind::BadFile`] naming every field that cannot be right, and why.
    pub fn validate(&self) -> Result<()> {
        let mut f = Findings::default();
        f.must((1..=VERSION).contains(&self.version), "version", format_args!("{} is unknown", self.version));
        f.must(!self.network.name.is_empty(), "network.name", "must not be empty");
        self.input.validate(&mut f);
        f.must(!self.outputs.is_empty(), "outputs", "there must be at least one");
        for (n, output) in self.outputs.iter().enumerate() {
            let place = format!("outputs[{n}]");
            let twice = self.outputs[..n].iter().any(|o| o.name == output.name);
            f.must(!twice, &place, format_args!("{:?} is there twice", output.name));
            f.must(!output.name.is_empty(), &place, "its name must not be empty");
            output.kind.validate(&mut f, &format!("outputs[{n}] ({})", output.name));
        }
        if let Some(source) = &self.source {
            let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
            let good = source.sha256.len() == 64 && source.sha256.chars().all(hex);
            f.must(good, "source.sha256", "is not 64 lower-case hexadecimal digits");
        }
        if let Some(proof) = &self.proof {
            let errors = proof.per_output.iter().flat_map(|o| [o.max_abs, o.max_rel]);
            let good = errors
                .chain([proof.max_abs, proof.max_rel, proof.tolerance])
                .all(|v| v.is_finite() && v >= 0.0);
            f.must(good, "proof", "holds a figure that is negative or not a number");
            f.must(proof.max_rel <= proof.tolerance, "proof", "its figures do not hold its own tolerance");
        }
        if let Some(golden) = &self.golden {
            golden.problems().into_iter().for_each(|p| f.must(false, "golden", p));
        }
        f.into_result(ErrorKind::BadFile)
    }

    /// Checks the contract against the model's own inputs and outputs.
    ///
    /// # Errors
    /// [`ErrorKind::BadFile`] naming every port that the contract speaks of otherwise.
    pub fn check_ports(&self, inputs: &[Port], outputs: &[Port]) -> Result<()> {
        let mut f = Findings::default();
        let place = format!("input {:?}", self.input.name);
        match inputs {
            [port] if port.name == self.input.name => {
                let channels = self.input.colour.channels();
                let (height, width) = match self.input.size {
                    SizePolicy::Fixed { height, width } => (Some(height), Some(width)),
                    _ => (None, None),
                };
                let fits = matches!(port.shape[..], [_, c, h, w]
                    if c.is_none_or(|c| c == channels)
                        && (h.is_none() || h == height) && (w.is_none() || w == width));
                let shape = show_shape(&port.shape);
                let wanted = show_shape(&[None, Some(channels), height, width]);
                f.must(fits, &place, format_args!("the graph takes {shape}, the contract says {wanted}"));
            }
            _ => {
                let names: Vec<_> = inputs.iter().map(|p| p.name.as_str()).collect();
                f.must(false, &place, format_args!("the graph's inputs are {names:?}"));
            }
        }
        for output in &self.outputs {
            let place = format!("output {:?}", output.name);
            match outputs.iter().find(|p| p.name == output.name) {
                None => f.must(false, &place, "the graph has none of that name"),
                // An output whose rank the file leaves out shows as rank 0: nothing to compare.
                Some(port) if port.shape.is_empty() => {}
                Some(port) => {
                    if let Some(want) = output.kind.misfit(&port.shape) {
                        let shape = show_shape(&port.shape);
                        f.must(
                            false,
                            &place,
                            format_args!("the graph gives {shape}, the contract says {want}"),
                        );
                    }
                }
            }
        }
        f.into_result(ErrorKind::BadFile)
    }
}

impl InputContract {
    fn validate(&self, f: &mut Findings) {
        f.must(!self.name.is_empty(), "input.name", "must not be empty");
        let channels = self.colour.channels();
        for (values, place) in [(&self.mean, "input.mean"), (&self.std, "input.std")] {
            let n = values.len();
            f.must(n == channels, place, format_args!("{n} values for {channels} channels"));
            f.must(values.iter().all(|v| v.is_finite()), place, "holds a value that is not a number");
        }
        f.must(!self.std.contains(&0.0), "input.std", "must not be 0");
        f.must(self.scale.is_finite() && self.scale != 0.0, "input.scale", "must be a number other than 0");
        let of = self.size.validate(f);
        if let Some(multiple) = self.pad.multiple() {
            f.size(multiple, "input.pad.multiple");
            let good = multiple == 0 || of == 0 || multiple % of == 0;
            let what = format!("pads to a multiple of {multiple}, but sizes are multiples of {of}");
            f.must(good, "input.pad", what);
        }
        let place = "input.resize";
        match self.resize {
            ResizeRule::None | ResizeRule::Stretch { .. } => {}
            ResizeRule::Letterbox { .. } => {
                let fixed = matches!(self.size, SizePolicy::Fixed { .. });
                f.must(fixed, place, "a letterbox needs an input of fixed size");
            }
            ResizeRule::ShorterSideCrop { shorter_side, .. } => match self.size {
                SizePolicy::Fixed { height, width } => {
                    let what = format!(
                        "a shorter side of {shorter_side} does not hold a centre of {height}×{width}"
                    );
                    f.must(shorter_side >= height.max(width), place, what);
                }
                _ => f.must(false, place, "a centre crop needs an input of fixed size"),
            },
        }
    }
}

impl SizePolicy {
    /// The multiple that both axes must be of.
    fn validate(&self, f: &mut Findings) -> usize {
        let place = "input.size";
        match *self {
            Self::Fixed { height, width } => {
                f.size(height, "input.size.height");
                f.size(width, "input.size.width");
                1
            }
            Self::Multiple { of, min_height, min_width } => {
                f.size(of, "input.size.of");
                f.size(min_height, "input.size.min_height");
                f.size(min_width, "input.size.min_width");
                of
            }
            Self::Range { min_height, min_width, max_height, max_width, multiple } => {
                f.size(multiple, "input.size.multiple");
                f.size(min_height, "input.size.min_height");
                f.size(min_width, "input.size.min_width");
                f.must(
                    min_height <= max_height,
                    place,
                    format_args!("height {min_height} to {max_height} is empty"),
                );
                f.must(
                    min_width <= max_width,
                    place,
                    format_args!("width {min_width} to {max_width} is empty"),
                );
                multiple
            }
        }
    }

    /// Whether the graph takes an input of `height × width` pixels.
    pub fn takes(&self, height: usize, width: usize) -> bool {
        let multiple_of = |of: usize| of > 0 && height.is_multiple_of(of) && width.is_multiple_of(of);
        match *self {
            Self::Fixed { height: h, width: w } => (height, width) == (h, w),
            Self::Multiple { of, min_height, min_width } => {
                multiple_of(of) && height >= min_height && width >= min_width
            }
            Self::Range { min_height, min_width, max_height, max_width, multiple } => {
                multiple_of(multiple)
                    && (min_height..=max_height).contains(&height)
                    && (min_width..=max_width).contains(&width)
            }
        }
    }
}

impl OutputKind {
    fn validate(&self, f: &mut Findings, place: &str) {
        match self {
            Self::Classes { labels, .. } => f.labels(labels, place),
            Self::Boxes { labels, score_threshold, iou_threshold, .. } => {
                f.labels(labels, place);
                f.unit(*score_threshold, &format!("{place}.score_threshold"));
                iou_threshold.iter().for_each(|&iou| f.unit(iou, &format!("{place}.iou_threshold")));
            }
            Self::Mask { labels, rule } => {
                f.labels(labels, place);
                f.must(labels.len() <= 256, place, "a mask has at most 256 labels: one byte per pixel");
                match rule {
                    MaskRule::Argmax => f.must(labels.len() > 1, place, "argmax needs two labels or more"),
                    MaskRule::Threshold { above } => {
                        f.unit(*above, &format!("{place}.rule.above"));
                        f.must(labels.len() == 1, place, "a threshold decides on one label");
                    }
                }
            }
            Self::Image { range: [low, high], .. } => {
                f.must(
                    low.is_finite() && high.is_finite() && low < high,
                    place,
                    format_args!("{low} to {high} is empty"),
                );
            }
            Self::Embedding { dim, .. } => f.size(*dim, &format!("{place}.dim")),
            Self::Decision { stride, shift } => {
                f.size(*stride, &format!("{place}.stride"));
                f.must(shift < stride, place, format_args!("a shift of {shift} is no less than the stride"));
            }
            Self::Aux => {}
        }
    }

    /// What the shape should have been, if `shape` cannot be this kind of output.
    fn misfit(&self, shape: &[Option<usize>]) -> Option<String> {
        let is = |axis: usize, n: usize| shape.get(axis).is_some_and(|d| d.is_none_or(|d| d == n));
        let (fits, want) = match self {
            Self::Classes { labels, .. } => {
                (shape.len() == 2 && is(1, labels.len()), format!("{} labels: [N, {0}]", labels.len()))
            }
            Self::Boxes { labels, layout: BoxLayout::CxcywhScores, .. } => {
                let rows = 4 + labels.len();
                (shape.len() == 3 && is(1, rows), format!("boxes of {} labels: [1, {rows}, N]", labels.len()))
            }
            Self::Boxes { labels, layout: BoxLayout::CxcywhScoresRows, .. } => {
                let columns = 4 + labels.len();
                (
                    shape.len() == 3 && is(2, columns),
                    format!("boxes of {} labels: [1, N, {columns}]", labels.len()),
                )
            }
            Self::Boxes { labels, layout: BoxLayout::GridObjOffsets, .. } => {
                let rows = 5 + labels.len();
                (
                    shape.len() == 4 && is(1, rows),
                    format!("a grid of {} labels: [1, {rows}, H, W]", labels.len()),
                )
            }
            Self::Mask { labels, .. } => (
                shape.len() == 4 && is(1, labels.len()),
                format!("a mask of {} labels: [N, {0}, H, W]", labels.len()),
            ),
            Self::Image { .. } => (shape.len() == 4, "an image: [N, C, H, W]".to_owned()),
            Self::Embedding { dim, .. } => {
                (shape.len() == 2 && is(1, *dim), format!("an embedding: [N, {dim}]"))
            }
            Self::Decision { .. } => (shape.len() == 4 && is(1, 1), "a decision: [N, 1, H, W]".to_owned()),
            Self::Aux => return None,
        };
        (!fits).then_some(want)
    }
}
