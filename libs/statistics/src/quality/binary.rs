use super::{PROBABILITY_FLOOR, mean};
use crate::{Error, error::check_parallel};

/// Mean log loss in nats: `-mean(y ln p + (1 - y) ln(1 - p))` (the logarithmic score of Good 1952, "Rational
/// decisions"; the cross-entropy), where `p` is the probability of the positive class, clipped at [`PROBABILITY_FLOOR`].
/// `sklearn.metrics.log_loss` clips at the precision of the float type instead, so that one confident mistake costs up to 36.0
/// nats. 0 is perfect, a constant 0.5 has ln 2, and labels of one class are sufficient.
///
/// # Errors
/// Empty or unequal slices; a probability outside 0 to 1.
pub fn log_loss(probabilities: &[f64], labels: &[bool]) -> Result<f64, Error> {
    log_loss_rows(probabilities, labels).map(|rows| mean(&rows))
}

/// The log loss of every row, in nats. Their mean is [`log_loss`].
///
/// # Errors
/// As [`log_loss`].
pub fn log_loss_rows(probabilities: &[f64], labels: &[bool]) -> Result<Vec<f64>, Error> {
    check("log loss", probabilities, labels)?;
    let loss = |(&p, &y): (&f64, &bool)| {
        let of_labels = if y { p } else { 1.0 - p };
        -of_labels.clamp(PROBABILITY_FLOOR, 1.0 - PROBABILITY_FLOOR).ln()
    };
    Ok(probabilities.iter().zip(labels).map(loss).collect())
}

/// Area under the ROC curve: the probability that a positive row scores above a negative one, ties counting one half.
/// Computed from the rank sum (Mann and Whitney 1947) with midranks, so tied scores need no order; as
/// `sklearn.metrics.roc_auc_score`. `None` if one of the classes is absent. A score need not be a
/// probability, but must be finite.
///
/// # Errors
/// Empty or unequal slices; a score that is not finite.
pub fn auc(scores: &[f64], labels: &[bool]) -> Result<Option<f64>, Error> {
    check_parallel("AUC", scores.len(), labels.len())?;
    crate::error::check_finite("AUC", scores)?;
    let positives = labels.iter().filter(|&&y| y).count() as f64;
    let negatives = labels.len() as f64 - positives;
    if positives == 0.0 || negatives == 0.0 {
        return Ok(None);
    }
    let rank_sum = positive_midrank_sum(scores, labels);
    Ok(Some((rank_sum - positives * (positives + 1.0) / 2.0) / (positives * negatives)))
}

fn positive_midrank_sum(scores: &[f64], labels: &[bool]) -> f64 {
    let mut rows: Vec<(f64, bool)> = scores.iter().copied().zip(labels.iter().copied()).collect();
    rows.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let mut before = 0;
    let mut sum = 0.0;
    // `==` groups 0.0 with -0.0, which total_cmp orders next to each other.
    for tie in rows.chunk_by(|a, b| a.0 == b.0) {
        let midrank = before as f64 + (tie.len() as f64 + 1.0) / 2.0;
        sum += midrank * tie.iter().filter(|row| row.1).count() as f64;
        before += tie.len();
    }
    sum
}

/// Share of rows with the correct class, which is positive from a probability of 0.5 on.
///
/// # Errors
/// As [`log_loss`].
pub fn accuracy(probabilities: &[f64], labels: &[bool]) -> Result<f64, Error> {
    check("accuracy", probabilities, labels)?;
    let right = probabilities.iter().zip(labels).filter(|(p, y)| (**p >= 0.5) == **y).count();
    Ok(right as f64 / labels.len() as f64)
}

/// Brier score, `mean((p - y)^2)`: 0 is perfect, a constant 0.5 has 0.25 (Brier 1950, in the
/// one-class form that is half of the original).
///
/// # Errors
/// As [`log_loss`].
pub fn brier(probabilities: &[f64], labels: &[bool]) -> Result<f64, Error> {
    check("Brier score", probabilities, labels)?;
    let sum: f64 = probabilities.iter().zip(labels).map(|(&p, &y)| (p - f64::from(u8::from(y))).powi(2)).sum();
    Ok(sum / labels.len() as f64)
}

fn check(what: &'static str, probabilities: &[f64], labels: &[bool]) -> Result<(), Error> {
    check_parallel(what, probabilities.len(), labels.len())?;
    match probabilities.iter().position(|p| !(0.0..=1.0).contains(p)) {
        Some(row) => Err(Error::Value { what, row, value: probabilities[row], expected: "a probability, 0 to 1" }),
        None => Ok(()),
    }
}
