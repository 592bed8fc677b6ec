use super::{PROBABILITY_FLOOR, mean};
use crate::{Error, error::check_parallel};

/// Mean log loss in nats over `classes` classes: `-mean(ln p[labels])` (the logarithmic score of Good 1952, "Rational
/// decisions"; the cross-entropy).
///
/// `probabilities` is row-major with `classes` per row; `labels` has the class index of each row. Probabilities are clipped at
/// [`PROBABILITY_FLOOR`]; rows are not normalised.
///
/// # Errors
/// No rows; `probabilities` not `classes` times as long as `labels`; a probability outside 0 to 1; a row whose
/// sum differs from 1 by more than 1e-6 and 2e-7 for each class, which tolerates single-precision probabilities clipped at 1e-7; a class
/// index out of range.
pub fn multiclass_log_loss(probabilities: &[f64], classes: usize, labels: &[usize]) -> Result<f64, Error> {
    multiclass_log_loss_rows(probabilities, classes, labels).map(|rows| mean(&rows))
}

/// The log loss of every row, in nats. Their mean is [`multiclass_log_loss`].
///
/// # Errors
/// As [`multiclass_log_loss`].
pub fn multiclass_log_loss_rows(probabilities: &[f64], classes: usize, labels: &[usize]) -> Result<Vec<f64>, Error> {
    check("log loss", probabilities, classes, labels)?;
    let loss = |(row, &class): (&[f64], &usize)| -row[class].clamp(PROBABILITY_FLOOR, 1.0 - PROBABILITY_FLOOR).ln();
    Ok(probabilities.chunks_exact(classes).zip(labels).map(loss).collect())
}

/// Share of rows whose most probable class is the label; of equal probabilities the first counts.
///
/// # Errors
/// As [`multiclass_log_loss`].
pub fn multiclass_accuracy(probabilities: &[f64], classes: usize, labels: &[usize]) -> Result<f64, Error> {
    check("accuracy", probabilities, classes, labels)?;
    let right = probabilities.chunks_exact(classes).zip(labels).filter(|(row, class)| most_probable(row) == **class);
    Ok(right.count() as f64 / labels.len() as f64)
}

/// The most probable class of a row; of equal probabilities the first.
pub fn most_probable(row: &[f64]) -> usize {
    row.iter().enumerate().fold(0, |best, (class, &p)| if p > row[best] { class } else { best })
}

/// Tolerance of the sum of a row: a constant, and a part for each class.
const ROW_ROOM: f64 = 1e-6;
const CLASS_ROOM: f64 = 2e-7;

fn check(what: &'static str, probabilities: &[f64], classes: usize, labels: &[usize]) -> Result<(), Error> {
    check_parallel(what, probabilities.len(), labels.len().saturating_mul(classes))?;
    if let Some(at) = probabilities.iter().position(|p| !(0.0..=1.0).contains(p)) {
        let (row, value) = (at / classes, probabilities[at]);
        return Err(Error::Value { what, row, value, expected: "a probability, 0 to 1" });
    }
    let sum = |row: &[f64]| row.iter().sum::<f64>();
    let room = ROW_ROOM + CLASS_ROOM * classes as f64;
    let is_off = |row: &[f64]| (sum(row) - 1.0).abs() > room;
    if let Some((row, probabilities)) =
        probabilities.chunks_exact(classes.max(1)).enumerate().find(|(_, row)| is_off(row))
    {
        let (value, expected) = (sum(probabilities), "probabilities that add up to 1");
        return Err(Error::Value { what, row, value, expected });
    }
    match labels.iter().position(|&class| class >= classes) {
        Some(row) => Err(Error::Value { what, row, value: labels[row] as f64, expected: "the index of a class" }),
        None => Ok(()),
    }
}
