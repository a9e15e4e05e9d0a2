//! Whether frames that come get through: what tells a daemon that hangs from a camera that is dead. Without threads or time.

use std::time::Duration;

use tapetum_runtime::clock::Tick;

/// Frames come and none of them gets through for this long: something stands still.
const STUCK: Duration = Duration::from_secs(20);

/// As long as none has got through yet, as models may take long over their first.
const FIRST: Duration = Duration::from_secs(120);

/// Since when frames have come without one getting through.
#[derive(Default)]
pub(super) struct Progress {
    since: Option<Tick>,
    /// When a picture came last, and how many had by then.
    latest: Tick,
    pictures: u64,
    /// When it was looked last.
    looked: Tick,
}

impl Progress {
    /// Looks: whether the camera is there, how many pictures have come so far, and when the last frame got through.
    pub fn look(&mut self, there: bool, pictures: u64, last: Option<Tick>, now: Tick) {
        let before = std::mem::replace(&mut self.looked, now);
        if !there {
            // A camera that gives nothing is no fault of ours.
            self.since = None;
            return;
        }
        // Nor is one that is silent for as long as it may be: time counts from picture to picture.
        if std::mem::replace(&mut self.pictures, pictures) != pictures {
            self.latest = now;
            self.since.get_or_insert(before);
        }
        self.since = self.since.map(|since| since.max(last.unwrap_or_default()));
    }

    /// For how long nothing has got through, if that is too long for frames that take `longest` and are looked at every `interval`.
    pub fn stuck(&self, last: Option<Tick>, longest: Duration, interval: Duration) -> Option<Duration> {
        let held = self.latest.saturating_sub(self.since?);
        let patience = if last.is_none() { FIRST } else { STUCK };
        (held >= patience.max(3 * longest).max(3 * interval)).then_some(held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    /// Looks every second at a camera that gives a picture when `comes` says so, and is there unless `gone`; when it was said first that
    /// something stands still.
    fn first_stuck(
        comes: impl Fn(u32) -> bool,
        gone: impl Fn(u32) -> bool,
        last: impl Fn(u32) -> Option<u32>,
        longest: u32,
    ) -> Option<u32> {
        let (mut progress, mut pictures) = (Progress::default(), 0);
        (0..1000).find(|t| {
            pictures += u64::from(comes(*t));
            let last = last(*t).map(|at| at * S);
            progress.look(!gone(*t), pictures, last, *t * S);
            progress.stuck(last, longest * S, S / 10).is_some()
        })
    }

    fn stuck(
        frames_come: impl Fn(u32) -> bool,
        last: impl Fn(u32) -> Option<u32>,
        longest: u32,
    ) -> Option<u32> {
        first_stuck(&frames_come, |t| !frames_come(t), last, longest)
    }

    #[test]
    fn a_camera_that_is_silent_for_long_is_not_a_hung_daemon_and_one_whose_frames_do_not_get_through_is() {
        let seldom = |t: u32| t.is_multiple_of(60);
        assert_eq!(first_stuck(seldom, |_| false, |t| Some(t / 60 * 60), 1), None);
        // Silent from the first minute on, and not given up.
        assert_eq!(first_stuck(|t| t < 60, |_| false, |t| Some(t.min(59)), 1), None);
        assert_eq!(first_stuck(seldom, |_| false, |t| Some(t.min(120) / 60 * 60), 1), Some(180));
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
