//! How the daemon fares, for who asks often: the service manager.

use super::inner::{Inner, lock};
use crate::site::{camera::Keeper, http::Site, status::CameraState};

/// How the daemon fares at a moment. Costs next to nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// In the configuration.
    pub cameras: usize,
    /// That give frames.
    pub streaming: usize,
    /// Whose models are being loaded.
    pub loading: usize,
    /// That only a new configuration or model can help.
    pub failed: usize,
    /// Whether a new configuration is being taken in.
    pub reloading: bool,
    /// Why the last one was refused, its first line.
    pub refused: Option<String>,
    /// What stands still although it should not; see [`Site::stuck`].
    pub stuck: Vec<String>,
}

impl Health {
    pub(super) fn of(inner: &Inner) -> Self {
        let states: Vec<CameraState> = lock(&inner.cameras).iter().map(Keeper::told).collect();
        let count = |wanted| states.iter().filter(|state| **state == wanted).count();
        let config = lock(&inner.config);
        Self {
            cameras: states.len(),
            streaming: count(CameraState::Streaming),
            loading: count(CameraState::Loading),
            failed: count(CameraState::Failed),
            reloading: config.reloading,
            refused: config.reload_error.as_ref().and_then(|why| why.lines().next()).map(str::to_owned),
            stuck: {
                drop(config);
                inner.stuck()
            },
        }
    }

    /// In one line, for people.
    pub fn words(&self) -> String {
        let mut words = format!("{} of {} cameras give frames", self.streaming, self.cameras);
        for (n, what) in [(self.loading, "load models"), (self.failed, "failed")] {
            if n > 0 {
                words += &format!(", {n} {what}");
            }
        }
        if self.reloading {
            words += "; a new configuration is being taken in";
        } else if let Some(why) = &self.refused {
            words += &format!("; the last new configuration was refused: {why}");
        }
        for stuck in &self.stuck {
            words += &format!("; {stuck}");
        }
        words
    }
}
