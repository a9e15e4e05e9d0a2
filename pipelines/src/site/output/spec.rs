//! What the configuration says of an output, whatever its kind.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use tapetum_runtime::Result;

use super::{Kind, Output, OutputSpec, Place, reading::SecretFrom};

/// What all kinds can be asked.
pub(super) trait Spec {
    /// Files that are read when it starts: secrets and certificates.
    fn reads(&mut self) -> Vec<&mut PathBuf> {
        Vec::new()
    }

    /// What no two outputs may have at once, in words: files that are written, who it is to a broker.
    fn claims(&self, name: &str, place: &Place) -> Vec<String>;

    /// As much of [`Spec::open`] as can be done beside an output that has the same claims.
    fn check(&self, place: &Place) -> Result<()>;

    /// Starts it.
    fn open(&self, name: &str, place: &Place) -> Result<Arc<dyn Output>>;
}

impl Kind {
    fn spec(&self) -> &dyn Spec {
        match self {
            Self::Mqtt(spec) => spec,
            Self::Sqlite(spec) => spec,
            Self::Jsonl(spec) => spec,
            Self::Webhook(spec) => spec,
        }
    }

    fn spec_mut(&mut self) -> &mut dyn Spec {
        match self {
            Self::Mqtt(spec) => spec,
            Self::Sqlite(spec) => spec,
            Self::Jsonl(spec) => spec,
            Self::Webhook(spec) => spec,
        }
    }
}

impl OutputSpec {
    /// As it is, with relative paths of files that are read taken to be below `folder`, the configuration's.
    pub fn below(mut self, folder: &Path) -> Self {
        for path in self.kind.spec_mut().reads() {
            *path = folder.join(&*path);
        }
        self
    }

    /// Files that are read when it starts: secrets and certificates.
    pub fn files(&self) -> Vec<PathBuf> {
        self.kind.clone().spec_mut().reads().into_iter().map(|path| path.clone()).collect()
    }

    /// What no two outputs may have at once, in words: files that are written, who it is to a broker.
    pub fn claims(&self, place: &Place) -> Vec<String> {
        self.kind.spec().claims(&self.name, place)
    }

    /// Reads its secrets and certificates and looks at its files, as far as that can be done beside an output with the same claims.
    ///
    /// # Errors
    /// As [`OutputSpec::open`].
    pub fn check(&self, place: &Place) -> Result<()> {
        self.kind.spec().check(place).map_err(|e| e.at(format!("output {}", self.name)))
    }

    /// Starts it. Nothing is waited for: a dead broker or a full disk is told in the status.
    ///
    /// # Errors
    /// What only the configuration or whoever set up the machine can help: a certificate or password that cannot be read, a folder
    /// that cannot be made, a database of a newer version.
    pub fn open(&self, place: &Place) -> Result<Arc<dyn Output>> {
        self.kind.spec().open(&self.name, place).map_err(|e| e.at(format!("output {}", self.name)))
    }
}

/// The file of a secret, if it is in one.
pub(super) fn secret_file(secret: Option<&mut SecretFrom>) -> Option<&mut PathBuf> {
    match secret {
        Some(SecretFrom::File(path)) => Some(path),
        _ => None,
    }
}
