use crate::{
    Error,
    error::{check_finite, check_parallel},
};

/// Mean absolute error `mean(|p - y|)`, in the target's unit. 0 is perfect; an error counts in
/// proportion to its size.
///
/// # Errors
/// Empty or unequal slices; a value, or a difference, that is not finite.
pub fn mae(predictions: &[f64], truth: &[f64]) -> Result<f64, Error> {
    let errors = errors("MAE", predictions, truth)?;
    let rows = errors.len() as f64;
    Ok(errors.iter().map(|error| error.abs() / rows).sum())
}

/// Root of the mean squared error `sqrt(mean((p - y)^2))`, in the target's unit (divisor n). 0 is perfect; never below
/// [`mae`], and the further above it the more uneven the errors are.
///
/// # Errors
/// As [`mae`].
pub fn rmse(predictions: &[f64], truth: &[f64]) -> Result<f64, Error> {
    let errors = errors("RMSE", predictions, truth)?;
    Ok(norm(&errors) / (errors.len() as f64).sqrt())
}

/// Coefficient of determination: one less the squared error as a share of the truth's own variation about its mean,
/// `1 - sum((y - p)^2) / sum((y - mean(y))^2)` (the first of the eight that Kvalseth 1985, "Cautionary note about
/// R2", tells apart; as `sklearn.metrics.r2_score`). It is no square: 1 is perfect, 0 is what the constant mean gets,
/// and there is no lower bound. `None` if the truth does not vary, also where every prediction is right, and where it
/// varies so little that the share is no finite number.
///
/// # Errors
/// As [`mae`].
pub fn r2(predictions: &[f64], truth: &[f64]) -> Result<Option<f64>, Error> {
    let errors = errors("R2", predictions, truth)?;
    let rows = truth.len() as f64;
    let centre: f64 = truth.iter().map(|y| y / rows).sum();
    let deviations: Vec<f64> = truth.iter().map(|y| y - centre).collect();
    let share = (norm(&errors) / norm(&deviations)).powi(2);
    let varies = truth.iter().any(|y| *y != truth[0]);
    Ok((varies && share.is_finite()).then_some(1.0 - share))
}

/// Root of the sum of squares, scaled by the largest so that no square overflows.
fn norm(values: &[f64]) -> f64 {
    let scale = values.iter().fold(0.0, |largest: f64, v| largest.max(v.abs()));
    if scale == 0.0 {
        return 0.0;
    }
    values.iter().map(|v| (v / scale).powi(2)).sum::<f64>().sqrt() * scale
}

fn errors(what: &'static str, predictions: &[f64], truth: &[f64]) -> Result<Vec<f64>, Error> {
    check_parallel(what, predictions.len(), truth.len())?;
    check_finite(what, predictions)?;
    check_finite(what, truth)?;
    let errors: Vec<f64> = predictions.iter().zip(truth).map(|(p, y)| p - y).collect();
    check_finite(what, &errors)?;
    Ok(errors)
}
