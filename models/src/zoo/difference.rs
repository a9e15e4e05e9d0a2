//! Difference convolutions: 3×3 kernels that are a fixed linear map of fewer or other learned taps.
//!
//! DEA-Net (Chen et al., *DEA-Net: Single image dehazing based on detail-enhanced convolution and content-guided
//! attention*, arXiv:2301.04805) trains four of them beside a plain convolution. Over flattened kernels each is
//! `k = w · D`, with `w` `[taps]` as trained, `k` `[9]` row-major as computed with, and `D` `[taps, 9]`
//! [`Difference::matrix`].

use tapetum_runtime::Tensor;

/// Which differences of its input a convolution takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Difference {
    /// Every pixel against the centre: the centre tap loses the sum of all nine.
    Central,
    /// Left column against right column: `[w₀ 0 −w₀; w₁ 0 −w₁; w₂ 0 −w₂]`.
    Horizontal,
    /// Top row against bottom row: `[w₀ w₁ w₂; 0 0 0; −w₀ −w₁ −w₂]`.
    Vertical,
    /// Every pixel of the ring against the next one counter-clockwise (θ = 1).
    Angular,
}

impl Difference {
    /// Each of them, in the order of DEA-Net's branches 1 to 4.
    pub const ALL: [Self; 4] = [Self::Central, Self::Horizontal, Self::Vertical, Self::Angular];

    /// Short name: `cdc`, `hdc`, `vdc`, `adc`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Central => "cdc",
            Self::Horizontal => "hdc",
            Self::Vertical => "vdc",
            Self::Angular => "adc",
        }
    }

    /// Learned numbers per kernel.
    pub fn taps(self) -> usize {
        self.taps_shape().iter().product()
    }

    /// Shape of the learned numbers of one kernel: `[3, 3]`, or `[3]` for the one-dimensional ones.
    pub fn taps_shape(self) -> &'static [usize] {
        match self {
            Self::Central | Self::Angular => &[3, 3],
            Self::Horizontal | Self::Vertical => &[3],
        }
    }

    /// The map `D` `[taps, 9]`, row-major: `k = w · D` over flattened kernels.
    pub fn matrix(self) -> Vec<f32> {
        let mut d = vec![0.0; self.taps() * 9];
        let mut add = |tap: usize, at: usize, by: f32| d[tap * 9 + at] += by;
        match self {
            Self::Central => (0..9).for_each(|i| {
                add(i, i, 1.0);
                add(i, 4, -1.0);
            }),
            Self::Horizontal => (0..3).for_each(|row| {
                add(row, 3 * row, 1.0);
                add(row, 3 * row + 2, -1.0);
            }),
            Self::Vertical => (0..3).for_each(|column| {
                add(column, column, 1.0);
                add(column, 6 + column, -1.0);
            }),
            Self::Angular => [3, 0, 1, 6, 4, 2, 7, 8, 5].into_iter().enumerate().for_each(|(i, next)| {
                add(i, i, 1.0);
                add(next, i, -1.0);
            }),
        }
        d
    }

    /// [`Difference::matrix`] as a tensor `[taps, 9]`.
    pub fn tensor(self) -> Tensor {
        let taps = self.taps();
        Tensor::new(&[taps, 9], self.matrix()).expect("the matrix has taps × 9 entries")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel(difference: Difference, w: &[f32]) -> Vec<f32> {
        let d = difference.matrix();
        (0..9).map(|at| w.iter().enumerate().map(|(tap, w)| w * d[tap * 9 + at]).sum()).collect()
    }

    #[test]
    fn kernels_are_those_of_the_paper() {
        let nine = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];
        let three = [1.0, 2.0, 4.0];
        assert_eq!(
            kernel(Difference::Central, &nine),
            [1.0, 2.0, 4.0, 8.0, 16.0 - 511.0, 32.0, 64.0, 128.0, 256.0]
        );
        assert_eq!(kernel(Difference::Horizontal, &three), [1.0, 0.0, -1.0, 2.0, 0.0, -2.0, 4.0, 0.0, -4.0]);
        assert_eq!(kernel(Difference::Vertical, &three), [1.0, 2.0, 4.0, 0.0, 0.0, 0.0, -1.0, -2.0, -4.0]);
        assert_eq!(
            kernel(Difference::Angular, &nine),
            [
                1.0 - 8.0,
                2.0 - 1.0,
                4.0 - 2.0,
                8.0 - 64.0,
                0.0,
                32.0 - 4.0,
                64.0 - 128.0,
                128.0 - 256.0,
                256.0 - 32.0
            ]
        );
    }

    #[test]
    fn a_flat_image_gives_nothing() {
        for difference in Difference::ALL {
            let w: Vec<f32> = (1..=difference.taps()).map(|i| i as f32).collect();
            assert_eq!(kernel(difference, &w).iter().sum::<f32>(), 0.0, "{}", difference.name());
        }
    }
}
