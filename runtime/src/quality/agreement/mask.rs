//! Mask IoU: pixels of each foreground class, pooled over all samples.

use crate::{Error, Result, contract::MaskRule, finding::mask::class_of};

/// Pixels per class, of both and of either.
pub(super) struct MaskTally {
    rule: MaskRule,
    channels: usize,
    /// By class index, the background's unused.
    both: Vec<u64>,
    either: Vec<u64>,
}

impl MaskTally {
    pub fn new(rule: MaskRule, channels: usize) -> Self {
        let classes = channels.max(2);
        Self { rule, channels, both: vec![0; classes], either: vec![0; classes] }
    }

    /// The mean of the IoU of the foreground classes that occur in either, and the least of them; `None` where none
    /// ever did.
    pub fn mean(&self) -> Option<(f64, f64)> {
        let each = self.both.iter().zip(&self.either).skip(1).filter(|(_, either)| **either > 0);
        let each: Vec<f64> = each.map(|(both, either)| *both as f64 / *either as f64).collect();
        let worst = each.iter().copied().fold(f64::INFINITY, f64::min);
        (!each.is_empty()).then(|| (each.iter().sum::<f64>() / each.len() as f64, worst))
    }

    /// Adds one sample; `shape` is `[C, H, W]`.
    pub fn add(&mut self, shape: &[usize], reference: &[f32], candidate: &[f32]) -> Result<()> {
        let [channels, height, width] = *shape else { return Err(self.misfit(shape)) };
        if channels != self.channels {
            return Err(self.misfit(shape));
        }
        let plane = height * width;
        for at in 0..plane {
            let class =
                |values: &[f32]| class_of(self.rule, self.channels, values, at, plane).map(usize::from);
            let (Some(want), Some(got)) = (class(reference), class(candidate)) else {
                return Err(Error::bad_input(format!("the mask holds no number at element {at}")));
            };
            self.either[want] += 1;
            if want == got {
                self.both[want] += 1;
            } else {
                self.either[got] += 1;
            }
        }
        Ok(())
    }

    fn misfit(&self, shape: &[usize]) -> Error {
        let want = self.channels;
        Error::bad_input(format!("a mask of {shape:?} per sample, the contract says [{want}, H, W]"))
    }
}
