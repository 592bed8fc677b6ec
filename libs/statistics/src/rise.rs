//! Degradation: the mean loss of a window compared with the mean loss at validation.
//!
//! Values are assumed to be independent draws, from one distribution in the window and from another in the reference. Of rows that depend
//! on their neighbours (of one storm, one customer, one day), compare the [batch means](crate::paired::batch_means) of both sides: the
//! bound for rows is too high, and false alarms are more frequent.

use serde::{Deserialize, Serialize};

use crate::{
    Error,
    error::{check_finite, check_option, check_rows, check_share},
    paired::{moments, student_tail},
};

/// The loss on the rows that the model was validated on.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Reference {
    /// Mean loss.
    pub mean: f64,
    /// Sample standard deviation of the row losses (divisor n - 1), at least 0.
    pub std: f64,
    /// Number of rows.
    pub rows: u64,
}

impl Reference {
    /// Summarises row losses.
    ///
    /// # Errors
    /// Fewer than two rows; a loss that is not finite.
    pub fn of(losses: &[f64]) -> Result<Self, Error> {
        const WHAT: &str = "reference loss";
        check_rows(WHAT, 2, losses.len())?;
        check_finite(WHAT, losses)?;
        let moments = moments(WHAT, losses)?;
        let std = moments.std(losses.len() as f64 - 1.0);
        Ok(Self { mean: moments.mean(), std, rows: losses.len() as u64 })
    }

    fn check(&self, what: &'static str) -> Result<(), Error> {
        check_rows(what, 2, usize::try_from(self.rows).unwrap_or(usize::MAX))?;
        let Self { mean, std, .. } = *self;
        check_option("mean loss of the reference", mean, mean.is_finite(), "a finite number")?;
        let fits = std.is_finite() && std >= 0.0;
        check_option("deviation of the reference's losses", std, fits, "a finite number of at least 0")
    }
}

/// The rise of the mean loss.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rise {
    /// The mean loss of the window minus that of the reference.
    pub rise: f64,
    /// The lower confidence bound of the rise. Above 0, losses have risen.
    pub lower_bound: f64,
}

/// Relative difference up to which the means of constant losses are equal: smaller ones are rounding.
const ROUNDING: f64 = 1e-12;

/// One-sided comparison of the window's mean loss with the reference, variances unequal and both samples random
/// (Welch 1947, "The generalization of Student's problem when several different population variances are involved",
/// with Satterthwaite's degrees of freedom). Rows are assumed to be independent; see the [module](self).
///
/// If the losses of both sides are constant up to rounding (1e-12 of the larger mean), the bound is the rise itself, or 0 if the rise is
/// within rounding. A bound below the least float is that float.
///
/// # Errors
/// Fewer than two rows on either side; a loss or reference that is not finite; a negative deviation; means whose
/// difference is not finite; a confidence outside (0, 1).
pub fn rise(window: &[f64], reference: &Reference, confidence: f64) -> Result<Rise, Error> {
    const WHAT: &str = "rise in loss";
    check_rows(WHAT, 2, window.len())?;
    reference.check(WHAT)?;
    check_share("confidence", confidence)?;
    check_finite(WHAT, window)?;
    let moments = moments(WHAT, window)?;
    let (rows, reference_rows) = (window.len() as f64, reference.rows as f64);
    let (mean, std) = (moments.mean(), moments.std(rows - 1.0));
    let rise = mean - reference.mean;
    check_option("rise in mean loss", rise, rise.is_finite(), "a finite number")?;
    let (scale, rounding) = (std.max(reference.std), ROUNDING * mean.abs().max(reference.mean.abs()));
    if scale <= rounding {
        return Ok(Rise { rise, lower_bound: if rise.abs() <= rounding { 0.0 } else { rise } });
    }
    let (here, there) = ((std / scale).powi(2) / rows, (reference.std / scale).powi(2) / reference_rows);
    let variance = here + there;
    let (a, b) = (here / variance, there / variance);
    let freedom = 1.0 / (a * a / (rows - 1.0) + b * b / (reference_rows - 1.0));
    let below = student_tail(1.0 - confidence, freedom) * (variance.sqrt() * scale);
    Ok(Rise { rise, lower_bound: (rise - below).clamp(f64::MIN, f64::MAX) })
}
