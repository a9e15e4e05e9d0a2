//! Readers for the files that training leaves behind.

use std::collections::BTreeMap;

use tapetum_runtime::{Error, Result, Tensor};

/// Named tensors of a checkpoint.
pub struct StateDict(BTreeMap<String, Tensor>);

impl StateDict {
    /// Over these tensors.
    pub fn new(tensors: impl IntoIterator<Item = (String, Tensor)>) -> Self {
        Self(tensors.into_iter().collect())
    }

    /// The `f32` tensor `name` of `shape`.
    ///
    /// # Errors
    /// [`tapetum_runtime::ErrorKind::BadFile`] if it is missing or misshapen.
    pub fn take(&mut self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let tensor = self.0.remove(name).and_then(Tensor::into_f32).filter(|t| t.shape() == shape);
        tensor.ok_or_else(|| Error::bad_file(format!("checkpoint has no {name:?} {shape:?}")))
    }

    /// Whether there is a tensor `name`.
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The shape of tensor `name`.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.0.get(name).map(Tensor::shape)
    }

    /// Every name, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Leaves the tensor `name`, if there is one, aside.
    pub fn ignore(&mut self, name: &str, _why: &'static str) {
        self.0.remove(name);
    }
}
