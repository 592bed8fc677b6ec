//! How much each training row counts.

use std::ops::Range;

use rekindle_bundle::{Targets, column::Cells};
use rekindle_domain::recipe::RowWeights;

use crate::Error;

/// The weights of the `training` rows, with mean 1; `None` if all count the same. `times` are those of all rows, in milliseconds.
///
/// # Errors
/// A weight is missing, negative or not finite, or all are zero.
pub(crate) fn weights(
    wanted: &RowWeights,
    column: Option<&Cells<'_>>,
    times: Option<&[i64]>,
    targets: &Targets,
    training: Range<usize>,
) -> Result<Option<Vec<f32>>, Error> {
    if wanted.is_none() {
        return Ok(None);
    }
    let mut weights = vec![1.0; training.len()];
    if let (Some(name), Some(cells)) = (&wanted.column, column) {
        for (weight, row) in weights.iter_mut().zip(training.clone()) {
            let value = cells.number(row).filter(|value| value.is_finite() && *value >= 0.0);
            let problem = || format!("row {row} has no weight of at least 0: correct or remove the row");
            *weight *= value.ok_or_else(|| Error::column(name, problem()))?;
        }
    }
    if let (Some(half_life), Some(times)) = (wanted.half_life, times) {
        let latest = times[training.end - 1];
        for (weight, time) in weights.iter_mut().zip(&times[training.clone()]) {
            let age = latest.saturating_sub(*time) as f64 / 1000.0;
            *weight *= (-age / half_life.as_secs_f64()).exp2();
        }
    }
    if let (true, Targets::Classes(classes)) = (wanted.balanced, targets) {
        let classes = &classes[training];
        let count = classes.iter().flatten().max().map_or(0, |last| last + 1);
        let mut totals = vec![0.0; count];
        for (class, weight) in classes.iter().zip(&weights) {
            class.iter().for_each(|&class| totals[class] += weight);
        }
        for (weight, class) in weights.iter_mut().zip(classes) {
            *weight /= class.map_or(1.0, |class| f64::max(totals[class], f64::MIN_POSITIVE));
        }
    }
    let mean = weights.iter().sum::<f64>() / weights.len() as f64;
    if !(mean.is_finite() && mean > 0.0) {
        let name = wanted.column.as_deref().unwrap_or("weights");
        return Err(Error::column(name, "every row has the weight 0, or the weights are too large"));
    }
    Ok(Some(weights.into_iter().map(|weight| (weight / mean) as f32).collect()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use arrow::array::Float64Array;

    use super::*;

    fn numbers(rows: usize) -> Targets {
        Targets::Numbers(vec![0.0; rows])
    }

    #[test]
    fn weights_are_scaled_to_mean_one() {
        let array = Float64Array::from(vec![9.0, 1.0, 3.0]);
        let wanted = RowWeights { column: Some("w".into()), ..RowWeights::default() };
        let of = |rows| weights(&wanted, Some(&Cells::Float(&array)), None, &numbers(3), rows).expect("weights");
        assert_eq!(of(1..3), Some(vec![0.5, 1.5]));
        assert_eq!(weights(&RowWeights::default(), None, None, &numbers(3), 0..3).expect("none"), None);
    }

    #[test]
    fn a_row_counts_half_after_the_half_life() {
        let wanted = RowWeights { half_life: Some(Duration::from_secs(10)), ..RowWeights::default() };
        let found = weights(&wanted, None, Some(&[0, 10_000, 20_000]), &numbers(3), 0..3).expect("weights");
        let found = found.expect("weights");
        assert!((found[2] / found[1] - 2.0).abs() < 1e-6 && (found[1] / found[0] - 2.0).abs() < 1e-6, "{found:?}");
    }

    #[test]
    fn balanced_classes_count_the_same() {
        let wanted = RowWeights { balanced: true, ..RowWeights::default() };
        let classes = Targets::Classes(vec![Some(0), Some(1), Some(1), Some(1)]);
        let found = weights(&wanted, None, None, &classes, 0..4).expect("weights").expect("weights");
        assert!((found[0] - 2.0).abs() < 1e-6 && (found[1..].iter().sum::<f32>() - 2.0).abs() < 1e-6, "{found:?}");
    }

    #[test]
    fn unusable_weights_are_refused() {
        let wanted = RowWeights { column: Some("w".into()), ..RowWeights::default() };
        for values in
            [vec![Some(1.0), None], vec![Some(-1.0), Some(1.0)], vec![Some(0.0), Some(0.0)], vec![Some(f64::MAX); 2]]
        {
            let array = Float64Array::from(values.clone());
            let error = weights(&wanted, Some(&Cells::Float(&array)), None, &numbers(2), 0..2).expect_err("unusable");
            assert!(error.to_string().contains("column w"), "{values:?}: {error}");
        }
    }
}
