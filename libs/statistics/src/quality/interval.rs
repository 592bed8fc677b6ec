//! Confidence intervals of metrics, of rows that may depend on their neighbours.

use std::{collections::BTreeMap, ops::Range};

use crate::paired::{BATCHES, student_tail};

/// Two-sided confidence intervals of metrics of `rows` rows in the order of their events, by the jackknife over [`BATCHES`] consecutive
/// batches (Quenouille 1956, "Notes on bias in estimation"; Kunsch 1989, "The jackknife and the bootstrap for general stationary
/// observations"): neighbouring rows that depend on each other are left out together. `metrics` gives the metrics without the rows of a
/// range, which is empty for all rows. A metric that is undefined without one of the batches has no interval.
pub fn jackknife(
    rows: usize,
    confidence: f64,
    metrics: impl Fn(Range<usize>) -> BTreeMap<String, f64>,
) -> BTreeMap<String, (f64, f64)> {
    if rows < 2 * BATCHES {
        return BTreeMap::new();
    }
    let all = metrics(0..0);
    let without: Vec<_> =
        (0..BATCHES).map(|batch| metrics(batch * rows / BATCHES..(batch + 1) * rows / BATCHES)).collect();
    let (batches, tail) = (BATCHES as f64, student_tail((1.0 - confidence) / 2.0, BATCHES as f64 - 1.0));
    let interval = |(name, value): (String, f64)| {
        let left: Vec<f64> = without.iter().filter_map(|metrics| metrics.get(&name).copied()).collect();
        let mean = left.iter().sum::<f64>() / batches;
        let squares: f64 = left.iter().map(|one| (one - mean).powi(2)).sum();
        let half = tail * ((batches - 1.0) / batches * squares).sqrt();
        let is_defined = left.len() == BATCHES && half.is_finite();
        is_defined.then_some((name, (value - half, value + half)))
    };
    all.into_iter().filter_map(interval).collect()
}

#[cfg(test)]
mod tests {
    use rand::{RngExt as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::quality::auc;

    fn mean_without(values: &[f64], left_out: Range<usize>) -> f64 {
        let kept = || values[..left_out.start].iter().chain(&values[left_out.end..]);
        kept().sum::<f64>() / kept().count() as f64
    }

    /// The share of intervals that contain the true mean of 0. Values are equal within runs of `run` rows.
    fn coverage(run: usize) -> f64 {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let covered = (0..400).filter(|_| {
            let mut values = Vec::new();
            while values.len() < 1_000 {
                let value = random.random::<f64>() - 0.5;
                values.extend(std::iter::repeat_n(value, run));
            }
            let found = jackknife(values.len(), 0.95, |left_out| {
                BTreeMap::from([("mean".to_owned(), mean_without(&values, left_out))])
            });
            let (lower, upper) = found["mean"];
            lower <= 0.0 && 0.0 <= upper
        });
        covered.count() as f64 / 400.0
    }

    #[test]
    fn the_interval_of_a_mean_covers_it_as_often_as_stated_also_if_neighbours_are_equal() {
        for run in [1, 10] {
            let share = coverage(run);
            assert!((0.92..=0.98).contains(&share), "runs of {run}: {share}");
        }
    }

    #[test]
    fn a_metric_that_is_undefined_without_a_batch_has_no_interval() {
        // Positive rows in the last batch alone.
        let labels: Vec<bool> = (0..200).map(|row| row >= 195).collect();
        let scores: Vec<f64> = (0..200).map(f64::from).collect();
        let found = jackknife(200, 0.95, |left_out| {
            let without = |range: Range<usize>| {
                let kept = |row: &usize| !range.contains(row);
                let rows: Vec<usize> = (0..200).filter(kept).collect();
                let of = |row: &usize| (scores[*row], labels[*row]);
                rows.iter().map(of).unzip::<f64, bool, Vec<f64>, Vec<bool>>()
            };
            let (scores, labels) = without(left_out);
            auc(&scores, &labels).expect("valid").map(|auc| ("auc".to_owned(), auc)).into_iter().collect()
        });
        assert!(found.is_empty());
        assert!(jackknife(30, 0.95, |_| BTreeMap::from([("x".to_owned(), 1.0)])).is_empty(), "too few rows");
    }
}
