//! What systemd is told: ready, alive, and in words how it goes.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use tapetum::site::daemon::Health;

/// How often the words are renewed where nothing changes.
const WORDS: Duration = Duration::from_secs(5);

/// How much more time is asked for while models load: an engine may compile for minutes.
const MORE: Duration = Duration::from_secs(30);

/// For how long that is asked for at most.
const MOST: Duration = Duration::from_secs(3600);

/// Nothing happens where no systemd listens.
pub struct Service {
    began: Instant,
    /// What it was told last: ready or not.
    ready: bool,
    reloading: bool,
    /// Half of what systemd allows between two signs of life.
    every: Option<Duration>,
    fed: Option<Instant>,
    said: Option<(Instant, String)>,
}

impl Service {
    pub fn new() -> Self {
        let every = sd_notify::watchdog_enabled().map(|allowed| allowed / 2);
        Self { began: Instant::now(), ready: false, reloading: false, every, fed: None, said: None }
    }

    /// Says what there is to say. A sign of life is only given while frames that come get through.
    pub fn tick(&mut self, health: &Health) {
        let now = Instant::now();
        if health.reloading && !self.reloading {
            self.reloading();
        }
        let settled = health.loading == 0 && !health.reloading;
        let words = health.words();
        let renew = self.said.as_ref().is_none_or(|(at, said)| now - *at >= WORDS || *said != words);
        if settled && (!self.ready || self.reloading) {
            (self.ready, self.reloading) = (true, false);
            notify(&[NotifyState::Ready, NotifyState::Status(&words)]);
        } else if renew {
            notify(&[NotifyState::Status(&words)]);
            if !settled && now - self.began < MOST {
                let more = u32::try_from(MORE.as_micros()).unwrap_or(u32::MAX);
                notify(&[NotifyState::ExtendTimeoutUsec(more)]);
            }
        }
        if renew {
            self.said = Some((now, words));
        }
        if let Some(every) = self.every
            && health.stuck.is_empty()
            && self.fed.is_none_or(|at| now - at >= every)
        {
            notify(&[NotifyState::Watchdog]);
            self.fed = Some(now);
        }
    }

    /// A new configuration is being taken in; [`Service::tick`] says when that is over.
    pub fn reloading(&mut self) {
        (self.reloading, self.began) = (true, Instant::now());
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            notify(&[NotifyState::Reloading, now]);
        }
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
