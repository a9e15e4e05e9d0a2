//! Weights → `i8`, so that the layer's output changes least on the inputs that it really sees.
//!
//! Rounding each weight to the nearest level makes the least error in the weights, not in the output: inputs of
//! neighbouring taps are alike, so errors of the same sign add up. Here the error that rounding one weight makes is offset
//! by the weights still to be rounded. With `H = E[x xᵀ]` over the patches `x` that the layer sees and `H = L Lᵀ`, the
//! output's squared error is
//!
//! ```text
//! (w − q) H (w − q)ᵀ = Σ_k L_kk² · ( (w_k − q_k) + Σ_{j>k} (w_j − q_j) · L_jk / L_kk )²
//! ```
//!
//! so going from the last weight to the first, each is rounded with what is left of the later ones added (GPTQ,
//! Frantar et al. 2022, which is Babai's nearest plane).

use super::columns::Statistics;

/// Largest patch that is rounded by its statistics; beyond, the work grows with the third power and weights are rounded to
/// the nearest level.
pub(super) const MOST_TAPS: usize = 2304;

/// Shares of the greatest weight that are tried as the end of the range.
const CLIPS: [f64; 4] = [1.0, 0.9, 0.8, 0.7];

/// Added to the diagonal of `H`, as a share of its mean: taps that see nothing would make it singular.
const DAMPING: f64 = 1e-3;

/// A layer's weights in 8 bits.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rounded {
    /// −127 to 127, `[C_out][taps]`.
    pub levels: Vec<i8>,
    /// Per output channel.
    pub scales: Vec<f32>,
    /// To be added to the bias, per output channel: what rounding changed on average.
    pub shift: Vec<f32>,
}

/// Rounds `weights`, `[C_out][taps]`, of a layer with `seen.groups.len()` groups of output channels.
pub(super) fn round(weights: &[f32], channels: usize, seen: &Statistics) -> Rounded {
    let taps = weights.len() / channels.max(1);
    let per_group = channels / seen.groups.len().max(1);
    let mut out =
        Rounded { levels: vec![0; weights.len()], scales: vec![1.0; channels], shift: vec![0.0; channels] };
    let mut planes = None;
    for channel in 0..channels {
        let group = &seen.groups[(channel / per_group.max(1)).min(seen.groups.len() - 1)];
        if channel % per_group.max(1) == 0 {
            planes = group.products.as_ref().map(|h| Planes::new(h, taps));
        }
        let row: Vec<f64> = weights[channel * taps..][..taps].iter().map(|&w| f64::from(w)).collect();
        let greatest = row.iter().fold(0f64, |m, w| m.max(w.abs()));
        if greatest <= f64::from(f32::MIN_POSITIVE) * 127.0 {
            continue;
        }
        let mut best = (f64::INFINITY, vec![0.0; taps], 1f32);
        for clip in CLIPS {
            let scale = (greatest * clip / 127.0) as f32;
            let (error, levels) = match &planes {
                Some(planes) => planes.nearest(&row, f64::from(scale)),
                None => nearest_levels(&row, f64::from(scale)),
            };
            if error < best.0 {
                best = (error, levels, scale);
            }
        }
        let (_, levels, scale) = best;
        let lost = row.iter().zip(&levels).zip(&group.means);
        out.shift[channel] = lost.map(|((w, q), m)| (w - q * f64::from(scale)) * m).sum::<f64>() as f32;
        out.scales[channel] = scale;
        for (to, level) in out.levels[channel * taps..][..taps].iter_mut().zip(&levels) {
            *to = *level as i8;
        }
    }
    out
}

fn level(value: f64, scale: f64) -> f64 {
    (value / scale).round().clamp(-127.0, 127.0)
}

fn nearest_levels(row: &[f64], scale: f64) -> (f64, Vec<f64>) {
    let levels: Vec<f64> = row.iter().map(|&w| level(w, scale)).collect();
    let error = row.iter().zip(&levels).map(|(w, q)| (w - q * scale).powi(2)).sum();
    (error, levels)
}

/// The factor `L` of a group's `H`, with the taps in the order of how much they see, the most last.
struct Planes {
    order: Vec<usize>,
    /// Row-major, lower triangle.
    factor: Vec<f64>,
}

impl Planes {
    fn new(products: &[f64], taps: usize) -> Self {
        let diagonal = |k: usize| products[k * taps + k];
        let mut order: Vec<usize> = (0..taps).collect();
        order.sort_by(|&a, &b| diagonal(a).total_cmp(&diagonal(b)).then(a.cmp(&b)));
        let mean = (0..taps).map(diagonal).sum::<f64>() / taps.max(1) as f64;
        let damping = DAMPING * mean + f64::MIN_POSITIVE.sqrt();
        let mut factor = vec![0.0; taps * taps];
        for i in 0..taps {
            let (before, row) = factor.split_at_mut(i * taps);
            for j in 0..=i {
                let other = if j == i { &row[..j] } else { &before[j * taps..j * taps + j] };
                let dot: f64 = row[..j].iter().zip(other).map(|(a, b)| a * b).sum();
                let h = products[order[i] * taps + order[j]];
                row[j] = if j == i {
                    // Rounding may leave a dependent tap slightly below zero.
                    (h + damping - dot).max(damping * 1e-6).sqrt()
                } else {
                    (h - dot) / before[j * taps + j]
                };
            }
        }
        Self { order, factor }
    }

    /// The output's squared error, and the level of each weight.
    fn nearest(&self, row: &[f64], scale: f64) -> (f64, Vec<f64>) {
        let taps = row.len();
        let mut levels = vec![0.0; taps];
        // Σ_{j>k} (w_j − q_j) · L_jk
        let mut carried = vec![0.0; taps];
        let mut error = 0.0;
        for k in (0..taps).rev() {
            let (at, l) = (self.order[k], &self.factor[k * taps..][..=k]);
            let target = row[at] + carried[k] / l[k];
            levels[at] = level(target, scale);
            error += (l[k] * (target - levels[at] * scale)).powi(2);
            let left = row[at] - levels[at] * scale;
            carried[..k].iter_mut().zip(l).for_each(|(c, l)| *c += left * l);
        }
        (error, levels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantize::columns::Group;
    use tapetum_runtime::seed::Seeded;

    /// Inputs whose taps are alike, as pixels are.
    fn alike(taps: usize, count: usize) -> Vec<Vec<f64>> {
        let mut random = Seeded::new(5);
        let patch = |_| {
            let level = f64::from(random.uniform(0.0, 2.0));
            (0..taps).map(|_| level + f64::from(random.uniform(-0.1, 0.1))).collect()
        };
        (0..count).map(patch).collect()
    }

    fn statistics(inputs: &[Vec<f64>], products: bool) -> Statistics {
        let taps = inputs[0].len();
        let mean = |f: &dyn Fn(&[f64]) -> f64| inputs.iter().map(|x| f(x)).sum::<f64>() / inputs.len() as f64;
        let means = (0..taps).map(|k| mean(&|x| x[k])).collect();
        let all = || (0..taps * taps).map(|at| mean(&|x| x[at / taps] * x[at % taps])).collect();
        Statistics { groups: vec![Group { products: products.then(all), means }] }
    }

    fn output_error(inputs: &[Vec<f64>], weights: &[f32], r: &Rounded) -> f64 {
        let difference = |x: &Vec<f64>| {
            let d: f64 = x
                .iter()
                .zip(weights.iter().zip(&r.levels))
                .map(|(x, (&w, &q))| x * (f64::from(w) - f64::from(q) * f64::from(r.scales[0])))
                .sum();
            (d - f64::from(r.shift[0])).powi(2)
        };
        inputs.iter().map(difference).sum::<f64>() / inputs.len() as f64
    }

    #[test]
    fn errors_are_offset_where_taps_see_alike() {
        let inputs = alike(36, 500);
        let (mut plain, mut offset) = (0.0, 0.0);
        for seed in 0..8 {
            let mut weights = Seeded::new(seed).vec(36, -0.05, 0.05);
            // The identity branch that folding adds.
            weights[4] = 2.0;
            let rounded = |products| round(&weights, 1, &statistics(&inputs, products));
            plain += output_error(&inputs, &weights, &rounded(false));
            offset += output_error(&inputs, &weights, &rounded(true));
        }
        assert!(offset < plain / 8.0, "{offset:e} against {plain:e}");
    }

    #[test]
    fn weights_that_are_levels_stay_as_they_are() {
        let weights: Vec<f32> = [127, -3, 0, 64, -127, 1].iter().map(|&q| q as f32 * 0.25).collect();
        let seen = statistics(&alike(6, 100), true);
        let r = round(&weights, 1, &seen);
        assert_eq!(r.levels, [127, -3, 0, 64, -127, 1]);
        assert_eq!((r.scales[0], r.shift[0]), (0.25, 0.0));
        // A dead channel, and taps that see nothing.
        let r = round(&[0.0; 6], 1, &seen);
        assert_eq!((r.levels, r.scales), (vec![0; 6], vec![1.0]));
        let blind = Statistics { groups: vec![Group { products: Some(vec![0.0; 36]), means: vec![0.0; 6] }] };
        assert_eq!(round(&weights, 1, &blind).levels, [127, -3, 0, 64, -127, 1]);
    }
}
