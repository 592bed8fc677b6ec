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

/// Mean and sample standard deviation (divisor n - 1) of at least two finite values, in two passes.
pub(crate) fn mean_and_std(values: &[f64]) -> (f64, f64) {
    let rows = values.len() as f64;
    let mean = values.iter().map(|v| v / rows).sum::<f64>();
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    (mean, (squares / (rows - 1.0)).sqrt())
}

/// The `probability` quantile of Student's t with `freedom` > 0 degrees of freedom.
pub(crate) fn student_quantile(probability: f64, freedom: f64) -> f64 {
    StudentsT::new(0.0, 1.0, freedom).expect("scale is 1 and freedom positive").inverse_cdf(probability)
}
