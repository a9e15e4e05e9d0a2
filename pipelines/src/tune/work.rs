//! How much a model computes on the inputs that are timed.

use std::{collections::BTreeMap, path::Path};

use tapetum_models::peak::cost_of_file;
use tapetum_runtime::Tensor;

/// Multiply-accumulates of a run of the model in `file`, the mean over `inputs`; `None` if not all can be counted. A
/// smaller format of it computes as many.
pub fn mean_macs(file: &Path, inputs: &[&[Tensor]]) -> Option<u64> {
    let mut known: BTreeMap<Vec<Vec<usize>>, u64> = BTreeMap::new();
    let mut sum = 0u128;
    for input in inputs {
        let shapes: Vec<Vec<usize>> = input.iter().map(|t| t.shape().to_vec()).collect();
        let macs = match known.get(&shapes) {
            Some(macs) => *macs,
            None => {
                let cost = cost_of_file(file, &shapes).ok().filter(|cost| cost.unknown.is_empty())?;
                known.insert(shapes, cost.macs);
                cost.macs
            }
        };
        sum += u128::from(macs);
    }
    u64::try_from(sum.checked_div(inputs.len() as u128)?).ok()
}
