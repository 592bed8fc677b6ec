//! Why a model gives a row its score: the contribution of each feature.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, RecordBatch, UInt32Array},
    compute::{concat, take},
    error::ArrowError,
};
use rand::{SeedableRng as _, seq::SliceRandom as _};
use rand_chacha::ChaCha8Rng;

use crate::Error;

/// The contributions of the features to the scores of some rows, which add up to the score of each row less that of the baseline.
///
/// For networks without convolutional layers, the score is the log odds for two classes, the logit of the predicted class for several, and
/// the number for regression; the baseline is a row whose numbers have the median and whose flags have the mean of the training rows (numbers
/// too, in models of earlier releases), whose times have no calendar features, and whose categories are unseen. The contributions add up
/// exactly for linear models but for rounding, and within [`crate::network::TOLERANCE`] otherwise.
///
/// For ONNX models and convolutional networks, the score is computed from the probabilities: the log odds for two classes, and the logarithm
/// for several; the baseline is a row of zeros, `false` and empty texts. The contributions are Shapley values from up to [`PERMUTATIONS`]
/// sampled permutations, and add up but for rounding.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// Features per row, in the order of the signature's inputs.
    pub features: usize,
    /// Row-major: `rows * features`.
    pub contributions: Vec<f64>,
    /// The score of the baseline, per row: it depends on the explained class.
    pub baselines: Vec<f64>,
    /// The score of each row.
    pub scores: Vec<f64>,
}

impl Explanation {
    /// Of no rows.
    pub(crate) fn new(features: usize) -> Self {
        Self { features, contributions: Vec::new(), baselines: Vec::new(), scores: Vec::new() }
    }
}

/// Permutations per row at most, each of which is followed by its reverse: the errors of the two tend to cancel out.
pub const PERMUTATIONS: usize = 32;
/// Predictions per row at most, but for one permutation and its reverse: of many features, there are fewer permutations.
const MAX_PREDICTIONS: usize = 10_000;

/// Shapley values of `row` by sampled permutations (Štrumbelj and Kononenko 2014, "Explaining prediction models and individual predictions
/// with feature contributions"): in the order of each permutation, features change from their baseline to the row, and the change of the
/// score is the feature's. `columns` has one column per feature with two rows: the baseline, and the row. The permutations are the same for
/// every row, so that an explanation can be repeated.
///
/// Returns the contributions, the score of the baseline and that of the row.
pub(crate) fn shapley(
    columns: &[ArrayRef],
    score: impl Fn(&[ArrayRef]) -> Result<Vec<f64>, Error>,
) -> Result<(Vec<f64>, f64, f64), Error> {
    let features = columns.len();
    let orders = permutations(features);
    let mut contributions = vec![0.0; features];
    let mut ends = (0.0, 0.0);
    // One order at a time: the baseline, and the row after each change.
    for order in &orders {
        let mut is_changed = vec![vec![0_u32; features + 1]; features];
        for (step, &feature) in order.iter().enumerate() {
            is_changed[feature][step + 1..].fill(1);
        }
        let selected = columns.iter().zip(is_changed);
        let selected = selected.map(|(column, rows)| take(column, &UInt32Array::from(rows), None));
        let scores = score(&selected.collect::<Result<Vec<_>, _>>().map_err(unexpected)?)?;
        for (&feature, pair) in order.iter().zip(scores.windows(2)) {
            contributions[feature] += (pair[1] - pair[0]) / orders.len() as f64;
        }
        ends = (scores[0], scores[features]);
    }
    Ok((contributions, ends.0, ends.1))
}

fn permutations(features: usize) -> Vec<Vec<usize>> {
    let mut random = ChaCha8Rng::seed_from_u64(0);
    let affordable = MAX_PREDICTIONS / (2 * (features + 1));
    let pairs = (0..(PERMUTATIONS / 2).min(affordable).max(1)).flat_map(|_| {
        let mut order: Vec<usize> = (0..features).collect();
        order.shuffle(&mut random);
        let reverse = order.iter().rev().copied().collect();
        [order, reverse]
    });
    pairs.collect()
}

/// The baseline and one row of `rows`, as the two rows of each column.
pub(crate) fn beside(baseline: &[ArrayRef], rows: &[&dyn Array], row: usize) -> Result<Vec<ArrayRef>, Error> {
    let column = |(baseline, column): (&ArrayRef, &&dyn Array)| concat(&[baseline.as_ref(), &*column.slice(row, 1)]);
    baseline.iter().zip(rows).map(column).collect::<Result<_, _>>().map_err(unexpected)
}

fn unexpected(error: ArrowError) -> Error {
    Error::invalid("rows", error)
}

/// Columns as rows with the schema of `like`.
pub(crate) fn batch(like: &RecordBatch, columns: &[ArrayRef]) -> Result<RecordBatch, Error> {
    RecordBatch::try_new(Arc::clone(like.schema_ref()), columns.to_vec()).map_err(unexpected)
}

#[cfg(test)]
mod tests {
    use arrow::{array::Float64Array, array::cast::AsArray as _, datatypes::Float64Type};

    use super::*;

    fn columns(baseline: &[f64], row: &[f64]) -> Vec<ArrayRef> {
        let column = |(base, value): (&f64, &f64)| Arc::new(Float64Array::from(vec![*base, *value])) as ArrayRef;
        baseline.iter().zip(row).map(column).collect()
    }

    fn value(columns: &[ArrayRef], feature: usize, row: usize) -> f64 {
        columns[feature].as_primitive::<Float64Type>().value(row)
    }

    #[test]
    fn the_contributions_to_a_sum_are_its_terms() {
        let sum = |columns: &[ArrayRef]| {
            let of_row = |row| 3.0 * value(columns, 0, row) - 2.0 * value(columns, 1, row) + value(columns, 2, row);
            Ok((0..columns[0].len()).map(of_row).collect())
        };
        let found = shapley(&columns(&[1.0, 0.0, 5.0], &[2.0, 4.0, 5.0]), sum).expect("scores");
        assert_eq!(found, (vec![3.0, -8.0, 0.0], 8.0, 3.0));
    }

    #[test]
    fn features_that_only_count_together_share_the_contribution() {
        let product = |columns: &[ArrayRef]| {
            Ok((0..columns[0].len()).map(|row| value(columns, 0, row) * value(columns, 1, row)).collect())
        };
        let (contributions, baseline, score) = shapley(&columns(&[0.0, 0.0], &[2.0, 3.0]), product).expect("scores");
        assert_eq!((contributions, baseline, score), (vec![3.0, 3.0], 0.0, 6.0));
    }
}
