//! Classification.

/// The class of a frame or region.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Class {
    /// Index into the contract's labels of the most probable class; the first of equals.
    pub label: usize,
    /// Probability per label, 0–1.
    pub probs: Vec<f32>,
}
