//! Paired comparison of two models on the same rows.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF as _, Normal, StudentsT};

use crate::{
    Error,
    error::{check_finite, check_parallel, check_rows, check_share},
    two_sample::moments::Moments,
};

/// The mean improvement of the challenger, and its confidence interval, in the unit of the loss. Positive is better.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Improvement {
    /// Mean of champion loss less challenger loss.
    pub mean: f64,
    /// Lower end of the two-sided interval.
    pub lower: f64,
    /// Upper end of the two-sided interval.
    pub upper: f64,
}

/// Mean improvement of the challenger over the champion with a two-sided Student interval on the row-wise
/// differences (the paired t interval, Student 1908, "The probable error of a mean"; by the central limit theorem valid
/// for any loss of finite variance from some dozens of rows). Pairing removes the difficulty of a row from the comparison.
///
/// `confidence` is that of the two-sided interval, e.g. 0.95; the lower end alone then has 0.975. Rows must be independent for the
/// interval to be valid: rows of one event (one storm, one customer) are not. If all differences are equal, the interval is that
/// single value. An end beyond the largest float is that float.
///
/// # Errors
/// Unequal slices; fewer than two rows; a loss, or a difference of two, that is not finite; a confidence
/// outside (0, 1).
pub fn improvement(champion: &[f64], challenger: &[f64], confidence: f64) -> Result<Improvement, Error> {
    const WHAT: &str = "paired improvement";
    let differences = differences(WHAT, 2, champion, challenger)?;
    check_share("confidence", confidence)?;
    let moments = moments(WHAT, &differences)?;
    let rows = differences.len() as f64;
    Ok(interval(moments.mean(), moments.std(rows - 1.0), rows, confidence))
}

/// Champion loss less challenger loss, row by row.
fn differences(what: &'static str, need: usize, champion: &[f64], challenger: &[f64]) -> Result<Vec<f64>, Error> {
    check_parallel(what, champion.len(), challenger.len())?;
    check_rows(what, need, champion.len())?;
    let differences: Vec<f64> = champion.iter().zip(challenger).map(|(old, new)| old - new).collect();
    check_finite(what, &differences)?;
    Ok(differences)
}

/// The Student interval around `mean`, from the standard deviation of values that are worth `independent` independent ones.
fn interval(mean: f64, std: f64, independent: f64, confidence: f64) -> Improvement {
    let half = student_tail((1.0 - confidence) / 2.0, independent - 1.0) * (std / independent.sqrt());
    Improvement { mean, lower: (mean - half).max(f64::MIN), upper: (mean + half).min(f64::MAX) }
}

/// Number of batches of [`batch_means`]: within the 10 to 30 that Schmeiser (1982, "Batch size effects in the analysis of
/// simulation output") recommends.
pub const BATCHES: usize = 20;

/// The fewest rows whose batch means are compared: five in a batch.
pub const LEAST_ROWS_IN_BATCHES: usize = 5 * BATCHES;

/// As [`improvement`], for rows in the order of their events, where neighbours may share a cause (a storm, a
/// holiday): the interval is that of the means of 20 consecutive batches (non-overlapping batch means), which are nearly
/// independent even if the rows are not. It is wider than the row-wise interval in proportion to the dependence of neighbouring rows.
/// For independent rows it is wider by the fewer degrees of freedom, and by the correlation that is found by chance.
///
/// Where a cause lasts longer than a batch, the means of neighbouring batches depend on each other too. Then they count as
/// `20 (1 - r) / (1 + r)` independent ones, `r` being their correlation at lag 1 (Bayley and Hammersley 1946, "The effective number of
/// independent observations in an autocorrelated time series"), to which 1/20 is added, its bias for independent means (Marriott and Pope
/// 1954, "Bias in the estimation of autocorrelations"). An estimate below 0 counts as 0, so the interval is never narrower for it.
///
/// # Errors
/// As [`improvement`]; fewer than 20 rows.
pub fn improvement_in_order(champion: &[f64], challenger: &[f64], confidence: f64) -> Result<Improvement, Error> {
    const WHAT: &str = "paired improvement in order";
    let differences = differences(WHAT, BATCHES, champion, challenger)?;
    check_share("confidence", confidence)?;
    let means = batch_means(&differences)?;
    let mean = moments(WHAT, &differences)?.mean();
    let of_batches = moments(WHAT, &means)?;
    let independent = independent_batches(&means, of_batches.mean());
    Ok(interval(mean, of_batches.std(BATCHES as f64 - 1.0), independent, confidence))
}

/// The number of independent values that as many batch means are worth, at least 2: fewer leave no degree of freedom.
fn independent_batches(means: &[f64], center: f64) -> f64 {
    let batches = means.len() as f64;
    let products = |lag: usize| means.iter().zip(&means[lag..]).map(|(a, b)| (a - center) * (b - center)).sum::<f64>();
    let total = products(0);
    if total <= 0.0 || !total.is_finite() {
        return batches;
    }
    let correlation = (products(1) / total + 1.0 / batches).clamp(0.0, 1.0);
    (batches * (1.0 - correlation) / (1.0 + correlation)).max(2.0)
}

/// The means of [`BATCHES`] consecutive batches of values in the order of their events. They are nearly independent even if neighbouring
/// values are not.
///
/// # Errors
/// Fewer values than batches; a value that is not finite.
pub fn batch_means(values: &[f64]) -> Result<Vec<f64>, Error> {
    const WHAT: &str = "batch means";
    check_rows(WHAT, BATCHES, values.len())?;
    check_finite(WHAT, values)?;
    let rows = values.len();
    let batch = |n: usize| moments(WHAT, &values[n * rows / BATCHES..(n + 1) * rows / BATCHES]);
    (0..BATCHES).map(|n| Ok(batch(n)?.mean())).collect()
}

/// The moments of finite values, at least one.
pub(crate) fn moments(what: &'static str, values: &[f64]) -> Result<Moments, Error> {
    Moments::of_values(values).ok_or(Error::TooFewRows { what, need: 1, got: values.len() })
}

/// The value that Student's t with `freedom` >= 1 degrees of freedom exceeds with probability `tail`, in [0, 1]. It is computed from
/// the tail, since one minus a small tail rounds to 1.
///
/// Many degrees of freedom: the expansion about the normal quantile (Fisher and Cornish 1960, "The percentile points
/// of distributions having known cumulants"), from 10,000 on within 1e-12. Others: bisection of the tail probability, down to
/// neighbouring floats.
pub(crate) fn student_tail(tail: f64, freedom: f64) -> f64 {
    const MANY: f64 = 1e4;
    if tail > 0.5 {
        return -student_tail(1.0 - tail, freedom);
    }
    // A tail that underflows to 0 would have an infinite quantile.
    let tail = tail.max(f64::MIN_POSITIVE);
    if freedom > MANY {
        let z = -Normal::standard().inverse_cdf(tail);
        let z2 = z * z;
        let first = z * (z2 + 1.0) / 4.0;
        let second = z * ((5.0 * z2 + 16.0) * z2 + 3.0) / 96.0;
        let third = z * (((3.0 * z2 + 19.0) * z2 + 17.0) * z2 - 15.0) / 384.0;
        return z + (first + (second + third / freedom) / freedom) / freedom;
    }
    let student = StudentsT::new(0.0, 1.0, freedom).expect("scale is 1 and freedom positive");
    // The bit patterns of positive floats have the order of the floats.
    let (mut low, mut high) = (0, f64::MAX.to_bits());
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if student.sf(f64::from_bits(middle)) > tail {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::from_bits(high)
}

#[cfg(test)]
mod tests {
    use rand::{RngExt as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// The share of 400 seeded comparisons of equally good models with a lower bound above zero. Differences are equal within runs of
    /// `run` rows.
    fn false_alarms(run: usize, compare: impl Fn(&[f64], &[f64], f64) -> Result<Improvement, Error>) -> f64 {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let challenger = vec![1.0; 4000];
        let mut alarms = 0;
        for _ in 0..400 {
            let runs = (0..4000_usize.div_ceil(run)).map(|_| 0.5 + random.random::<f64>());
            let champion: Vec<f64> = runs.flat_map(|loss| std::iter::repeat_n(loss, run)).take(4000).collect();
            alarms += i32::from(compare(&champion, &challenger, 0.9).expect("valid").lower > 0.0);
        }
        f64::from(alarms) / 400.0
    }

    #[test]
    fn dependent_rows_do_not_raise_the_false_alarm_rate_of_the_ordered_interval() {
        // One-sided 5 %; binomial 99.9 % bound of 400 draws: 0.086.
        assert!(false_alarms(1, improvement_in_order) < 0.086);
        assert!(false_alarms(40, improvement_in_order) < 0.086);
        // Causes that last longer than a batch of 200 rows, as 13, 7 and 5 of them.
        for run in [308, 572, 800] {
            assert!(false_alarms(run, improvement_in_order) < 0.086, "{run}");
        }
        assert!(false_alarms(40, improvement) > 0.2, "the row-wise interval is fooled, which is why there are two");
    }

    const STUDENT_TAILS: [(f64, f64, f64); 10] = [
        (0.05, 1.0, 6.313_751_514_675_044),
        (1e-9, 1.0, 318_309_886.183_790_7),
        (5.55e-17, 1.5, 35_872_725_090.009_41),
        (0.4, 2.0, 0.288_675_134_594_812_8),
        (0.025, 4.0, 2.776_445_105_197_794_3),
        (0.05, 19.0, 1.729_132_811_521_368_7),
        (1e-12, 100.0, 8.025_825_594_493_25),
        (0.001, 9999.0, 3.091_047_597_579_455),
        (0.025, 1e7, 1.959_964_221_767_205_5),
        (1e-6, 1e18, 4.753_424_308_822_899),
    ];

    /// `scipy.stats.t.isf(tail, freedom)` of scipy 1.17.1.
    #[test]
    fn student_tails_agree_with_scipy() {
        for (tail, freedom, expected) in STUDENT_TAILS {
            let got = student_tail(tail, freedom);
            assert!((got / expected - 1.0).abs() < 1e-9, "{tail} {freedom}: {got}, expected {expected}");
            assert_eq!(student_tail(1.0 - tail, freedom) < 0.0, tail < 0.5);
        }
        assert!(student_tail(0.5, 3.0).abs() < 1e-9 && student_tail(0.5, 1e6).abs() < 1e-9);
    }

    #[test]
    fn both_have_the_same_mean_and_the_same_errors() {
        let (old, new): (Vec<f64>, Vec<f64>) = (0..100).map(|n| (f64::from(n), f64::from(n) - 0.5)).unzip();
        let (rows, ordered) = (improvement(&old, &new, 0.9), improvement_in_order(&old, &new, 0.9));
        assert!((rows.expect("valid").mean - ordered.expect("valid").mean).abs() < 1e-12);
        assert!(improvement_in_order(&old[..19], &new[..19], 0.9).is_err());
        assert!(improvement_in_order(&old, &new[1..], 0.9).is_err());
        assert!(improvement_in_order(&old, &new, 1.0).is_err());
    }
}
