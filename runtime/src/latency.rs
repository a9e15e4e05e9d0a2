//! A histogram of durations: fixed memory, percentiles that are never off by more than 1.6 %.

use std::time::Duration;

/// Each doubling is divided into this many equal steps.
const STEPS: usize = 64;
/// Doublings above [`STEPS`] microseconds: the last bucket ends after about 19 hours.
const DOUBLINGS: usize = 30;
const BUCKETS: usize = STEPS * (DOUBLINGS + 1);

/// Durations in microseconds: exact below 64 µs, in steps of 1/64 of a doubling above.
#[derive(Clone, Debug)]
pub struct Histogram {
    counts: Box<[u64]>,
    total: u64,
    max: Duration,
    sum: Duration,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            counts: vec![0; BUCKETS].into_boxed_slice(),
            total: 0,
            max: Duration::ZERO,
            sum: Duration::ZERO,
        }
    }
}

impl Histogram {
    /// Adds one duration. Does not allocate.
    pub fn record(&mut self, took: Duration) {
        self.counts[bucket(took)] += 1;
        self.total += 1;
        self.max = self.max.max(took);
        self.sum = self.sum.saturating_add(took);
    }

    /// How many durations were recorded.
    pub fn count(&self) -> u64 {
        self.total
    }

    /// The longest, exactly.
    pub fn max(&self) -> Duration {
        self.max
    }

    /// All of them together.
    pub fn sum(&self) -> Duration {
        self.sum
    }

    /// The duration that a share `q` (0–1) of all does not exceed; `None` before the first.
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        if self.total == 0 {
            return None;
        }
        let rank = ((self.total as f64 * q).ceil() as u64).clamp(1, self.total);
        let mut seen = 0;
        let at = self.counts.iter().position(|n| {
            seen += n;
            seen >= rank
        })?;
        Some(Duration::from_micros(upper_edge(at)).min(self.max))
    }

    /// For each of `limits`, which rise: how many durations did not exceed it. One that exceeds it by less than a 64th may be counted.
    pub fn counts_up_to(&self, limits: &[Duration]) -> Vec<u64> {
        let (mut seen, mut from) = (0, 0);
        let up_to = |limit: &Duration| {
            let end = (bucket(*limit) + 1).max(from);
            seen += self.counts[from..end].iter().sum::<u64>();
            from = end;
            seen
        };
        limits.iter().map(up_to).collect()
    }

    /// Adds everything that `other` recorded.
    pub fn merge(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(a, b)| *a += b);
        self.total += other.total;
        self.max = self.max.max(other.max);
        self.sum = self.sum.saturating_add(other.sum);
    }
}

fn bucket(took: Duration) -> usize {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    if micros < STEPS as u64 {
        return micros as usize;
    }
    let doubling = 63 - micros.leading_zeros() as usize - STEPS.ilog2() as usize;
    let step = (micros >> doubling) as usize - STEPS;
    (STEPS * (doubling + 1) + step).min(BUCKETS - 1)
}

/// The greatest number of microseconds that falls into bucket `at`.
fn upper_edge(at: usize) -> u64 {
    if at < STEPS {
        return at as u64;
    }
    let doubling = at / STEPS - 1;
    (((at % STEPS + STEPS + 1) as u64) << doubling) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_lies_under_its_buckets_edge_and_within_a_64th() {
        for micros in (0..200_000).step_by(7).chain([1 << 30, (1 << 35) + 12345]) {
            let edge = upper_edge(bucket(Duration::from_micros(micros)));
            assert!(edge >= micros && edge <= micros + micros / 64 + 1, "{micros} -> {edge}");
        }
    }

    #[test]
    fn quantiles_of_one_to_a_thousand_milliseconds() {
        let mut h = Histogram::default();
        assert_eq!(h.quantile(0.5), None);
        (1..=1000).for_each(|ms| h.record(Duration::from_millis(ms)));
        for (q, ms) in [(0.5, 500.0), (0.9, 900.0), (0.99, 990.0), (1.0, 1000.0), (0.0, 1.0)] {
            let got = h.quantile(q).unwrap().as_secs_f64() * 1e3;
            assert!((got - ms).abs() <= ms / 60.0, "q {q}: {got} ms, want {ms}");
        }
        assert_eq!(h.max(), Duration::from_secs(1));
        assert_eq!(h.count(), 1000);
    }

    #[test]
    fn counts_up_to_limits_are_those_of_the_durations_themselves() {
        let mut h = Histogram::default();
        (1..=1000).for_each(|ms| h.record(Duration::from_millis(ms)));
        let limits = [0, 1, 50, 50, 999, 1000, 5000].map(Duration::from_millis);
        for (limit, count) in limits.iter().zip(h.counts_up_to(&limits)) {
            let ms = limit.as_millis() as u64;
            assert!((ms.min(1000)..=(ms + ms / 64).min(1000)).contains(&count), "{ms} ms: {count}");
        }
        h.record(Duration::from_secs(1 << 40));
        assert_eq!(h.counts_up_to(&[Duration::from_secs(3600)]), [1000]);
        assert_eq!(h.counts_up_to(&[Duration::MAX]), [1001]);
    }

    #[test]
    fn durations_beyond_the_last_bucket_are_kept() {
        let mut h = Histogram::default();
        h.record(Duration::from_secs(1 << 40));
        assert_eq!(
            h.quantile(0.99),
            Some(h.max()).map(|m| m.min(Duration::from_micros(upper_edge(BUCKETS - 1))))
        );
    }
}
