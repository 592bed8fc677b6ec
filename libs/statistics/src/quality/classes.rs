//! Scores of each class, and the calibration of probabilities.

use crate::{Error, error::check_parallel};

/// How well one class is recognised. A score is `None` where it is undefined.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClassScores {
    /// Share of the rows predicted as this class that are of it; `None` if none is predicted as it.
    pub precision: Option<f64>,
    /// Share of the rows of this class that are predicted as it; `None` without rows of it.
    pub recall: Option<f64>,
    /// The harmonic mean of the two, `2 TP / (2 TP + FP + FN)`; `None` if the class is neither predicted nor present.
    pub f1: Option<f64>,
}

/// Precision, recall and F1 of each of `classes` classes (van Rijsbergen 1979), as `sklearn.metrics.precision_recall_fscore_support` without
/// a value for what is undefined.
///
/// # Errors
/// No rows; unequal slices; a class index out of range.
pub fn per_class(predicted: &[usize], labels: &[usize], classes: usize) -> Result<Vec<ClassScores>, Error> {
    const WHAT: &str = "scores of a class";
    check_parallel(WHAT, predicted.len(), labels.len())?;
    let mut counts = vec![(0_u64, 0_u64, 0_u64); classes];
    for (row, (&predicted, &label)) in predicted.iter().zip(labels).enumerate() {
        if let Some(&class) = [predicted, label].iter().find(|class| **class >= classes) {
            return Err(Error::Value { what: WHAT, row, value: class as f64, expected: "the index of a class" });
        }
        if predicted == label {
            counts[label].0 += 1;
        } else {
            counts[predicted].1 += 1;
            counts[label].2 += 1;
        }
    }
    let share = |part: u64, all: u64| (all > 0).then(|| part as f64 / all as f64);
    let scores = |(hits, false_positives, misses): (u64, u64, u64)| ClassScores {
        precision: share(hits, hits + false_positives),
        recall: share(hits, hits + misses),
        f1: share(2 * hits, 2 * hits + false_positives + misses),
    };
    Ok(counts.into_iter().map(scores).collect())
}

/// Bins of [`calibration_error`].
const BINS: usize = 10;

/// Expected calibration error: the mean distance of the mean probability from the share of hits, over ten bins of equal width, weighted by
/// their rows (Naeini, Cooper and Hauskrecht 2015, "Obtaining well calibrated probabilities using Bayesian binning"). 0 is perfect.
///
/// # Errors
/// No rows; unequal slices; a probability outside 0 to 1.
pub fn calibration_error(probabilities: &[f64], hits: &[bool]) -> Result<f64, Error> {
    const WHAT: &str = "calibration error";
    check_parallel(WHAT, probabilities.len(), hits.len())?;
    let mut bins = [(0.0, 0.0); BINS];
    for (row, (&probability, &hit)) in probabilities.iter().zip(hits).enumerate() {
        if !(0.0..=1.0).contains(&probability) {
            return Err(Error::Value { what: WHAT, row, value: probability, expected: "a probability, 0 to 1" });
        }
        let bin = &mut bins[((probability * BINS as f64) as usize).min(BINS - 1)];
        bin.0 += probability;
        bin.1 += f64::from(u8::from(hit));
    }
    Ok(bins.iter().map(|(probability, hits)| (probability - hits).abs()).sum::<f64>() / probabilities.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_agree_with_scikit_learn() {
        // sklearn.metrics.precision_recall_fscore_support([0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 0, 0]).
        let scores = per_class(&[0, 0, 1, 1, 0, 0], &[0, 0, 0, 1, 1, 2], 4).expect("valid");
        let third = 2.0 / 3.0;
        let expected = [
            (Some(0.5), Some(third), Some(4.0 / 7.0)),
            (Some(0.5), Some(0.5), Some(0.5)),
            (None, Some(0.0), Some(0.0)),
            (None, None, None),
        ];
        for (found, (precision, recall, f1)) in scores.iter().zip(expected) {
            assert_eq!(*found, ClassScores { precision, recall, f1 });
        }
        assert!(per_class(&[3], &[0], 3).is_err() && per_class(&[], &[], 3).is_err());
    }

    #[test]
    fn the_calibration_error_is_the_weighted_distance_of_the_bins() {
        // Two rows of 0.25 with one hit, two of 0.95 with one: (|0.5 - 1| + |1.9 - 1|) / 4.
        let error = calibration_error(&[0.25, 0.25, 0.95, 0.95], &[true, false, true, false]).expect("valid");
        assert!((error - 0.35).abs() < 1e-12, "{error}");
        assert_eq!(calibration_error(&[1.0, 0.0], &[true, false]), Ok(0.0));
        assert!(calibration_error(&[1.5], &[true]).is_err());
    }
}
