//! Whether what is kept may go by its age: rows of the store, files of the media folder. A board that starts without a clock, or one
//! whose clock is set wrong, must not cost them: what a jump makes old stays until the jump has stood for a day.

use std::time::Duration;

/// A wall clock that goes further than this beyond what has passed has jumped, in milliseconds.
const JUMP: i64 = 24 * 3600 * 1000;

/// How long a jump must stand before anything goes by it.
const PROBATION: Duration = Duration::from_hours(24);

/// What is known of the wall clock.
#[derive(Debug, Default)]
pub(in crate::site) struct Age {
    /// Wall time, in milliseconds since 1970, and time that cannot jump, when it was last looked at.
    last: Option<(i64, Duration)>,
    /// When it last jumped forward.
    jumped: Option<Duration>,
}

impl Age {
    /// Whether things may go by their age now. `wall`: milliseconds since 1970; `steady`: time that cannot jump; `newest`: when the
    /// newest of them was made, which is all that is known when the process starts.
    pub fn trusted(&mut self, wall: i64, steady: Duration, newest: Option<i64>) -> bool {
        let expected = match self.last {
            Some((then, at)) => Some(then.saturating_add(millis(steady.saturating_sub(at)))),
            None => newest,
        };
        if expected.is_some_and(|expected| wall.saturating_sub(expected) > JUMP) {
            self.jumped = Some(steady);
        }
        self.last = Some((wall, steady));
        self.jumped.is_none_or(|at| steady.saturating_sub(at) >= PROBATION)
    }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const NOW: i64 = 1_780_000_000_000;
    const YEAR: i64 = 365 * JUMP;

    #[test]
    fn a_clock_that_goes_as_it_should_is_trusted() {
        let mut age = Age::default();
        assert!((0..3000).all(|n| age.trusted(NOW + n * 60_000, MINUTE * n as u32, None)));
        assert!(Age::default().trusted(NOW, MINUTE, Some(NOW - 3_600_000)), "an hour without events");
    }

    #[test]
    fn a_jump_forward_costs_nothing_until_it_has_stood_for_a_day() {
        let mut age = Age::default();
        assert!(age.trusted(NOW, MINUTE, None));
        let first =
            (1..3000).find(|n| age.trusted(NOW + 12 * YEAR + n * 60_000, MINUTE * (1 + *n as u32), None));
        assert_eq!(first, Some(24 * 60 + 1));
    }

    #[test]
    fn a_clock_that_is_set_right_again_is_no_jump_and_one_that_was_wrong_before_the_start_is() {
        let mut age = Age::default();
        assert!(age.trusted(NOW, MINUTE, None));
        assert!(!age.trusted(NOW + YEAR, 2 * MINUTE, None));
        assert!(
            !age.trusted(NOW + 120_000, 3 * MINUTE, None),
            "still on probation: it was wrong a minute ago"
        );
        assert!(age.trusted(NOW, Duration::from_hours(25), None));
        assert!(!Age::default().trusted(NOW + YEAR, MINUTE, Some(NOW)), "nobody knows how long it was off");
    }
}
