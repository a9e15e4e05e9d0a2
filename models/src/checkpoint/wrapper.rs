//! Finds the state dict inside whatever was saved around it, by content.

use std::collections::{BTreeMap, HashSet, VecDeque};

use tapetum_runtime::{Error, Result};

use super::{
    limits::Limits,
    pickle::{Arena, Id, Node, Pickle},
    storage::TensorRef,
};

/// Keys under which training code keeps the weights, the likeliest first. They only decide between several dicts
/// that hold tensors; a single one is found under any name.
const KNOWN: &[&str] = &[
    "model_state_dict",
    "state_dict",
    "model",
    "net",
    "network",
    "params",
    "weights",
    "params_ema",
    "model_ema",
    "state_dict_ema",
    "ema",
];

/// Keys that never hold the weights.
const TRAINING: &[&str] = &["optim", "sched", "scaler", "amp"];

/// Dicts below the root that are looked into.
const MAX_DEPTH: usize = 4;

/// Longest text that is kept as metadata.
const MAX_TEXT: usize = 4096;

/// The state dict of a pickle.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) tensors: Vec<(String, TensorRef)>,
    /// Keys that lead to it, joined by dots.
    pub(super) wrapper: Option<String>,
    /// Other dicts that hold tensors, with how many.
    pub(super) passed_over: Vec<(String, usize)>,
    /// Scalars beside it.
    pub(super) metadata: BTreeMap<String, String>,
}

/// A dict that holds tensors.
struct Candidate {
    dict: Id,
    parent: Id,
    path: Vec<String>,
    tensors: usize,
}

impl Candidate {
    fn name(&self) -> String {
        self.path.join(".")
    }

    fn known(&self) -> Option<usize> {
        let last = self.path.last()?;
        KNOWN.iter().position(|known| known == last)
    }

    fn is_training_state(&self) -> bool {
        self.path.iter().any(|key| TRAINING.iter().any(|word| key.contains(word)))
    }
}

/// # Errors
/// [`tapetum_runtime::ErrorKind::BadFile`] if there is no dict of tensors, or several and no way to tell which.
pub(super) fn find(pickle: &Pickle, limits: &Limits) -> Result<Found> {
    let arena = &pickle.arena;
    if arena.dict(pickle.root).is_none() {
        return Err(Error::bad_file(format!(
            "the file holds {}, not a state dict; save model.state_dict()",
            arena.get(pickle.root).kind()
        )));
    }
    let mut candidates = candidates(arena, pickle.root, limits);
    let chosen = choose(arena, pickle.root, &candidates)?;
    let chosen = candidates.swap_remove(chosen);
    limits.check_tensors(chosen.tensors)?;

    let mut names = HashSet::new();
    let mut tensors = Vec::with_capacity(chosen.tensors);
    for &(key, value) in arena.dict(chosen.dict).unwrap_or_default() {
        let Node::Tensor(tensor) = arena.get(value) else { continue };
        let Some(name) = arena.str(key) else {
            let kind = arena.get(key).kind();
            return Err(Error::bad_file(format!(
                "a tensor of the state dict is named by {kind}, not by a str"
            )));
        };
        limits.check_name(name)?;
        if !names.insert(name) {
            return Err(Error::bad_file(format!("the state dict names {name:?} twice")));
        }
        tensors.push((name.to_owned(), (**tensor).clone()));
    }
    let mut passed_over: Vec<_> = candidates.iter().map(|other| (other.name(), other.tensors)).collect();
    passed_over.sort();
    Ok(Found {
        tensors,
        wrapper: (!chosen.path.is_empty()).then(|| chosen.name()),
        passed_over,
        metadata: scalars(arena, chosen.parent, limits),
    })
}

/// All dicts that are reached over text keys and hold tensors, the shallowest first. Every dict is looked at once,
/// however often it is mentioned.
fn candidates(arena: &Arena, root: Id, limits: &Limits) -> Vec<Candidate> {
    let mut found = Vec::new();
    let mut seen = HashSet::from([root]);
    let mut queue = VecDeque::from([(root, root, Vec::<String>::new())]);
    while let Some((dict, parent, path)) = queue.pop_front() {
        let mut tensors = 0;
        for &(key, value) in arena.dict(dict).unwrap_or_default() {
            match (arena.str(key), arena.get(value)) {
                (Some(_), Node::Tensor(_)) => tensors += 1,
                (Some(key), Node::Dict(_))
                    if path.len() < MAX_DEPTH && key.len() <= limits.name_bytes && seen.insert(value) =>
                {
                    let mut below = path.clone();
                    below.push(key.to_owned());
                    queue.push_back((value, dict, below));
                }
                _ => {}
            }
        }
        if tensors > 0 {
            found.push(Candidate { dict, parent, path, tensors });
        }
    }
    found
}

/// Index of the candidate that is the state dict.
fn choose(arena: &Arena, root: Id, candidates: &[Candidate]) -> Result<usize> {
    let in_root = candidates.iter().position(|c| c.path.is_empty());
    let root_tensors = in_root.and_then(|i| candidates.get(i)).map_or(0, |c| c.tensors);
    let known = candidates
        .iter()
        .enumerate()
        .filter(|(_, c)| !c.is_training_state() && c.tensors >= root_tensors)
        .filter_map(|(i, c)| Some((c.path.len(), c.known()?, i)))
        .min();
    if let Some((_, _, index)) = known {
        return Ok(index);
    }
    if let Some(index) = in_root {
        return Ok(index);
    }
    let plausible: Vec<usize> = candidates
        .iter()
        .enumerate()
        .filter(|(_, c)| !c.is_training_state())
        .map(|(index, _)| index)
        .collect();
    match *plausible {
        [index] => Ok(index),
        [] => {
            let keys: Vec<&str> = arena
                .dict(root)
                .unwrap_or_default()
                .iter()
                .filter_map(|&(key, _)| arena.str(key))
                .filter(|key| key.len() <= 64)
                .take(8)
                .collect();
            Err(Error::bad_file(format!(
                "no dict in the file holds the tensors of a network; its top level has the keys {keys:?}"
            )))
        }
        _ => {
            let names: Vec<String> = plausible
                .iter()
                .filter_map(|&i| candidates.get(i))
                .take(8)
                .map(|c| format!("{:?} ({} tensors)", c.name(), c.tensors))
                .collect();
            Err(Error::bad_file(format!(
                "several dicts hold tensors and none has a usual name: {}; save the wanted one alone",
                names.join(", ")
            )))
        }
    }
}

fn scalars(arena: &Arena, dict: Id, limits: &Limits) -> BTreeMap<String, String> {
    let mut metadata = BTreeMap::new();
    for &(key, value) in arena.dict(dict).unwrap_or_default() {
        let Some(key) = arena.str(key).filter(|key| key.len() <= limits.name_bytes) else { continue };
        let text = match arena.get(value) {
            Node::Bool(value) => value.to_string(),
            Node::Int(value) => value.to_string(),
            Node::Float(value) => value.to_string(),
            Node::Str(text) if text.len() <= MAX_TEXT => text.to_string(),
            _ => continue,
        };
        metadata.insert(key.to_owned(), text);
    }
    metadata
}

/// Removes the prefixes that `DataParallel` (`module.`) and `torch.compile` (`_orig_mod.`) put before every name,
/// if all names share them, and says what was removed.
pub(super) fn strip_prefix<T>(tensors: &mut [(String, T)]) -> Option<String> {
    let mut stripped = String::new();
    while let Some(prefix) = ["module.", "_orig_mod."].into_iter().find(|prefix| {
        !tensors.is_empty() && tensors.iter().all(|(n, _)| n.len() > prefix.len() && n.starts_with(prefix))
    }) {
        for (name, _) in tensors.iter_mut() {
            name.drain(..prefix.len());
        }
        stripped.push_str(prefix);
    }
    (!stripped.is_empty()).then_some(stripped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_goes_only_if_all_names_share_it() {
        let mut all = [("module.a".to_owned(), ()), ("module.b.module.c".to_owned(), ())];
        assert_eq!(strip_prefix(&mut all).as_deref(), Some("module."));
        assert_eq!(all.map(|(n, ())| n), ["a", "b.module.c"]);
        let mut some = [("module.a".to_owned(), ()), ("b".to_owned(), ())];
        assert_eq!(strip_prefix(&mut some), None);
        let mut only = [("module.".to_owned(), ())];
        assert_eq!(strip_prefix(&mut only), None);
        let mut both = [("module._orig_mod.a".to_owned(), ())];
        assert_eq!(strip_prefix(&mut both).as_deref(), Some("module._orig_mod."));
    }
}
