//! How well a model in less than fp32, or on another engine, agrees with its reference, by the metric of its task.
//!
//! | Output | Metric | Gate |
//! |---|---|---|
//! | classes | top-1 agreement: share of the samples with the same most probable class | 0.99 |
//! | boxes | box IoU: mean over the boxes that either decodes to, matched within a label; unmatched ones count as 0 | 0.95 |
//! | mask | mask IoU: pixels pooled over all samples, mean over the foreground classes | 0.99 |
//! | image | PSNR over all pixels of all samples, the contract's range as peak | 40 dB |
//! | embedding | cosine similarity, the mean over the samples | 0.99 |
//! | decision | decision agreement: share of the windows with the same decision | 0.99 |
//!
//! The reference is the model itself in fp32, so an agreement says what a conversion changed, not how good the model is.

use crate::{
    Error, Result, Tensor,
    contract::{OutputContract, OutputKind},
    finding::{BoxDecoder, classes::first_max},
};

mod boxes;
mod figure;
mod mask;

use boxes::BoxTally;
pub use figure::Figure;
use mask::MaskTally;

const PSNR: &str = "PSNR";

/// How well a candidate agrees with the reference on one output, by the metric of its task.
pub struct Agreement {
    output: String,
    tally: Tally,
    samples: u64,
    trouble: Option<String>,
}

/// What is summed up per kind of output.
enum Tally {
    Classes {
        same: u64,
    },
    Boxes(BoxTally),
    Mask(MaskTally),
    Image {
        range: [f32; 2],
        clamp: bool,
        squares: f64,
        values: u64,
        worst: f64,
    },
    Embedding {
        sum: f64,
        worst: f64,
    },
    Decision {
        same: u64,
        of: u64,
    },
    /// Nobody reads it.
    Aux,
}

impl Agreement {
    /// For an output that means what `output` says. An output of kind `aux` has no meaning to be judged by, so it never
    /// gives a figure.
    pub fn new(output: &OutputContract) -> Self {
        let tally = match &output.kind {
            OutputKind::Classes { .. } => Tally::Classes { same: 0 },
            OutputKind::Boxes { labels, layout, score_threshold, iou_threshold } => Tally::Boxes(
                BoxTally::new(BoxDecoder::new(*layout, labels.len(), *score_threshold, *iou_threshold)),
            ),
            OutputKind::Mask { labels, rule } => Tally::Mask(MaskTally::new(*rule, labels.len())),
            OutputKind::Image { range, clamp, .. } => {
                Tally::Image { range: *range, clamp: *clamp, squares: 0.0, values: 0, worst: f64::INFINITY }
            }
            OutputKind::Embedding { .. } => Tally::Embedding { sum: 0.0, worst: 1.0 },
            OutputKind::Decision { .. } => Tally::Decision { same: 0, of: 0 },
            OutputKind::Aux => Tally::Aux,
        };
        Self { output: output.name.clone(), tally, samples: 0, trouble: None }
    }

    /// Adds one run's output of both, `[N, …]`: each of the N is a sample. Other element types than `f32` are widened.
    /// A value of the candidate that is no number makes the figure fail.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] if the shapes differ or are not what the contract says, if the elements are no
    /// floating-point numbers, or if the reference holds a value that is none.
    pub fn add(&mut self, reference: &Tensor, candidate: &Tensor) -> Result<()> {
        self.tried(reference, candidate).map_err(|e| e.at(format!("output {:?}", self.output)))
    }

    fn tried(&mut self, reference: &Tensor, candidate: &Tensor) -> Result<()> {
        if matches!(self.tally, Tally::Aux) {
            return Ok(());
        }
        let (want, got) = (reference.shape(), candidate.shape());
        let &[samples, ref shape @ ..] = want else {
            return Err(Error::bad_input("a single number is no output that can be compared"));
        };
        if want != got {
            return Err(Error::bad_input(format!("the reference gave {want:?}, the candidate {got:?}")));
        }
        let (mut wide, mut narrow) = (None, None);
        let want = f32s(reference, &mut wide)?;
        let got = f32s(candidate, &mut narrow)?;
        if let Some(at) = want.iter().position(|v| !v.is_finite()) {
            return Err(Error::bad_input(format!("the reference gave {} at element {at}", want[at])));
        }
        self.samples += samples as u64;
        if let Some(at) = got.iter().position(|v| !v.is_finite()) {
            self.trouble.get_or_insert_with(|| format!("the candidate gave {} at element {at}", got[at]));
            return Ok(());
        }
        let each = want.len() / samples.max(1);
        if each == 0 {
            return Ok(());
        }
        want.chunks_exact(each).zip(got.chunks_exact(each)).try_for_each(|(w, g)| self.tally.add(shape, w, g))
    }

    /// What all that was added came to, with the default gate of its metric; `None` before anything comparable was added.
    pub fn figure(&self) -> Option<Figure> {
        if self.samples == 0 {
            return None;
        }
        let (metric, gate, values, nothing) = self.tally.figure(self.samples)?;
        let undecoded = if let Tally::Boxes(tally) = &self.tally { tally.trouble.as_ref() } else { None };
        let trouble = self.trouble.as_ref().or(undecoded).cloned().or_else(|| {
            values
                .is_none()
                .then(|| format!("{nothing} in {} samples, so nothing was compared", self.samples))
        });
        let (value, worst) = values.unwrap_or((0.0, None));
        let output = self.output.clone();
        Some(Figure { output, metric, value, worst, gate, samples: self.samples, trouble })
    }
}

/// A metric's name and default gate, its value and worst if anything was compared, and what there was none of if not.
type Told = (&'static str, f64, Option<(f64, Option<f64>)>, &'static str);

impl Tally {
    /// One sample of both, of `shape`; all values are finite.
    fn add(&mut self, shape: &[usize], want: &[f32], got: &[f32]) -> Result<()> {
        match self {
            Self::Classes { same } => *same += u64::from(first_max(want) == first_max(got)),
            Self::Boxes(tally) => tally.add(shape, want, got)?,
            Self::Mask(tally) => tally.add(shape, want, got)?,
            Self::Image { range: [black, white], clamp, squares, values, worst } => {
                let shown = |v: f32| f64::from(if *clamp { v.clamp(*black, *white) } else { v });
                let here: f64 = want.iter().zip(got).map(|(&w, &g)| (shown(w) - shown(g)).powi(2)).sum();
                *squares += here;
                *values += want.len() as u64;
                *worst = worst.min(decibels([*black, *white], here / want.len() as f64));
            }
            Self::Embedding { sum, worst } => {
                let cosine = cosine(want, got);
                *sum += cosine;
                *worst = worst.min(cosine);
            }
            Self::Decision { same, of } => {
                *same += want.iter().zip(got).filter(|(w, g)| (**w > 0.5) == (**g > 0.5)).count() as u64;
                *of += want.len() as u64;
            }
            Self::Aux => {}
        }
        Ok(())
    }

    fn figure(&self, samples: u64) -> Option<Told> {
        let with_worst = |(mean, worst)| (mean, Some(worst));
        Some(match self {
            Self::Classes { same } => {
                ("top-1 agreement", 0.99, Some((*same as f64 / samples as f64, None)), "no score")
            }
            Self::Boxes(tally) => ("box IoU", 0.95, tally.mean().map(with_worst), "no box of either"),
            Self::Mask(tally) => ("mask IoU", 0.99, tally.mean().map(with_worst), "no foreground of either"),
            Self::Image { range, squares, values, worst, .. } => {
                let value =
                    (*values > 0).then(|| (decibels(*range, *squares / *values as f64), Some(*worst)));
                (PSNR, 40.0, value, "no pixel")
            }
            Self::Embedding { sum, worst } => {
                ("cosine similarity", 0.99, Some((*sum / samples as f64, Some(*worst))), "no vector")
            }
            Self::Decision { same, of } => {
                let value = (*of > 0).then(|| (*same as f64 / *of as f64, None));
                ("decision agreement", 0.99, value, "no window")
            }
            Self::Aux => return None,
        })
    }
}

/// Peak signal-to-noise ratio of a mean squared error; infinity for none.
fn decibels([black, white]: [f32; 2], mse: f64) -> f64 {
    let peak = f64::from(white) - f64::from(black);
    10.0 * (peak * peak / mse).log10()
}

/// The cosine of the angle between two vectors; 0 where one has no direction.
fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    let lengths = (dot(a, a) * dot(b, b)).sqrt();
    if lengths > 0.0 { dot(a, b) / lengths } else { 0.0 }
}

/// The elements as `f32`, in `memory` where they have to be widened.
fn f32s<'t>(tensor: &'t Tensor, memory: &'t mut Option<Tensor>) -> Result<&'t [f32]> {
    if let Ok(values) = tensor.f32s() {
        return Ok(values);
    }
    match tensor.clone().into_f32() {
        Some(widened) => memory.insert(widened).f32s(),
        None => tensor.f32s(),
    }
}

#[cfg(test)]
mod tests;
