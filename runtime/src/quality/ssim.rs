//! Structural similarity.

use std::array;

use super::alike;
use crate::{Error, Image, Result};

/// The window reaches so far from its middle: 3.5 σ, rounded.
const RADIUS: usize = 5;
const TAPS: usize = 2 * RADIUS + 1;
const SIGMA: f64 = 1.5;
/// `(K1 · L)²` and `(K2 · L)²`.
const C1: f64 = (0.01 * 255.0) * (0.01 * 255.0);
const C2: f64 = (0.03 * 255.0) * (0.03 * 255.0);

/// Samples of a row that are worked on together. The filtered rows that the window needs take 88 KiB for so many, which
/// stays in a core's cache, however wide the picture is.
const STRIP: usize = 256;
/// What the filter reads of a row for one strip, with the most channels there are.
const REACH: usize = STRIP + 2 * RADIUS * 3;

/// What is averaged under the window: a, b, a² + b², a · b. The formula needs the two squares only together.
type Moments<const N: usize> = [[f64; N]; 4];

/// Mean structural similarity of two pictures, −1 to 1; exactly 1 for equal ones.
///
/// The convention of Wang, Bovik, Sheikh and Simoncelli, *Image Quality Assessment: From Error Visibility to Structural
/// Similarity*, IEEE TIP 13(4), 2004: a Gaussian window of 11×11 with σ = 1.5, K1 = 0.01, K2 = 0.03, L = 255, population
/// covariance, and the mean over the places where the window fits, which leaves out a border of 5 pixels. Over colour
/// pictures it is the mean over the channels; there is no conversion to luma, and no downscaling before. That is
/// scikit-image's `structural_similarity(a, b, data_range=255, gaussian_weights=True, sigma=1.5,
/// use_sample_covariance=False, channel_axis=-1)`.
///
/// Takes a fixed 0.1 MiB of memory besides the pictures.
///
/// # Errors
/// [`crate::ErrorKind::BadInput`] with both sizes and formats if they differ, or if a side is shorter than the window.
pub fn ssim(a: &Image, b: &Image) -> Result<f64> {
    alike::check(a, b)?;
    let (width, height, channels) = (a.width(), a.height(), a.format().channels());
    if width < TAPS || height < TAPS {
        return Err(Error::bad_input(format!(
            "SSIM's window of {TAPS}×{TAPS} pixels does not fit into pictures of {width}×{height}"
        )));
    }
    let kernel = kernel();
    let mut row = [[0.0; REACH]; 4];
    let mut filtered = vec![[[0.0; STRIP]; 4]; TAPS];
    let samples = (width - 2 * RADIUS) * channels;
    let mut total = 0.0;
    for start in (0..samples).step_by(STRIP) {
        let count = STRIP.min(samples - start);
        let read = start..start + count + 2 * RADIUS * channels;
        for y in 0..height {
            load(&a.row(y)[read.clone()], &b.row(y)[read.clone()], &mut row);
            for (of, out) in row.iter().zip(&mut filtered[y % TAPS]) {
                // Samples of one channel lie `channels` apart.
                weigh(&kernel, array::from_fn(|tap| &of[tap * channels..]), out);
            }
            if y + 1 >= TAPS {
                // The oldest of the last eleven rows lies where the next one will.
                let rows = array::from_fn(|tap| &filtered[(y + 1 + tap) % TAPS]);
                total += similarity(&kernel, rows, count);
            }
        }
    }
    Ok(total / (samples * (height - 2 * RADIUS)) as f64)
}

/// The window along one axis; its sum is 1.
fn kernel() -> [f64; TAPS] {
    let weights: [f64; TAPS] = array::from_fn(|tap| {
        let x = tap as f64 - RADIUS as f64;
        (-x * x / (2.0 * SIGMA * SIGMA)).exp()
    });
    let sum: f64 = weights.iter().sum();
    weights.map(|weight| weight / sum)
}

/// The moments of single samples: whole numbers, so nothing is rounded. What a short strip does not overwrite
/// stays and is filtered with the rest, but never counted.
fn load(a: &[u8], b: &[u8], out: &mut Moments<REACH>) {
    let [first, second, squares, product] = out.each_mut().map(|of| &mut of[..a.len()]);
    for (i, (&a, &b)) in a.iter().zip(b).enumerate() {
        let (a, b) = (f64::from(a), f64::from(b));
        first[i] = a;
        second[i] = b;
        squares[i] = a * a + b * b;
        product[i] = a * b;
    }
}

/// `out[i] = Σ kernel[tap] · taps[tap][i]`; the kernel is the same from both ends.
fn weigh(kernel: &[f64; TAPS], taps: [&[f64]; TAPS], out: &mut [f64; STRIP]) {
    let taps = taps.map(|tap| &tap[..STRIP]);
    for (i, out) in out.iter_mut().enumerate() {
        let mut sum = kernel[RADIUS] * taps[RADIUS][i];
        for tap in 0..RADIUS {
            sum += kernel[tap] * (taps[tap][i] + taps[TAPS - 1 - tap][i]);
        }
        *out = sum;
    }
}

/// The sum of the similarities of the first `count` places of a strip, given the rows under the window.
fn similarity(kernel: &[f64; TAPS], rows: [&Moments<STRIP>; TAPS], count: usize) -> f64 {
    let mut means = [[0.0; STRIP]; 4];
    for (of, out) in means.iter_mut().enumerate() {
        weigh(kernel, rows.map(|row| row[of].as_slice()), out);
    }
    let [a, b, squares, product] = &means;
    (0..count)
        .map(|i| {
            let (of_means, of_squares) = (a[i] * b[i], a[i] * a[i] + b[i] * b[i]);
            let covariance = product[i] - of_means;
            let variances = squares[i] - of_squares;
            (2.0 * of_means + C1) * (2.0 * covariance + C2) / ((of_squares + C1) * (variances + C2))
        })
        .sum()
}
