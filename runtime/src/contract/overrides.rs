//! What a user may say about a model's input and outputs, in a TOML file.

use std::collections::BTreeMap;

use super::{
    Activation, BoxLayout, Colour, Contract, Filter, MaskRule, Metric, OutputContract, OutputKind, PadRule,
    ResizeRule, SizePolicy,
};
use crate::{
    Error, Result,
    settings::{Reader, Table},
};

/// Parts of a [`Contract`] to be replaced; whatever is absent stays.
///
/// ```toml
/// [input]
/// size = { fixed = { height = 512, width = 512 } }
/// resize = { stretch = { filter = "bilinear" } }     # or "none"
/// colour = "rgb"
/// scale = 0.00392156862745098
/// mean = [0.485, 0.456, 0.406]
/// std = [0.229, 0.224, 0.225]
/// pad = "none"                                       # or { zero_centred = { multiple = 128 } }
///
/// [output.probs]                                     # by the name of the graph's output
/// kind = { mask = { labels = ["background", "break-up"], rule = "argmax" } }
///
/// [output.boxes]                                     # a part of the kind that the model says
/// score_threshold = 0.4
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ContractOverride {
    /// The table `[input]`.
    pub input: InputOverride,
    /// The tables `[output.NAME]`, by name.
    pub outputs: BTreeMap<String, OutputOverride>,
    /// The file, for errors.
    file: String,
}

/// Parts of an [`super::InputContract`]; see there.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs)] // documented there
pub struct InputOverride {
    pub size: Option<SizePolicy>,
    pub resize: Option<ResizeRule>,
    pub colour: Option<Colour>,
    pub scale: Option<f32>,
    pub mean: Option<Vec<f32>>,
    pub std: Option<Vec<f32>>,
    pub pad: Option<PadRule>,
}

/// Parts of an [`OutputContract`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OutputOverride {
    /// What the output is, in full; the parts below are set afterwards.
    pub kind: Option<OutputKind>,
    /// The labels of classes, boxes or a mask.
    pub labels: Option<Vec<String>>,
    /// For boxes.
    pub score_threshold: Option<f32>,
    /// For boxes.
    pub iou_threshold: Option<f32>,
    /// For a mask that a threshold decides: the probability above which a pixel is foreground.
    pub above: Option<f32>,
}

impl ContractOverride {
    /// Reads TOML; `file_name` is for the messages.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidConfig`] with everything that is wrong, one line each, as `file:line:column: what`,
    /// with the nearest known word for an unknown key or value.
    pub fn from_toml(text: &str, file_name: &str) -> Result<Self> {
        let mut reader = Reader::new(text, file_name);
        let mut new = Self { file: file_name.to_owned(), ..Self::default() };
        let root = reader.parse(&["input", "output"]);
        if let Some(table) = reader.table(&root, "input", &InputOverride::KEYS) {
            new.input = InputOverride::read(&mut reader, &table);
        }
        for (name, table) in reader.tables(&root, "output", &OutputOverride::KEYS) {
            new.outputs.insert(name, OutputOverride::read(&mut reader, &table));
        }
        reader.finish()?;
        Ok(new)
    }

    /// Replaces the given parts of `contract` and validates the whole. On an error the contract is as it was.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidConfig`] if an output does not exist or is not of the kind that a part belongs to, or
    /// if the result is not a valid contract.
    pub fn apply(&self, contract: &mut Contract) -> Result<()> {
        let mut new = contract.clone();
        let place = |e: Error| if self.file.is_empty() { e } else { e.at(&self.file) };
        let InputOverride { size, resize, colour, scale, mean, std, pad } = self.input.clone();
        let input = &mut new.input;
        set(&mut input.size, size);
        set(&mut input.resize, resize);
        set(&mut input.colour, colour);
        set(&mut input.scale, scale);
        set(&mut input.mean, mean);
        set(&mut input.std, std);
        set(&mut input.pad, pad);
        for (name, part) in &self.outputs {
            let names: Vec<&str> = contract.outputs.iter().map(|o| o.name.as_str()).collect();
            let output = new.outputs.iter_mut().find(|o| o.name == *name).ok_or_else(|| {
                place(Error::config(format!("[output.{name}]: the model's outputs are {}", names.join(", "))))
            })?;
            part.apply(output).map_err(|e| place(e.at(format!("[output.{name}]"))))?;
        }
        new.validate().map_err(|e| place(Error::config(e.to_string())))?;
        *contract = new;
        Ok(())
    }
}

fn set<T>(slot: &mut T, new: Option<T>) {
    if let Some(new) = new {
        *slot = new;
    }
}

impl InputOverride {
    const KEYS: [&str; 7] = ["size", "resize", "colour", "scale", "mean", "std", "pad"];

    fn read<'t>(r: &mut Reader<'t>, t: &Table<'t>) -> Self {
        Self {
            size: size(r, t),
            resize: resize(r, t),
            colour: r.choice(
                t,
                "colour",
                &[("rgb", Colour::Rgb), ("bgr", Colour::Bgr), ("grey", Colour::Grey)],
            ),
            scale: r.number(t, "scale"),
            mean: r.numbers(t, "mean"),
            std: r.numbers(t, "std"),
            pad: pad(r, t),
        }
    }
}

fn size<'t>(r: &mut Reader<'t>, t: &Table<'t>) -> Option<SizePolicy> {
    const RANGE: &[&str] = &["min_height", "min_width", "max_height", "max_width", "multiple"];
    let kinds: &[(&str, &[&str])] = &[
        ("fixed", &["height", "width"]),
        ("multiple", &["of", "min_height", "min_width"]),
        ("range", RANGE),
    ];
    let (kind, t) = r.variant(t, "size", kinds)?;
    let mut n = |key| r.required(&t, key, Reader::count);
    match kind {
        "fixed" => {
            let (height, width) = (n("height"), n("width"));
            Some(SizePolicy::Fixed { height: height?, width: width? })
        }
        "multiple" => {
            let (of, height, width) = (n("of"), n("min_height"), n("min_width"));
            Some(SizePolicy::Multiple { of: of?, min_height: height?, min_width: width? })
        }
        _ => {
            let [a, b, c, d, e] = [RANGE[0], RANGE[1], RANGE[2], RANGE[3], RANGE[4]].map(n);
            let (min_height, min_width, max_height, max_width, multiple) = (a?, b?, c?, d?, e?);
            Some(SizePolicy::Range { min_height, min_width, max_height, max_width, multiple })
        }
    }
}

fn resize<'t>(r: &mut Reader<'t>, t: &Table<'t>) -> Option<ResizeRule> {
    const FILTERS: &[(&str, Filter)] = &[
        ("nearest", Filter::Nearest),
        ("bilinear", Filter::Bilinear),
        ("bilinear_antialiased", Filter::BilinearAntialiased),
        ("area", Filter::Area),
    ];
    let kinds: &[(&str, &[&str])] = &[
        ("none", &[]),
        ("stretch", &["filter"]),
        ("letterbox", &["filter", "fill"]),
        ("shorter_side_crop", &["filter", "shorter_side"]),
    ];
    let (kind, t) = r.variant(t, "resize", kinds)?;
    if kind == "none" {
        return Some(ResizeRule::None);
    }
    let filter = r.required(&t, "filter", |r, t, key| r.choice(t, key, FILTERS));
    match kind {
        "stretch" => Some(ResizeRule::Stretch { filter: filter? }),
        "letterbox" => {
            let fill = r.required(&t, "fill", Reader::byte);
            Some(ResizeRule::Letterbox { filter: filter?, fill: fill? })
        }
        _ => {
            let shorter_side = r.required(&t, "shorter_side", Reader::count);
            Some(ResizeRule::ShorterSideCrop { filter: filter?, shorter_side: shorter_side? })
        }
    }
}

fn pad<'t>(r: &mut Reader<'t>, t: &Table<'t>) -> Option<PadRule> {
    let kinds: &[(&str, &[&str])] =
        &[("none", &[]), ("reflect_right_bottom", &["multiple"]), ("zero_centred", &["multiple"])];
    let (kind, t) = r.variant(t, "pad", kinds)?;
    if kind == "none" {
        return Some(PadRule::None);
    }
    let multiple = r.required(&t, "multiple", Reader::count)?;
    Some(match kind {
        "reflect_right_bottom" => PadRule::ReflectRightBottom { multiple },
        _ => PadRule::ZeroCentred { multiple },
    })
}

impl OutputOverride {
    const KEYS: [&str; 5] = ["kind", "labels", "score_threshold", "iou_threshold", "above"];

    fn read<'t>(r: &mut Reader<'t>, t: &Table<'t>) -> Self {
        Self {
            kind: kind(r, t),
            labels: r.strings(t, "labels"),
            score_threshold: r.number(t, "score_threshold"),
            iou_threshold: r.number(t, "iou_threshold"),
            above: r.number(t, "above"),
        }
    }

    fn apply(&self, output: &mut OutputContract) -> Result<()> {
        set(&mut output.kind, self.kind.clone());
        let wrong = |key: &str, of: &str| {
            Err(Error::config(format!("{key} belongs to {of}, which this output is not")))
        };
        if let Some(new) = &self.labels {
            match &mut output.kind {
                OutputKind::Classes { labels, .. }
                | OutputKind::Boxes { labels, .. }
                | OutputKind::Mask { labels, .. } => labels.clone_from(new),
                _ => return wrong("labels", "classes, boxes or a mask"),
            }
        }
        for (new, key) in [(self.score_threshold, "score_threshold"), (self.iou_threshold, "iou_threshold")] {
            match (new, &mut output.kind) {
                (None, _) => {}
                (Some(new), OutputKind::Boxes { score_threshold, iou_threshold, .. }) => match key {
                    "score_threshold" => *score_threshold = new,
                    _ => *iou_threshold = Some(new),
                },
                _ => return wrong(key, "boxes"),
            }
        }
        match (self.above, &mut output.kind) {
            (None, _) => Ok(()),
            (Some(new), OutputKind::Mask { rule: MaskRule::Threshold { above }, .. }) => {
                *above = new;
                Ok(())
            }
            _ => wrong("above", "a mask that a threshold decides"),
        }
    }
}

fn kind<'t>(r: &mut Reader<'t>, t: &Table<'t>) -> Option<OutputKind> {
    const ACTIVATIONS: &[(&str, Activation)] =
        &[("none", Activation::None), ("softmax", Activation::Softmax), ("sigmoid", Activation::Sigmoid)];
    const LAYOUTS: &[(&str, BoxLayout)] = &[
        ("cxcywh_scores", BoxLayout::CxcywhScores),
        ("cxcywh_scores_rows", BoxLayout::CxcywhScoresRows),
        ("grid_obj_offsets", BoxLayout::GridObjOffsets),
    ];
    const METRICS: &[(&str, Metric)] = &[("cosine", Metric::Cosine), ("euclidean", Metric::Euclidean)];
    let kinds: &[(&str, &[&str])] = &[
        ("classes", &["labels", "activation"]),
        ("boxes", &["labels", "layout", "score_threshold", "iou_threshold"]),
        ("mask", &["labels", "rule"]),
        ("image", &["range", "clamp", "crop"]),
        ("embedding", &["dim", "metric"]),
        ("decision", &["stride", "shift"]),
        ("aux", &[]),
    ];
    let (kind, t) = r.variant(t, "kind", kinds)?;
    // Every part is read before any is missed, so that all that is wrong is told.
    match kind {
        "classes" => {
            let labels = r.required(&t, "labels", Reader::strings);
            let activation = r.required(&t, "activation", |r, t, key| r.choice(t, key, ACTIVATIONS));
            Some(OutputKind::Classes { labels: labels?, activation: activation? })
        }
        "boxes" => {
            let labels = r.required(&t, "labels", Reader::strings);
            let layout = r.required(&t, "layout", |r, t, key| r.choice(t, key, LAYOUTS));
            let score_threshold = r.required(&t, "score_threshold", Reader::number);
            let iou_threshold = r.number(&t, "iou_threshold");
            let (labels, layout, score_threshold) = (labels?, layout?, score_threshold?);
            Some(OutputKind::Boxes { labels, layout, score_threshold, iou_threshold })
        }
        "mask" => {
            let labels = r.required(&t, "labels", Reader::strings);
            let rule = r.required(&t, "rule", |r, t, key| {
                let (rule, t) = r.variant(t, key, &[("argmax", &[]), ("threshold", &["above"])])?;
                match rule {
                    "argmax" => Some(MaskRule::Argmax),
                    _ => Some(MaskRule::Threshold { above: r.required(&t, "above", Reader::number)? }),
                }
            });
            Some(OutputKind::Mask { labels: labels?, rule: rule? })
        }
        "image" => {
            let range = r.required(&t, "range", |r, t, key| r.pair(t, key));
            let (clamp, crop) = (r.required(&t, "clamp", Reader::flag), r.required(&t, "crop", Reader::flag));
            Some(OutputKind::Image { range: range?, clamp: clamp?, crop: crop? })
        }
        "embedding" => {
            let dim = r.required(&t, "dim", Reader::count);
            let metric = r.required(&t, "metric", |r, t, key| r.choice(t, key, METRICS));
            Some(OutputKind::Embedding { dim: dim?, metric: metric? })
        }
        "decision" => {
            let stride = r.required(&t, "stride", Reader::count);
            let shift = r.count(&t, "shift").unwrap_or(0);
            Some(OutputKind::Decision { stride: stride?, shift })
        }
        _ => Some(OutputKind::Aux),
    }
}
