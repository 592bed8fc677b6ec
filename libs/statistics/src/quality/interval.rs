//! Confidence intervals of metrics, of rows that may depend on their neighbours.

use std::{collections::BTreeMap, ops::Range};

use crate::paired::{BATCHES, student_tail};

/// Two-sided confidence intervals of metrics of `rows` rows in the order of their events, by the jackknife over [`BATCHES`] consecutive
/// batches (Quenouille 1956, "Notes on bias in estimation"; Kunsch 1989, "The jackknife and the bootstrap for general stationary
/// observations"): neighbouring rows that depend on each other are left out together. `all` are the metrics of all rows, `without` gives
/// them without the rows of a range. A metric that is undefined without one of the batches has no interval.
pub fn jackknife(
    all: &BTreeMap<String, f64>,
    rows: usize,
    confidence: f64,
    without: impl Fn(Range<usize>) -> BTreeMap<String, f64>,
) -> BTreeMap<String, (f64, f64)> {
    if rows < 2 * BATCHES {
        return BTreeMap::new();
    }
    let without: Vec<_> =
        (0..BATCHES).map(|batch| without(batch * rows / BATCHES..(batch + 1) * rows / BATCHES)).collect();
    let (batches, tail) = (BATCHES as f64, student_tail((1.0 - confidence) / 2.0, BATCHES as f64 - 1.0));
    let interval = |(name, value): (&String, &f64)| {
        let left: Vec<f64> = without.iter().filter_map(|metrics| metrics.get(name).copied()).collect();
        let mean = left.iter().sum::<f64>() / batches;
        let squares: f64 = left.iter().map(|one| (one - mean).powi(2)).sum();
        let half = tail * ((batches - 1.0) / batches * squares).sqrt();
        let is_defined = left.len() == BATCHES && half.is_finite();
        is_defined.then(|| (name.clone(), (value - half, value + half)))
    };
    all.iter().filter_map(interval).collect()
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
            let mean = |left_out| BTreeMap::from([("mean".to_owned(), mean_without(&values, left_out))]);
            let found = jackknife(&mean(0..0), values.len(), 0.95, mean);
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
        let measured = |left_out: Range<usize>| {
            let kept: Vec<usize> = (0..200).filter(|row| !left_out.contains(row)).collect();
            let (scores, labels): (Vec<f64>, Vec<bool>) = kept.iter().map(|&row| (scores[row], labels[row])).unzip();
            auc(&scores, &labels).expect("valid").map(|auc| ("auc".to_owned(), auc)).into_iter().collect()
        };
        let all: BTreeMap<String, f64> = measured(0..0);
        assert_eq!(all.len(), 1);
        let found = jackknife(&all, 200, 0.95, measured);
        assert!(found.is_empty());
        assert!(jackknife(&all, 30, 0.95, |_| all.clone()).is_empty(), "too few rows");
    }
}
