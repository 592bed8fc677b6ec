//! The metrics of each task, by name, with their confidence intervals.

use std::{collections::BTreeMap, ops::Range};

use rekindle_domain::report::{Interval, MAX_NEW_CLASSES};
use rekindle_statistics::{
    Error,
    quality::{
        ClassScores, accuracy, auc, bias, brier, calibration_error, jackknife, log_loss, mae, most_probable,
        multiclass_accuracy, multiclass_log_loss, per_class, r2, rmse,
    },
};

/// The confidence of an interval.
const CONFIDENCE: f64 = 0.95;

/// Rows up to which intervals are computed: the metrics are computed without each of twenty batches.
const INTERVAL_ROWS: usize = 100_000;

/// Metrics by name.
pub(super) type Metrics = BTreeMap<String, f64>;

/// Whether metrics have confidence intervals, which cost twenty times the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Intervals {
    Computed,
    Omitted,
}

/// The metrics of some rows.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Measured {
    pub(super) metrics: Metrics,
    /// Of the metrics that have one.
    pub(super) intervals: BTreeMap<String, Interval>,
}

impl Measured {
    /// The metrics of `rows` rows in order of time. `without` gives the metrics without a range of them.
    pub(super) fn of(
        rows: usize,
        intervals: Intervals,
        without: impl Fn(Range<usize>) -> Result<Metrics, Error>,
    ) -> Result<Self, Error> {
        let metrics = without(0..0)?;
        let intervals = match intervals == Intervals::Computed && rows <= INTERVAL_ROWS {
            // A metric that fails without a batch has no interval.
            true => jackknife(&metrics, rows, CONFIDENCE, |left_out| without(left_out).unwrap_or_default()),
            false => BTreeMap::new(),
        };
        let interval = |(name, (lower, upper))| (name, Interval { lower, upper });
        Ok(Self { metrics, intervals: intervals.into_iter().map(interval).collect() })
    }
}

/// Values without those of the rows in a range; `width` values are a row.
pub(super) fn without<T: Clone>(values: &[T], width: usize, rows: &Range<usize>) -> Vec<T> {
    [&values[..rows.start * width], &values[rows.end * width..]].concat()
}

/// Of probabilities of the positive class. Precision, recall and F1 are those of the positive class, which is predicted from 0.5 on.
pub(super) fn binary(probabilities: &[f64], positive: &[bool]) -> Result<Metrics, Error> {
    let classes = |flags: &mut dyn Iterator<Item = bool>| flags.map(usize::from).collect::<Vec<_>>();
    let predicted = classes(&mut probabilities.iter().map(|probability| *probability >= 0.5));
    let scores = per_class(&predicted, &classes(&mut positive.iter().copied()), 2)?;
    let mut metrics = Metrics::from([
        ("log_loss".to_owned(), log_loss(probabilities, positive)?),
        ("accuracy".to_owned(), accuracy(probabilities, positive)?),
        ("brier".to_owned(), brier(probabilities, positive)?),
        ("calibration_error".to_owned(), calibration_error(probabilities, positive)?),
    ]);
    metrics.extend(auc(probabilities, positive)?.map(|auc| ("auc".to_owned(), auc)));
    metrics.extend(scores.last().into_iter().flat_map(|scores| named(scores, "")));
    Ok(metrics)
}

/// Of probabilities of the classes `names`, row by row. The scores of the first twenty classes are `precision.<class>`, `recall.<class>` and
/// `f1.<class>`; `f1_macro` is the mean over the classes that are predicted or present. The calibration error is that of the most probable
/// class.
pub(super) fn multiclass(probabilities: &[f64], names: &[String], labels: &[usize]) -> Result<Metrics, Error> {
    let width = names.len();
    let predicted: Vec<usize> = probabilities.chunks_exact(width.max(1)).map(most_probable).collect();
    let confidence: Vec<f64> =
        probabilities.chunks_exact(width.max(1)).zip(&predicted).map(|(row, &class)| row[class]).collect();
    let hits: Vec<bool> = predicted.iter().zip(labels).map(|(predicted, label)| predicted == label).collect();
    let scores = per_class(&predicted, labels, width)?;
    let of_classes: Vec<f64> = scores.iter().filter_map(|scores| scores.f1).collect();
    let mut metrics = Metrics::from([
        ("log_loss".to_owned(), multiclass_log_loss(probabilities, width, labels)?),
        ("accuracy".to_owned(), multiclass_accuracy(probabilities, width, labels)?),
        ("calibration_error".to_owned(), calibration_error(&confidence, &hits)?),
    ]);
    metrics.extend(
        (!of_classes.is_empty())
            .then(|| ("f1_macro".to_owned(), of_classes.iter().sum::<f64>() / of_classes.len() as f64)),
    );
    let by_class = scores.iter().zip(names).take(MAX_NEW_CLASSES);
    metrics.extend(by_class.flat_map(|(scores, name)| named(scores, &format!(".{name}"))));
    Ok(metrics)
}

/// Of predicted numbers, in the unit of the target. Values beyond the largest float are left out.
pub(super) fn regression(predictions: &[f64], numbers: &[f64]) -> Result<Metrics, Error> {
    let metrics = [
        ("mae", Some(mae(predictions, numbers)?)),
        ("rmse", Some(rmse(predictions, numbers)?)),
        ("bias", Some(bias(predictions, numbers)?)),
        ("r2", r2(predictions, numbers)?),
    ];
    let defined = metrics.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Ok(defined.filter(|(_, value)| value.is_finite()).collect())
}

/// The defined scores of a class.
fn named(scores: &ClassScores, suffix: &str) -> Vec<(String, f64)> {
    let all = [("precision", scores.precision), ("recall", scores.recall), ("f1", scores.f1)];
    all.into_iter().filter_map(|(name, score)| Some((format!("{name}{suffix}"), score?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binary_classifier_has_the_scores_of_its_positive_class() {
        let metrics = binary(&[0.9, 0.8, 0.3, 0.6], &[true, false, true, true]).expect("valid");
        let of = |name: &str| metrics[name];
        assert!((of("precision") - 2.0 / 3.0).abs() < 1e-12 && (of("recall") - 2.0 / 3.0).abs() < 1e-12, "{metrics:?}");
        assert!((of("f1") - 2.0 / 3.0).abs() < 1e-12 && of("accuracy") == 0.5, "{metrics:?}");
        assert!(["log_loss", "brier", "calibration_error", "auc"].iter().all(|name| metrics.contains_key(*name)));
        let negative = binary(&[0.1, 0.2], &[false, false]).expect("valid");
        assert!(!negative.contains_key("precision") && !negative.contains_key("auc"), "{negative:?}");
    }

    #[test]
    fn each_class_has_its_scores_and_one_that_is_neither_predicted_nor_present_has_none() {
        let names = ["a", "b", "c"].map(str::to_owned);
        let rows = [[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.6, 0.3, 0.1]].concat();
        let metrics = multiclass(&rows, &names, &[0, 1, 1]).expect("valid");
        assert_eq!((metrics["precision.a"], metrics["recall.a"], metrics["recall.b"]), (0.5, 1.0, 0.5));
        assert!((metrics["f1_macro"] - 2.0 / 3.0).abs() < 1e-12 && !metrics.contains_key("f1.c"), "{metrics:?}");
    }

    #[test]
    fn a_metric_has_an_interval_around_it_from_forty_rows_on() {
        let numbers: Vec<f64> = (0..200).map(|row| f64::from(row % 7)).collect();
        let predictions: Vec<f64> = (0..200).map(|row| f64::from(row % 7) + f64::from(row % 3) - 0.5).collect();
        let measured = |rows: usize| {
            Measured::of(rows, Intervals::Computed, |left_out| {
                regression(&without(&predictions[..rows], 1, &left_out), &without(&numbers[..rows], 1, &left_out))
            })
            .expect("valid")
        };
        let found = measured(200);
        for name in ["mae", "rmse", "bias", "r2"] {
            let (value, Interval { lower, upper }) = (found.metrics[name], found.intervals[name]);
            assert!(lower < value && value < upper, "{name}: {lower} {value} {upper}");
        }
        let few = measured(39);
        assert!(few.intervals.is_empty() && few.metrics.len() == 4);
    }
}
