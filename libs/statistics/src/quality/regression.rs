use crate::{
    Error,
    error::{check_finite, check_parallel},
};

/// Mean absolute error `mean(|p - y|)`, in the unit of the target. 0 is perfect.
///
/// # Errors
/// Empty or unequal slices; a value, or a difference, that is not finite.
pub fn mae(predictions: &[f64], labels: &[f64]) -> Result<f64, Error> {
    let errors = errors("MAE", predictions, labels)?;
    let rows = errors.len() as f64;
    Ok(errors.iter().map(|error| error.abs() / rows).sum())
}

/// Mean error `mean(p - y)`, in the unit of the target: positive if the predictions are too large. 0 is perfect.
///
/// # Errors
/// As [`mae`].
pub fn bias(predictions: &[f64], labels: &[f64]) -> Result<f64, Error> {
    let errors = errors("bias", predictions, labels)?;
    let rows = errors.len() as f64;
    Ok(errors.iter().map(|error| error / rows).sum())
}

/// Root of the mean squared error `sqrt(mean((p - y)^2))`, in the unit of the target (divisor n). 0 is perfect; at least
/// [`mae`], and larger the more the errors vary.
///
/// # Errors
/// As [`mae`].
pub fn rmse(predictions: &[f64], labels: &[f64]) -> Result<f64, Error> {
    let errors = errors("RMSE", predictions, labels)?;
    Ok(norm(&errors) / (errors.len() as f64).sqrt())
}

/// Coefficient of determination, one minus the squared error over the variation of the labels about their mean:
/// `1 - sum((y - p)^2) / sum((y - mean(y))^2)` (the first of eight definitions in Kvalseth 1985, "Cautionary note about R2"; as
/// `sklearn.metrics.r2_score`). 1 is perfect, the constant mean has 0, and there is no lower bound. `None` if the labels do not vary,
/// even if every prediction is correct, and if they vary so little that the ratio is not finite.
///
/// # Errors
/// As [`mae`].
pub fn r2(predictions: &[f64], labels: &[f64]) -> Result<Option<f64>, Error> {
    let errors = errors("R2", predictions, labels)?;
    let rows = labels.len() as f64;
    let centre: f64 = labels.iter().map(|y| y / rows).sum();
    let deviations: Vec<f64> = labels.iter().map(|y| y - centre).collect();
    let share = (norm(&errors) / norm(&deviations)).powi(2);
    let varies = labels.iter().any(|y| *y != labels[0]);
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

fn errors(what: &'static str, predictions: &[f64], labels: &[f64]) -> Result<Vec<f64>, Error> {
    check_parallel(what, predictions.len(), labels.len())?;
    check_finite(what, predictions)?;
    check_finite(what, labels)?;
    let errors: Vec<f64> = predictions.iter().zip(labels).map(|(p, y)| p - y).collect();
    check_finite(what, &errors)?;
    Ok(errors)
}
