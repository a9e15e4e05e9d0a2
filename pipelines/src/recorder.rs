//! A model's real inputs, as stages hand them to its sessions: kept for calibration, within a bound of memory.

use std::sync::{Mutex, PoisonError};

use tapetum_runtime::{Result, Tensor};

/// Keeps inputs of one model, evenly spread over all its runs.
///
/// Every `stride`-th is taken; when there are twice as many as wanted, or too many bytes, every second is given up and
/// the stride doubles. Nothing is drawn, so the same runs in the same order leave the same inputs.
#[derive(Debug)]
pub struct Recorder {
    /// Inputs wanted at the end.
    most: usize,
    /// Bytes that are kept at once, but never fewer than two inputs.
    most_bytes: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    seen: u64,
    stride: u64,
    inputs: Vec<Tensor>,
    bytes: usize,
}

impl Recorder {
    /// Keeps at most `most` inputs (at least two), and at most `most_bytes` bytes of them unless two are more than that.
    pub fn new(most: usize, most_bytes: usize) -> Self {
        let kept = Kept { seen: 0, stride: 1, inputs: Vec::new(), bytes: 0 };
        Self { most: most.max(2), most_bytes, kept: Mutex::new(kept) }
    }

    /// Takes note of a run on `input`, `[N, …]`: each of the N is an input of its own.
    ///
    /// # Errors
    /// [`tapetum_runtime::ErrorKind::BadInput`] if `input` does not hold `f32`.
    pub fn take(&self, input: &Tensor) -> Result<()> {
        let &[count, ref shape @ ..] = input.shape() else { return Ok(()) };
        let one: Vec<usize> = [1].iter().chain(shape).copied().collect();
        let each: usize = shape.iter().product();
        let mut kept = self.lock();
        for values in input.f32s()?.chunks_exact(each.max(1)).take(count) {
            let due = kept.seen.is_multiple_of(kept.stride);
            kept.seen += 1;
            if !due {
                continue;
            }
            kept.inputs.push(Tensor::new(&one, values.to_vec())?);
            kept.bytes += size_of_val(values);
            while kept.inputs.len() > 2 && (kept.inputs.len() > 2 * self.most || kept.bytes > self.most_bytes)
            {
                kept.halve();
            }
        }
        Ok(())
    }

    /// How many inputs there were.
    pub fn seen(&self) -> u64 {
        self.lock().seen
    }

    /// Takes the kept inputs out, in their order.
    pub fn take_out(&self) -> Vec<Tensor> {
        let inputs = std::mem::take(&mut self.lock().inputs);
        let (have, most) = (inputs.len(), self.most.min(inputs.len()));
        // The n-th of `most` that are spread evenly over `have`.
        let chosen = |at: usize| at * most / have != (at + 1) * most / have;
        inputs.into_iter().enumerate().filter(|(at, _)| chosen(*at)).map(|(_, input)| input).collect()
    }

    /// A thread that panics does so outside of the lock.
    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn halve(&mut self) {
        let mut at = 0;
        self.inputs.retain(|_| {
            at += 1;
            at % 2 == 1
        });
        self.bytes = self.inputs.iter().map(|t| t.len() * size_of::<f32>()).sum();
        self.stride *= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Inputs of two values, numbered.
    fn recorded(runs: usize, batch: usize, most: usize, most_bytes: usize) -> (u64, Vec<f32>) {
        let recorder = Recorder::new(most, most_bytes);
        for run in 0..runs {
            let values = (0..batch).flat_map(|n| [(run * batch + n) as f32; 2]).collect();
            recorder.take(&Tensor::new(&[batch, 2], values).unwrap()).unwrap();
        }
        let seen = recorder.seen();
        let inputs = recorder.take_out();
        assert!(inputs.iter().all(|t| t.shape() == [1, 2]));
        (seen, inputs.iter().map(|t| t.f32s().unwrap()[0]).collect())
    }

    #[test]
    fn few_inputs_are_all_kept_and_many_are_spread_over_the_run() {
        assert_eq!(recorded(3, 1, 4, 1 << 20), (3, vec![0.0, 1.0, 2.0]));
        // Nine of two each overflow twice four once: the even ones are left, every third of which is too many.
        for (runs, batch) in [(100, 1), (50, 2), (25, 4)] {
            let (seen, kept) = recorded(runs, batch, 4, 1 << 20);
            assert_eq!((seen, kept.len()), (100, 4), "{batch}");
            let gaps: Vec<f32> = kept.windows(2).map(|w| w[1] - w[0]).collect();
            assert!(gaps.iter().all(|gap| (16.0..=32.0).contains(gap)), "{kept:?}");
            assert!(kept[0] <= 16.0 && kept[3] >= 80.0, "{kept:?}");
        }
    }

    #[test]
    fn memory_is_bounded_but_two_are_always_kept() {
        // 8 bytes each: at most five.
        let (seen, kept) = recorded(1000, 1, 64, 40);
        assert!(seen == 1000 && (3..=5).contains(&kept.len()), "{kept:?}");
        let (_, kept) = recorded(1000, 1, 64, 1);
        assert_eq!(kept.len(), 2, "{kept:?}");
    }

    #[test]
    fn nothing_seen_leaves_nothing() {
        assert!(Recorder::new(4, 1 << 20).take_out().is_empty());
    }
}
