//! The driver's frame counter, made into numbers that only grow.

use crate::source::SequenceFaults;

/// A larger step is no loss of frames but a counter that began anew.
const MOST_SKIPPED: u32 = 1 << 16;

/// Gives each frame its number.
#[derive(Clone, Debug, Default)]
pub struct Sequence {
    last: Option<u32>,
    next: u64,
    faults: SequenceFaults,
}

impl Sequence {
    /// The number of the frame that the driver counts as `driver`: from 0, growing by at least one, with a gap for each frame that
    /// the driver skipped. A counter that repeats or goes back (as some do now and then, and all when they wrap) is no gap.
    pub fn number(&mut self, driver: u32) -> u64 {
        if let Some(last) = self.last {
            match driver.wrapping_sub(last) {
                0 => self.faults.repeated = self.faults.repeated.saturating_add(1),
                step @ 1..=MOST_SKIPPED => {
                    let skipped = u64::from(step - 1);
                    self.faults.skipped = self.faults.skipped.saturating_add(skipped);
                    self.next = self.next.saturating_add(skipped);
                }
                _ => self.faults.restarted = self.faults.restarted.saturating_add(1),
            }
        }
        self.last = Some(driver);
        let number = self.next;
        self.next = self.next.saturating_add(1);
        number
    }

    /// Faults so far.
    pub fn faults(&self) -> SequenceFaults {
        self.faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(driver: &[u32]) -> (Vec<u64>, SequenceFaults) {
        let mut sequence = Sequence::default();
        (driver.iter().map(|n| sequence.number(*n)).collect(), sequence.faults())
    }

    #[test]
    fn counting_begins_at_zero_wherever_the_driver_does() {
        assert_eq!(numbers(&[7, 8, 9]), (vec![0, 1, 2], SequenceFaults::default()));
    }

    #[test]
    fn skipped_frames_are_gaps() {
        let faults = SequenceFaults { skipped: 3, ..Default::default() };
        assert_eq!(numbers(&[0, 1, 3, 6, 7]), (vec![0, 1, 3, 6, 7], faults));
    }

    #[test]
    fn a_repeated_number_is_a_frame_of_its_own() {
        let faults = SequenceFaults { repeated: 2, ..Default::default() };
        assert_eq!(numbers(&[4, 4, 4, 5]), (vec![0, 1, 2, 3], faults));
    }

    #[test]
    fn the_counter_wraps() {
        let faults = SequenceFaults { skipped: 1, ..Default::default() };
        assert_eq!(numbers(&[u32::MAX - 1, u32::MAX, 0, 2]), (vec![0, 1, 2, 4], faults));
    }

    #[test]
    fn a_counter_that_begins_anew_loses_nothing() {
        let faults = SequenceFaults { restarted: 2, ..Default::default() };
        assert_eq!(numbers(&[900_000, 0, 1, 500_000]), (vec![0, 1, 2, 3], faults));
    }
}
