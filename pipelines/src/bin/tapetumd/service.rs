//! What systemd is told: ready, alive, and in words how it goes.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use tapetum::site::{http::Site, status::CameraState};

/// How often the words are renewed.
const WORDS: Duration = Duration::from_secs(5);

/// Nothing happens where no systemd listens.
pub struct Service {
    ready: bool,
    /// Half of what systemd allows between two signs of life.
    every: Option<Duration>,
    fed: Instant,
    said: Option<Instant>,
}

impl Service {
    pub fn new() -> Self {
        let every = sd_notify::watchdog_enabled().map(|allowed| allowed / 2);
        Self { ready: false, every, fed: Instant::now(), said: None }
    }

    /// Says what there is to say. A sign of life is only given while frames that come get through.
    pub fn tick(&mut self, site: &dyn Site) {
        let now = Instant::now();
        if self.said.is_none_or(|at| now - at >= WORDS) || !self.ready {
            let status = site.status();
            let streaming = status.cameras.iter().filter(|c| c.state == CameraState::Streaming).count();
            let loading = status.cameras.iter().any(|c| c.state == CameraState::Loading);
            if !loading && !self.ready {
                self.ready = true;
                notify(&[NotifyState::Ready]);
            }
            let words = format!("{streaming} of {} cameras give frames", status.cameras.len());
            notify(&[NotifyState::Status(&words)]);
            self.said = Some(now);
        }
        if let Some(every) = self.every
            && now - self.fed >= every
        {
            let stuck = site.stuck();
            if stuck.is_empty() {
                notify(&[NotifyState::Watchdog]);
                self.fed = now;
            } else {
                notify(&[NotifyState::Status(&stuck.join("; "))]);
            }
        }
    }

    /// A new configuration is being taken in.
    pub fn reloading(&mut self) {
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            notify(&[NotifyState::Reloading, now]);
        }
        self.ready = false;
    }

    /// It ends.
    pub fn stopping(&self) {
        notify(&[NotifyState::Stopping]);
    }
}

/// Who does not listen misses nothing.
fn notify(state: &[NotifyState<'_>]) {
    sd_notify::notify(state).ok();
}
