//! Named tensors that are accounted for to the last one.

use std::collections::BTreeMap;

use tapetum_runtime::{DType, Data, Error, Result, Tensor};

/// Entries with this ending count batches during training and mean nothing at inference.
const BATCH_COUNTER: &str = "num_batches_tracked";

/// Named tensors still unclaimed. Every `take` removes one; [`StateDict::finish`] insists that none is left.
#[derive(Clone, Debug, Default)]
pub struct StateDict {
    tensors: BTreeMap<String, Tensor>,
    /// The file, for messages.
    place: Option<String>,
    used: usize,
    ignored: Vec<(String, String)>,
}

/// What became of every tensor of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accounting {
    /// Tensors that the network took.
    pub used: usize,
    /// Tensors that were expected and left aside, each with the reason.
    pub ignored: Vec<(String, String)>,
}

impl StateDict {
    /// A state dict over `tensors`; of two with one name the later wins.
    pub fn new(tensors: impl IntoIterator<Item = (String, Tensor)>) -> Self {
        Self { tensors: tensors.into_iter().collect(), ..Self::default() }
    }

    pub(super) fn with_place(mut self, place: String) -> Self {
        self.place = Some(place);
        self
    }

    /// Removes the floating-point tensor `name` and returns it as `f32`, rounded once if it was stored otherwise.
    ///
    /// # Errors
    /// [`tapetum_runtime::ErrorKind::BadFile`] if the tensor is absent (naming the closest key), has another shape
    /// (giving both), is not floating-point or does not fit into `f32`. The tensor then stays.
    pub fn take(&mut self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let found = self.claim(name, shape)?;
        let dtype = found.dtype();
        if !matches!(dtype, DType::F32 | DType::F64 | DType::F16 | DType::BF16) {
            return Err(self.error(format!("{name:?} holds {}, floating-point is needed", dtype.name())));
        }
        if let Data::F64(values) = found.data()
            && let Some(&value) = values.iter().find(|v| v.is_finite() && !(**v as f32).is_finite())
        {
            return Err(self.error(format!("{name:?} holds {value:e}, which is too large for f32")));
        }
        self.tensors
            .remove(name)
            .and_then(Tensor::into_f32)
            .inspect(|_| self.used += 1)
            .ok_or_else(|| Error::internal(format!("{name:?} vanished")))
    }

    /// Removes the integer tensor `name` and returns it as `i64`.
    ///
    /// # Errors
    /// [`tapetum_runtime::ErrorKind::BadFile`] if the tensor is absent, has another shape or holds no signed or
    /// small unsigned integers. The tensor then stays.
    pub fn take_i64(&mut self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let found = self.claim(name, shape)?;
        let values: Vec<i64> = match found.data() {
            Data::I64(v) => v.clone(),
            Data::I32(v) => v.iter().map(|&x| x.into()).collect(),
            Data::I16(v) => v.iter().map(|&x| x.into()).collect(),
            Data::I8(v) => v.iter().map(|&x| x.into()).collect(),
            Data::U32(v) => v.iter().map(|&x| x.into()).collect(),
            Data::U16(v) => v.iter().map(|&x| x.into()).collect(),
            Data::U8(v) => v.iter().map(|&x| x.into()).collect(),
            _ => {
                let dtype = found.dtype().name();
                return Err(self.error(format!("{name:?} holds {dtype}, an integer is needed")));
            }
        };
        let tensor = Tensor::new(shape, values)?;
        self.tensors.remove(name);
        self.used += 1;
        Ok(tensor)
    }

    /// Whether `name` is still unclaimed.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Shape of an unclaimed tensor.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(Tensor::shape)
    }

    /// Names of the unclaimed tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Number of unclaimed tensors.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether no tensor is left.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// An unclaimed tensor, as stored.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// Adds or replaces a tensor.
    pub fn insert(&mut self, name: impl Into<String>, tensor: Tensor) -> Option<Tensor> {
        self.tensors.insert(name.into(), tensor)
    }

    /// Removes a tensor without counting it as used.
    pub fn remove(&mut self, name: &str) -> Option<Tensor> {
        self.tensors.remove(name)
    }

    /// The unclaimed tensors, as stored.
    pub fn into_tensors(self) -> BTreeMap<String, Tensor> {
        self.tensors
    }

    /// Leaves the tensor `name`, if there is one, aside: it was expected and is not needed.
    pub fn ignore(&mut self, name: &str, why: &'static str) {
        if self.tensors.remove(name).is_some() {
            self.ignored.push((name.to_owned(), why.to_owned()));
        }
    }

    /// Ends the accounting.
    ///
    /// # Errors
    /// [`tapetum_runtime::ErrorKind::BadFile`] naming up to five tensors that nobody took or ignored.
    pub fn finish(mut self) -> Result<Accounting> {
        let counters: Vec<String> =
            self.names().filter(|name| is_batch_counter(name)).map(str::to_owned).collect();
        for name in counters {
            self.ignore(&name, "counts training batches");
        }
        if self.is_empty() {
            return Ok(Accounting { used: self.used, ignored: self.ignored });
        }
        let some: Vec<&str> = self.names().take(5).collect();
        Err(self.error(format!(
            "{} of the checkpoint's tensors belong to no part of this network: {}{}",
            self.len(),
            some.join(", "),
            if self.len() > some.len() { ", .." } else { "" }
        )))
    }

    /// The tensor `name` if it has `shape`.
    fn claim(&self, name: &str, shape: &[usize]) -> Result<&Tensor> {
        let Some(found) = self.tensors.get(name) else {
            return Err(self.missing(name, shape));
        };
        if found.shape() != shape {
            return Err(self.error(format!(
                "{name:?} has shape {:?} in the checkpoint, this network needs {shape:?}",
                found.shape()
            )));
        }
        Ok(found)
    }

    #[cold]
    fn missing(&self, name: &str, shape: &[usize]) -> Error {
        let closest =
            self.tensors.iter().min_by_key(|(key, _)| (strsim::levenshtein(key, name), (*key).clone()));
        let hint = match closest {
            None => "no tensor is left".to_owned(),
            Some((key, tensor)) => {
                let more = self.len() - 1;
                format!("did you mean {key:?} {:?}? ({more} more unused keys)", tensor.shape())
            }
        };
        self.error(format!("there is no tensor {name:?} {shape:?}; {hint}"))
    }

    #[cold]
    fn error(&self, message: String) -> Error {
        let error = Error::bad_file(message);
        match &self.place {
            Some(place) => error.at(place),
            None => error,
        }
    }
}

fn is_batch_counter(name: &str) -> bool {
    name.rsplit('.').next() == Some(BATCH_COUNTER)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dict() -> StateDict {
        StateDict::new([
            ("stem.conv.weight".to_owned(), Tensor::full(&[4, 3, 3, 3], 0.5f32)),
            ("stem.bn.weight".to_owned(), Tensor::vector(vec![0.1f64; 4])),
            ("stem.bn.num_batches_tracked".to_owned(), Tensor::scalar(7i64)),
        ])
    }

    #[test]
    fn a_missing_tensor_is_named_with_the_closest_key() {
        let message = dict().take("stem.conv.weigth", &[4]).unwrap_err().to_string();
        assert!(message.contains("\"stem.conv.weigth\" [4]"), "{message}");
        assert!(message.contains("did you mean \"stem.conv.weight\" [4, 3, 3, 3]? (2 more"), "{message}");
        let message = StateDict::default().take("w", &[]).unwrap_err().to_string();
        assert!(message.contains("no tensor is left"), "{message}");
    }

    #[test]
    fn a_misshapen_tensor_is_refused_with_both_shapes_and_stays() {
        let mut dict = dict();
        let message = dict.take("stem.conv.weight", &[4, 3, 1, 1]).unwrap_err().to_string();
        assert!(message.contains("[4, 3, 3, 3]") && message.contains("[4, 3, 1, 1]"), "{message}");
        assert!(dict.contains("stem.conv.weight"));
    }

    #[test]
    fn nothing_may_be_left_over_but_batch_counters() {
        let mut dict = dict();
        dict.take("stem.conv.weight", &[4, 3, 3, 3]).unwrap();
        let message = dict.clone().finish().unwrap_err().to_string();
        assert!(message.contains("1 of") && message.contains("stem.bn.weight"), "{message}");
        let bn = dict.take("stem.bn.weight", &[4]).unwrap();
        assert_eq!(bn.f32s().unwrap(), [0.1f32; 4]);
        let accounting = dict.finish().unwrap();
        assert_eq!(accounting.used, 2);
        assert_eq!(accounting.ignored.len(), 1);
    }

    #[test]
    fn types_are_not_mixed_up() {
        let mut dict = dict();
        dict.insert("big", Tensor::scalar(1e300f64));
        dict.insert("small", Tensor::scalar(-3i16));
        assert!(dict.take("stem.bn.num_batches_tracked", &[]).unwrap_err().to_string().contains("i64"));
        assert!(dict.take("big", &[]).unwrap_err().to_string().contains("1e300"));
        assert_eq!(dict.take_i64("small", &[]).unwrap().view::<i64>().unwrap(), [-3]);
        assert!(dict.take_i64("big", &[]).unwrap_err().to_string().contains("f64"));
    }
}
