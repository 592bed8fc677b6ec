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
    check_share("confidence", confidence)?;
    rise_at(window, reference, 1.0 - confidence)
}

/// As [`rise`], at the confidence `1 - level`: of a small level, that is 1 up to rounding.
///
/// # Errors
/// As [`rise`]; a level outside (0, 1).
pub fn rise_at(window: &[f64], reference: &Reference, level: f64) -> Result<Rise, Error> {
    check_rows(WHAT, 2, window.len())?;
    check_finite(WHAT, window)?;
    contrast(&[(1.0, Reference::of(window)?), (-1.0, *reference)], level)
}

/// What the errors name.
const WHAT: &str = "rise in loss";

/// One-sided comparison of a sum of weighted means with 0, at the confidence `1 - level`; [`rise`] is the case of two. Each mean is that of a sample of its own.
///
/// # Errors
/// As [`rise`].
pub(crate) fn contrast(means: &[(f64, Reference)], level: f64) -> Result<Rise, Error> {
    means.iter().try_for_each(|(_, of)| of.check(WHAT))?;
    check_share("level", level)?;
    let rise = means.iter().map(|(weight, of)| weight * of.mean).sum::<f64>();
    check_option("rise in mean loss", rise, rise.is_finite(), "a finite number")?;
    let greatest = |of: fn(&Reference) -> f64| means.iter().map(|(_, mean)| of(mean)).fold(0.0, f64::max);
    let (scale, rounding) = (greatest(|of| of.std), ROUNDING * greatest(|of| of.mean.abs()));
    if scale <= rounding {
        return Ok(Rise { rise, lower_bound: if rise.abs() <= rounding { 0.0 } else { rise } });
    }
    let variances = means.iter().map(|(weight, of)| (weight * of.std / scale).powi(2) / of.rows as f64);
    let variance = variances.clone().sum::<f64>();
    let freedom = means.iter().zip(variances).map(|((_, of), own)| (own / variance).powi(2) / (of.rows as f64 - 1.0));
    let freedom = 1.0 / freedom.sum::<f64>();
    let below = student_tail(level, freedom) * (variance.sqrt() * scale);
    Ok(Rise { rise, lower_bound: (rise - below).clamp(f64::MIN, f64::MAX) })
}
