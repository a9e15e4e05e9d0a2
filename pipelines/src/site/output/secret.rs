//! Words that never reach a message.

use std::{fmt, path::Path};

use tapetum_runtime::{Error, ErrorKind, Result};

/// A password or token. Debug output and messages never show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// What the file `path` says, without the line feed at its end.
    ///
    /// # Errors
    /// [`ErrorKind::Environment`] if it cannot be read, [`ErrorKind::BadFile`] if it is empty or no text.
    pub fn of_file(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|e| {
            Error::new(ErrorKind::Environment, format!("{}: cannot read: {e}", path.display())).caused_by(e)
        })?;
        // What is in it must not be shown, so neither must the error that says where it is no text.
        let text = String::from_utf8(bytes)
            .map_err(|_| Error::bad_file(format!("{}: not UTF-8 text", path.display())))?;
        match text.trim_end_matches(['\r', '\n']) {
            "" => Err(Error::bad_file(format!("{}: empty", path.display()))),
            text => Ok(Self(text.to_owned())),
        }
    }

    /// What the environment variable `name` says.
    ///
    /// # Errors
    /// [`ErrorKind::Environment`] if it is not set.
    pub fn of_env(name: &str) -> Result<Self> {
        match std::env::var(name) {
            Ok(text) if !text.is_empty() => Ok(Self(text)),
            _ => Err(Error::new(ErrorKind::Environment, format!("environment variable {name} is not set"))),
        }
    }

    /// The word itself, for the other side only.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
