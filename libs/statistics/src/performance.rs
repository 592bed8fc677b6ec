//! Estimated performance: the metrics of a window as expected from its predictions alone, before any outcome is known.
//!
//! A row has a [`Prior`]: the expected value of a metric, given its score, if the model is calibrated. For a probability of 0.8 the expected
//! accuracy is 0.8. The validation rows are counted in bins by the score of their prediction: the probability of the positive class or of the predicted
//! class, or the predicted number. Each bin has the mean difference between every metric and its prior. The estimate for a window is the mean
//! prior of its rows plus the mean difference over the bins, with the shares of the window. For classes this is confidence-based performance
//! estimation with probabilities that are recalibrated by bins (histogram binning, Zadrozny and Elkan 2001, "Obtaining calibrated probability
//! estimates from decision trees and naive Bayesian classifiers"); for numbers, whose prior is 0, it is a direct estimate of the loss. In
//! survey sampling it is the post-stratified difference estimator.
//!
//! It is valid as long as the outcomes of rows with the same score are distributed as in the validation rows: the inputs may drift, and the
//! relation between inputs and outcomes may not. No test without outcomes can detect a change of that relation. A caller compares earlier
//! estimates with the metrics that were measured later, and withdraws the estimate when [`too_many_misses`] of them were outside of their
//! interval.
//!
//! The interval has the variation of the metric between [`BATCHES`] consecutive batches of the validation rows, each weighted by the shares
//! of the window and compared with its estimate from the other batches, with the correlation of neighbouring batches, and the variation of
//! the rows within them.

mod curve;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use self::curve::{Curve, Rows, batch};
use crate::{
    Error,
    error::{check_finite, check_parallel, check_rows},
    paired::BATCHES,
    profile::MAX_ROWS,
};

/// Bins of scores, at most.
pub const SCORE_BINS: usize = 20;
/// The fewest rows of a bin, but for ties.
const ROWS_PER_BIN: usize = 20;
/// The fewest validation rows: five in a batch.
pub const LEAST_ROWS: usize = 5 * BATCHES;
/// The confidence of the interval.
pub const CONFIDENCE: f64 = 0.95;
/// Measured windows that the record of an estimate consists of, at most.
pub const RECORD: usize = 8;

/// How the metric of rows follows from their values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MetricKind {
    /// The mean: of losses, or of 1 for a right and 0 for a wrong class.
    Mean,
    /// The square root of the mean, of squared errors.
    RootMean,
    /// The area under the ROC curve; the value is 1 for a positive row and 0 for a negative one.
    Auc,
}

/// The expected value of a row, given its score, before it is corrected by the validation rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prior {
    /// 0.
    Zero,
    /// The score, a probability: that a row is positive, or that the predicted class is right.
    Score,
    /// The greater one of the probability and its complement: that the more probable one of two classes is right.
    Confidence,
    /// The entropy of the probability, in nats: the log loss.
    Entropy,
    /// The variance of a label with the probability: the Brier score.
    Variance,
}

impl Prior {
    const ALL: [Self; 5] = [Self::Zero, Self::Score, Self::Confidence, Self::Entropy, Self::Variance];

    /// The prior of a score.
    fn of(self, score: f64) -> f64 {
        let probability = score.clamp(0.0, 1.0);
        let complement = 1.0 - probability;
        let part = |share: f64| if share > 0.0 { -share * share.ln() } else { 0.0 };
        match self {
            Self::Zero => 0.0,
            Self::Score => probability,
            Self::Confidence => probability.max(complement),
            Self::Entropy => part(probability) + part(complement),
            Self::Variance => probability * complement,
        }
    }
}

/// The values of one metric, row by row.
#[derive(Debug, Clone, PartialEq)]
pub struct RowValues {
    /// The name of the metric.
    pub name: &'static str,
    /// How the metric follows from them.
    pub kind: MetricKind,
    /// The expected value of a row, given its score.
    pub prior: Prior,
    /// One finite number per row, at least 0.
    pub values: Vec<f64>,
}

/// The metrics of the validation rows by the score of their prediction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Expected {
    /// The smallest and the greatest score.
    range: (f64, f64),
    /// The least score of each bin but the first, ascending.
    edges: Vec<f64>,
    /// Rows of each bin, per batch.
    rows: Rows,
    /// By name.
    metrics: BTreeMap<String, Curve>,
}

/// The rows of a window, by score.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoreCounts {
    bins: Vec<u64>,
    /// The mean of each prior, in the order of [`Prior::ALL`], in each bin; 0 without rows.
    priors: [Vec<f64>; Prior::ALL.len()],
    outside: u64,
}

impl ScoreCounts {
    /// The rows with a finite score.
    pub fn rows(&self) -> u64 {
        self.bins.iter().sum()
    }

    /// The share of the rows whose score is below or above those of all validation rows, in [0, 1]; 0 without rows.
    pub fn outside_share(&self) -> f64 {
        self.outside as f64 / (self.rows() as f64).max(1.0)
    }
}

/// An estimated metric and its confidence interval at [`CONFIDENCE`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimated {
    /// The metric.
    pub value: f64,
    /// The lower end.
    pub lower: f64,
    /// The upper end.
    pub upper: f64,
}

impl Expected {
    /// The metrics of validation rows, in order of time, by their scores; `None` of fewer than [`LEAST_ROWS`] rows. The AUC is omitted if
    /// all rows are of one class.
    ///
    /// # Errors
    /// Not one value per row; a number that is not finite.
    pub fn of(scores: &[f64], metrics: &[RowValues]) -> Result<Option<Self>, Error> {
        const WHAT: &str = "estimated performance";
        check_finite(WHAT, scores)?;
        for metric in metrics {
            check_parallel(WHAT, scores.len(), metric.values.len())?;
            check_finite(WHAT, &metric.values)?;
        }
        if check_rows(WHAT, LEAST_ROWS, scores.len()).is_err() {
            return Ok(None);
        }
        let mut sorted = scores.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let edges = edges(&sorted);
        let bins: Vec<usize> = scores.iter().map(|&score| bin(&edges, score)).collect();
        let mut rows = vec![vec![0; edges.len() + 1]; BATCHES];
        bins.iter().enumerate().for_each(|(row, &bin)| rows[batch(row, scores.len())][bin] += 1);
        let curves = metrics.iter().filter_map(|metric| {
            let curve = Curve::of(metric, scores, &bins, &rows)?;
            Some((metric.name.to_owned(), curve))
        });
        let (metrics, range) = (curves.collect(), (sorted[0], sorted[sorted.len() - 1]));
        Ok(Some(Self { range, edges, rows, metrics }))
    }

    /// Counts the rows of a window by their scores, with the same result to the last bit in any order. A score that is not finite is left out.
    pub fn count(&self, scores: impl IntoIterator<Item = f64>) -> ScoreCounts {
        let width = self.edges.len() + 1;
        let mut counts = ScoreCounts { bins: vec![0; width], priors: Prior::ALL.map(|_| vec![0.0; width]), outside: 0 };
        let mut scores: Vec<f64> = scores.into_iter().filter(|score| score.is_finite()).collect();
        scores.sort_unstable_by(f64::total_cmp);
        for score in scores {
            let bin = bin(&self.edges, score);
            counts.bins[bin] += 1;
            for (prior, means) in Prior::ALL.into_iter().zip(&mut counts.priors) {
                means[bin] += (prior.of(score) - means[bin]) / counts.bins[bin] as f64;
            }
            counts.outside += u64::from(score < self.range.0 || score > self.range.1);
        }
        counts
    }

    /// The metrics that a window is expected to have, by name; none without rows. A metric is omitted if the shares of the window leave it
    /// undefined, or if fewer than half of the batches have rows with such scores.
    pub fn estimate(&self, counts: &ScoreCounts) -> BTreeMap<String, Estimated> {
        let rows = counts.rows() as f64;
        if rows == 0.0 || counts.bins.len() != self.edges.len() + 1 {
            return BTreeMap::new();
        }
        let shares: Vec<f64> = counts.bins.iter().map(|&bin| bin as f64 / rows).collect();
        let of_metric = |(name, curve): (&String, &Curve)| {
            let of_prior = Prior::ALL.iter().position(|prior| *prior == curve.prior())?;
            let window = curve::Window { shares: &shares, priors: &counts.priors[of_prior], rows };
            Some((name.clone(), curve.estimate(&window, &self.rows)?))
        };
        self.metrics.iter().filter_map(of_metric).collect()
    }
}

/// The inner edges of bins with about the same number of rows.
fn edges(sorted: &[f64]) -> Vec<f64> {
    let rows = sorted.len();
    let bins = (rows / ROWS_PER_BIN).clamp(1, SCORE_BINS);
    let mut edges: Vec<f64> = (1..bins).map(|bin| sorted[bin * rows / bins]).filter(|&edge| edge > sorted[0]).collect();
    edges.dedup();
    edges
}

fn bin(edges: &[f64], score: f64) -> usize {
    edges.partition_point(|&edge| edge <= score)
}

/// The sum of counts that may be forged.
pub(crate) fn sum_of<'a>(counts: impl IntoIterator<Item = &'a u64>) -> u64 {
    counts.into_iter().fold(0, |sum, count| sum.saturating_add(*count))
}

/// Whether so many of the last measured windows, [`RECORD`] at most, were outside of their interval that the estimate has to be withdrawn: at
/// least two. Two or more of eight windows miss an interval of [`CONFIDENCE`] by chance with a probability of 0.057.
pub fn too_many_misses(misses: usize) -> bool {
    misses >= 2
}

/// The stored fields, which are validated on reading.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    range: (f64, f64),
    edges: Vec<f64>,
    rows: Rows,
    metrics: BTreeMap<String, Curve>,
}

impl TryFrom<Unchecked> for Expected {
    type Error = &'static str;

    fn try_from(stored: Unchecked) -> Result<Self, Self::Error> {
        let Unchecked { range, edges, rows, metrics } = stored;
        if !edges.is_sorted() || range.0 > range.1 {
            return Err("the bins of the scores are not in ascending order");
        }
        if sum_of(rows.iter().flatten()) > MAX_ROWS {
            return Err("the bins of the scores have too many rows");
        }
        let has_bins = rows.iter().all(|bins| bins.len() == edges.len() + 1);
        if rows.len() != BATCHES || !has_bins || !metrics.values().all(|curve| curve.fits(&rows)) {
            return Err("the bins of the scores do not have one number each");
        }
        Ok(Self { range, edges, rows, metrics })
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::quality;

    /// Rows of a classifier in blocks: a probability and a label each. The probabilities are between 0.2 and 0.8, the higher the less `power`,
    /// and the labels follow them but for a deviation of the block and `shift`.
    fn blocks(random: &mut ChaCha8Rng, blocks: usize, power: f64, deviation: f64, shift: f64) -> (Vec<f64>, Vec<bool>) {
        let (mut scores, mut labels) = (Vec::new(), Vec::new());
        for _ in 0..blocks {
            let of_block = shift + deviation * (random.random::<f64>() - 0.5);
            for _ in 0..100 {
                let score = 0.2 + 0.6 * random.random::<f64>().powf(power);
                scores.push(score);
                labels.push(random.random::<f64>() < score + of_block);
            }
        }
        (scores, labels)
    }

    fn metrics(scores: &[f64], labels: &[bool]) -> Vec<RowValues> {
        let right = scores.iter().zip(labels).map(|(score, label)| f64::from((*score >= 0.5) == *label));
        let positive = labels.iter().map(|label| f64::from(*label));
        let losses = quality::log_loss_rows(scores, labels).expect("valid rows");
        vec![
            RowValues { name: "log_loss", kind: MetricKind::Mean, prior: Prior::Entropy, values: losses },
            RowValues { name: "accuracy", kind: MetricKind::Mean, prior: Prior::Confidence, values: right.collect() },
            RowValues { name: "auc", kind: MetricKind::Auc, prior: Prior::Score, values: positive.collect() },
        ]
    }

    fn expected(scores: &[f64], labels: &[bool]) -> Expected {
        Expected::of(scores, &metrics(scores, labels)).expect("valid rows").expect("enough rows")
    }

    fn measured(scores: &[f64], labels: &[bool]) -> BTreeMap<String, f64> {
        let named = [
            ("log_loss", quality::log_loss(scores, labels)),
            ("accuracy", quality::accuracy(scores, labels)),
            ("auc", quality::auc(scores, labels).map(|auc| auc.expect("both classes"))),
        ];
        named.into_iter().map(|(name, value)| (name.to_owned(), value.expect("valid rows"))).collect()
    }

    /// The share of 300 windows of ten blocks whose metric is within its interval, by name.
    fn coverage(deviation: f64, shift: f64) -> BTreeMap<String, f64> {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let mut within: BTreeMap<String, f64> = BTreeMap::new();
        let windows = 300;
        for _ in 0..windows {
            let (scores, labels) = blocks(&mut random, 60, 1.0, deviation, 0.0);
            let expected = expected(&scores, &labels);
            // The scores of the window are others: the estimate follows them.
            let (scores, labels) = blocks(&mut random, 10, 0.4, deviation, shift);
            let estimates = expected.estimate(&expected.count(scores.iter().copied()));
            for (name, metric) in measured(&scores, &labels) {
                let Estimated { lower, upper, .. } = estimates[&name];
                *within.entry(name).or_default() += f64::from(lower <= metric && metric <= upper) / f64::from(windows);
            }
        }
        within
    }

    #[test]
    fn intervals_cover_the_metrics_of_shifted_scores_with_and_without_deviations_of_blocks() {
        for deviation in [0.0, 0.3] {
            for (name, covered) in coverage(deviation, 0.0) {
                // Binomial 99.9 % bound of 300 windows at 0.95: 0.905.
                assert!(covered > 0.905, "{name} with deviations of {deviation}: {covered}");
            }
        }
    }

    #[test]
    fn a_change_of_the_outcomes_is_outside_of_the_interval() {
        let found = coverage(0.05, -0.3);
        assert!(found["log_loss"] < 0.1 && found["accuracy"] < 0.1, "{found:?}");
    }

    #[test]
    fn the_metric_of_the_validation_rows_is_their_own_estimate() {
        let mut random = ChaCha8Rng::seed_from_u64(2);
        let (scores, labels) = blocks(&mut random, 40, 1.0, 0.1, 0.0);
        let expected = expected(&scores, &labels);
        let estimates = expected.estimate(&expected.count(scores.iter().copied()));
        for (name, metric) in measured(&scores, &labels) {
            assert!((estimates[&name].value - metric).abs() < 1e-9, "{name}: {metric}, {:?}", estimates[&name]);
        }
    }

    #[test]
    fn errors_of_numbers_follow_the_predictions_of_the_window() {
        // The error grows with the prediction.
        let predictions: Vec<f64> = (0..2_000).map(|row| f64::from(row * 7919 % 2_000)).collect();
        let errors = |power: i32| predictions.iter().map(|value| (value / 10.0).powi(power)).collect::<Vec<f64>>();
        let metrics = [
            RowValues { name: "mae", kind: MetricKind::Mean, prior: Prior::Zero, values: errors(1) },
            RowValues { name: "rmse", kind: MetricKind::RootMean, prior: Prior::Zero, values: errors(2) },
        ];
        let expected = Expected::of(&predictions, &metrics).expect("valid rows").expect("enough rows");
        let of_window = expected.estimate(&expected.count((0..500).map(|row| 1_000.0 + f64::from(row))));
        let (mae, rmse) = (of_window["mae"], of_window["rmse"]);
        assert!((mae.value - 125.0).abs() < 5.0 && (rmse.value - 126.0).abs() < 5.0, "{mae:?} {rmse:?}");
        assert!(mae.lower < mae.value && mae.value < mae.upper && rmse.lower < rmse.value && rmse.value < rmse.upper);
        let beyond = expected.count([-1.0, 5.0, 2_500.0, f64::NAN]);
        assert_eq!((beyond.rows(), beyond.outside_share()), (3, 2.0 / 3.0));
    }

    #[test]
    fn the_interval_of_a_smaller_window_is_wider_and_slow_changes_widen_it() {
        let rows = 4_000;
        let scores: Vec<f64> = (0..rows).map(|row| f64::from(row * 7919 % rows)).collect();
        let of = |error: &dyn Fn(i32) -> f64| {
            let values = (0..rows).map(error).collect();
            let metrics = [RowValues { name: "mae", kind: MetricKind::Mean, prior: Prior::Zero, values }];
            Expected::of(&scores, &metrics).expect("valid rows").expect("enough rows")
        };
        let width = |expected: &Expected, rows: usize| {
            let estimated = expected.estimate(&expected.count(scores.iter().copied().take(rows)))["mae"];
            estimated.upper - estimated.lower
        };
        let noise = |row: i32| f64::from(row * 6_007 % 97) / 97.0;
        let (level, slow) = (of(&noise), of(&|row| noise(row) + f64::from(row / 1_000)));
        assert!(width(&level, 100) > 2.0 * width(&level, 2_000), "{} {}", width(&level, 100), width(&level, 2_000));
        assert!(width(&slow, 2_000) > 5.0 * width(&level, 2_000), "{} {}", width(&slow, 2_000), width(&level, 2_000));
    }

    #[test]
    fn few_rows_and_windows_without_rows_have_no_estimate() {
        let metric =
            |rows| vec![RowValues { name: "mae", kind: MetricKind::Mean, prior: Prior::Zero, values: vec![1.0; rows] }];
        assert_eq!(Expected::of(&[0.5; 99], &metric(99)), Ok(None));
        let constant = Expected::of(&[0.5; 100], &metric(100)).expect("valid rows").expect("enough rows");
        assert!(constant.estimate(&constant.count([])).is_empty());
        let one = constant.estimate(&constant.count([0.5]))["mae"];
        assert_eq!((one.value, one.lower, one.upper), (1.0, 1.0, 1.0));
        assert!(Expected::of(&[0.5; 100], &metric(99)).is_err());
        assert!(Expected::of(&[f64::NAN; 100], &metric(100)).is_err());
        // Rows of one class have no AUC.
        let auc = [RowValues { name: "auc", kind: MetricKind::Auc, prior: Prior::Zero, values: vec![1.0; 100] }];
        let of_one_class = Expected::of(&[0.5; 100], &auc).expect("valid rows").expect("enough rows");
        assert!(of_one_class.estimate(&of_one_class.count([0.5])).is_empty());
    }

    #[test]
    fn it_survives_and_bins_out_of_order_are_refused() {
        let mut random = ChaCha8Rng::seed_from_u64(3);
        let (scores, labels) = blocks(&mut random, 20, 1.0, 0.1, 0.0);
        let expected = expected(&scores, &labels);
        let json = serde_json::to_value(&expected).expect("json");
        assert_eq!(serde_json::from_value::<Expected>(json.clone()).expect("it reads"), expected);
        let rows = vec![vec![u64::MAX / 2; expected.edges.len() + 1]; BATCHES];
        for (field, value) in [
            ("edges", serde_json::json!([0.5, 0.4])),
            ("rows", serde_json::json!([[1]])),
            ("rows", serde_json::json!(rows)),
        ] {
            let mut wrong = json.clone();
            wrong[field] = value;
            assert!(serde_json::from_value::<Expected>(wrong).is_err(), "{field}");
        }
    }

    #[test]
    fn priors_are_those_of_a_calibrated_model() {
        let of = |prior: Prior| [0.0, 0.5, 0.8, 1.0].map(|score| prior.of(score));
        assert_eq!(of(Prior::Zero), [0.0; 4]);
        assert_eq!(of(Prior::Score), [0.0, 0.5, 0.8, 1.0]);
        assert_eq!(of(Prior::Confidence), [1.0, 0.5, 0.8, 1.0]);
        let expected = [0.0, 2_f64.ln(), -0.8 * 0.8_f64.ln() - 0.2 * 0.2_f64.ln(), 0.0];
        assert!(of(Prior::Entropy).iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-12));
        assert!((Prior::Variance.of(0.8) - 0.16).abs() < 1e-12);
        assert_eq!(Prior::Score.of(250.0), 1.0);
    }

    #[test]
    fn scores_within_one_bin_make_a_difference() {
        // Five bins, of 20 rows each.
        let scores: Vec<f64> = (0..100).map(|row| 0.5 + f64::from(row * 7919 % 100) / 250.0).collect();
        let labels: Vec<bool> = (0..100).map(|row| row * 7 % 10 < 7).collect();
        let expected = Expected::of(&scores, &metrics(&scores, &labels)).expect("valid rows").expect("enough rows");
        // Labels that are better than the probabilities say do not lead beyond the range of a metric.
        let right = Expected::of(&scores, &metrics(&scores, &[true; 100])).expect("valid rows").expect("enough rows");
        let sure = right.estimate(&right.count([1.0; 50]))["accuracy"];
        assert!(sure.value <= 1.0 && sure.upper <= 1.0 && sure.lower <= sure.value, "{sure:?}");
        let accuracy = |score| expected.estimate(&expected.count([score]))["accuracy"].value;
        assert!((accuracy(0.57) - accuracy(0.51) - 0.06).abs() < 1e-9, "{} {}", accuracy(0.57), accuracy(0.51));
    }

    #[test]
    fn the_order_of_the_rows_does_not_change_a_bit() {
        let mut random = ChaCha8Rng::seed_from_u64(4);
        let (mut scores, labels) = blocks(&mut random, 20, 1.0, 0.1, 0.0);
        let expected = expected(&scores, &labels);
        let before = expected.estimate(&expected.count(scores.iter().copied()));
        scores.reverse();
        assert_eq!(expected.estimate(&expected.count(scores)), before);
    }

    #[test]
    fn two_misses_withdraw_an_estimate() {
        assert_eq!([0, 1, 2, 8].map(too_many_misses), [false, false, true, true]);
    }
}
