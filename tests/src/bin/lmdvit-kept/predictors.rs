//! Predictors that keep as many windows as one asks for.

use tapetum_models::graph::{Dim, Graph, Value};
use tapetum_runtime::backend::Session;
use tapetum_runtime::{DType, Error, Result, Tensor};

/// Far beyond any score.
const FAR: f32 = 1e6;

/// A pruning network whose predictors' last biases are inputs and whose scores are outputs.
pub struct Open {
    session: Box<dyn Session>,
    predictors: usize,
}

/// Biases, and what they keep.
pub struct Setting {
    biases: Vec<Tensor>,
    /// Kept windows of each predictor, and how many there are.
    pub kept: Vec<(usize, usize)>,
}

impl Setting {
    /// Mean share of kept windows over the predictors.
    pub fn share(&self) -> f64 {
        let shares = self.kept.iter().map(|&(kept, of)| kept as f64 / of as f64);
        shares.sum::<f64>() / self.kept.len() as f64
    }
}

impl Open {
    /// Opens the predictors of `graph` and loads it.
    pub fn load(mut graph: Graph, load: impl FnOnce(&Graph) -> Result<Box<dyn Session>>) -> Result<Self> {
        const BIAS: &str = ".score_predictor.out_conv.4.bias";
        // In execution order, as the decisions are.
        let reads_bias = |i: &&String| i.ends_with(BIAS);
        let biases: Vec<String> =
            graph.nodes.iter().filter_map(|n| n.inputs.iter().find(reads_bias).cloned()).collect();
        for name in &biases {
            graph.constants.remove(name);
            let logits = name.trim_end_matches(".bias").to_owned();
            graph.inputs.push(Value { name: name.clone(), dtype: DType::F32, dims: vec![Dim::Fixed(2)] });
            let dims = vec![Dim::symbol(format!("windows of {logits}")), Dim::Fixed(2)];
            graph.outputs.push(Value { name: logits, dtype: DType::F32, dims });
        }
        graph.check()?;
        Ok(Self { session: load(&graph)?, predictors: biases.len() })
    }

    /// Runs with `setting`.
    pub fn run(&mut self, image: &Tensor, setting: &Setting) -> Result<Vec<Tensor>> {
        let inputs: Vec<Tensor> = std::iter::once(image).chain(&setting.biases).cloned().collect();
        self.session.run(&inputs)
    }

    /// Biases that keep `fraction` of every predictor's windows on `image`.
    ///
    /// A predictor's scores depend on what those before it kept. So each run fixes every bias by the scores it saw:
    /// after at most as many runs as there are predictors, all are right.
    pub fn keep(&mut self, image: &Tensor, fraction: f64) -> Result<Setting> {
        let bias = |by: f32| Tensor::vector(vec![by, 0.0]);
        let mut setting = Setting { biases: vec![bias(0.0); self.predictors], kept: Vec::new() };
        for _ in 0..self.predictors + 2 {
            let outputs = self.run(image, &setting)?;
            let mut wanted = Vec::new();
            setting.kept.clear();
            for (logits, old) in outputs[outputs.len() - self.predictors..].iter().zip(&mut setting.biases) {
                let by = old.f32s()?[0];
                let mut lead: Vec<f32> = logits.f32s()?.chunks_exact(2).map(|l| l[0] - l[1]).collect();
                setting.kept.push((lead.iter().filter(|&&l| l > 0.0).count(), lead.len()));
                let keep = (lead.len() as f64 * fraction).round() as usize;
                wanted.push(keep);
                // Half way between the last window to keep and the first one not to.
                lead.sort_by(|a, b| b.total_cmp(a));
                *old = bias(match keep {
                    0 => -FAR,
                    all if all == lead.len() => FAR,
                    _ => by - (lead[keep - 1] + lead[keep]) / 2.0,
                });
            }
            if setting.kept.iter().zip(&wanted).all(|((kept, _), wanted)| kept == wanted) {
                return Ok(setting);
            }
        }
        Err(Error::internal(format!("no biases keep {fraction} of the windows: {:?}", setting.kept)))
    }
}
