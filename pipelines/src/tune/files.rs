//! A model's files in smaller formats, in the cache.

use std::{collections::BTreeMap, fs, path::Path};

use sha2::{Digest, Sha256};
use tapetum_models::quantize::{self, QuantizeOptions};
use tapetum_runtime::{
    Error, ErrorKind, Result, Tensor,
    backend::{Backend, Precision},
};

use super::tuned::ModelOnDisk;
use crate::{
    models::OnDisk,
    prepare::{self, hex},
};

/// Makes each file once.
pub struct Files<'a> {
    model: &'a OnDisk,
    inputs: &'a [Vec<Tensor>],
    gate: Option<f64>,
    engine: &'static dyn Backend,
    cache: &'a Path,
    made: BTreeMap<&'static str, std::result::Result<OnDisk, String>>,
    /// Why files that were there were not taken.
    damaged: Vec<String>,
}

impl<'a> Files<'a> {
    /// For `model` in fp32, which gets `inputs`: every second calibrates. `engine` observes and judges.
    pub fn new(
        model: &'a OnDisk,
        inputs: &'a [Vec<Tensor>],
        gate: Option<f64>,
        engine: &'static dyn Backend,
        cache: &'a Path,
    ) -> Self {
        Self { model, inputs, gate, engine, cache, made: BTreeMap::new(), damaged: Vec::new() }
    }

    /// The file in `precision`, or for people why it could not be made: it does not pass, it has nothing to quantize. Made
    /// anew only where model, inputs, gate, engine or this program differ from those of a file that is there, or where that
    /// is not what was written.
    ///
    /// # Errors
    /// [`ErrorKind::Environment`] if the cache cannot be written or the engine fails.
    pub fn file(
        &mut self,
        precision: Precision,
        tell: &mut dyn FnMut(quantize::Step<'_>),
    ) -> Result<std::result::Result<OnDisk, String>> {
        if let Some(made) = self.made.get(precision.name()) {
            return Ok(made.clone());
        }
        let made = match self.make(precision, tell) {
            Ok(made) => Ok(made),
            Err(e) if e.kind() == ErrorKind::Environment => return Err(e),
            Err(e) => Err(e.to_string()),
        };
        self.made.insert(precision.name(), made.clone());
        Ok(made)
    }

    /// Why files that were there were not taken, since this was asked last.
    pub fn damaged(&mut self) -> Vec<String> {
        std::mem::take(&mut self.damaged)
    }

    fn make(&mut self, precision: Precision, tell: &mut dyn FnMut(quantize::Step<'_>)) -> Result<OnDisk> {
        let folder = self.cache.join("models");
        fs::create_dir_all(&folder).map_err(|e| {
            Error::new(ErrorKind::Environment, format!("{}: {e}", folder.display())).caused_by(e)
        })?;
        let stem =
            self.model.path.file_stem().map_or_else(Default::default, |s| s.to_string_lossy().into_owned());
        let key = self.key()?;
        let path = folder.join(format!("{stem}-{}-{key}.onnx", precision.name()));
        let engine = Some(self.engine.name().to_owned());
        let options = QuantizeOptions { engine, gate: self.gate, ..QuantizeOptions::default() };
        let from = &self.model.path;
        prepare::unless_whole(&path, &mut |why| self.damaged.push(why), || match precision {
            Precision::Fp16 => quantize::convert_fp16(from, &path, self.inputs, &options, tell),
            _ => quantize::quantize(from, &path, self.inputs, &options, tell),
        })?;
        OnDisk::made_of(self.model, path)
    }

    /// Of all that a file is made of.
    fn key(&self) -> Result<String> {
        let mut digest = Sha256::new();
        let facts = [
            env!("CARGO_PKG_VERSION").to_owned(),
            self.model.sha256.clone(),
            format!("{:?}", self.gate),
            self.engine.probe()?,
        ];
        for fact in facts {
            digest.update((fact.len() as u64).to_le_bytes());
            digest.update(fact);
        }
        for input in self.inputs.iter().flatten() {
            digest.update(format!("{:?}", input.shape()));
            input.f32s()?.iter().for_each(|v| digest.update(v.to_le_bytes()));
        }
        Ok(hex(&digest.finalize())[..16].to_owned())
    }

    /// `model` as it stands in the figures.
    pub fn relative(&self, model: &OnDisk) -> ModelOnDisk {
        let path = model.path.strip_prefix(self.cache).unwrap_or(&model.path).to_owned();
        ModelOnDisk { path, sha256: model.sha256.clone() }
    }
}
