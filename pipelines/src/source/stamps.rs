//! Timestamps that can be relied on, out of those that files and cameras give.

use std::time::Duration;

use super::StampFaults;

/// Mends timestamps: the result never decreases, and every fault is counted.
#[derive(Clone, Debug)]
pub struct Mender {
    /// Usual time between two frames.
    interval: Duration,
    /// What was given out last.
    last: Option<Duration>,
    /// Added to what the source says since the last time that it jumped back.
    shift: Duration,
    faults: StampFaults,
}

impl Mender {
    /// `interval`: usual time between two frames, for stamps that are missing.
    pub fn new(interval: Duration) -> Self {
        Self { interval, last: None, shift: Duration::ZERO, faults: StampFaults::default() }
    }

    /// The time of a frame that the source stamps with `stamp`. A missing stamp is the usual interval after the frame
    /// before. A stamp that is not after the frame before re-bases the stream: this frame too comes the usual interval
    /// later, and those after it keep their distances.
    pub fn mend(&mut self, stamp: Option<Duration>) -> Duration {
        let next = self.last.map_or(Duration::ZERO, |last| last + self.interval);
        let mended = match (stamp.map(|s| s + self.shift), self.last) {
            (None, _) => {
                self.faults.missing += 1;
                next
            }
            (Some(at), Some(last)) if at <= last => {
                self.faults.backwards += 1;
                self.shift += next - at;
                next
            }
            (Some(at), _) => at,
        };
        self.last = Some(mended);
        mended
    }

    /// Faults so far.
    pub fn faults(&self) -> StampFaults {
        self.faults
    }
}

/// Furthest that a picture may come before one that was sent earlier, as pictures between others do in H.264.
const REORDER: i128 = 1_000_000_000;
/// Furthest that a stream's clock may run ahead of the time that passed between two arrivals.
const AHEAD: i128 = 10_000_000_000;

/// Puts the stamps of a live stream, as they arrive, on one line of time that never leaps.
///
/// Unlike [`Mender`], it sees pictures in the order of decoding, so that stamps may go back a little, and it knows when they
/// arrived, so that it tells a leap of the camera's clock from a pause.
#[derive(Clone, Debug, Default)]
pub struct Unleap {
    /// The latest stamp as the camera gives it, in nanoseconds, and when it arrived.
    last: Option<(i128, Duration)>,
    /// Added to the camera's stamps, in nanoseconds.
    shift: i128,
    leaps: u64,
}

impl Unleap {
    /// The place of `stamp` (nanoseconds of the camera's clock), which arrived at `arrived` on our own clock. The first
    /// is at 0. After a leap the stream goes on as much later as the time that passed.
    pub fn place(&mut self, stamp: i128, arrived: Duration) -> Duration {
        match self.last {
            None => {
                self.shift = -stamp;
                self.last = Some((stamp, arrived));
            }
            Some((last, at)) => {
                let passed = nanos(arrived.saturating_sub(at));
                if stamp + REORDER < last || stamp > last + passed + AHEAD {
                    self.leaps += 1;
                    self.shift += last + passed.max(1) - stamp;
                }
                if stamp > last || stamp + REORDER < last {
                    self.last = Some((stamp, arrived));
                }
            }
        }
        Duration::from_nanos(u64::try_from(stamp + self.shift).unwrap_or(0))
    }

    /// Leaps so far.
    pub fn leaps(&self) -> u64 {
        self.leaps
    }
}

fn nanos(time: Duration) -> i128 {
    time.as_nanos().cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Places of stamps and arrivals, in milliseconds.
    fn placed(stamps: &[(i64, u64)]) -> (Vec<u64>, u64) {
        let mut line = Unleap::default();
        let places = stamps.iter().map(|(stamp, arrived)| {
            line.place(i128::from(*stamp) * 1_000_000, Duration::from_millis(*arrived)).as_millis() as u64
        });
        (places.collect(), line.leaps())
    }

    #[test]
    fn a_live_stream_starts_at_0_and_may_reorder_pictures() {
        let (places, leaps) = placed(&[(5000, 9), (5120, 50), (5040, 90), (5080, 130), (5160, 170)]);
        assert_eq!((places, leaps), (vec![0, 120, 40, 80, 160], 0));
    }

    #[test]
    fn a_leap_of_the_cameras_clock_is_taken_out_and_a_pause_is_not() {
        let (places, leaps) = placed(&[(0, 0), (40, 40), (3_600_080, 80), (3_600_120, 120)]);
        assert_eq!((places, leaps), (vec![0, 40, 80, 120], 1));
        let (places, leaps) = placed(&[(0, 0), (40, 40), (60_040, 60_040)]);
        assert_eq!((places, leaps), (vec![0, 40, 60_040], 0));
        let (places, leaps) = placed(&[(90_000, 0), (90_040, 40), (0, 80), (40, 120)]);
        assert_eq!((places, leaps), (vec![0, 40, 80, 120], 1));
    }

    fn mended(stamps: &[Option<u64>]) -> (Vec<u64>, StampFaults) {
        let mut mender = Mender::new(Duration::from_millis(40));
        let times = stamps.iter().map(|s| mender.mend(s.map(Duration::from_millis)).as_millis() as u64);
        (times.collect(), mender.faults())
    }

    #[test]
    fn good_stamps_stay_as_they_are_whatever_their_distances() {
        let (times, faults) = mended(&[Some(7), Some(8), Some(500), Some(501)]);
        assert_eq!((times, faults), (vec![7, 8, 500, 501], StampFaults::default()));
    }

    #[test]
    fn a_missing_stamp_comes_the_usual_interval_later() {
        let (times, faults) = mended(&[None, Some(40), None, Some(120)]);
        assert_eq!(times, [0, 40, 80, 120]);
        assert_eq!(faults, StampFaults { missing: 2, ..StampFaults::default() });
    }

    #[test]
    fn after_a_jump_back_the_stream_goes_on_with_its_own_distances() {
        let (times, faults) = mended(&[Some(1000), Some(1040), Some(0), Some(30), Some(90), Some(90)]);
        assert_eq!(times, [1000, 1040, 1080, 1110, 1170, 1210]);
        assert_eq!(faults, StampFaults { backwards: 2, ..StampFaults::default() });
    }
}
