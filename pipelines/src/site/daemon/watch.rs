//! Sees that a file of the configuration has changed.

use std::path::PathBuf;

use crate::site::config::named::{Look, Looks, look, looks};

/// The files of a configuration.
pub(super) struct Watch {
    /// As they were when they were read.
    files: Looks,
    /// As they were seen last, if otherwise: whoever writes one is given time to finish.
    settling: Option<Vec<Look>>,
}

impl Watch {
    /// From now on.
    pub fn new(files: Vec<PathBuf>) -> Self {
        Self { files: looks(files), settling: None }
    }

    /// Whether one has changed and has stayed as it is since the last call. Tells it once.
    pub fn changed(&mut self) -> bool {
        let now: Vec<Look> = self.files.iter().map(|(path, _)| look(path)).collect();
        if now.iter().zip(&self.files).all(|(now, (_, was))| now == was) {
            self.settling = None;
            return false;
        }
        if self.settling.as_ref() != Some(&now) {
            self.settling = Some(now);
            return false;
        }
        self.settling = None;
        self.files.iter_mut().zip(now).for_each(|((_, was), now)| *was = now);
        true
    }
}
