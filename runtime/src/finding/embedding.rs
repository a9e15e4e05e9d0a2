//! Appearance vectors.

use crate::Rect;

/// One vector per region, in the order of the regions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Embeddings {
    /// Length of each vector.
    pub dim: usize,
    /// Where each was taken.
    pub rects: Vec<Rect>,
    /// The vectors, one after the other.
    pub values: Vec<f32>,
}
