//! Whether frames that come get through: what tells a daemon that hangs from a camera that is dead. Without threads or time.

use std::time::Duration;

use tapetum_runtime::clock::Tick;

/// Frames come and none of them gets through for this long: something stands still.
const STUCK: Duration = Duration::from_secs(20);

/// As long as none has got through yet, as models may take long over their first.
const FIRST: Duration = Duration::from_secs(120);

/// Since when frames have come without one getting through.
#[derive(Default)]
pub(super) struct Progress(Option<Tick>);

impl Progress {
    /// Looks: whether frames come, and when the last one got through.
    pub fn look(&mut self, frames_come: bool, last: Option<Tick>, now: Tick) {
        if !frames_come {
            // A camera that gives nothing is no fault of ours.
            self.0 = None;
            return;
        }
        let since = self.0.get_or_insert(now);
        *since = (*since).max(last.unwrap_or_default());
    }

    /// For how long nothing has got through, if that is too long for frames that take `longest` and are looked at every `interval`.
    pub fn stuck(
        &self,
        last: Option<Tick>,
        longest: Duration,
        interval: Duration,
        now: Tick,
    ) -> Option<Duration> {
        let held = now.saturating_sub(self.0?);
        let patience = if last.is_none() { FIRST } else { STUCK };
        (held >= patience.max(3 * longest).max(3 * interval)).then_some(held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    /// Looks every second; when it was said first that something stands still.
    fn stuck(
        frames_come: impl Fn(u32) -> bool,
        last: impl Fn(u32) -> Option<u32>,
        longest: u32,
    ) -> Option<u32> {
        let mut progress = Progress::default();
        (0..1000).find(|t| {
            let last = last(*t).map(|at| at * S);
            progress.look(frames_come(*t), last, *t * S);
            progress.stuck(last, longest * S, S / 10, *t * S).is_some()
        })
    }

    #[test]
    fn a_dead_camera_is_not_a_hung_daemon() {
        assert_eq!(stuck(|_| false, |_| None, 1), None);
        // It was there for a minute.
        assert_eq!(stuck(|t| t < 60, |t| Some(t.min(60)), 1), None);
        // It comes and goes, and each time a frame gets through.
        assert_eq!(stuck(|t| t % 40 < 10, |t| Some(t / 40 * 40 + 1), 1), None);
    }

    #[test]
    fn frames_that_come_and_do_not_get_through_are_a_hung_daemon() {
        assert_eq!(stuck(|_| true, |t| Some(t.min(60)), 1), Some(80));
        assert_eq!(stuck(|_| true, |_| None, 0), Some(120), "the first may take longer");
        assert_eq!(
            stuck(|_| true, |t| Some(t.min(60)), 30),
            Some(150),
            "a model that takes half a minute may"
        );
    }

    #[test]
    fn frames_that_get_through_seldom_are_progress() {
        assert_eq!(stuck(|_| true, |t| Some(t / 15 * 15), 1), None);
    }
}
