//! Break-up time of the tear film, from the classes of an eye video's frames.
//!
//! After a blink the film settles; the break-up time (BUT) runs from the first clear frame to the first broken one
//! (TF-Collab, arXiv:2510.05615). What a single frame says is not believed: a break-up counts from the first of a run of
//! broken frames, if the run is long enough. Blurred frames, and frames without a class, say nothing about the film: they
//! neither end a run nor lengthen it. Times are timestamps; frames are not counted.

/// What a frame shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EyeState {
    /// Open, the film is whole.
    Clear,
    /// The lid covers the eye.
    Closed,
    /// Open, the film has broken up.
    Broken,
    /// Open, nothing can be said.
    Blur,
}

/// When a break-up is believed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rules {
    /// Broken frames in a row, at least.
    pub min_run: u32,
    /// With a longer gap between two frames, in seconds, a blink may have gone unseen: the interval ends there.
    pub max_gap_s: f64,
}

impl Default for Rules {
    fn default() -> Self {
        Self { min_run: 3, max_gap_s: 1.0 }
    }
}

/// Break-up time per interval between two blinks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BreakUpTime {
    /// In the order of the video.
    pub intervals: Vec<Interval>,
}

/// The time between two blinks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Interval {
    /// Whether the blink before it was seen; if not, the film may be older than `first_clear_s` says.
    pub after_blink: bool,
    /// Time of the first open frame, in seconds.
    pub opened_s: f64,
    /// Time of the first closed frame after it, in seconds; `None` if the video or what was seen of it ends before.
    pub closed_s: Option<f64>,
    /// Time of the first clear frame, in seconds.
    pub first_clear_s: f64,
    /// Time of the first of the broken frames that were believed, in seconds.
    pub first_broken_s: Option<f64>,
    /// Break-up time in seconds; `None`: the film did not break while it was seen.
    pub but_s: Option<f64>,
    /// The break-up time is at least this, in seconds: from the first clear frame to the last that showed the film
    /// before it broke, or at all.
    pub lower_bound_s: f64,
    /// The break-up time is uncertain by this, in seconds: the longer of the times between the frames that it begins
    /// and ends with and the frame before each.
    pub uncertainty_s: f64,
}

impl BreakUpTime {
    /// Mean of the break-up times that were measured, in seconds; `None` if there is none.
    pub fn mean_s(&self) -> Option<f64> {
        let measured: Vec<f64> = self.intervals.iter().filter_map(|i| i.but_s).collect();
        (!measured.is_empty()).then(|| measured.iter().sum::<f64>() / measured.len() as f64)
    }
}

/// Watches a video frame by frame.
#[derive(Clone, Debug)]
pub struct BreakUpTimer {
    rules: Rules,
    seen_closed: bool,
    /// Time of the frame before.
    last_s: Option<f64>,
    open: Option<Open>,
    /// Intervals that are over.
    past: Vec<Interval>,
}

/// The interval that is going on.
#[derive(Clone, Debug)]
struct Open {
    after_blink: bool,
    opened_s: f64,
    /// Time of the first clear frame, and of the frame before it.
    clear: Option<(f64, f64)>,
    /// The run of broken frames that is not yet believed, or the one that was.
    run: Option<Run>,
    broken: bool,
    /// The last frame that showed the film whole.
    last_clear_s: f64,
    /// The last frame that showed the film at all.
    last_film_s: f64,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    start_s: f64,
    /// Time between its first frame and the frame before that.
    gap_s: f64,
    frames: u32,
}

impl BreakUpTimer {
    /// Before the first frame.
    pub fn new(rules: Rules) -> Self {
        Self { rules, seen_closed: false, last_s: None, open: None, past: Vec::new() }
    }

    /// Takes the next frame: its timestamp in seconds (not before the one before) and what it shows; `None` if that is
    /// not known.
    pub fn observe(&mut self, at_s: f64, state: Option<EyeState>) {
        let before_s = self.last_s.replace(at_s).unwrap_or(at_s);
        if at_s - before_s > self.rules.max_gap_s {
            self.end(None);
            self.seen_closed = false;
        }
        if state == Some(EyeState::Closed) {
            self.end(Some(at_s));
            self.seen_closed = true;
            return;
        }
        let after_blink = self.seen_closed;
        let open = self.open.get_or_insert(Open {
            after_blink,
            opened_s: at_s,
            clear: None,
            run: None,
            broken: false,
            last_clear_s: at_s,
            last_film_s: at_s,
        });
        match state {
            Some(EyeState::Clear) => {
                open.clear.get_or_insert((at_s, before_s));
                open.last_film_s = at_s;
                if !open.broken {
                    open.last_clear_s = at_s;
                    open.run = None;
                }
            }
            Some(EyeState::Broken) if open.clear.is_some() => {
                open.last_film_s = at_s;
                if !open.broken {
                    let fresh = Run { start_s: at_s, gap_s: at_s - before_s, frames: 0 };
                    let run = open.run.get_or_insert(fresh);
                    run.frames += 1;
                    open.broken = run.frames >= self.rules.min_run;
                }
            }
            _ => {}
        }
    }

    /// Ends the interval that is going on, if there is one with a clear frame.
    fn end(&mut self, closed_s: Option<f64>) {
        if let Some(open) = self.open.take() {
            self.past.extend(open.interval(closed_s));
        }
    }

    /// All intervals up to now; the one that is going on is the last.
    pub fn result(&self) -> BreakUpTime {
        let mut intervals = self.past.clone();
        intervals.extend(self.open.as_ref().and_then(|open| open.interval(None)));
        BreakUpTime { intervals }
    }

    /// Of the interval that is going on: its number from 0, the time since its first clear frame in seconds, and its
    /// break-up time if the film has broken. `None` while the eye is closed or no clear frame was seen.
    pub fn now(&self) -> Option<(usize, f64, Option<f64>)> {
        let open = self.open.as_ref()?;
        let (clear_s, _) = open.clear?;
        let but_s = open.run.filter(|_| open.broken).map(|run| run.start_s - clear_s);
        Some((self.past.len(), self.last_s? - clear_s, but_s))
    }
}

impl Open {
    fn interval(&self, closed_s: Option<f64>) -> Option<Interval> {
        let (clear_s, before_clear_s) = self.clear?;
        let run = self.run.filter(|_| self.broken);
        let lower_s = if self.broken { self.last_clear_s } else { self.last_film_s };
        Some(Interval {
            after_blink: self.after_blink,
            opened_s: self.opened_s,
            closed_s,
            first_clear_s: clear_s,
            first_broken_s: run.map(|run| run.start_s),
            but_s: run.map(|run| run.start_s - clear_s),
            lower_bound_s: lower_s - clear_s,
            uncertainty_s: (clear_s - before_clear_s).max(run.map_or(0.0, |run| run.gap_s)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{EyeState::*, *};

    /// 30 frames a second: `(state, frames)` in a row.
    fn watch(script: &[(Option<EyeState>, usize)]) -> BreakUpTime {
        let mut timer = BreakUpTimer::new(Rules::default());
        let states = script.iter().flat_map(|&(state, n)| std::iter::repeat_n(state, n));
        states.enumerate().for_each(|(n, state)| timer.observe(n as f64 / 30.0, state));
        timer.result()
    }

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    #[test]
    fn from_the_first_clear_to_the_first_broken_frame() {
        let but = watch(&[
            (Some(Closed), 10),
            (Some(Blur), 5),
            (Some(Clear), 60),
            (Some(Broken), 9),
            (Some(Closed), 3),
            (Some(Clear), 30),
        ]);
        let [first, second] = &but.intervals[..] else { panic!("{but:?}") };
        assert!(first.after_blink && close(first.opened_s, 10.0 / 30.0));
        assert!(close(first.first_clear_s, 0.5) && close(first.but_s.unwrap(), 2.0));
        assert!(close(first.closed_s.unwrap(), 84.0 / 30.0) && close(first.uncertainty_s, 1.0 / 30.0));
        assert!(close(first.lower_bound_s, 59.0 / 30.0));
        assert_eq!((second.but_s, second.closed_s), (None, None));
        assert!(close(second.lower_bound_s, 29.0 / 30.0));
        assert!(close(but.mean_s().unwrap(), 2.0));
    }

    #[test]
    fn two_broken_frames_are_not_believed_and_blur_is_passed_over() {
        let but = watch(&[(Some(Closed), 1), (Some(Clear), 30), (Some(Broken), 2), (Some(Clear), 10)]);
        assert_eq!(but.intervals[0].but_s, None);
        let but = watch(&[
            (Some(Closed), 1),
            (Some(Clear), 30),
            (Some(Broken), 1),
            (Some(Blur), 4),
            (None, 2),
            (Some(Broken), 2),
        ]);
        assert!(close(but.intervals[0].but_s.unwrap(), 1.0));
    }

    #[test]
    fn broken_before_any_clear_frame_is_no_break_up() {
        let but = watch(&[(Some(Closed), 3), (Some(Broken), 9), (Some(Closed), 3)]);
        assert!(but.intervals.is_empty());
    }

    #[test]
    fn an_interval_whose_blink_was_not_seen_says_so() {
        let but = watch(&[(Some(Clear), 30), (Some(Broken), 5)]);
        assert!(!but.intervals[0].after_blink);
        assert!(close(but.intervals[0].but_s.unwrap(), 1.0));
        assert!(close(but.intervals[0].lower_bound_s, 29.0 / 30.0));
    }

    #[test]
    fn time_is_what_counts_not_frames() {
        let mut timer = BreakUpTimer::new(Rules::default());
        // Variable rate: 10 ms, then 200 ms, then 10 ms between frames.
        timer.observe(0.0, Some(Closed));
        timer.observe(0.01, Some(Clear));
        timer.observe(0.21, Some(Clear));
        timer.observe(0.41, Some(Broken));
        timer.observe(0.42, Some(Broken));
        assert_eq!(timer.now().unwrap().2, None);
        timer.observe(0.43, Some(Broken));
        let (n, age, but) = timer.now().unwrap();
        assert!(n == 0 && close(age, 0.42) && close(but.unwrap(), 0.40));
        let result = timer.result();
        assert!(close(result.intervals[0].uncertainty_s, 0.20), "{result:?}");
    }

    #[test]
    fn a_long_gap_ends_the_interval_and_the_next_is_not_after_a_blink() {
        let mut timer = BreakUpTimer::new(Rules::default());
        for (at, state) in [(0.0, Closed), (0.1, Clear), (0.2, Clear), (3.0, Clear), (3.1, Broken)] {
            timer.observe(at, Some(state));
        }
        let [first, second] = &timer.result().intervals[..] else { panic!() };
        assert!(first.after_blink && first.but_s.is_none() && close(first.lower_bound_s, 0.1));
        assert!(!second.after_blink);
    }
}
