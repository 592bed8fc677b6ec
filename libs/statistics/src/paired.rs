//! Is the challenger better? Two models on the same rows.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF as _, StudentsT};

use crate::{
    Error,
    error::{check_finite, check_parallel, check_rows, check_share},
};

/// How much lower the challenger's loss is, and the interval that holds the true mean with the
/// confidence asked for. All three are in the loss's own unit; positive is better.
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
/// differences (the paired t interval; by the central limit theorem right for any loss of finite variance
/// once rows number some dozens). Pairing takes the difficulty of a row out of the comparison.
///
/// `confidence` is that of the two-sided interval, e.g. 0.95; the lower end alone then holds with 0.975.
/// Rows must be independent for the interval to be honest: rows of one event (one storm, one customer) are not.
///
/// # Errors
/// Unequal slices; fewer than two rows; a loss that is not finite; a confidence outside (0, 1).
pub fn improvement(champion: &[f64], challenger: &[f64], confidence: f64) -> Result<Improvement, Error> {
    const WHAT: &str = "paired improvement";
    check_parallel(WHAT, champion.len(), challenger.len())?;
    check_rows(WHAT, 2, champion.len())?;
    check_share("confidence", confidence)?;
    let differences: Vec<f64> = champion.iter().zip(challenger).map(|(old, new)| old - new).collect();
    check_finite(WHAT, &differences)?;
    let (mean, std) = mean_and_std(&differences);
    let rows = differences.len() as f64;
    let half = student_quantile((1.0 + confidence) / 2.0, rows - 1.0) * std / rows.sqrt();
    Ok(Improvement { mean, lower: mean - half, upper: mean + half })
}

/// Batches that rows in order are cut into by [`improvement_in_order`]: within the 10 to 30 that Schmeiser (1982, "Batch size
/// effects in the analysis of simulation output") finds enough and not too many.
const BATCHES: usize = 20;

/// As [`improvement`], for rows in the order in which they happened, of which neighbours may share a cause (a storm, a
/// holiday): the interval is that of the means of 20 consecutive batches (non-overlapping batch means), which are nearly
/// independent where the rows are not. It is wider than the row-wise one by as much as the rows depend on their
/// neighbours, and as wide where they do not, but for the fewer degrees of freedom.
///
/// # Errors
/// As [`improvement`]; fewer than 20 rows.
pub fn improvement_in_order(champion: &[f64], challenger: &[f64], confidence: f64) -> Result<Improvement, Error> {
    const WHAT: &str = "paired improvement in order";
    check_parallel(WHAT, champion.len(), challenger.len())?;
    check_rows(WHAT, BATCHES, champion.len())?;
    check_share("confidence", confidence)?;
    let differences: Vec<f64> = champion.iter().zip(challenger).map(|(old, new)| old - new).collect();
    check_finite(WHAT, &differences)?;
    let rows = differences.len();
    let batch = |n: usize| {
        let batch = &differences[n * rows / BATCHES..(n + 1) * rows / BATCHES];
        batch.iter().sum::<f64>() / batch.len() as f64
    };
    let (_, std) = mean_and_std(&(0..BATCHES).map(batch).collect::<Vec<_>>());
    let mean = differences.iter().sum::<f64>() / rows as f64;
    let batches = BATCHES as f64;
    let half = student_quantile((1.0 + confidence) / 2.0, batches - 1.0) * std / batches.sqrt();
    Ok(Improvement { mean, lower: mean - half, upper: mean + half })
}

/// Mean and sample standard deviation (divisor n - 1) of at least two finite values, in two passes, scaled by the
/// largest so that no square overflows. A deviation above the largest float is that float.
pub(crate) fn mean_and_std(values: &[f64]) -> (f64, f64) {
    let scale = values.iter().fold(0.0, |largest: f64, v| largest.max(v.abs()));
    if scale == 0.0 {
        return (0.0, 0.0);
    }
    let rows = values.len() as f64;
    let mean = values.iter().map(|v| v / scale).sum::<f64>() / rows;
    let squares: f64 = values.iter().map(|v| (v / scale - mean).powi(2)).sum();
    (mean * scale, ((squares / (rows - 1.0)).sqrt() * scale).min(f64::MAX))
}

/// The `probability` quantile of Student's t with `freedom` > 0 degrees of freedom.
pub(crate) fn student_quantile(probability: f64, freedom: f64) -> f64 {
    StudentsT::new(0.0, 1.0, freedom).expect("scale is 1 and freedom positive").inverse_cdf(probability)
}

#[cfg(test)]
mod tests {
    use rand::{RngExt as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Share of 400 seeded comparisons of equally good models whose lower bound is above zero, with differences that
    /// stay the same for `run` rows.
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
    fn rows_that_come_in_runs_do_not_fool_the_ordered_interval() {
        // One-sided 5 %; binomial 99.9 % bound of 400 draws: 0.086.
        assert!(false_alarms(1, improvement_in_order) < 0.086);
        assert!(false_alarms(40, improvement_in_order) < 0.086);
        assert!(false_alarms(40, improvement) > 0.2, "the row-wise interval is fooled, which is why there are two");
    }

    #[test]
    fn both_agree_on_the_mean_and_refuse_the_same() {
        let (old, new): (Vec<f64>, Vec<f64>) = (0..100).map(|n| (f64::from(n), f64::from(n) - 0.5)).unzip();
        let (rows, ordered) = (improvement(&old, &new, 0.9), improvement_in_order(&old, &new, 0.9));
        assert!((rows.expect("valid").mean - ordered.expect("valid").mean).abs() < 1e-12);
        assert!(improvement_in_order(&old[..19], &new[..19], 0.9).is_err());
        assert!(improvement_in_order(&old, &new[1..], 0.9).is_err());
        assert!(improvement_in_order(&old, &new, 1.0).is_err());
    }
}
