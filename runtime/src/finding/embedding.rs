//! Appearance vectors.

use crate::{Error, Rect, Result, contract::Metric};

/// One vector per region, in the order of the regions. Keeps its memory when it is filled again.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Embeddings {
    /// Length of each vector.
    pub dim: usize,
    /// Where each was taken.
    pub rects: Vec<Rect>,
    /// The vectors, one after the other.
    pub values: Vec<f32>,
}

impl Embeddings {
    /// Takes all vectors out; those to come have `dim` values.
    pub fn clear(&mut self, dim: usize) {
        self.dim = dim;
        self.rects.clear();
        self.values.clear();
    }

    /// Adds the vector of `rect`; of unit length if they are compared by their angle.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] if it has another length, holds no numbers, or has no direction.
    pub fn push(&mut self, rect: Rect, values: &[f32], metric: Metric) -> Result<()> {
        if values.len() != self.dim {
            let (got, want) = (values.len(), self.dim);
            let what = format!("the model gave a vector of {got} values, the contract says {want}");
            return Err(Error::bad_input(what));
        }
        let length = match metric {
            Metric::Cosine => values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt(),
            Metric::Euclidean => 1.0,
        };
        if !(length.is_finite() && length > 0.0 && values.iter().all(|v| v.is_finite())) {
            return Err(Error::bad_input(format!("the model gave a vector of length {length}")));
        }
        self.rects.push(rect);
        self.values.extend(values.iter().map(|v| (f64::from(*v) / length) as f32));
        Ok(())
    }

    /// The vectors.
    pub fn iter(&self) -> impl Iterator<Item = (&Rect, &[f32])> {
        self.rects.iter().zip(self.values.chunks_exact(self.dim.max(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_compared_by_their_angle_get_unit_length() {
        let (mut e, rect) = (Embeddings::default(), Rect { x: 1, y: 2, width: 3, height: 4 });
        e.clear(2);
        e.push(rect, &[3.0, 4.0], Metric::Cosine).unwrap();
        e.push(rect, &[3.0, 4.0], Metric::Euclidean).unwrap();
        assert_eq!(e.values, [0.6, 0.8, 3.0, 4.0]);
        assert_eq!(e.iter().count(), 2);
        for bad in [&[1.0][..], &[0.0, 0.0], &[f32::NAN, 1.0]] {
            assert!(e.push(rect, bad, Metric::Cosine).is_err());
        }
    }
}
