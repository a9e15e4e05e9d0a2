//! Which layers hurt, and how few of them have to stay in fp32.

use tapetum_runtime::Result;
use tapetum_runtime::quality::Figure;

/// Added to a layer's share of the work: even one that costs next to nothing has a price in fp32, a conversion on each side.
const PRICE: f64 = 0.01;

/// The layers in the order in which they are given up: the most damage for the least work first.
///
/// `damage` is the error that quantizing this layer alone makes, `share` its share of the work.
pub(super) fn order(damage: &[f64], share: &[f64]) -> Vec<usize> {
    let price = |n: usize| damage[n] / (share[n] + PRICE);
    let mut order: Vec<usize> = (0..damage.len()).collect();
    order.sort_by(|&a, &b| price(b).total_cmp(&price(a)).then(a.cmp(&b)));
    order
}

/// The least number of layers, taken from the front of the order, that has to be given up so that all figures pass: found
/// by doubling, then halving. At most `most`; `judge` is asked for the figures of a number.
///
/// Returns the number with its figures, or the best figures seen if none passes.
pub(super) fn fewest(
    most: usize,
    judge: &mut dyn FnMut(usize) -> Result<Vec<Figure>>,
) -> Result<std::result::Result<(usize, Vec<Figure>), Vec<Figure>>> {
    let passes = |figures: &[Figure]| figures.iter().all(Figure::passes);
    let (mut failed, mut best) = (0, Vec::new());
    let mut number = 1.min(most);
    let mut passed = loop {
        if number == 0 {
            return Ok(Err(best));
        }
        let figures = judge(number)?;
        if passes(&figures) {
            break (number, figures);
        }
        if best.is_empty() || margin(&figures) > margin(&best) {
            best = figures;
        }
        failed = number;
        if number == most {
            return Ok(Err(best));
        }
        number = (number * 2).min(most);
    };
    while passed.0 - failed > 1 {
        let middle = usize::midpoint(failed, passed.0);
        let figures = judge(middle)?;
        if passes(&figures) {
            passed = (middle, figures);
        } else {
            failed = middle;
        }
    }
    Ok(Ok(passed))
}

/// How far the worst figure is above its gate; negative below.
pub(super) fn margin(figures: &[Figure]) -> f64 {
    let one = |f: &Figure| if f.trouble.is_some() { f64::NEG_INFINITY } else { f.value - f.gate };
    figures.iter().map(one).fold(f64::INFINITY, f64::min)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(value: f64) -> Vec<Figure> {
        let output = "mask".to_owned();
        vec![Figure { output, metric: "mask IoU", value, worst: None, gate: 0.99, samples: 1, trouble: None }]
    }

    #[test]
    fn as_few_as_possible() {
        for needed in 1..=20 {
            let mut asked = Vec::new();
            let found = fewest(20, &mut |n| {
                asked.push(n);
                Ok(figure(if n >= needed { 0.995 } else { 0.9 + n as f64 * 0.001 }))
            });
            assert_eq!(found.unwrap().unwrap().0, needed);
            assert!(asked.len() <= 9, "{asked:?}");
        }
        let none = fewest(6, &mut |n| Ok(figure(0.9 + n as f64 * 0.001))).unwrap().unwrap_err();
        assert_eq!(none[0].value, 0.906);
    }

    #[test]
    fn the_most_damage_for_the_least_work_goes_first() {
        assert_eq!(order(&[1.0, 4.0, 2.0, 0.0], &[0.5, 0.2, 0.01, 0.29]), [2, 1, 0, 3]);
    }
}
