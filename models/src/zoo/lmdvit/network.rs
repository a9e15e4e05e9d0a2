//! Layers and the U.

use tapetum_runtime::{DType, Result};

use super::block::{Sizes, transformer};
use super::config::{Config, LAYERS};
use super::emit::Emit;
use super::joints::{down, input_proj, output_proj, up};
use super::plane::{Grid, Part, Plane};
use super::predictor::predictor;
use super::windows::Windows;
use crate::graph::{Builder, Dim, Graph};
use crate::zoo::{InputSize, SizeRule, Weights};

/// The gate never closes further than this.
const GATE_FLOOR: f32 = 0.1;

/// Builds the network. Input `image [1, 3, H, W]`, outputs `restored [1, 3, H, W]`, `gate [1, 1, H, W]` and one
/// `decision_i [1, 1, H/s, W/s]` (1 = window kept) per predictor in execution order. Without `prune` every window is
/// computed: there are no predictors and no decisions.
pub(super) fn build(
    config: &Config,
    prune: bool,
    w: &mut Weights,
    size: InputSize,
    rule: SizeRule,
) -> Result<Graph> {
    let e = Emit { b: Builder::new("lmdvit"), w };
    let mut net = Net { e, config, prune, stages: Vec::new(), decisions: Vec::new() };
    let dims = size.image_dims(&rule);
    let image = net.e.b.input("image", dims.clone());
    net.stages(&image, size, &dims)?;

    let mut x = input_proj(&mut net.e, &image, config.embed)?;

    let mut skips = Vec::new();
    for i in 0..4 {
        x = net.layer(i, &x)?;
        skips.push(x.clone());
        x = down(&mut net.e, i, &x, config.width(i), &net.stages[i].plane)?;
    }
    x = net.layer(4, &x)?;
    for (i, skip) in skips.iter().rev().enumerate() {
        let widths = [config.width(4 + i), config.width(5 + i) / 2];
        let raised = up(&mut net.e, i, &x, widths, &net.stages[4 - i].plane)?;
        x = net.e.b.concat(&format!("decoderlayer_{i}/input"), &[&raised, skip], 1);
        x = net.layer(5 + i, &x)?;
    }
    net.finish(&image, &x, &dims)
}

/// A resolution with its two window grids, plain and shifted.
struct Stage {
    plane: Plane,
    grids: [Grid; 2],
}

struct Net<'a> {
    e: Emit<'a>,
    config: &'a Config,
    prune: bool,
    stages: Vec<Stage>,
    /// Each predictor's decision, with its extents.
    decisions: Vec<(String, [Dim; 2])>,
}

impl Net<'_> {
    fn stages(&mut self, image: &str, size: InputSize, dims: &[Dim]) -> Result<()> {
        let mut plane = Plane::of_input(&mut self.e, image, size, dims);
        for level in 0..5 {
            if level > 0 {
                plane = plane.halved(&mut self.e, level);
            }
            let window = self.config.window;
            let grids = [plane.grid(&mut self.e, window, false)?, plane.grid(&mut self.e, window, true)?];
            self.stages.push(Stage { plane: plane.clone(), grids });
        }
        Ok(())
    }

    /// Adds layer `i` of [`LAYERS`] on tokens `x`. Blocks of the same parity share one decision.
    fn layer(&mut self, i: usize, x: &str) -> Result<String> {
        let (layer, level, _) = LAYERS[i];
        let mut windows: [Option<Windows>; 2] = [None, None];
        let mut x = x.to_owned();
        for block in 0..self.config.depths[i] {
            let name = format!("{layer}.blocks.{block}");
            let parity = block % 2;
            let windows = match &mut windows[parity] {
                Some(windows) => windows,
                none => none.insert(self.windows(&name, i, parity, &x)?),
            };
            let sizes = Sizes {
                channels: self.config.width(i),
                heads: self.config.heads[i],
                window: self.config.window,
                mlp_ratio: self.config.mlp_ratio,
                modulated: self.config.modulator && layer.starts_with("decoder"),
            };
            x = transformer(&mut self.e, &name, &x, windows, &self.stages[level].plane, sizes)?;
        }
        Ok(x)
    }

    /// The windows that `block` of layer `i` and its followers of the same parity work on.
    fn windows(&mut self, block: &str, i: usize, parity: usize, x: &str) -> Result<Windows> {
        let (width, window, stage) = (self.config.width(i), self.config.window, &self.stages[LAYERS[i].1]);
        let grid = &stage.grids[parity];
        if !self.prune {
            return Ok(Windows::all(grid, window));
        }
        let name = format!("{block}.score_predictor");
        let made = predictor(&mut self.e, &name, x, width, &stage.plane, grid, window)?;
        let parts = [Part::Just(1), Part::Just(1), Part::Rows(window), Part::Cols(window)];
        let map = stage.plane.reshape(&mut self.e, &format!("{name}/map"), &made.decision, &parts);
        let map = self.e.b.cast(&format!("{name}/output"), &map, DType::F32);
        self.decisions.push((map, stage.plane.dims(window)));
        Ok(Windows::Kept(made))
    }

    /// `image + y·g` with the gate `g = max(σ(y₃), 0.1)`; names the outputs.
    fn finish(mut self, image: &str, x: &str, dims: &[Dim]) -> Result<Graph> {
        let width = self.config.width(8);
        let y = output_proj(&mut self.e, x, width, 4, &self.stages[0].plane)?;
        let b = &mut self.e.b;
        let colour = b.slice("output_proj/colour", &y, 1, 0, 3);
        let logit = b.slice("output_proj/gate", &y, 1, 3, 4);
        let open = b.unary("Sigmoid", "gate/open", &logit);
        let floor = b.float(GATE_FLOOR);
        let gate = b.binary("Max", "gate/floored", &open, &floor);
        let change = b.binary("Mul", "restored/change", &colour, &gate);
        let restored = b.binary("Add", "restored/sum", image, &change);
        let gate_dims = vec![dims[0].clone(), Dim::Fixed(1), dims[2].clone(), dims[3].clone()];
        b.output("restored", &restored, dims.to_vec());
        b.output("gate", &gate, gate_dims);
        for (i, (decision, [rows, cols])) in self.decisions.into_iter().enumerate() {
            b.output(&format!("decision_{i}"), &decision, vec![Dim::Fixed(1), Dim::Fixed(1), rows, cols]);
        }
        self.e.b.finish()
    }
}
