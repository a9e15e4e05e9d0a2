//! A candidate beside fp32, on samples that it was not made from.

use tapetum_runtime::backend::{Backend, Session};
use tapetum_runtime::contract::Contract;
use tapetum_runtime::quality::{Agreement, Figure};
use tapetum_runtime::{Error, Result, Tensor};

use super::observe::session;
use crate::graph::{Graph, Value};
use crate::probe;

/// Samples on which layers are compared with one another.
const FEW: usize = 4;

/// Runs candidates beside the fp32 model.
pub(super) struct Judge<'a> {
    engine: &'static dyn Backend,
    contract: &'a Contract,
    gate: Option<f64>,
    /// Held back from the statistics.
    samples: Vec<&'a [Tensor]>,
    reference: Box<dyn Session>,
    /// What squashes nothing: the outputs, or what goes into a softmax or sigmoid that makes one.
    raw: Vec<Value>,
    /// Of the fp32 model on the first few samples.
    raw_reference: Vec<Vec<Tensor>>,
}

impl<'a> Judge<'a> {
    /// For candidates of the fp32 `graph`.
    pub fn new(
        engine: &'static dyn Backend,
        graph: &Graph,
        contract: &'a Contract,
        gate: Option<f64>,
        samples: Vec<&'a [Tensor]>,
    ) -> Result<Self> {
        let reference = session(engine, graph, None, &samples)?;
        let probes = probe::saturating(graph);
        let squashed = |v: &Value| {
            let made = graph.nodes.iter().find(|n| n.outputs.contains(&v.name));
            made.and_then(|n| n.input(0)).is_some_and(|i| probes.iter().any(|p| p.name == i))
        };
        let plain = graph.outputs.iter().filter(|v| !squashed(v)).cloned();
        let raw: Vec<Value> = plain.chain(probes.iter().cloned()).collect();
        let few = &samples[..samples.len().min(FEW)];
        let mut raw_session = session(engine, graph, Some(raw.clone()), few)?;
        let raw_reference = few.iter().map(|s| raw_session.run(s)).collect::<Result<_>>()?;
        Ok(Self { engine, contract, gate, samples, reference, raw, raw_reference })
    }

    /// How many samples are judged on.
    pub fn samples(&self) -> usize {
        self.samples.len()
    }

    /// The figure of every output that has a meaning, over all samples.
    ///
    /// # Errors
    /// The engine's; [`tapetum_runtime::ErrorKind::InvalidConfig`] if no output has a meaning.
    pub fn figures(&mut self, candidate: &Graph) -> Result<Vec<Figure>> {
        let mut session = session(self.engine, candidate, None, &self.samples)?;
        let mut agreements: Vec<(usize, Agreement)> = Vec::new();
        for output in &self.contract.outputs {
            let at = session.outputs().iter().position(|p| p.name == output.name);
            let at = at.ok_or_else(|| Error::internal(format!("the output {:?} is gone", output.name)))?;
            agreements.push((at, Agreement::new(output)));
        }
        let (mut want, mut got) = (Vec::new(), Vec::new());
        for sample in &self.samples {
            self.reference.run_into(sample, &mut want)?;
            session.run_into(sample, &mut got)?;
            for (at, agreement) in &mut agreements {
                agreement.add(&want[*at], &got[*at])?;
            }
        }
        let mut figures: Vec<Figure> = agreements.iter().filter_map(|(_, a)| a.figure()).collect();
        if figures.is_empty() {
            return Err(Error::config(
                "no output of this model has a meaning to be judged by; say in a contract file what they mean",
            ));
        }
        if let Some(gate) = self.gate {
            figures.iter_mut().for_each(|f| f.gate = gate);
        }
        Ok(figures)
    }

    /// Squared error of the raw outputs over the squared outputs, on a few samples.
    pub fn damage(&self, candidate: &Graph) -> Result<f64> {
        let few = &self.samples[..self.raw_reference.len()];
        let mut session = session(self.engine, candidate, Some(self.raw.clone()), few)?;
        let mut got = Vec::new();
        let (mut error, mut power) = (0.0, 0.0);
        for (sample, want) in few.iter().zip(&self.raw_reference) {
            session.run_into(sample, &mut got)?;
            for (want, got) in want.iter().zip(&got) {
                let pairs = want.f32s()?.iter().zip(got.f32s()?);
                for (w, g) in pairs {
                    error += f64::from(w - g).powi(2);
                    power += f64::from(*w).powi(2);
                }
            }
        }
        Ok(error / power.max(f64::MIN_POSITIVE))
    }
}
