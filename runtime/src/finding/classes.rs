//! Classification: `[labels]` scores of one image → the most probable class.

use crate::{Error, Result, contract::Activation};

/// The class of a frame or region.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Class {
    /// Index into the contract's labels of the most probable class; the first of equals.
    pub label: usize,
    /// Probability per label, 0–1.
    pub probs: Vec<f32>,
}

/// Makes a [`Class`] of a model's output.
#[derive(Clone, Debug)]
pub struct ClassDecoder {
    labels: usize,
    activation: Activation,
}

impl ClassDecoder {
    /// For a model with this many labels, whose scores still need `activation`.
    pub fn new(labels: usize, activation: Activation) -> Self {
        Self { labels, activation }
    }

    /// Reads the scores of one image, `[labels]`.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] if there are not as many scores as labels, or one is no number.
    pub fn run(&self, scores: &[f32], out: &mut Class) -> Result<()> {
        if scores.len() != self.labels || scores.is_empty() {
            let (got, want) = (scores.len(), self.labels);
            return Err(Error::bad_input(format!("the model gave {got} class scores for {want} labels")));
        }
        if let Some(at) = scores.iter().position(|s| !s.is_finite()) {
            return Err(Error::bad_input(format!("the score of class {at} is {}", scores[at])));
        }
        out.probs.clear();
        out.probs.extend_from_slice(scores);
        match self.activation {
            Activation::None => {}
            Activation::Sigmoid => out.probs.iter_mut().for_each(|p| *p = 1.0 / (1.0 + (-*p).exp())),
            Activation::Softmax => {
                let max = scores.iter().copied().fold(f32::MIN, f32::max);
                out.probs.iter_mut().for_each(|p| *p = (*p - max).exp());
                let sum: f32 = out.probs.iter().sum();
                out.probs.iter_mut().for_each(|p| *p /= sum);
            }
        }
        out.label = first_max(&out.probs);
        Ok(())
    }
}

/// Index of the greatest value, the first of equals.
pub(crate) fn first_max(values: &[f32]) -> usize {
    let mut best = 0;
    for (at, value) in values.iter().enumerate() {
        if *value > values[best] {
            best = at;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equal_scores_wins() {
        let mut class = Class::default();
        ClassDecoder::new(3, Activation::None).run(&[0.2, 0.4, 0.4], &mut class).unwrap();
        assert_eq!((class.label, class.probs.as_slice()), (1, &[0.2, 0.4, 0.4][..]));
    }

    #[test]
    fn softmax_and_sigmoid_of_great_scores_stay_numbers() {
        let mut class = Class::default();
        ClassDecoder::new(3, Activation::Softmax).run(&[1000.0, 999.0, -1000.0], &mut class).unwrap();
        let e = 1.0 / (1.0 + (-1f32).exp());
        assert!((class.probs[0] - e).abs() < 1e-6 && class.probs[2] == 0.0);
        ClassDecoder::new(2, Activation::Sigmoid).run(&[-200.0, 0.0], &mut class).unwrap();
        assert_eq!((class.label, class.probs.as_slice()), (1, &[0.0, 0.5][..]));
    }

    #[test]
    fn other_numbers_of_scores_and_no_numbers_are_refused() {
        let (decoder, mut class) = (ClassDecoder::new(2, Activation::None), Class::default());
        for scores in [&[][..], &[1.0], &[1.0; 3], &[1.0, f32::NAN], &[f32::INFINITY, 0.0]] {
            assert!(decoder.run(scores, &mut class).is_err(), "{scores:?}");
        }
    }
}
