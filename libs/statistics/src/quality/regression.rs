use super::mean;
use crate::{
    Error,
    error::{check_finite, check_parallel},
};

/// Mean absolute error, in the target's unit.
///
/// # Errors
/// Empty or unequal slices; a value that is not finite.
pub fn mae(predictions: &[f64], truth: &[f64]) -> Result<f64, Error> {
    check("MAE", predictions, truth)?;
    Ok(predictions.iter().zip(truth).map(|(p, y)| (p - y).abs()).sum::<f64>() / truth.len() as f64)
}

/// Root of the mean squared error, in the target's unit.
///
/// # Errors
/// As [`mae`].
pub fn rmse(predictions: &[f64], truth: &[f64]) -> Result<f64, Error> {
    check("RMSE", predictions, truth)?;
    Ok((squared_error(predictions, truth) / truth.len() as f64).sqrt())
}

/// Coefficient of determination: one less the squared error as a share of the truth's own
/// variation about its mean. 1 is perfect, 0 is what the constant mean gets, and there is no lower bound.
/// `None` if the truth does not vary.
///
/// # Errors
/// As [`mae`].
pub fn r2(predictions: &[f64], truth: &[f64]) -> Result<Option<f64>, Error> {
    check("R2", predictions, truth)?;
    let centre = mean(truth);
    let variation: f64 = truth.iter().map(|y| (y - centre).powi(2)).sum();
    let ratio = squared_error(predictions, truth) / variation;
    Ok((variation > 0.0 && ratio.is_finite()).then_some(1.0 - ratio))
}

fn squared_error(predictions: &[f64], truth: &[f64]) -> f64 {
    predictions.iter().zip(truth).map(|(p, y)| (p - y).powi(2)).sum()
}

fn check(what: &'static str, predictions: &[f64], truth: &[f64]) -> Result<(), Error> {
    check_parallel(what, predictions.len(), truth.len())?;
    check_finite(what, predictions)?;
    check_finite(what, truth)
}
