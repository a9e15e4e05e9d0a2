//! A camera's source, lent to one generation of its pipeline.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tapetum_runtime::{Frame, Result};

use super::{CameraCore, lock};
use crate::site::machine::Cap;
use crate::source::{Next, Source, SourceInfo, StampFaults, supervised::Supervised};

/// Ends for its borrower when it is to be given back, within a tenth of a second; the source itself goes on.
pub(crate) struct Lent {
    source: Arc<Mutex<Supervised>>,
    info: SourceInfo,
    back: Arc<AtomicBool>,
    camera: Arc<CameraCore>,
    pace: Option<Pace>,
    machine: Bearable,
}

/// What the machine can bear.
struct Bearable {
    cap: Arc<Cap>,
    pace: Option<Pace>,
}

impl Bearable {
    /// Whether it is cool enough for a frame of this time.
    fn bears(&mut self, pts: Duration) -> bool {
        let Some(fps) = self.cap.fps() else {
            self.pace = None;
            return true;
        };
        self.pace.get_or_insert_with(|| Pace::new(fps)).takes(pts)
    }
}

impl Lent {
    /// `back`: set to have it given back. `max_fps`: frames that come faster are left out and counted; so are those that come
    /// faster than `cap` allows.
    pub fn new(
        source: Arc<Mutex<Supervised>>,
        back: Arc<AtomicBool>,
        camera: Arc<CameraCore>,
        max_fps: Option<f32>,
        cap: Arc<Cap>,
    ) -> Self {
        let info = source.lock().unwrap_or_else(PoisonError::into_inner).info().clone();
        Self {
            source,
            info,
            back,
            camera,
            pace: max_fps.map(Pace::new),
            machine: Bearable { cap, pace: None },
        }
    }
}

impl Source for Lent {
    fn info(&self) -> &SourceInfo {
        &self.info
    }

    fn next(&mut self, frame: &mut Frame) -> Result<Next> {
        // Nobody else has it: the generation before has given it back.
        let mut source = self.source.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if self.back.load(Ordering::SeqCst) {
                return Ok(Next::End);
            }
            let next = source.next(frame)?;
            let is_frame = matches!(next, Next::Frame);
            let due = is_frame && self.pace.as_mut().is_none_or(|pace| pace.takes(frame.pts));
            let taken = due && self.machine.bears(frame.pts);
            self.record(&mut source, is_frame.then_some(&*frame), taken);
            if is_frame && !taken {
                if due {
                    self.camera.figures.too_hot()
                } else {
                    self.camera.figures.over_rate()
                }
                continue;
            }
            return Ok(next);
        }
    }

    fn stamps(&self) -> StampFaults {
        self.source.lock().unwrap_or_else(PoisonError::into_inner).stamps()
    }
}

impl Lent {
    /// Tells the camera's recorder what came.
    fn record(&self, source: &mut Supervised, frame: Option<&Frame>, taken: bool) {
        let mut recorder = lock(&self.camera.recorder);
        let mut packets = Vec::new();
        // Also where nobody wants them (any more): they would pile up.
        source.packets(&mut |packet| packets.push(packet));
        let Some(recorder) = &mut *recorder else { return };
        if recorder.wants_packets() {
            source.keep_packets();
        }
        recorder.packets(packets.into_iter());
        if let Some(frame) = frame {
            recorder.given(frame.seq, frame.pts, frame.captured, taken);
        }
    }
}

/// Takes frames no closer together than an interval, on average.
struct Pace {
    interval: Duration,
    due: Duration,
}

impl Pace {
    fn new(fps: f32) -> Self {
        Self { interval: Duration::from_secs_f32(1.0 / fps), due: Duration::ZERO }
    }

    fn takes(&mut self, pts: Duration) -> bool {
        // A camera's own unevenness must not cost a frame: an eighth of the interval early is in time.
        if pts + self.interval / 8 < self.due {
            return false;
        }
        // Not further ahead than one interval, nor behind: a gap is no credit for a burst.
        self.due = self.due.max(pts.saturating_sub(self.interval)) + self.interval;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(fps: f32, pts: impl Iterator<Item = f64>) -> Vec<usize> {
        let mut pace = Pace::new(fps);
        let taken = pts.enumerate().filter(|(_, s)| pace.takes(Duration::from_secs_f64(*s)));
        taken.map(|(n, _)| n).collect()
    }

    #[test]
    fn a_third_of_thirty_frames_is_every_third() {
        let frames = taken(10.0, (0..300).map(|n| f64::from(n) / 30.0));
        assert_eq!(frames, (0..100).map(|n| 3 * n).collect::<Vec<_>>());
    }

    #[test]
    fn uneven_frames_cost_none_at_their_own_rate_and_a_gap_gives_no_burst() {
        let uneven = |n: i32| f64::from(n) / 10.0 + if n % 2 == 0 { 0.004 } else { -0.004 };
        assert_eq!(taken(10.0, (1..50).map(uneven)).len(), 49);
        // Two seconds of nothing, then thirty frames a second.
        let pts = (0..10).map(|n| f64::from(n) / 10.0).chain((0..30).map(|n| 3.0 + f64::from(n) / 30.0));
        let after_gap = taken(10.0, pts).into_iter().filter(|n| *n >= 10).count();
        assert!((10..=11).contains(&after_gap), "{after_gap}");
    }
}
