use super::{PROBABILITY_FLOOR, mean};
use crate::{Error, error::check_parallel};

/// Mean log loss in nats: `-mean(y ln p + (1 - y) ln(1 - p))` (the logarithmic score of Good 1952, "Rational
/// decisions"; the cross-entropy), `p` being the probability of the positive class, kept
/// [`PROBABILITY_FLOOR`] away from 0 and 1. `sklearn.metrics.log_loss` keeps it away by the precision of the number's
/// type instead, and so lets one confident mistake cost 36.0 nats. 0 is perfect, ln 2 is what a constant one half
/// gets, and one class alone will do.
///
/// # Errors
/// Empty or unequal slices; a probability outside 0 to 1.
pub fn log_loss(probabilities: &[f64], truth: &[bool]) -> Result<f64, Error> {
    log_loss_rows(probabilities, truth).map(|rows| mean(&rows))
}

/// The log loss of every row, in nats. Their mean is [`log_loss`].
///
/// # Errors
/// As [`log_loss`].
pub fn log_loss_rows(probabilities: &[f64], truth: &[bool]) -> Result<Vec<f64>, Error> {
    check("log loss", probabilities, truth)?;
    let loss = |(&p, &y): (&f64, &bool)| {
        let of_truth = if y { p } else { 1.0 - p };
        -of_truth.clamp(PROBABILITY_FLOOR, 1.0 - PROBABILITY_FLOOR).ln()
    };
    Ok(probabilities.iter().zip(truth).map(loss).collect())
}

/// Area under the ROC curve: the chance that a positive row scores above a negative one, ties counting one half.
/// Computed from the rank sum (Mann and Whitney 1947) with midranks, so tied scores need no order; as
/// `sklearn.metrics.roc_auc_score`. `None` if one of the classes is absent. Any finite score serves, not only a
/// probability.
///
/// # Errors
/// Empty or unequal slices; a score that is not finite.
pub fn auc(scores: &[f64], truth: &[bool]) -> Result<Option<f64>, Error> {
    check_parallel("AUC", scores.len(), truth.len())?;
    crate::error::check_finite("AUC", scores)?;
    let positives = truth.iter().filter(|&&y| y).count() as f64;
    let negatives = truth.len() as f64 - positives;
    if positives == 0.0 || negatives == 0.0 {
        return Ok(None);
    }
    let rank_sum = positive_midrank_sum(scores, truth);
    Ok(Some((rank_sum - positives * (positives + 1.0) / 2.0) / (positives * negatives)))
}

fn positive_midrank_sum(scores: &[f64], truth: &[bool]) -> f64 {
    let mut rows: Vec<(f64, bool)> = scores.iter().copied().zip(truth.iter().copied()).collect();
    rows.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let mut before = 0;
    let mut sum = 0.0;
    // `==` groups 0.0 with -0.0, which total_cmp has placed side by side.
    for tie in rows.chunk_by(|a, b| a.0 == b.0) {
        let midrank = before as f64 + (tie.len() as f64 + 1.0) / 2.0;
        sum += midrank * tie.iter().filter(|row| row.1).count() as f64;
        before += tie.len();
    }
    sum
}

/// Share of rows whose class was told right, the positive class being told from a probability of one half on.
///
/// # Errors
/// As [`log_loss`].
pub fn accuracy(probabilities: &[f64], truth: &[bool]) -> Result<f64, Error> {
    check("accuracy", probabilities, truth)?;
    let right = probabilities.iter().zip(truth).filter(|(p, y)| (**p >= 0.5) == **y).count();
    Ok(right as f64 / truth.len() as f64)
}

/// Brier score, `mean((p - y)^2)`: 0 is perfect, 0.25 is what a constant one half gets (Brier 1950, in the
/// one-class form that is half of the original).
///
/// # Errors
/// As [`log_loss`].
pub fn brier(probabilities: &[f64], truth: &[bool]) -> Result<f64, Error> {
    check("Brier score", probabilities, truth)?;
    let sum: f64 = probabilities.iter().zip(truth).map(|(&p, &y)| (p - f64::from(u8::from(y))).powi(2)).sum();
    Ok(sum / truth.len() as f64)
}

fn check(what: &'static str, probabilities: &[f64], truth: &[bool]) -> Result<(), Error> {
    check_parallel(what, probabilities.len(), truth.len())?;
    match probabilities.iter().position(|p| !(0.0..=1.0).contains(p)) {
        Some(row) => Err(Error::Value { what, row, value: probabilities[row], expected: "a probability, 0 to 1" }),
        None => Ok(()),
    }
}
