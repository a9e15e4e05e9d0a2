//! Fair shares: who asks for little gets it, and what is left is divided equally among the others (max-min fairness).

/// What each of `asked` gets of `total`.
pub fn shares(asked: &[f64], total: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..asked.len()).collect();
    order.sort_by(|a, b| asked[*a].total_cmp(&asked[*b]));
    let (mut shares, mut left) = (vec![0.0; asked.len()], total.max(0.0));
    for (n, &at) in order.iter().enumerate() {
        let equal = left / (order.len() - n) as f64;
        shares[at] = asked[at].max(0.0).min(equal);
        left -= shares[at];
    }
    shares
}

/// Jain's index of what each got of its share: 1 is equal, 1/n is one that got all. 1 of nothing.
pub fn jain(got: &[f64]) -> f64 {
    let (sum, squares) = got.iter().fold((0.0, 0.0), |(sum, squares), x| (sum + x, squares + x * x));
    if squares == 0.0 { 1.0 } else { sum * sum / (got.len() as f64 * squares) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_for_little_gets_it_and_the_rest_is_equal() {
        assert_eq!(shares(&[10.0, 10.0, 10.0], 15.0), [5.0; 3]);
        assert_eq!(shares(&[1.0, 30.0, 30.0], 21.0), [1.0, 10.0, 10.0]);
        assert_eq!(shares(&[30.0, 4.0, 6.0], 100.0), [30.0, 4.0, 6.0]);
        assert_eq!(shares(&[3.0, 3.0], 0.0), [0.0; 2]);
        assert!(shares(&[], 5.0).is_empty());
    }

    #[test]
    fn the_index_is_one_where_all_got_the_same() {
        assert_eq!(jain(&[0.9, 0.9, 0.9]), 1.0);
        assert!((jain(&[1.0, 0.0, 0.0, 0.0]) - 0.25).abs() < 1e-12);
        assert_eq!([jain(&[]), jain(&[0.0, 0.0])], [1.0, 1.0]);
    }
}
