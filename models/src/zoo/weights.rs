//! Where a network's tensors come from: a checkpoint, or a seed.

use std::collections::BTreeMap;

use tapetum_runtime::seed::Seeded;
use tapetum_runtime::{Error, Result, Tensor};

use crate::checkpoint::StateDict;

/// The source a network takes its tensors from while it is built.
pub enum Weights {
    /// A checkpoint; every tensor is accounted for.
    Checkpoint(StateDict),
    /// Made up from a seed, keeping activations in range; what was made is kept.
    Seeded {
        /// The generator.
        rng: Seeded,
        /// Every tensor handed out, by name.
        made: BTreeMap<String, Tensor>,
    },
}

impl Weights {
    /// Weights made up from `seed`.
    pub fn seeded(seed: u64) -> Self {
        Self::Seeded { rng: Seeded::new(seed), made: BTreeMap::new() }
    }

    /// The `f32` tensor `name` of `shape`.
    ///
    /// # Errors
    /// [`tapetum_runtime::ErrorKind::BadFile`] if the checkpoint has no such tensor or one of another shape.
    pub fn take(&mut self, name: &str, shape: &[usize]) -> Result<Tensor> {
        match self {
            Self::Checkpoint(state) => state.take(name, shape),
            Self::Seeded { rng, made } => {
                let tensor = Tensor::new(shape, initial(rng, name, shape))?;
                made.insert(name.into(), tensor.clone());
                Ok(tensor)
            }
        }
    }

    /// As [`Weights::take`]; a tensor that is made up is scaled by `gain`, which keeps activations in range where
    /// branches are summed without a normalisation.
    ///
    /// # Errors
    /// As [`Weights::take`].
    pub fn take_gained(&mut self, name: &str, shape: &[usize], gain: f32) -> Result<Tensor> {
        let tensor = self.take(name, shape)?;
        let Self::Seeded { made, .. } = self else { return Ok(tensor) };
        let scaled = Tensor::new(shape, tensor.f32s()?.iter().map(|v| v * gain).collect())?;
        made.insert(name.into(), scaled.clone());
        Ok(scaled)
    }

    /// Everything was taken that a network takes.
    ///
    /// # Errors
    /// [`tapetum_runtime::ErrorKind::BadFile`] naming tensors of the checkpoint that are left over.
    pub fn finish(self) -> Result<()> {
        match self {
            Self::Checkpoint(state) => state.finish().map(drop),
            Self::Seeded { .. } => Ok(()),
        }
    }

    /// Leaves every tensor whose name starts with `prefix` aside: expected in such a checkpoint, not needed to run
    /// the network.
    pub fn ignore_prefix(&mut self, prefix: &str, why: &'static str) {
        let Self::Checkpoint(state) = self else { return };
        let names: Vec<String> = state.names().filter(|n| n.starts_with(prefix)).map(str::to_owned).collect();
        names.iter().for_each(|name| state.ignore(name, why));
    }

    /// Takes an `i64` tensor that the architecture determines (an index table saved as a buffer).
    ///
    /// # Errors
    /// [`tapetum_runtime::ErrorKind::BadFile`] if the checkpoint has no such tensor or one with other values.
    pub fn take_computed(&mut self, name: &str, computed: &Tensor) -> Result<()> {
        match self {
            Self::Checkpoint(state) => {
                if state.take_i64(name, computed.shape())? != *computed {
                    let message = format!("{name:?} does not hold the indices that this architecture uses");
                    return Err(Error::bad_file(message));
                }
            }
            Self::Seeded { made, .. } => {
                made.insert(name.into(), computed.clone());
            }
        }
        Ok(())
    }
}

/// He initialisation for kernels and matrices; BatchNorm parameters as after some training, so that a fold which does
/// nothing is seen.
fn initial(rng: &mut Seeded, name: &str, shape: &[usize]) -> Vec<f32> {
    let n: usize = shape.iter().product();
    let last = name.rsplit('.').next().unwrap_or(name);
    match (last, shape.len()) {
        ("running_var", _) => rng.vec(n, 0.5, 1.5),
        ("running_mean" | "bias", _) => rng.vec(n, -0.1, 0.1),
        ("weight", 1) => rng.vec(n, 0.6, 1.4),
        _ => {
            let fan_in: usize = shape[1..].iter().product::<usize>().max(1);
            let bound = (6.0 / fan_in as f32).sqrt();
            rng.vec(n, -bound, bound)
        }
    }
}
