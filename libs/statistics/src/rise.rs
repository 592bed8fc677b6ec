//! Have losses risen? A window's mean loss against the one measured when the model was made.

use serde::{Deserialize, Serialize};

use crate::{
    Error,
    error::{check_finite, check_rows, check_share},
    paired::{mean_and_std, student_quantile},
};

/// The loss on the rows that the model was validated on.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Reference {
    /// Mean loss.
    pub mean: f64,
    /// Sample standard deviation of the row losses.
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
        check_rows("reference loss", 2, losses.len())?;
        check_finite("reference loss", losses)?;
        let (mean, std) = mean_and_std(losses);
        Ok(Self { mean, std, rows: losses.len() as u64 })
    }
}

/// By how much the mean loss rose.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rise {
    /// The window's mean loss less the reference's.
    pub rise: f64,
    /// The true rise is above this, with the confidence asked for. Above 0: losses have risen.
    pub lower_bound: f64,
}

/// One-sided comparison of the window's mean loss with the reference, variances unequal and both samples random
/// (Welch 1947, with Satterthwaite's degrees of freedom).
///
/// # Errors
/// Fewer than two rows on either side; a loss or reference that is not finite; a confidence outside (0, 1).
pub fn rise(window: &[f64], reference: &Reference, confidence: f64) -> Result<Rise, Error> {
    const WHAT: &str = "rise in loss";
    check_rows(WHAT, 2, window.len())?;
    check_rows(WHAT, 2, usize::try_from(reference.rows).unwrap_or(usize::MAX))?;
    check_share("confidence", confidence)?;
    check_finite(WHAT, window)?;
    check_finite(WHAT, &[reference.mean, reference.std])?;
    let (mean, std) = mean_and_std(window);
    let rise = mean - reference.mean;
    let (rows, reference_rows) = (window.len() as f64, reference.rows as f64);
    let scale = std.max(reference.std);
    if scale <= 0.0 {
        return Ok(Rise { rise, lower_bound: rise });
    }
    let (here, there) = ((std / scale).powi(2) / rows, (reference.std / scale).powi(2) / reference_rows);
    let variance = here + there;
    let (a, b) = (here / variance, there / variance);
    let freedom = 1.0 / (a * a / (rows - 1.0) + b * b / (reference_rows - 1.0));
    Ok(Rise { rise, lower_bound: rise - student_quantile(confidence, freedom) * variance.sqrt() * scale })
}
