//! Experts Weights Averaging: several feed-forward experts with uniform routing become one.

use std::collections::{BTreeMap, BTreeSet};

use tapetum_runtime::{Error, Result, Tensor};

use super::Tensors;

/// Names that a module deciding between experts has.
const ROUTERS: [&str; 6] = ["router", "gate", "gating", "w_gate", "wg", "gate_network"];

/// What happened to one group of experts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Averaged {
    /// Name of the module the experts are in.
    pub module: String,
    /// How many there were.
    pub experts: usize,
    /// Names of the tensors there are now.
    pub tensors: Vec<String>,
}

/// Replaces every group `m.experts.0.t`, `m.experts.1.t`, .. by one `m.t`.
///
/// ```text
/// W = (1 / N) Σ Wᵢ     in f64, rounded to f32 once
/// ```
///
/// A router beside the experts (`m.router`, `m.gate`, ..) is dropped if it gives each expert the same weight for every
/// input, that is if its rows are equal.
///
/// # Errors
/// [`tapetum_runtime::ErrorKind::BadFile`] if experts are missing from the count, differ in tensors or shapes, or if
/// the result's name is taken; [`tapetum_runtime::ErrorKind::Unsupported`] if a router prefers experts: averaging
/// would then change what the network was trained for. Nothing is changed in either case.
///
/// Source: Huang et al., *Experts Weights Averaging*, arXiv:2308.06093.
pub fn average_experts(tensors: &mut Tensors) -> Result<Vec<Averaged>> {
    let mut groups: BTreeMap<String, BTreeMap<usize, BTreeSet<String>>> = BTreeMap::new();
    for name in tensors.keys() {
        if let Some((module, expert, rest)) = split(name) {
            groups.entry(module).or_default().entry(expert).or_default().insert(rest);
        }
    }
    let (mut reports, mut gone, mut made) = (Vec::new(), BTreeSet::new(), Tensors::new());
    for (module, experts) in &groups {
        let report = group(tensors, module, experts, &mut gone, &mut made)?;
        reports.push(report);
    }
    tensors.retain(|name, _| !gone.contains(name));
    tensors.append(&mut made);
    Ok(reports)
}

/// `a.experts.3.fc1.weight` as (`a`, 3, `fc1.weight`).
fn split(name: &str) -> Option<(String, usize, String)> {
    let (module, rest) = match name.strip_prefix("experts.") {
        Some(rest) => ("", rest),
        None => name.split_once(".experts.")?,
    };
    let (expert, rest) = rest.split_once('.')?;
    Some((module.into(), expert.parse().ok()?, rest.into()))
}

fn join(module: &str, rest: &str) -> String {
    if module.is_empty() { rest.to_owned() } else { format!("{module}.{rest}") }
}

fn group(
    tensors: &Tensors,
    module: &str,
    experts: &BTreeMap<usize, BTreeSet<String>>,
    gone: &mut BTreeSet<String>,
    made: &mut Tensors,
) -> Result<Averaged> {
    let place = join(module, "experts");
    let n = experts.len();
    let first = experts.values().next().cloned().unwrap_or_default();
    for (i, (number, names)) in experts.iter().enumerate() {
        if i != *number {
            return Err(Error::bad_file(format!("{place} has {n} experts but no number {i}")));
        }
        if let Some(differs) = first.symmetric_difference(names).next() {
            return Err(Error::bad_file(format!("{place}: not every expert has a tensor {differs:?}")));
        }
    }
    for router in ROUTERS {
        let prefix = join(module, &format!("{router}."));
        for (name, tensor) in
            tensors.range(prefix.clone()..).take_while(|(name, _)| name.starts_with(&prefix))
        {
            if !rows_are_equal(tensor, n) {
                return Err(Error::unsupported(format!(
                    "{name:?} {:?} routes to some of the {n} experts of {place:?} more than to others; only experts \
                     under uniform routing can be averaged",
                    tensor.shape()
                )));
            }
            gone.insert(name.clone());
        }
    }
    let mut names = Vec::new();
    for rest in &first {
        let of = |i: usize| join(module, &format!("experts.{i}.{rest}"));
        let parts: Vec<&Tensor> = (0..n).filter_map(|i| tensors.get(&of(i))).collect();
        let to = join(module, rest);
        if tensors.contains_key(&to) {
            return Err(Error::bad_file(format!(
                "the mean of {place:?} would be {to:?}, which is there already"
            )));
        }
        made.insert(to.clone(), mean(&parts).map_err(|e| e.at(of(0)))?);
        names.push(to);
        gone.extend((0..n).map(of));
    }
    Ok(Averaged { module: module.into(), experts: n, tensors: names })
}

/// Whether the tensor's first axis counts the experts and gives each the same numbers.
fn rows_are_equal(tensor: &Tensor, experts: usize) -> bool {
    let Some(values) = tensor.to_f64() else { return false };
    if tensor.shape().first() != Some(&experts) || values.is_empty() {
        return false;
    }
    let row = values.len() / experts;
    values.chunks(row).all(|r| r == &values[..row])
}

fn mean(parts: &[&Tensor]) -> Result<Tensor> {
    let [first, rest @ ..] = parts else { return Err(Error::internal("a mean of nothing")) };
    if let Some(other) = rest.iter().find(|t| t.shape() != first.shape()) {
        let message = format!("experts differ in shape: {:?} and {:?}", first.shape(), other.shape());
        return Err(Error::bad_file(message));
    }
    let Some(mut sum) = first.to_f64() else {
        // Counters (num_batches_tracked) say nothing about the mean; the first stands for all.
        return Ok((*first).clone());
    };
    for part in rest {
        let values = part.to_f64().ok_or_else(|| Error::bad_file("experts differ in element type"))?;
        sum.iter_mut().zip(values).for_each(|(s, v)| *s += v);
    }
    let n = parts.len() as f64;
    Tensor::new(first.shape(), sum.into_iter().map(|s| (s / n) as f32).collect())
}

#[cfg(test)]
mod tests {
    use tapetum_runtime::ErrorKind;
    use tapetum_runtime::seed::Seeded;

    use super::*;

    fn experts(n: usize) -> Tensors {
        let mut rng = Seeded::new(5);
        let mut tensors = Tensors::new();
        for i in 0..n {
            let name = |t: &str| format!("block.0.mlp.experts.{i}.{t}");
            tensors.insert(name("fc1.weight"), Tensor::new(&[3, 2], rng.vec(6, -1.0, 1.0)).unwrap());
            tensors.insert(name("fc1.bias"), Tensor::vector(rng.vec(3, -1.0, 1.0)));
        }
        tensors.insert("block.0.norm.weight".into(), Tensor::vector(vec![1f32; 2]));
        tensors
    }

    #[test]
    fn experts_become_their_mean_rounded_once() {
        let before = experts(3);
        let mut after = before.clone();
        let report = average_experts(&mut after).unwrap();
        assert_eq!(report.len(), 1);
        assert_eq!((report[0].module.as_str(), report[0].experts), ("block.0.mlp", 3));
        let names: Vec<&str> = after.keys().map(String::as_str).collect();
        assert_eq!(names, ["block.0.mlp.fc1.bias", "block.0.mlp.fc1.weight", "block.0.norm.weight"]);
        let got = after["block.0.mlp.fc1.weight"].f32s().unwrap();
        for (i, got) in got.iter().enumerate() {
            let one = |e: usize| {
                f64::from(before[&format!("block.0.mlp.experts.{e}.fc1.weight")].f32s().unwrap()[i])
            };
            assert_eq!(*got, ((one(0) + one(1) + one(2)) / 3.0) as f32);
        }
    }

    #[test]
    fn a_router_must_be_indifferent() {
        let mut tensors = experts(2);
        tensors.insert("block.0.mlp.gate.weight".into(), Tensor::new(&[2, 2], vec![0.5f32; 4]).unwrap());
        assert!(average_experts(&mut tensors.clone()).is_ok());
        tensors.insert(
            "block.0.mlp.gate.weight".into(),
            Tensor::new(&[2, 2], vec![0.5f32, 0.5, 0.5, 0.6]).unwrap(),
        );
        let before = tensors.clone();
        let error = average_experts(&mut tensors).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("block.0.mlp.gate.weight"), "{error}");
        assert_eq!(tensors, before, "a refusal changes nothing");
    }

    #[test]
    fn experts_must_be_alike() {
        let mut shapes = experts(2);
        shapes.insert("block.0.mlp.experts.1.fc1.bias".into(), Tensor::vector(vec![0f32; 4]));
        let error = average_experts(&mut shapes).unwrap_err().to_string();
        assert!(error.contains("[3]") && error.contains("[4]"), "{error}");
        let mut missing = experts(3);
        missing.remove("block.0.mlp.experts.1.fc1.bias");
        assert!(average_experts(&mut missing).unwrap_err().to_string().contains("fc1.bias"));
        let mut gap = experts(3);
        gap.retain(|name, _| !name.contains("experts.1."));
        assert!(average_experts(&mut gap).unwrap_err().to_string().contains("no number 1"));
        let mut taken = experts(2);
        taken.insert("block.0.mlp.fc1.bias".into(), Tensor::vector(vec![0f32; 3]));
        assert!(average_experts(&mut taken).unwrap_err().to_string().contains("there already"));
    }

    #[test]
    fn a_checkpoint_without_experts_stays() {
        let mut tensors = Tensors::from([("a.weight".into(), Tensor::vector(vec![1f32]))]);
        assert!(average_experts(&mut tensors).unwrap().is_empty());
        assert_eq!(tensors.len(), 1);
    }
}
