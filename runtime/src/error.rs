//! The one error type of the workspace's libraries.

use std::{error, fmt};

/// Who must act on an error. The message says what happened; the kind says whose move it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The caller: a wrong flag, configuration value or combination of them.
    InvalidConfig,
    /// Whoever made the file: it is truncated, corrupt, hostile or not what it claims to be.
    BadFile,
    /// Nobody here: the file or request is sound, but this build or engine cannot do it.
    Unsupported,
    /// Whoever feeds the model: the input does not fit the model's contract.
    BadInput,
    /// Whoever set up the machine: a library, device or permission is missing.
    Environment,
    /// The proof that two forms of a network compute the same did not hold; nothing was written.
    ProofFailed,
    /// Us: an invariant of this program was broken.
    Internal,
}

/// What went wrong, in words that carry the numbers and the place.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn error::Error + Send + Sync>>,
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind`; `message` states what happened, with numbers and place, and what to do about it.
    #[cold]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// Shorthand for [`ErrorKind::InvalidConfig`].
    #[cold]
    pub fn config(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidConfig, message)
    }

    /// Shorthand for [`ErrorKind::BadFile`].
    #[cold]
    pub fn bad_file(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::BadFile, message)
    }

    /// Shorthand for [`ErrorKind::Unsupported`].
    #[cold]
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }

    /// Shorthand for [`ErrorKind::BadInput`].
    #[cold]
    pub fn bad_input(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::BadInput, message)
    }

    /// Shorthand for [`ErrorKind::Internal`].
    #[cold]
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// Keeps the lower-level error for `source()`; the message must already say what matters of it.
    #[cold]
    pub fn caused_by(mut self, source: impl error::Error + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }

    /// Puts `place` before the message: the callee knows what happened, the caller knows where.
    ///
    /// ```
    /// # use tapetum_runtime::Error;
    /// let e = Error::bad_file("storage ends after 12 of 48 bytes").at("net.pth: tensor \"conv.weight\"");
    /// assert_eq!(e.to_string(), "net.pth: tensor \"conv.weight\": storage ends after 12 of 48 bytes");
    /// ```
    #[cold]
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }

    /// Who must act.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.source.as_deref().map(|s| s as _)
    }
}
