//! Whether a figure grows: a slope that single outliers do not move, with how sure it is.

use serde::Serialize;

/// Samples are reduced to at most so many medians first: what is a second apart is not independent, and an interval that
/// took it for that would be far too narrow.
const BLOCKS: usize = 40;

/// Of the 95 % interval of a normal distribution.
const Z: f64 = 1.96;

/// A slope (Theil–Sen: the median of the slopes between all pairs) with its 95 % interval (Sen 1968, by Kendall's
/// statistic).
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Trend {
    /// Change of the figure per unit of time.
    pub slope: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

/// The trend of `points` (time, figure), which are in the order of time; `None` of fewer than four.
pub fn trend(points: &[(f64, f64)]) -> Option<Trend> {
    let blocks = blocks(points);
    let mut slopes: Vec<f64> = Vec::new();
    for (n, a) in blocks.iter().enumerate() {
        slopes.extend(blocks[n + 1..].iter().filter(|b| b.0 > a.0).map(|b| (b.1 - a.1) / (b.0 - a.0)));
    }
    if blocks.len() < 4 || slopes.is_empty() {
        return None;
    }
    slopes.sort_by(f64::total_cmp);
    let (n, pairs) = (blocks.len() as f64, slopes.len() as f64);
    let spread = Z * (n * (n - 1.0) * (2.0 * n + 5.0) / 18.0).sqrt();
    let at = |rank: f64| slopes[(rank.round().max(0.0) as usize).min(slopes.len() - 1)];
    Some(Trend { slope: middle(&slopes), low: at((pairs - spread) / 2.0), high: at((pairs + spread) / 2.0) })
}

/// The median; zero of nothing.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    middle(&values)
}

fn middle(sorted: &[f64]) -> f64 {
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

fn blocks(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let size = points.len().div_ceil(BLOCKS).max(1);
    let block = |block: &[(f64, f64)]| (median(block.iter().map(|p| p.0)), median(block.iter().map(|p| p.1)));
    points.chunks(size).map(block).collect()
}

#[cfg(test)]
mod tests {
    use tapetum_runtime::seed::Seeded;

    use super::*;

    #[test]
    fn a_slope_is_found_under_noise_and_outliers() {
        let mut random = Seeded::new(1);
        let mut point = |n: u32| {
            let outlier = if n.is_multiple_of(50) { 5000.0 } else { 0.0 };
            let t = f64::from(n) / 60.0;
            (t, 1000.0 + 12.0 * t + random.uniform(-30.0, 30.0) as f64 + outlier)
        };
        let points: Vec<_> = (0..600).map(&mut point).collect();
        let found = trend(&points).unwrap();
        assert!((found.slope - 12.0).abs() < 2.0 && found.low < 12.0 && found.high > 12.0, "{found:?}");
        assert!(found.low > 5.0, "it grows for sure: {found:?}");
    }

    #[test]
    fn what_does_not_change_has_no_slope_and_too_little_has_none_at_all() {
        let flat: Vec<_> = (0..100).map(|n| (f64::from(n), 7.0)).collect();
        assert_eq!(trend(&flat), Some(Trend { slope: 0.0, low: 0.0, high: 0.0 }));
        assert_eq!(trend(&flat[..3]), None);
        // One step early on is no growth.
        let step: Vec<_> = (0..400).map(|n| (f64::from(n), if n < 60 { 5.0 } else { 9.0 })).collect();
        assert_eq!(trend(&step).unwrap().slope, 0.0);
    }

    #[test]
    fn medians() {
        assert_eq!(
            [median([]), median([3.0]), median([4.0, 1.0]), median([9.0, 1.0, 2.0])],
            [0.0, 3.0, 2.5, 2.0]
        );
    }
}
