//! What a built engine depends on.

use std::{collections::BTreeMap, path::Path};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tapetum_runtime::{
    Result,
    backend::{Builds, Profile},
};

use super::device;
use crate::prepare::hex;

/// Everything that a built engine depends on. Two keys that differ anywhere are two engines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// SHA-256 of the model file, 64 hexadecimal digits: its weights, not only its structure.
    pub model: String,
    /// As in pipeline files, for example `ort:openvino`.
    pub engine: String,
    /// Versions of the libraries that build, by name.
    pub versions: BTreeMap<String, String>,
    /// What it was built for, with the driver, as the system tells.
    pub device: BTreeMap<String, String>,
    /// For example `fp32`.
    pub precision: String,
    /// The provider's options in its own words.
    pub options: BTreeMap<String, String>,
    /// The shapes that it takes, for example `[1, 3, 512, 512]`; `any` if nothing bounds them.
    pub shapes: String,
}

impl Key {
    /// The key of what `engine` builds from the model with the digest `model` on this machine.
    ///
    /// # Errors
    /// [`tapetum_runtime::ErrorKind::Environment`] if the system does not tell the device.
    pub fn new(model: &str, engine: &str, builds: &Builds, profile: Option<&Profile>) -> Result<Self> {
        Ok(Self {
            model: model.to_owned(),
            engine: engine.to_owned(),
            versions: builds.versions.iter().cloned().collect(),
            device: device::identity(&builds.device, Path::new("/"))?,
            precision: builds.precision.name().to_owned(),
            options: builds.options.iter().cloned().collect(),
            shapes: profile.map_or_else(
                || "any".to_owned(),
                |p| format!("{} {p}, tuned for {:?}", p.input(), p.usual()),
            ),
        })
    }

    /// SHA-256 of the key as JSON (fields in the order above, maps sorted), 64 hexadecimal digits.
    pub fn digest(&self) -> String {
        hex(&Sha256::digest(serde_json::to_vec(self).unwrap_or_default()))
    }

    /// What differs in `other`, in words; `None` if they are equal.
    pub fn difference(&self, other: &Self) -> Option<String> {
        let plain = [
            ("model", &self.model, &other.model),
            ("engine", &self.engine, &other.engine),
            ("precision", &self.precision, &other.precision),
            ("shapes", &self.shapes, &other.shapes),
        ];
        let plain = plain.into_iter().find(|(_, own, its)| own != its);
        plain.map(|(name, own, its)| format!("{name} {its}, here {own}")).or_else(|| {
            let maps = [
                (&self.versions, &other.versions),
                (&self.device, &other.device),
                (&self.options, &other.options),
            ];
            maps.into_iter().find_map(|(own, its)| {
                let name = own.keys().chain(its.keys()).find(|k| own.get(*k) != its.get(*k))?;
                let value = |map: &BTreeMap<String, String>| map.get(name).cloned().unwrap_or("none".into());
                Some(format!("{name} {}, here {}", value(its), value(own)))
            })
        })
    }

    /// Whether `other` is the same model in the same use on another machine, driver or version.
    pub fn is_kin(&self, other: &Self) -> bool {
        (&self.model, &self.engine, &self.precision, &self.options, &self.shapes)
            == (&other.model, &other.engine, &other.precision, &other.options, &other.shapes)
    }
}
