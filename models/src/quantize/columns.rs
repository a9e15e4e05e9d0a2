//! What a layer's kernel sees: patches of its input, as columns of a matrix.

use tapetum_runtime::seed::Seeded;
use tapetum_runtime::{Error, Result, Tensor};

use super::layers::Form;
use super::round::MOST_TAPS;

/// What a layer sees, over all samples.
#[derive(Clone, Debug, Default)]
pub(super) struct Statistics {
    /// One for each group of a grouped convolution.
    pub groups: Vec<Group>,
}

/// What the output channels of one group see.
#[derive(Clone, Debug, Default)]
pub(super) struct Group {
    /// `E[x xᵀ]` over drawn patches, `taps × taps`; `None` where there are too many taps.
    pub products: Option<Vec<f64>>,
    /// `E[x]` over all patches.
    pub means: Vec<f64>,
}

/// Adds up what a layer sees, sample by sample.
pub(super) struct Looker {
    form: Form,
    /// Of the weights: `[kH, kW]`, or `[1, 1]`.
    kernel: [usize; 2],
    taps: usize,
    /// Patches to be drawn from each sample.
    drawn: usize,
    products: Vec<Vec<f64>>,
    sums: Vec<Vec<f64>>,
    patches: u64,
    products_of: u64,
    random: Seeded,
}

impl Looker {
    /// For a layer with `weights` that is to be shown `samples` inputs.
    pub fn new(form: &Form, weights: &Tensor, samples: usize, seed: u64) -> Result<Self> {
        let odd = || Error::internal(format!("weights of {:?} do not fit {form:?}", weights.shape()));
        let (groups, taps, kernel) = match (form, weights.shape()) {
            (Form::Conv { groups, .. }, &[_, c, h, w]) => ((*groups).max(1), c * h * w, [h, w]),
            (Form::Linear { transposed: true }, &[_, taps])
            | (Form::Linear { transposed: false }, &[taps, _]) => (1, taps, [1, 1]),
            _ => return Err(odd()),
        };
        let with_products = taps <= MOST_TAPS;
        Ok(Self {
            form: form.clone(),
            kernel,
            taps,
            drawn: (8 * taps).max(4096).div_ceil(samples.max(1)),
            products: if with_products { vec![vec![0.0; taps * taps]; groups] } else { Vec::new() },
            sums: vec![vec![0.0; taps]; groups],
            patches: 0,
            products_of: 0,
            random: Seeded::new(seed),
        })
    }

    /// Adds the layer's input on one sample: `[N, C, H, W]`, or `[.., taps]` for a linear layer.
    ///
    /// # Errors
    /// [`tapetum_runtime::ErrorKind::Internal`] if its shape does not fit the layer.
    pub fn add(&mut self, input: &Tensor) -> Result<()> {
        let values = input.f32s()?;
        let odd = || Error::internal(format!("an input of {:?} does not fit the layer", input.shape()));
        match self.form {
            Form::Linear { .. } => {
                if self.taps == 0 || !values.len().is_multiple_of(self.taps) {
                    return Err(odd());
                }
                let rows = values.len() / self.taps;
                for row in values.chunks_exact(self.taps) {
                    self.sums[0].iter_mut().zip(row).for_each(|(s, v)| *s += f64::from(*v));
                }
                self.patches += rows as u64;
                if rows > 0 {
                    let draws = self.draw(rows);
                    let taps = self.taps;
                    let patches =
                        draws.iter().flat_map(|&r| values[r * taps..][..taps].iter().copied()).collect();
                    self.multiply(0, patches, draws.len());
                    self.products_of += draws.len() as u64;
                }
            }
            Form::Conv { groups, stride, pads, dilation } => {
                let &[n, c, h, w] = input.shape() else { return Err(odd()) };
                let area = self.kernel[0] * self.kernel[1];
                if area == 0 || c * area != self.taps * groups {
                    return Err(odd());
                }
                let plane = Plane { size: [h, w], kernel: self.kernel, stride, pads, dilation };
                let [oh, ow] = plane.output();
                if n * oh * ow == 0 {
                    return Ok(());
                }
                let per_group = c / groups;
                for image in 0..n {
                    for channel in 0..c {
                        let pixels = &values[(image * c + channel) * h * w..][..h * w];
                        let sums = &mut self.sums[channel / per_group];
                        plane.sums(pixels, &mut sums[channel % per_group * area..][..area]);
                    }
                }
                self.patches += (n * oh * ow) as u64;
                let draws = self.draw(n * oh * ow);
                for group in 0..if self.products.is_empty() { 0 } else { groups } {
                    let mut patches = Vec::with_capacity(draws.len() * self.taps);
                    for &at in &draws {
                        let (image, y, x) = (at / (oh * ow), at / ow % oh, at % ow);
                        for channel in group * per_group..(group + 1) * per_group {
                            let pixels = &values[(image * c + channel) * h * w..][..h * w];
                            plane.patch(pixels, y, x, &mut patches);
                        }
                    }
                    self.multiply(group, patches, draws.len());
                }
                self.products_of += draws.len() as u64;
            }
        }
        Ok(())
    }

    fn draw(&mut self, of: usize) -> Vec<usize> {
        if of <= self.drawn {
            return (0..of).collect();
        }
        (0..self.drawn).map(|_| self.random.below(of as u64) as usize).collect()
    }

    /// `products[group] += PᵀP` for `patches` as rows of `P`.
    fn multiply(&mut self, group: usize, patches: Vec<f32>, rows: usize) {
        let Some(products) = self.products.get_mut(group) else { return };
        let taps = self.taps;
        let mut square = vec![0f32; taps * taps];
        let (t, one) = (taps as isize, 1);
        // SAFETY: `patches` holds `rows × taps` values and `square` `taps × taps`, both row-major with these strides.
        unsafe {
            matrixmultiply::sgemm(
                taps,
                rows,
                taps,
                1.0,
                patches.as_ptr(),
                one,
                t,
                patches.as_ptr(),
                t,
                one,
                0.0,
                square.as_mut_ptr(),
                t,
                one,
            );
        }
        products.iter_mut().zip(&square).for_each(|(p, s)| *p += f64::from(*s));
    }

    /// The averages.
    pub fn finish(self) -> Statistics {
        let (patches, of) = (self.patches.max(1) as f64, self.products_of.max(1) as f64);
        let mut products = self.products.into_iter();
        let group = |sums: Vec<f64>| Group {
            means: sums.into_iter().map(|s| s / patches).collect(),
            products: products.next().map(|p| p.into_iter().map(|v| v / of).collect()),
        };
        Statistics { groups: self.sums.into_iter().map(group).collect() }
    }
}

/// A window that slides over one channel.
struct Plane {
    size: [usize; 2],
    kernel: [usize; 2],
    stride: [usize; 2],
    pads: [usize; 4],
    dilation: [usize; 2],
}

impl Plane {
    fn output(&self) -> [usize; 2] {
        [0, 1].map(|axis| {
            let padded = self.size[axis] + self.pads[axis] + self.pads[axis + 2];
            let reach = self.dilation[axis] * self.kernel[axis].saturating_sub(1) + 1;
            if padded < reach { 0 } else { (padded - reach) / self.stride[axis].max(1) + 1 }
        })
    }

    /// Where output `at` along `axis` puts `tap`; `None` in the padding.
    fn position(&self, axis: usize, at: usize, tap: usize) -> Option<usize> {
        let place = at * self.stride[axis] + tap * self.dilation[axis];
        place.checked_sub(self.pads[axis]).filter(|p| *p < self.size[axis])
    }

    /// Appends the pixels under the window at (`y`, `x`), zeros in the padding.
    fn patch(&self, pixels: &[f32], y: usize, x: usize, out: &mut Vec<f32>) {
        for ky in 0..self.kernel[0] {
            let row = self.position(0, y, ky);
            for kx in 0..self.kernel[1] {
                let at = row.zip(self.position(1, x, kx));
                out.push(at.map_or(0.0, |(row, column)| pixels[row * self.size[1] + column]));
            }
        }
    }

    /// Adds to each tap the sum of all that it sees.
    fn sums(&self, pixels: &[f32], sums: &mut [f64]) {
        let [oh, ow] = self.output();
        for ky in 0..self.kernel[0] {
            for row in (0..oh).filter_map(|y| self.position(0, y, ky)) {
                let line = &pixels[row * self.size[1]..][..self.size[1]];
                for kx in 0..self.kernel[1] {
                    let seen = (0..ow).filter_map(|x| self.position(1, x, kx));
                    sums[ky * self.kernel[1] + kx] += seen.map(|x| f64::from(line[x])).sum::<f64>();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strided_padded_grouped_window() {
        // Two channels, a group each; 3 × 3 over 3 × 4 pixels with one cell of padding and a step of 2.
        let form = Form::Conv { groups: 2, stride: [2, 2], pads: [1; 4], dilation: [1, 1] };
        let weights = Tensor::full(&[2, 1, 3, 3], 1f32);
        let values: Vec<f32> = (0..24).map(|v| v as f32).collect();
        let mut looker = Looker::new(&form, &weights, 1, 1).unwrap();
        looker.add(&Tensor::new(&[1, 2, 3, 4], values).unwrap()).unwrap();
        let seen = looker.finish();
        // Outputs at rows 0, 2 and columns 0, 2: the centre tap sees 0, 2, 8, 10 and 12, 14, 20, 22.
        assert_eq!(seen.groups[0].means[4], 5.0);
        assert_eq!(seen.groups[1].means[4], 17.0);
        // The first tap lies in the padding but for one output, where it sees pixel (1, 1).
        assert_eq!(seen.groups[0].means[0], 5.0 / 4.0);
        let products = seen.groups[0].products.as_ref().unwrap();
        assert_eq!(products[4 * 9 + 4], (4.0 + 64.0 + 100.0) / 4.0);
        assert_eq!(products[4], 10.0 * 5.0 / 4.0);
    }

    #[test]
    fn rows_of_a_linear_layer() {
        let weights = Tensor::full(&[2, 5], 1f32);
        let mut looker = Looker::new(&Form::Linear { transposed: false }, &weights, 1, 1).unwrap();
        looker.add(&Tensor::new(&[1, 3, 2], vec![1f32, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap()).unwrap();
        assert!(looker.add(&Tensor::new(&[1, 3], vec![1f32; 3]).unwrap()).is_err());
        let seen = looker.finish();
        assert_eq!(seen.groups[0].means, [3.0, 4.0]);
        let products = seen.groups[0].products.as_ref().unwrap();
        assert!((products[1] - (2.0 + 12.0 + 30.0) / 3.0).abs() < 1e-6);
    }
}
