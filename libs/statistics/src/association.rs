//! Association of two series: whether one rises or falls as the other rises.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF as _, StudentsT};

use crate::{
    Error,
    error::{check_finite, check_parallel},
};

/// Rank correlation of two series.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Association {
    /// Spearman's rank correlation, in [-1, 1].
    pub correlation: f64,
    /// The partial rank correlation, in [-1, 1]: what remains if the rank of both by their order is taken out.
    pub given_order: f64,
    /// Of no partial correlation, two-sided.
    pub p_value: f64,
}

/// The rank correlation of two series (Spearman 1904, "The proof and measurement of association between two things"), with that given the order
/// of the values: two series that both grow with time are correlated, and need not have anything to do with each other. Ties have their mean
/// rank. The p-value is that of Student's t with n - 3 degrees of freedom, `t = r sqrt((n - 3) / (1 - r^2))` (Fisher 1924, "The distribution of
/// the partial correlation coefficient").
///
/// `None` of fewer than four pairs, or if one series is constant or follows its order exactly.
///
/// # Errors
/// Series of unequal length; a value that is not finite.
pub fn rank_correlation(first: &[f64], second: &[f64]) -> Result<Option<Association>, Error> {
    const WHAT: &str = "rank correlation";
    if first.is_empty() && second.is_empty() {
        return Ok(None);
    }
    check_parallel(WHAT, first.len(), second.len())?;
    check_finite(WHAT, first)?;
    check_finite(WHAT, second)?;
    let values = first.len();
    if values < 4 {
        return Ok(None);
    }
    let order: Vec<f64> = (0..values).map(|at| at as f64).collect();
    let (first, second) = (ranks(first), ranks(second));
    let correlations = [(&first, &second), (&first, &order), (&second, &order)].map(|(a, b)| pearson(a, b));
    let [Some(correlation), Some(of_first), Some(of_second)] = correlations else { return Ok(None) };
    let unexplained = ((1.0 - of_first * of_first) * (1.0 - of_second * of_second)).sqrt();
    if unexplained < 1e-9 {
        return Ok(None);
    }
    let given_order = ((correlation - of_first * of_second) / unexplained).clamp(-1.0, 1.0);
    let freedom = values as f64 - 3.0;
    let t = given_order.abs() * (freedom / (1.0 - given_order * given_order).max(f64::MIN_POSITIVE)).sqrt();
    let student = StudentsT::new(0.0, 1.0, freedom).expect("scale is 1 and freedom positive");
    let p_value = if t.is_finite() { (2.0 * student.sf(t)).min(1.0) } else { 0.0 };
    Ok(Some(Association { correlation, given_order, p_value }))
}

/// The rank of each value from 1, ties with the mean of theirs.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut from = 0;
    while from < order.len() {
        let ties = order[from..].iter().take_while(|&&at| values[at] == values[order[from]]).count();
        let mean = from as f64 + (ties as f64 + 1.0) / 2.0;
        order[from..from + ties].iter().for_each(|&at| ranks[at] = mean);
        from += ties;
    }
    ranks
}

/// Pearson's correlation; `None` if one of both is constant.
pub(crate) fn pearson(first: &[f64], second: &[f64]) -> Option<f64> {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let (of_first, of_second) = (mean(first), mean(second));
    let mut sums = (0.0, 0.0, 0.0);
    for (a, b) in first.iter().zip(second) {
        let (a, b) = (a - of_first, b - of_second);
        sums = (sums.0 + a * b, sums.1 + a * a, sums.2 + b * b);
    }
    let scale = (sums.1 * sums.2).sqrt();
    (scale > 1e-12).then(|| (sums.0 / scale).clamp(-1.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-9, "{found}, expected {expected}");
    }

    /// `scipy.stats.spearmanr` of scipy 1.17.1, and the partial correlation by the formula with its p-value from `scipy.stats.t`.
    #[test]
    fn correlations_agree_with_scipy() {
        let load = [10.0, 30.0, 50.0, 60.0, 12.0, 33.0, 48.0, 61.0, 11.0, 29.0];
        let accuracy = [0.98, 0.95, 0.90, 0.85, 0.97, 0.95, 0.91, 0.84, 0.98, 0.96];
        let found = rank_correlation(&load, &accuracy).expect("valid").expect("ten pairs");
        near(found.correlation, -0.993_920_916_310_139_8);
        near(found.given_order, -0.996_556_856_131_520_5);
        assert!((found.p_value / 7.860_052_386_477_838e-9 - 1.0).abs() < 1e-6, "{found:?}");
    }

    #[test]
    fn two_series_that_grow_with_time_are_not_associated_beside_it() {
        let noise =
            |seed: u64, at: u64| f64::from(u32::try_from((at * seed + 17) * 7919 % 1_000).expect("small")) / 100.0;
        let (first, second): (Vec<f64>, Vec<f64>) =
            (0..40).map(|at| (at as f64 + noise(3, at), at as f64 + noise(11, at))).unzip();
        let found = rank_correlation(&first, &second).expect("valid").expect("forty pairs");
        assert!(found.correlation > 0.9 && found.p_value > 0.01, "{found:?}");
        let follows: Vec<f64> = (0..40).map(|at| -first[at] + noise(5, at as u64) / 100.0).collect();
        let found = rank_correlation(&first, &follows).expect("valid").expect("forty pairs");
        assert!(found.given_order < -0.9 && found.p_value < 1e-9, "{found:?}");
    }

    #[test]
    fn what_cannot_be_said_is_none_and_wrong_series_are_refused() {
        assert_eq!(rank_correlation(&[1.0, 2.0, 3.0], &[1.0, 2.0, 3.0]), Ok(None));
        assert_eq!(rank_correlation(&[1.0; 5], &[1.0, 2.0, 0.0, 3.0, 4.0]), Ok(None));
        assert_eq!(rank_correlation(&[1.0, 2.0, 3.0, 4.0], &[1.0, 2.0, 3.0, 4.0]), Ok(None), "both follow the order");
        assert_eq!(rank_correlation(&[], &[]), Ok(None));
        assert!(rank_correlation(&[1.0], &[1.0, 2.0]).is_err());
        assert!(rank_correlation(&[f64::NAN; 4], &[1.0; 4]).is_err());
    }
}
