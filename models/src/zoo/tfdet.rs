//! TF-Det: locates the Placido rings with TF-Net's encoder (the localization step of TF-Collab, arXiv:2510.05615).
//!
//! One anchor-free head at stride 16, decoded in the graph to the usual export layout `[N, 4 + classes, cells]`.

use tapetum_runtime::contract::{BoxLayout, OutputKind, PadRule};
use tapetum_runtime::{Error, Result, Tensor};

use super::blocks::{self, check_size};
use super::contract::{self, Ports};
use super::mobileone_block::{Assembly, Block};
use super::mobileone_forms::{self as mob, Forms};
use super::resample::{range, scalar_at};
use super::tfnet_encoder::{Encoder, STRIDE, one_branch, strided};
use super::{Description, Family, Form, InputSize, Network, SizeRule, Weights};
use crate::checkpoint::StateDict;
use crate::graph::{Builder, Dim, Graph};

/// TF-Det in all widths.
pub struct TfDetFamily;

/// Channels of the head's hidden layer.
const HIDDEN: usize = 64;
/// Inside, middle, outside ring.
const PUBLISHED_CLASSES: usize = 3;
/// Numbers of a box: centre, width and height.
const BOX: usize = 4;
/// The logarithm of a box's extent in strides is held within ± this.
const MAX_LOG_EXTENT: f32 = 4.0;
const INPUT: (usize, usize) = (240, 320);

/// One TF-Det.
pub struct TfDet {
    encoder: Encoder,
    /// Channels between the head's two layers.
    hidden: usize,
    classes: usize,
    forms: Forms,
}

impl Family for TfDetFamily {
    fn name(&self) -> &'static str {
        "tfdet"
    }

    fn variants(&self) -> Vec<String> {
        vec!["s0".into()]
    }

    fn variant(&self, name: &str) -> Result<Box<dyn Network>> {
        Ok(Box::new(TfDet::published(name, Form::Training)?))
    }

    fn recognise(&self, state: &StateDict) -> Result<Option<Box<dyn Network>>> {
        if !Encoder::is_in(state) || !mob::is_block(state, "head.0") {
            return Ok(None);
        }
        let outputs = blocks::linear_outputs(state, "head.1")?;
        let Some(classes) = outputs.checked_sub(BOX).filter(|&n| n > 0) else {
            return Err(Error::bad_file(format!(
                "head.1 has {outputs} outputs; TF-Det's has {BOX} for the box and at least one class"
            )));
        };
        let (encoder, forms) = (Encoder::read(state)?, Forms::read(state)?);
        let hidden = mob::channels_out(state, "head.0")?;
        Ok(Some(Box::new(TfDet { encoder, hidden, classes, forms })))
    }
}

impl TfDet {
    /// The published network `name` (`s0`) in `form`.
    ///
    /// # Errors
    /// [`tapetum_runtime::ErrorKind::InvalidConfig`] naming the variants there are.
    pub fn published(name: &str, form: Form) -> Result<Self> {
        let encoder = Encoder::published(name).filter(|_| name == "s0");
        let encoder = encoder.ok_or_else(|| blocks::unknown_variant(&TfDetFamily, name))?;
        let mut network =
            Self { encoder, hidden: HIDDEN, classes: PUBLISHED_CLASSES, forms: Forms::default() };
        let head = [("head.0".to_owned(), network.head())];
        network.forms = one_branch(encoder.blocks().into_iter().chain(head)).in_form(form, 1);
        Ok(network)
    }

    fn head(&self) -> Block {
        Block::dense(self.encoder.features(), self.hidden, 3, 1)
    }
}

impl Network for TfDet {
    fn description(&self) -> Description {
        let mut details = Vec::from(self.encoder.details());
        details.push(("branches", self.forms.describe_branches()));
        details.push(("classes", self.classes.to_string()));
        let (variant, form) = (self.encoder.variant(), self.forms.form());
        Description { network: "tfdet", variant, form, details }
    }

    fn default_size(&self) -> InputSize {
        InputSize::Fixed { height: INPUT.0, width: INPUT.1 }
    }

    fn size_rule(&self) -> SizeRule {
        SizeRule { fixed_multiple: 1, dynamic_multiple: 1, min: 32, batch: None }
    }

    fn contract(&self, size: InputSize) -> Ports {
        let kind = OutputKind::Boxes {
            labels: contract::labels(self.classes, &["inside", "middle", "outside"]),
            layout: BoxLayout::CxcywhScores,
            score_threshold: 0.25,
            iou_threshold: Some(0.45),
        };
        Ports {
            input: contract::rgb(size, &self.size_rule(), contract::STRETCH, PadRule::None),
            outputs: vec![contract::output("boxes", kind)],
        }
    }

    fn build(&self, weights: &mut Weights, size: InputSize) -> Result<Graph> {
        let rule = self.size_rule();
        check_size("TF-Det", &rule, size)?;
        let mut net = Assembly::new("tfdet", weights, &self.forms);
        let image = net.graph.input("image", size.image_dims(&rule));
        let features = self.encoder.add(&mut net, &image)?;
        let x = net.block("head.0", &features.levels[3], self.head())?;
        let raw = net.pointwise("head.1", &x, self.hidden, BOX + self.classes)?;
        let grid = strided(size, STRIDE);
        let boxes = decode(&mut net.graph, &raw, self.classes, grid)?;
        let cells = match grid {
            InputSize::Fixed { height, width } => Dim::Fixed(height * width),
            InputSize::Dynamic => Dim::symbol("cells"),
        };
        let dims = vec![Dim::symbol("batch"), Dim::Fixed(BOX + self.classes), cells];
        net.graph.output("boxes", &boxes, dims);
        net.graph.finish()
    }
}

/// From the head's `raw` `[N, 4 + classes, h, w]` to `[N, 4 + classes, h·w]`, in pixels of the input and in 0–1:
///
/// ```text
/// cx = (dx + column + ½) · 16      w = exp(clamp(dw, ±4)) · 16
/// cy = (dy + row + ½) · 16         h = exp(clamp(dh, ±4)) · 16      score = sigmoid(s)
/// ```
fn decode(b: &mut Builder, raw: &str, classes: usize, grid: InputSize) -> Result<String> {
    let stride = b.float(STRIDE as f32);
    let [columns, rows] = cell_centres(b, raw, grid)?;
    let mut centre = |name: &str, at: i64, centres: &str| {
        let offset = b.slice(&format!("decode/{name}/offset"), raw, 1, at, at + 1);
        let cells = b.binary("Add", &format!("decode/{name}/cells"), &offset, centres);
        b.binary("Mul", &format!("decode/{name}"), &cells, &stride)
    };
    let (x, y) = (centre("cx", 0, &columns), centre("cy", 1, &rows));

    let [low, high] = [-MAX_LOG_EXTENT, MAX_LOG_EXTENT].map(|v| b.float(v));
    let extent = b.slice("decode/extent/log", raw, 1, 2, BOX as i64);
    let extent = b.op("Clip", "decode/extent/clamp", &[&extent, &low, &high], &[]);
    let extent = b.unary("Exp", "decode/extent/exp", &extent);
    let extent = b.binary("Mul", "decode/extent", &extent, &stride);

    let channels = BOX + classes;
    let scores = b.slice("decode/scores/raw", raw, 1, BOX as i64, channels as i64);
    let scores = b.unary("Sigmoid", "decode/scores", &scores);
    let all = b.concat("decode/concat", &[&x, &y, &extent, &scores], 1);
    Ok(b.reshape("decode", &all, &[0, channels as i64, -1]))
}

/// Centres of the cells in strides: `[1, 1, 1, w]` and `[1, 1, h, 1]`.
fn cell_centres(b: &mut Builder, raw: &str, grid: InputSize) -> Result<[String; 2]> {
    if let InputSize::Fixed { height, width } = grid {
        let mut centres = |name: &str, n: usize, shape: [usize; 4]| -> Result<String> {
            let values: Vec<f32> = (0..n).map(|i| i as f32 + 0.5).collect();
            Ok(b.helper(&format!("{name}[{n}]"), Tensor::new(&shape, values)?))
        };
        return Ok([
            centres("columns", width, [1, 1, 1, width])?,
            centres("rows", height, [1, 1, height, 1])?,
        ]);
    }
    let shape = b.unary("Shape", "decode/shape", raw);
    let half = b.float(0.5);
    Ok([("columns", 3, [1, 1, 1, -1]), ("rows", 2, [1, 1, -1, 1])].map(|(name, axis, to)| {
        let n = scalar_at(b, &format!("decode/{name}/extent"), &shape, axis);
        let indices = range(b, &format!("decode/{name}/index"), &n);
        let centres = b.binary("Add", &format!("decode/{name}/centre"), &indices, &half);
        b.reshape(&format!("decode/{name}"), &centres, &to)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_those_of_the_trained_networks() {
        let parameters = |form| {
            let network = TfDet::published("s0", form).unwrap();
            network.build(&mut Weights::seeded(1), network.default_size()).unwrap().parameters()
        };
        assert_eq!(parameters(Form::Training), 673_671);
        assert_eq!(parameters(Form::Deployment), 603_095);
    }
}
