//! Break-up time of the tear film, from the classes of an eye video's frames.

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
    /// The break-up time is at least this, in seconds: how long the film was seen unbroken.
    pub lower_bound_s: f64,
    /// The break-up time is uncertain by this, in seconds: the time between two frames where it began and ended.
    pub uncertainty_s: f64,
}

impl BreakUpTime {
    /// Mean of the break-up times that were measured, in seconds; `None` if there is none.
    pub fn mean_s(&self) -> Option<f64> {
        let measured: Vec<f64> = self.intervals.iter().filter_map(|i| i.but_s).collect();
        (!measured.is_empty()).then(|| measured.iter().sum::<f64>() / measured.len() as f64)
    }
}
