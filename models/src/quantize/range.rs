//! From what a value was seen to hold to a scale and a zero point.

/// Bins of a histogram; TensorRT's calibrator has as many.
const BINS: usize = 2048;

/// How the range of an activation is found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Range {
    /// From the least to the greatest value seen: nothing is cut off.
    MinMax,
    /// The given share of the values that are not zero (0.5 to 1, for example 0.9999) lies within; the tails are cut off.
    Percentile(f64),
    /// The cut whose 8-bit histogram has the least Kullback–Leibler divergence from the full one (Migacz, *8-bit
    /// inference with TensorRT*, GTC 2017).
    Entropy,
}

/// What a value was seen to hold.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    least: f32,
    greatest: f32,
    /// Counts over `least..=greatest`; filled in a second pass.
    bins: Vec<u64>,
}

impl Default for Seen {
    fn default() -> Self {
        // Zero is always within: padding and ReLU make it.
        Self { least: 0.0, greatest: 0.0, bins: Vec::new() }
    }
}

impl Seen {
    /// First pass: the extremes.
    pub fn stretch(&mut self, values: &[f32]) {
        for &v in values.iter().filter(|v| v.is_finite()) {
            self.least = self.least.min(v);
            self.greatest = self.greatest.max(v);
        }
    }

    /// Both ranges in one.
    fn include(&mut self, other: &Self) {
        self.stretch(&[other.least, other.greatest]);
    }

    /// This with `other` in one range. Counts over other extremes cannot be joined; the wider one's stand.
    pub fn with(&self, other: &Self) -> Self {
        let (mut both, less) =
            if self.width() >= other.width() { (self.clone(), other) } else { (other.clone(), self) };
        if less.least < both.least || less.greatest > both.greatest {
            both.include(less);
            both.bins.clear();
        }
        both
    }

    /// Second pass: how the values lie between the extremes. Zeros are left out: half of what a ReLU gives is zero, which is
    /// always a level, and would outweigh everything that the range decides on.
    pub fn count(&mut self, values: &[f32]) {
        self.bins.resize(BINS, 0);
        let width = self.width();
        for &v in values.iter().filter(|v| v.is_finite() && **v != 0.0) {
            let at = (f64::from(v - self.least) / width) as usize;
            self.bins[at.min(BINS - 1)] += 1;
        }
    }

    fn width(&self) -> f64 {
        (f64::from(self.greatest - self.least) / BINS as f64).max(f64::MIN_POSITIVE)
    }

    /// The scale and zero point by `rule`.
    pub fn scale(&self, rule: Range) -> Scale {
        let (low, high) = match rule {
            _ if self.bins.is_empty() => (self.least, self.greatest),
            Range::MinMax => (self.least, self.greatest),
            Range::Percentile(share) => self.percentile(share),
            Range::Entropy => self.entropy(),
        };
        Scale::over(low.min(0.0), high.max(0.0))
    }

    fn percentile(&self, share: f64) -> (f32, f32) {
        let total: u64 = self.bins.iter().sum();
        // As much at each end as there are signs.
        let ends = if self.least < 0.0 && self.greatest > 0.0 { 2.0 } else { 1.0 };
        let outside = ((1.0 - share.clamp(0.5, 1.0)) * total as f64 / ends) as u64;
        let cut = |bins: &mut dyn Iterator<Item = &u64>| {
            let mut left = outside;
            bins.take_while(|&&n| {
                let whole = n <= left;
                left -= n.min(left);
                whole
            })
            .count()
        };
        let low = if self.least < 0.0 { cut(&mut self.bins.iter()) } else { 0 };
        let high = if self.greatest > 0.0 { cut(&mut self.bins.iter().rev()) } else { 0 };
        self.within(low, BINS - high)
    }

    /// The range of the bins `low..high`.
    fn within(&self, low: usize, high: usize) -> (f32, f32) {
        let edge = |bin: usize| (f64::from(self.least) + bin as f64 * self.width()) as f32;
        (edge(low), edge(high.max(low + 1)))
    }

    /// Cuts from the end where the smaller counts are, a step at a time, and keeps the best.
    fn entropy(&self) -> (f32, f32) {
        let (mut low, mut high) = (0, BINS);
        let mut best = (f64::INFINITY, low, high);
        while high - low >= 256 {
            let divergence = divergence(&self.bins, low, high);
            if divergence < best.0 {
                best = (divergence, low, high);
            }
            let step = 16;
            let (left, right) = (sum(&self.bins[low..low + step]), sum(&self.bins[high - step..high]));
            // Zero must stay inside.
            let zero = (f64::from(-self.least) / self.width()) as usize;
            let (left_free, right_free) = (low + step <= zero, high - step > zero);
            match (left_free, right_free) {
                (false, false) => break,
                (true, false) => low += step,
                (true, true) if left < right => low += step,
                _ => high -= step,
            }
        }
        self.within(best.1, best.2)
    }
}

fn sum(bins: &[u64]) -> u64 {
    bins.iter().sum()
}

/// Divergence of the bins from what 256 levels over `low..high` make of them; what is cut off piles up at the ends.
fn divergence(bins: &[u64], low: usize, high: usize) -> f64 {
    let mut p: Vec<f64> = bins[low..high].iter().map(|&n| n as f64).collect();
    let (below, above) = (sum(&bins[..low]) as f64, sum(&bins[high..]) as f64);
    let inner = p.clone();
    if let Some(first) = p.first_mut() {
        *first += below;
    }
    if let Some(last) = p.last_mut() {
        *last += above;
    }
    let total: f64 = p.iter().sum();
    let per = inner.len() as f64 / 256.0;
    let mut q = vec![0.0; inner.len()];
    for level in 0..256 {
        let (from, to) = ((level as f64 * per) as usize, ((level + 1) as f64 * per) as usize);
        let filled = inner[from..to].iter().filter(|n| **n > 0.0).count();
        let mean = inner[from..to].iter().sum::<f64>() / filled.max(1) as f64;
        for at in from..to {
            if inner[at] > 0.0 {
                q[at] = mean;
            }
        }
    }
    let q_total: f64 = q.iter().sum();
    let pairs = p.iter().zip(&q).filter(|(p, _)| **p > 0.0);
    // A value where the levels say there is none costs as much as one of the rarest.
    pairs.map(|(p, q)| p / total * ((p / total) / (q / q_total).max(1e-12)).ln()).sum()
}

/// `real = scale · (stored − zero)`, stored in `u8`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Scale {
    /// Step between two stored values.
    pub scale: f32,
    /// The stored value that means 0.
    pub zero: u8,
}

impl Scale {
    /// 256 levels over `low..=high`, which contains 0; 0 itself is a level.
    pub fn over(low: f32, high: f32) -> Self {
        let width = high - low;
        if !(width.is_finite() && width > f32::MIN_POSITIVE * 256.0) {
            return Self { scale: 1.0, zero: 0 };
        }
        let scale = width / 255.0;
        Self { scale, zero: (-low / scale).round().clamp(0.0, 255.0) as u8 }
    }

    /// The levels of a picture of bytes that was scaled by `scale`, shifted by `mean` and divided by `std`: exactly
    /// the values that it can hold.
    pub fn of_bytes(scale: f32, mean: f32, std: f32) -> Option<Self> {
        let zero = mean / scale;
        let exact = (zero - zero.round()).abs() < 1e-3 && (0.0..=255.0).contains(&zero.round());
        exact.then(|| Self { scale: scale / std, zero: zero.round() as u8 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(values: &[f32]) -> Seen {
        let mut seen = Seen::default();
        seen.stretch(values);
        seen.count(values);
        seen
    }

    #[test]
    fn zero_is_a_level_and_nothing_is_cut_off() {
        let s = seen(&[-1.0, 3.0]).scale(Range::MinMax);
        assert_eq!(s.zero, 64);
        assert!((s.scale - 4.0 / 255.0).abs() < 1e-7);
        assert_eq!(seen(&[0.5, 3.0]).scale(Range::MinMax).zero, 0);
        // Nothing but zero, or nothing at all.
        assert_eq!(seen(&[0.0]).scale(Range::MinMax), Scale { scale: 1.0, zero: 0 });
        assert_eq!(Seen::default().scale(Range::Entropy), Scale { scale: 1.0, zero: 0 });
    }

    #[test]
    fn tails_are_cut_off_on_request() {
        // Half of it zeros, as behind a ReLU.
        let mut values: Vec<f32> = (0..20_000).map(|i| (i as f32 / 10_000.0 - 1.0).max(0.0)).collect();
        values.push(100.0);
        let s = seen(&values);
        assert!((s.scale(Range::MinMax).scale * 255.0 - 100.0).abs() < 0.1);
        for rule in [Range::Percentile(0.999), Range::Entropy] {
            let top = s.scale(rule).scale * 255.0;
            assert!((0.9..30.0).contains(&top), "{rule:?} kept {top}");
        }
    }

    #[test]
    fn a_picture_of_bytes_is_stored_as_it_was() {
        let s = Scale::of_bytes(1.0 / 255.0, 0.0, 1.0).unwrap();
        assert_eq!(s, Scale { scale: 1.0 / 255.0, zero: 0 });
        assert_eq!(Scale::of_bytes(1.0 / 255.0, 0.485, 0.229), None);
        assert_eq!(Scale::of_bytes(1.0, 128.0, 64.0).unwrap(), Scale { scale: 1.0 / 64.0, zero: 128 });
    }
}
