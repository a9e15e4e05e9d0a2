//! Seeded material for the rules' examples: nothing cancels by luck, no channel is like another.

use tapetum_runtime::Tensor;
use tapetum_runtime::seed::Seeded;

use crate::graph::{Builder, Dim, Graph, Norm};

/// A builder with one image input, and numbers to fill it with.
pub(super) struct Example {
    pub(super) b: Builder,
    rng: Seeded,
    sizes: Seeded,
}

impl Example {
    pub(super) fn new(name: &str, seed: u64) -> Self {
        Self { b: Builder::new(name), rng: Seeded::new(seed), sizes: Seeded::new(!seed) }
    }

    /// An input `[1, channels, 7, 6]`.
    pub(super) fn image(&mut self, channels: usize) -> String {
        self.b.input("x", [1, channels, 7, 6].map(Dim::Fixed).to_vec())
    }

    /// An input `[3, features]`.
    pub(super) fn rows(&mut self, features: usize) -> String {
        self.b.input("x", [3, features].map(Dim::Fixed).to_vec())
    }

    /// One of `options`, by the seed.
    pub(super) fn pick(&mut self, options: &[usize]) -> usize {
        options[self.sizes.below(options.len() as u64) as usize]
    }

    pub(super) fn tensor(&mut self, shape: &[usize]) -> Tensor {
        let n = shape.iter().product();
        Tensor::new(shape, self.rng.vec(n, -1.0, 1.0)).expect("as many values as the shape holds")
    }

    /// Values in `[0.3, 1.7)` with 30 % negative.
    pub(super) fn factors(&mut self, shape: &[usize]) -> Tensor {
        let n = shape.iter().product();
        let values = (0..n)
            .map(|_| self.rng.uniform(0.3, 1.7) * if self.rng.uniform(0.0, 1.0) < 0.3 { -1.0 } else { 1.0 });
        Tensor::new(shape, values.collect()).expect("as many values as the shape holds")
    }

    /// A BatchNorm as after hostile training: γ of both signs, σ² over two decades.
    pub(super) fn norm(&mut self, channels: usize) -> Norm {
        let var = (0..channels).map(|_| 10f32.powf(self.rng.uniform(-1.0, 1.0))).collect();
        Norm {
            gamma: self.factors(&[channels]),
            beta: self.tensor(&[channels]),
            mean: self.tensor(&[channels]),
            var: Tensor::vector::<f32>(var),
            eps: 1e-3,
        }
    }

    /// The graph, with `value` as its output.
    pub(super) fn finish(mut self, value: &str, rank: usize) -> Graph {
        self.b.output("y", value, vec![Dim::Unknown; rank]);
        self.b.finish().expect("examples are sound")
    }
}
