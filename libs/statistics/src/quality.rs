//! Prediction quality, given the labels.
//!
//! Every function takes one prediction and one label per row, in parallel slices. Losses are in nats (natural logarithm) or in the
//! unit of the target. Empty input is an [`Error`](crate::Error); a value that is undefined for the given rows (AUC with one class, R2
//! of constant labels) is `None`.

mod binary;
mod classes;
mod interval;
mod multiclass;
mod regression;

pub use binary::{accuracy, auc, brier, log_loss, log_loss_rows};
pub use classes::{ClassScores, calibration_error, per_class};
pub use interval::jackknife;
pub use multiclass::{most_probable, multiclass_accuracy, multiclass_log_loss, multiclass_log_loss_rows};
pub use regression::{bias, mae, r2, rmse};

/// Probabilities are clipped at this distance from 0 and 1 before the logarithm, so that one confident mistake costs at most 34.5 nats
/// and never infinity.
pub const PROBABILITY_FLOOR: f64 = 1e-15;

/// The arithmetic mean of a non-empty slice.
fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}
