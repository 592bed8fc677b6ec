//! One metric by score, and how much it varies.

use serde::{Deserialize, Serialize};

use super::{CONFIDENCE, Estimated, MetricKind, Prior, RowValues};
use crate::{
    paired::{BATCHES, student_tail},
    quality,
};

/// The largest autocorrelation of neighbouring batches that is distinguished from 1.
const MAX_AUTOCORRELATION: f64 = 0.9;
/// The smallest share of a window that a batch has scores for, if it is compared.
const LEAST_SHARE: f64 = 0.5;
/// The fewest batches that are compared.
const LEAST_BATCHES: usize = BATCHES / 2;

/// How much the values of a metric's rows differ from their prior, by batch and bin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Curve {
    kind: MetricKind,
    prior: Prior,
    /// The sum of the differences in each bin, per batch.
    sums: Vec<Vec<f64>>,
    /// The variance of the differences of each bin.
    variances: Vec<f64>,
    /// What ties within bins take from the AUC of the validation rows.
    #[serde(default, skip_serializing_if = "is_zero")]
    offset: f64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(offset: &f64) -> bool {
    *offset == 0.0
}

/// The rows of a window.
pub(super) struct Window<'a> {
    /// The share of each bin.
    pub(super) shares: &'a [f64],
    /// The mean prior of each bin.
    pub(super) priors: &'a [f64],
    /// How many they are.
    pub(super) rows: f64,
}

/// The rows in each bin, per batch.
pub(super) type Rows = Vec<Vec<u64>>;

/// The batch of a row.
pub(super) fn batch(row: usize, rows: usize) -> usize {
    // The inverse of the start of a batch, `batch * rows / BATCHES` rounded down.
    ((row + 1) * BATCHES - 1) / rows
}

impl Curve {
    /// The curve of rows in order of time, each in one of the bins. `None` if the metric is not defined for them.
    pub(super) fn of(metric: &RowValues, scores: &[f64], bins: &[usize], rows: &Rows) -> Option<Self> {
        let RowValues { kind, prior, ref values, .. } = *metric;
        let width = rows.first()?.len();
        let differences: Vec<f64> = values.iter().zip(scores).map(|(value, &score)| value - prior.of(score)).collect();
        let mut sums = vec![vec![0.0; width]; BATCHES];
        for (row, (&bin, difference)) in bins.iter().zip(&differences).enumerate() {
            sums[batch(row, values.len())][bin] += difference;
        }
        let mut curve = Self { kind, prior, sums, variances: vec![0.0; width], offset: 0.0 };
        let (counts, means) = (total(rows), curve.means(rows, None));
        for (&bin, difference) in bins.iter().zip(&differences) {
            curve.variances[bin] += (difference - means[bin]).powi(2) / counts[bin] as f64;
        }
        if kind == MetricKind::Auc {
            let labels: Vec<bool> = values.iter().map(|&value| value > 0.0).collect();
            let all = values.len() as f64;
            let shares: Vec<f64> = counts.iter().map(|&rows| rows as f64 / all).collect();
            let mut positive = vec![0.0; width];
            for (&bin, value) in bins.iter().zip(values) {
                positive[bin] += value / counts[bin] as f64;
            }
            curve.offset = quality::auc(scores, &labels).ok().flatten()? - auc(&shares, &positive)?;
        }
        // Squares beyond the range of a double have no variance.
        curve.variances.iter().all(|variance| variance.is_finite()).then_some(curve)
    }

    pub(super) fn prior(&self) -> Prior {
        self.prior
    }

    /// Whether it has a possible number for each of these bins.
    pub(super) fn fits(&self, rows: &Rows) -> bool {
        let width = rows.first().map_or(0, Vec::len);
        let is_complete = self.sums.len() == rows.len()
            && self.variances.len() == width
            && self.sums.iter().all(|sums| sums.len() == width);
        let is_possible = |variance: &f64| *variance >= 0.0 && *variance <= f64::MAX;
        is_complete && self.variances.iter().all(is_possible) && self.sums.iter().flatten().all(|sum| sum.is_finite())
    }

    /// The metric of a window. `None` if it is not defined for its rows, or if too few batches have rows with such scores.
    pub(super) fn estimate(&self, window: &Window<'_>, rows: &Rows) -> Option<Estimated> {
        let means = self.means(rows, None);
        let point = self.point(window, &means)? + self.offset;
        let (slopes, counts) = (self.slopes(window, &means), total(rows));
        let residuals = self.residuals(window, &slopes, rows);
        if residuals.len() < LEAST_BATCHES {
            return None;
        }
        let compared = residuals.len() as f64;
        let squares: f64 = residuals.iter().map(|(residual, noise)| residual * residual - noise).sum();
        let between = (squares / (compared - 1.0)).max(0.0);
        let found: Vec<f64> = residuals.iter().map(|(residual, _)| *residual).collect();
        let autocorrelation = autocorrelation(&found);
        let all = counts.iter().sum::<u64>() as f64;
        let share = |batches: f64| share_of_variance(batches, autocorrelation);
        let bins = slopes.iter().zip(window.shares).zip(&counts).zip(&self.variances);
        let within: f64 = bins
            .filter(|(((_, share), rows), _)| **share > 0.0 && **rows > 0)
            .map(|(((slope, share), rows), variance)| {
                slope * slope * variance * (1.0 / (window.rows * share) + 1.0 / *rows as f64)
            })
            .sum();
        let variance = between * (share(window.rows * BATCHES as f64 / all) + share(compared)) + within;
        let independent = compared * (1.0 - autocorrelation) / (1.0 + autocorrelation);
        let half = student_tail((1.0 - CONFIDENCE) / 2.0, (independent - 1.0).max(1.0)) * variance.sqrt();
        let [value, lower, upper] = [point, point - half, point + half].map(|value| value.clamp(0.0, self.most()));
        let estimated = Estimated { value, lower, upper };
        Some(match self.kind {
            MetricKind::Mean | MetricKind::Auc => estimated,
            MetricKind::RootMean => Estimated { value: value.sqrt(), lower: lower.sqrt(), upper: upper.sqrt() },
        })
    }

    /// The greatest value of the metric.
    fn most(&self) -> f64 {
        match (self.kind, self.prior) {
            (MetricKind::Auc, _) | (_, Prior::Score | Prior::Confidence | Prior::Variance) => 1.0,
            (MetricKind::Mean | MetricKind::RootMean, Prior::Zero | Prior::Entropy) => f64::MAX,
        }
    }

    /// The difference between the metric of each batch and its estimate from the other batches, both with the shares of the window, and its
    /// variance if rows are independent. Bins without rows of the batch are left out.
    fn residuals(&self, window: &Window<'_>, slopes: &[f64], rows: &Rows) -> Vec<(f64, f64)> {
        let counts = total(rows);
        let of_batch = |batch: usize| {
            let others = self.means(rows, Some(batch));
            let (mut own, mut known, mut noise) = (others.clone(), 0.0, 0.0);
            for (bin, &in_batch) in rows[batch].iter().enumerate().filter(|(_, in_batch)| **in_batch > 0) {
                let (in_batch, in_others) = (in_batch as f64, (counts[bin] - in_batch) as f64);
                if in_others == 0.0 {
                    continue;
                }
                own[bin] = self.sums[batch][bin] / in_batch;
                known += window.shares[bin];
                noise += slopes[bin].powi(2) * self.variances[bin] * (1.0 / in_batch + 1.0 / in_others);
            }
            let residual = self.point(window, &own)? - self.point(window, &others)?;
            (known >= LEAST_SHARE).then(|| (residual / known, noise / (known * known)))
        };
        (0..rows.len()).filter_map(of_batch).collect()
    }

    /// The mean difference of each bin, but for the rows of one batch; that of all bins for one without rows.
    fn means(&self, rows: &Rows, without: Option<usize>) -> Vec<f64> {
        let batches = || (0..rows.len()).filter(|batch| Some(*batch) != without);
        let sums: Vec<(f64, f64)> = (0..self.variances.len())
            .map(|bin| {
                batches().fold((0.0, 0.0), |(rows_of, sum), batch| {
                    (rows_of + rows[batch][bin] as f64, sum + self.sums[batch][bin])
                })
            })
            .collect();
        let overall = sums.iter().map(|(_, sum)| sum).sum::<f64>() / sums.iter().map(|(rows, _)| rows).sum::<f64>();
        sums.into_iter().map(|(rows, sum)| if rows > 0.0 { sum / rows } else { overall }).collect()
    }

    /// The metric of a window if the bins have these mean differences; of a root mean, the mean.
    fn point(&self, window: &Window<'_>, means: &[f64]) -> Option<f64> {
        match self.kind {
            MetricKind::Mean | MetricKind::RootMean => Some(dot(window.shares, &corrected(window, means))),
            MetricKind::Auc => auc(window.shares, &shares_of_positive(window, means)),
        }
    }

    /// The derivative of [`Self::point`] by the mean difference of each bin.
    fn slopes(&self, window: &Window<'_>, means: &[f64]) -> Vec<f64> {
        match self.kind {
            MetricKind::Mean | MetricKind::RootMean => window.shares.to_vec(),
            MetricKind::Auc => slopes_of_auc(window.shares, &shares_of_positive(window, means)),
        }
    }
}

/// The rows in each bin, over all batches.
pub(super) fn total(rows: &Rows) -> Vec<u64> {
    let width = rows.first().map_or(0, Vec::len);
    (0..width).map(|bin| rows.iter().map(|batch| batch[bin]).sum()).collect()
}

/// The mean value of each bin.
fn corrected(window: &Window<'_>, means: &[f64]) -> Vec<f64> {
    window.priors.iter().zip(means).map(|(prior, mean)| prior + mean).collect()
}

/// The share of positive rows in each bin.
fn shares_of_positive(window: &Window<'_>, means: &[f64]) -> Vec<f64> {
    corrected(window, means).into_iter().map(|share| share.clamp(0.0, 1.0)).collect()
}

fn dot(shares: &[f64], means: &[f64]) -> f64 {
    shares.iter().zip(means).map(|(share, mean)| share * mean).sum()
}

/// The probability that a positive row is in a higher bin than a negative one, the same bin counting one half; `None` without one of them.
fn auc(shares: &[f64], positive: &[f64]) -> Option<f64> {
    let (mut negatives_below, mut concordant, mut positives) = (0.0, 0.0, 0.0);
    for (share, positive) in shares.iter().zip(positive) {
        let (of_positives, of_negatives) = (share * positive, share * (1.0 - positive));
        concordant += of_positives * (negatives_below + of_negatives / 2.0);
        negatives_below += of_negatives;
        positives += of_positives;
    }
    let pairs = positives * negatives_below;
    (pairs > 0.0).then(|| concordant / pairs)
}

/// The derivative of [`auc`] by the share of positive rows in each bin; 0 without one of the classes.
fn slopes_of_auc(shares: &[f64], positive: &[f64]) -> Vec<f64> {
    let Some(area) = auc(shares, positive) else { return vec![0.0; shares.len()] };
    let positives = dot(shares, positive);
    let negatives = shares.iter().sum::<f64>() - positives;
    let (mut negatives_below, mut positives_above) = (0.0, positives);
    let slope = |(share, positive): (&f64, &f64)| {
        let (of_positives, of_negatives) = (share * positive, share * (1.0 - positive));
        positives_above -= of_positives;
        let gained = negatives_below + of_negatives / 2.0 - positives_above - of_positives / 2.0;
        negatives_below += of_negatives;
        share * (gained - area * (negatives - positives)) / (positives * negatives)
    };
    shares.iter().zip(positive).map(slope).collect()
}

/// The variance of the mean of some consecutive batches over that of one batch, by an autoregression of order 1. Fewer rows than one batch
/// have the variance of one.
fn share_of_variance(batches: f64, autocorrelation: f64) -> f64 {
    if batches <= 1.0 {
        return 1.0;
    }
    // The sum of (1 - k / batches) * autocorrelation^k over all lags k.
    let rho = autocorrelation;
    let lags = rho / (1.0 - rho) - rho * (1.0 - rho.powf(batches)) / (batches * (1.0 - rho).powi(2));
    ((1.0 + 2.0 * lags) / batches).min(1.0)
}

/// The correlation of neighbouring residuals about their mean, corrected for the bias of short series (Marriott and Pope 1954, "Bias in the
/// estimation of autocorrelations"), in [0, 0.9].
fn autocorrelation(residuals: &[f64]) -> f64 {
    let count = residuals.len() as f64;
    let mean = residuals.iter().sum::<f64>() / count;
    let squares: f64 = residuals.iter().map(|one| (one - mean).powi(2)).sum();
    if squares == 0.0 {
        return 0.0;
    }
    let products: f64 = residuals.windows(2).map(|pair| (pair[0] - mean) * (pair[1] - mean)).sum();
    let found = products / squares;
    (found + (1.0 + 3.0 * found) / count).clamp(0.0, MAX_AUTOCORRELATION)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_area_of_bins_is_that_of_their_rows() {
        // Two bins: 3 of 4 rows are positive in the upper one, 1 of 4 in the lower one.
        let scores = [0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0];
        let labels = [true, false, false, false, true, true, true, false];
        let expected = quality::auc(&scores, &labels).expect("valid rows").expect("both classes");
        let found = auc(&[0.5, 0.5], &[0.25, 0.75]).expect("both classes");
        assert!((found - expected).abs() < 1e-12, "{found} {expected}");
        assert_eq!(auc(&[1.0], &[0.0]), None);
    }

    #[test]
    fn the_slopes_of_the_area_are_its_derivatives() {
        let (shares, positive) = ([0.2, 0.5, 0.3], [0.1, 0.4, 0.8]);
        let slopes = slopes_of_auc(&shares, &positive);
        for bin in 0..3 {
            let at = |step: f64| {
                let mut moved = positive;
                moved[bin] += step;
                auc(&shares, &moved).expect("both classes")
            };
            let numeric = (at(1e-6) - at(-1e-6)) / 2e-6;
            assert!((slopes[bin] - numeric).abs() < 1e-6, "{bin}: {} {numeric}", slopes[bin]);
        }
    }

    #[test]
    fn the_batch_of_a_row_is_that_of_the_batch_means() {
        for rows in [100, 101, 119, 2_003] {
            let expected = (0..BATCHES).flat_map(|batch| {
                let (from, until) = (batch * rows / BATCHES, (batch + 1) * rows / BATCHES);
                std::iter::repeat_n(batch, until - from)
            });
            assert!(expected.eq((0..rows).map(|row| batch(row, rows))), "{rows}");
        }
    }

    #[test]
    fn the_mean_of_batches_varies_less_unless_they_are_alike() {
        assert_eq!([0.0, 1.0].map(|batches| share_of_variance(batches, 0.5)), [1.0, 1.0]);
        assert!((share_of_variance(10.0, 0.0) - 0.1).abs() < 1e-12);
        // Directly: (1 + 2 * ((1 - 1/2) * 0.5)) / 2.
        assert!((share_of_variance(2.0, 0.5) - 0.75).abs() < 1e-12);
        let lags: f64 = (1..10).map(|lag| (1.0 - f64::from(lag) / 10.0) * 0.9_f64.powi(lag)).sum();
        assert!((share_of_variance(10.0, 0.9) - (1.0 + 2.0 * lags) / 10.0).abs() < 1e-12);
    }

    #[test]
    fn alternating_residuals_have_no_autocorrelation_and_runs_have_one() {
        let alternating: Vec<f64> = (0..20).map(|n| if n % 2 == 0 { 1.0 } else { -1.0 }).collect();
        let runs: Vec<f64> = (0..20).map(|n| if n < 10 { 1.0 } else { -1.0 }).collect();
        assert_eq!(autocorrelation(&alternating), 0.0);
        assert_eq!(autocorrelation(&runs), MAX_AUTOCORRELATION);
        assert_eq!(autocorrelation(&[0.0; 20]), 0.0);
    }
}
