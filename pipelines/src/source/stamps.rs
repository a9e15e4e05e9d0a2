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

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(faults, StampFaults { missing: 2, backwards: 0 });
    }

    #[test]
    fn after_a_jump_back_the_stream_goes_on_with_its_own_distances() {
        let (times, faults) = mended(&[Some(1000), Some(1040), Some(0), Some(30), Some(90), Some(90)]);
        assert_eq!(times, [1000, 1040, 1080, 1110, 1170, 1210]);
        assert_eq!(faults, StampFaults { missing: 0, backwards: 2 });
    }
}
