//! Mean squared error and peak signal-to-noise ratio.

use super::alike;
use crate::{Image, Result};

/// The greatest value of an 8-bit sample.
const PEAK: f64 = 255.0;
/// So many squares of 8-bit differences still fit into 32 bits, and 32-bit sums are the fast ones.
const CHUNK: usize = 1 << 16;

/// Mean squared error: the mean of `(a − b)²` over all samples of all channels, in squared 8-bit steps (0–65025).
///
/// # Errors
/// [`crate::ErrorKind::BadInput`] with both sizes and formats if they differ, or if there is no pixel.
pub fn mse(a: &Image, b: &Image) -> Result<f64> {
    alike::check(a, b)?;
    let chunks = a.data().chunks(CHUNK).zip(b.data().chunks(CHUNK));
    let total: u64 = chunks
        .map(|(a, b)| u64::from(a.iter().zip(b).map(|(&a, &b)| u32::from(a.abs_diff(b)).pow(2)).sum::<u32>()))
        .sum();
    Ok(total as f64 / a.data().len() as f64)
}

/// Peak signal-to-noise ratio in decibels: `10 · log10(255² / mse)`, infinity for equal pictures.
///
/// One error over all channels, as scikit-image's `peak_signal_noise_ratio(a, b, data_range=255)`; not the mean of one
/// ratio per channel, nor of luma alone.
///
/// # Errors
/// As [`mse`].
pub fn psnr(a: &Image, b: &Image) -> Result<f64> {
    // Equal pictures divide by zero, whose logarithm is the infinity that is meant.
    Ok(10.0 * (PEAK * PEAK / mse(a, b)?).log10())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PixelFormat;

    #[test]
    fn the_largest_error_of_many_samples_does_not_overflow() {
        let flat = |v| Image::new(1000, 401, PixelFormat::Grey8, vec![v; 401_000]).unwrap();
        assert_eq!(mse(&flat(0), &flat(255)).unwrap(), 65025.0);
        assert_eq!(psnr(&flat(255), &flat(0)).unwrap(), 0.0);
        assert_eq!(psnr(&flat(9), &flat(9)).unwrap(), f64::INFINITY);
    }
}
