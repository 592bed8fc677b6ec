//! Permutation importance: how much the loss of a model grows when the values of one feature are permuted among the rows (Breiman 2001,
//! "Random Forests", section 10; Fisher, Rudin and Dominici 2019, "All Models are Wrong, but Many are Useful"). It is a property of the
//! model and the rows: of two features that carry the same information, both may seem unimportant.

use rand::{SeedableRng as _, seq::SliceRandom as _};
use rand_chacha::ChaCha8Rng;

/// Permutations of each feature.
pub const PERMUTATIONS: usize = 5;
/// Rows at most, so that the cost is bounded; of more rows, as many at equal distances are taken.
pub const MAX_ROWS: usize = 2_000;
/// Predictions of all permutations at most: of many features, fewer rows are used.
const MAX_PREDICTIONS: usize = 1_000_000;

/// The importance of one feature.
#[derive(Debug, Clone, PartialEq)]
pub struct Importance {
    /// The feature.
    pub feature: String,
    /// The mean increase of the loss, in its units; about 0 or less for a feature that the model does not use.
    pub mean: f64,
    /// The sample standard deviation over the permutations.
    pub std: f64,
}

/// The positions of the rows that are used for so many features.
pub fn sample(rows: usize, features: usize) -> Vec<usize> {
    let affordable = MAX_PREDICTIONS / (PERMUTATIONS * features.max(1));
    let taken = rows.min(MAX_ROWS).min(affordable.max(1));
    (0..taken).map(|at| at * rows / taken.max(1)).collect()
}

/// The importance of each feature, the most important first. `loss` returns the mean loss of `rows` rows: as they are, or with the values of
/// the feature at a position in another order. The permutations are the same for every call, so that the result can be repeated.
pub fn permutation<E>(
    features: &[&str],
    rows: usize,
    mut loss: impl FnMut(Option<(usize, &[usize])>) -> Result<f64, E>,
) -> Result<Vec<Importance>, E> {
    let mut random = ChaCha8Rng::seed_from_u64(0);
    let orders: Vec<Vec<usize>> = (0..PERMUTATIONS)
        .map(|_| {
            let mut order: Vec<usize> = (0..rows).collect();
            order.shuffle(&mut random);
            order
        })
        .collect();
    let unchanged = loss(None)?;
    let mut importances = Vec::with_capacity(features.len());
    for (position, &feature) in features.iter().enumerate() {
        let increases = orders.iter().map(|order| Ok(loss(Some((position, order)))? - unchanged));
        let increases: Vec<f64> = increases.collect::<Result<_, E>>()?;
        let mean = increases.iter().sum::<f64>() / PERMUTATIONS as f64;
        let squares: f64 = increases.iter().map(|increase| (increase - mean).powi(2)).sum();
        let std = (squares / (PERMUTATIONS - 1) as f64).sqrt();
        importances.push(Importance { feature: feature.to_owned(), mean, std });
    }
    importances.sort_by(|one, other| other.mean.total_cmp(&one.mean).then_with(|| one.feature.cmp(&other.feature)));
    Ok(importances)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    /// The mean squared error of `2 x0 + x1` as a model of itself, when a column is permuted.
    fn importances() -> Vec<Importance> {
        let columns =
            [0.7, 1.3, 2.9].map(|step| (0..500).map(|row| (f64::from(row) * step).sin()).collect::<Vec<f64>>());
        let loss = |permuted: Option<(usize, &[usize])>| {
            let value = |column: usize, row: usize| match permuted {
                Some((changed, order)) if changed == column => columns[column][order[row]],
                _ => columns[column][row],
            };
            let errors = (0..500).map(|row| {
                let model = |value: &dyn Fn(usize) -> f64| 2.0 * value(0) + value(1);
                (model(&|column| value(column, row)) - model(&|column| columns[column][row])).powi(2)
            });
            Ok::<_, Infallible>(errors.sum::<f64>() / 500.0)
        };
        let Ok(importances) = permutation(&["x0", "x1", "x2"], 500, loss);
        importances
    }

    #[test]
    fn a_feature_is_as_important_as_the_squared_error_without_it() {
        let found = importances();
        let names: Vec<_> = found.iter().map(|one| one.feature.as_str()).collect();
        assert_eq!(names, ["x0", "x1", "x2"]);
        // Twice the variance of the term: 4 * 0.5 and 0.5, but for the finite rows.
        assert!((found[0].mean - 4.0).abs() < 0.5 && (found[1].mean - 1.0).abs() < 0.15, "{found:?}");
        assert_eq!((found[2].mean, found[2].std), (0.0, 0.0), "the model does not use it");
        assert_eq!(found, importances(), "repeatable");
    }

    #[test]
    fn rows_are_taken_at_equal_distances() {
        assert_eq!(sample(3, 1), [0, 1, 2]);
        let taken = sample(10 * MAX_ROWS, 100);
        assert_eq!((taken.len(), taken[1], taken[MAX_ROWS - 1]), (MAX_ROWS, 10, 10 * MAX_ROWS - 10));
        assert!(sample(0, 0).is_empty());
        assert_eq!(sample(10 * MAX_ROWS, 1_000).len(), 200);
    }
}
