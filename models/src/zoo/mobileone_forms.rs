//! In which form a checkpoint holds each of its MobileOne blocks, read from tensor names alone.
//!
//! A block `name` in training form has `name.rbr_conv.{i}` for every k×k branch; a folded one has `name.reparam_conv`.
//! Either may have squeeze-and-excite, `name.se`. Which other branches there are follows from the block's place.

use std::collections::{BTreeMap, BTreeSet};

use tapetum_runtime::{Error, Result};

use super::Form;
use crate::checkpoint::StateDict;

/// How the weights of one block are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Branches {
    /// `rbr_*`, with this many k×k branches.
    Trained {
        /// Number of `rbr_conv.{i}`.
        convs: usize,
    },
    /// `reparam_conv`.
    Folded,
}

/// What the checkpoint decides about a block, beside what its place does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The form.
    pub branches: Branches,
    /// Hidden channels of squeeze-and-excite, where the block has it.
    pub squeeze: Option<usize>,
}

/// How every block of a network is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forms(BTreeMap<String, Stored>);

/// What the names under one block show.
#[derive(Default)]
struct Seen {
    convs: BTreeSet<usize>,
    trained: bool,
    folded: bool,
    excite: bool,
    squeeze: Option<usize>,
}

impl Forms {
    /// Reads the form of every block in `state`.
    ///
    /// # Errors
    /// [`tapetum_runtime::ErrorKind::BadFile`] naming a block that is in both forms or whose branches are not counted
    /// from 0, or two blocks that are not in the same form.
    pub fn read(state: &StateDict) -> Result<Self> {
        let mut blocks = BTreeMap::<&str, Seen>::new();
        for name in state.names() {
            if let Some((block, branch)) = name.split_once(".rbr_") {
                let seen = blocks.entry(block).or_default();
                seen.trained = true;
                let index = branch.strip_prefix("conv.").and_then(|b| b.split('.').next());
                seen.convs.extend(index.and_then(|i| i.parse::<usize>().ok()));
            } else if let Some((block, _)) = name.split_once(".reparam_conv.") {
                blocks.entry(block).or_default().folded = true;
            } else if let Some((block, part)) = name.split_once(".se.") {
                let seen = blocks.entry(block).or_default();
                seen.excite = true;
                if part == "reduce.weight" {
                    seen.squeeze = state.shape(name).and_then(|s| s.first()).copied();
                }
            }
        }
        let stored = blocks.into_iter().map(|(name, seen)| Ok((name.to_owned(), seen.judge(name)?)));
        let forms = Self(stored.collect::<Result<_>>()?);
        let first = |folded: bool| forms.0.iter().find(|(_, s)| (s.branches == Branches::Folded) == folded);
        if let (Some((trained, _)), Some((folded, _))) = (first(false), first(true)) {
            return Err(Error::bad_file(format!(
                "block {folded:?} is in deployment form, block {trained:?} in training form; \
                 a checkpoint is all in one form"
            )));
        }
        Ok(forms)
    }

    /// Sets how block `name` is stored.
    pub fn set(&mut self, name: String, stored: Stored) {
        self.0.insert(name, stored);
    }

    /// How block `name` is stored.
    ///
    /// # Errors
    /// [`tapetum_runtime::ErrorKind::BadFile`] if there is no such block.
    pub fn get(&self, name: &str) -> Result<Stored> {
        self.0.get(name).copied().ok_or_else(|| {
            Error::bad_file(format!(
                "checkpoint has no block {name:?} (neither {name}.rbr_conv.0 nor {name}.reparam_conv)"
            ))
        })
    }

    /// [`Form::Deployment`] if every block is folded.
    pub fn form(&self) -> Form {
        let folded = self.0.values().all(|s| s.branches == Branches::Folded);
        if folded { Form::Deployment } else { Form::Training }
    }

    /// The same network with every block in `form`; blocks that gain branches get `convs` of them.
    #[must_use]
    pub fn in_form(mut self, form: Form, convs: usize) -> Self {
        for stored in self.0.values_mut() {
            stored.branches = match (form, stored.branches) {
                (Form::Deployment, _) => Branches::Folded,
                (Form::Training, Branches::Folded) => Branches::Trained { convs },
                (Form::Training, trained) => trained,
            };
        }
        self
    }

    /// The number of k×k branches in words: `1`, or `1 in 1 block, 4 in 42 blocks`.
    pub fn describe_branches(&self) -> String {
        self.tally(|s| match s.branches {
            Branches::Trained { convs } => convs.to_string(),
            Branches::Folded => "folded".into(),
        })
    }

    /// The blocks with squeeze-and-excite.
    pub fn excited(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter(|(_, s)| s.squeeze.is_some()).map(|(name, _)| name.as_str())
    }

    fn tally(&self, word: impl Fn(&Stored) -> String) -> String {
        let mut counts = BTreeMap::<String, usize>::new();
        for stored in self.0.values() {
            *counts.entry(word(stored)).or_default() += 1;
        }
        if counts.len() == 1 {
            return counts.into_keys().collect();
        }
        let plural = |n: usize| if n == 1 { "block" } else { "blocks" };
        let parts: Vec<_> = counts.iter().map(|(word, &n)| format!("{word} in {n} {}", plural(n))).collect();
        parts.join(", ")
    }
}

impl Seen {
    fn judge(self, name: &str) -> Result<Stored> {
        let convs = self.convs.len();
        let branches = match (self.trained, self.folded) {
            (true, true) => {
                return Err(Error::bad_file(format!(
                    "block {name:?} has both training branches (rbr_*) and a folded convolution (reparam_conv)"
                )));
            }
            (true, false) if convs == 0 => {
                return Err(Error::bad_file(format!("block {name:?} has no rbr_conv branch")));
            }
            (true, false) => {
                if let Some(missing) = (0..convs).find(|i| !self.convs.contains(i)) {
                    let have: Vec<_> = self.convs.iter().map(usize::to_string).collect();
                    return Err(Error::bad_file(format!(
                        "block {name:?} has branches rbr_conv.{{{}}} but no rbr_conv.{missing}",
                        have.join(", ")
                    )));
                }
                Branches::Trained { convs }
            }
            (false, true) => Branches::Folded,
            (false, false) => {
                return Err(Error::bad_file(format!(
                    "block {name:?} has squeeze-and-excite (se.*) but no convolution"
                )));
            }
        };
        if self.excite && self.squeeze.is_none() {
            return Err(Error::bad_file(format!("block {name:?} has se.* tensors but no se.reduce.weight")));
        }
        Ok(Stored { branches, squeeze: self.squeeze })
    }
}

/// Output channels of block `name`, from its k×k weight.
///
/// # Errors
/// [`tapetum_runtime::ErrorKind::BadFile`] if there is no such block or its weight is not a 2-D kernel.
pub fn channels_out(state: &StateDict, name: &str) -> Result<usize> {
    Ok(weight_shape(state, name)?[0])
}

/// Input channels per group of block `name`, from its k×k weight.
///
/// # Errors
/// As [`channels_out`].
pub fn channels_in(state: &StateDict, name: &str) -> Result<usize> {
    Ok(weight_shape(state, name)?[1])
}

/// Whether there is a block `name`, in either form.
pub fn is_block(state: &StateDict, name: &str) -> bool {
    weight_names(name).iter().any(|n| state.contains(n))
}

fn weight_names(name: &str) -> [String; 2] {
    [format!("{name}.rbr_conv.0.conv.weight"), format!("{name}.reparam_conv.weight")]
}

/// `[C_out, C_in / groups, k, k]`, all positive.
fn weight_shape(state: &StateDict, name: &str) -> Result<[usize; 4]> {
    let names = weight_names(name);
    let found = names.iter().find_map(|n| Some((n, state.shape(n)?)));
    let Some((weight, shape)) = found else {
        return Err(Error::bad_file(format!("checkpoint has neither {:?} nor {:?}", names[0], names[1])));
    };
    match <[usize; 4]>::try_from(shape) {
        Ok(shape) if shape.iter().all(|&n| n > 0) => Ok(shape),
        _ => Err(Error::bad_file(format!(
            "{weight:?} is {shape:?}, a convolution's weight is [C_out, C_in / groups, k, k]"
        ))),
    }
}
