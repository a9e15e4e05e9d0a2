//! Sees that a file of the configuration has changed: by its time and size, which costs nothing and works on every file system.

use std::{
    path::{Path, PathBuf},
    time::SystemTime,
};

use crate::site::config::{CameraSpec, SiteFile};

/// A file as it was; `None`: it was not there.
type Look = Option<(SystemTime, u64)>;

/// The files of a configuration.
pub(super) struct Watch {
    /// As they are in force.
    files: Vec<(PathBuf, Look)>,
    /// As they were seen last, if otherwise: whoever writes one is given time to finish.
    settling: Option<Vec<Look>>,
}

impl Watch {
    /// From now on.
    pub fn new(file: &SiteFile) -> Self {
        let mut files = vec![file.path.clone()];
        for camera in &file.cameras {
            files.push(camera.pipeline.path.clone());
            files.extend(models(camera));
        }
        files.sort();
        files.dedup();
        Self { files: files.into_iter().map(|f| (f.clone(), look(&f))).collect(), settling: None }
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

/// The model files of a camera's pipeline.
fn models(camera: &CameraSpec) -> impl Iterator<Item = PathBuf> {
    camera.pipeline.models.iter().map(|model| model.path.clone())
}

fn look(path: &Path) -> Look {
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.modified().ok()?, meta.len()))
}

/// What two configurations of a camera must have in common for its pipeline to stay as it is.
pub(super) fn fingerprint(camera: &CameraSpec) -> impl PartialEq + use<> {
    let models: Vec<(PathBuf, Look)> = models(camera).map(|f| (f.clone(), look(&f))).collect();
    (camera.pipeline.path.clone(), camera.pipeline.text.clone(), models)
}
