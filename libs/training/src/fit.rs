//! Fitting of the feature pipeline: medians, means, vocabularies and calendar features of the training rows.

use std::{collections::BTreeMap, ops::Range};

use rekindle_bundle::{
    column::Cells,
    pipeline::{Calendar, Encoding, MIN_VALUE_ROWS, Scaling},
};
use rekindle_domain::ColumnKind;

use crate::Error;

/// Maximum size of a vocabulary; the most frequent values are kept.
pub(crate) const MAX_VALUES: usize = 20_000;

/// Fits the encoding of one column on the `training` rows; that of a number with so many `bins`.
pub(crate) fn fit(
    name: &str,
    kind: ColumnKind,
    cells: &Cells<'_>,
    training: Range<usize>,
    bins: usize,
) -> Result<Encoding, Error> {
    match (kind, cells) {
        (ColumnKind::Numeric, Cells::Int(_) | Cells::Float(_)) => Ok(number(cells, training, bins)),
        (ColumnKind::Boolean, Cells::Bool(_)) => Ok(flag(cells, training)),
        (ColumnKind::Categorical, Cells::Text(_)) => Ok(category(cells, training)),
        (ColumnKind::Timestamp, Cells::Timestamp(_)) => Ok(calendar(cells, training)),
        _ => {
            let problem = format!(
                "its values are not of kind {kind:?}: register the dataset with another kind, or ignore the column"
            );
            Err(Error::column(name, problem))
        }
    }
}

fn number(cells: &Cells<'_>, training: Range<usize>, bins: usize) -> Encoding {
    let rows = training.len();
    let mut values: Vec<f64> = training.filter_map(|row| cells.number(row)).collect();
    values.sort_unstable_by(f64::total_cmp);
    let indicator = values.len() < rows;
    match Scaling::of(&values, bins) {
        Some(scaling) => Encoding::Scaled { scaling, indicator },
        // Without any value, the indicator is constant, too.
        None => Encoding::Constant { indicator: indicator && !values.is_empty() },
    }
}

/// The encoding of every value of an image: all have the same, so that neighbours can be compared.
pub(crate) fn pixels(cells: &[Cells<'_>], training: Range<usize>) -> Encoding {
    let numbers = || cells.iter().flat_map(|cells| training.clone().filter_map(|row| cells.number(row)));
    let count = numbers().count().max(1) as f64;
    let mean = numbers().sum::<f64>() / count;
    let variance = numbers().map(|number| (number - mean).powi(2)).sum::<f64>() / (count - 1.0).max(1.0);
    Encoding::Number { median: mean, mean, std: divisor(variance.sqrt(), mean), indicator: false }
}

/// Mean and sample standard deviation. A standard deviation that is not a usable divisor is replaced by 1.
pub(crate) fn mean_and_std(values: &[f64]) -> (f64, f64) {
    if values.is_empty() {
        return (0.0, 1.0);
    }
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
    (mean, divisor(variance.sqrt(), mean))
}

/// The standard deviation, or 1 if it is not a usable divisor.
fn divisor(std: f64, mean: f64) -> f64 {
    let usable = std.is_finite() && std > f64::EPSILON * mean.abs().max(f64::MIN_POSITIVE);
    if usable { std } else { 1.0 }
}

fn flag(cells: &Cells<'_>, training: Range<usize>) -> Encoding {
    let rows = training.len();
    let values: Vec<bool> = training.filter_map(|row| cells.boolean(row)).collect();
    let positive = values.iter().filter(|&&value| value).count();
    let indicator = values.len() < rows;
    if positive == 0 || positive == values.len() {
        return Encoding::Constant { indicator: indicator && !values.is_empty() };
    }
    Encoding::Flag { share: positive as f64 / values.len() as f64, indicator }
}

fn category(cells: &Cells<'_>, training: Range<usize>) -> Encoding {
    let mut missing = 0;
    let mut seen: BTreeMap<&str, u64> = BTreeMap::new();
    for row in training {
        match cells.text(row) {
            Some(text) => *seen.entry(text).or_default() += 1,
            None => missing += 1,
        }
    }
    let total: u64 = seen.values().sum();
    let mut frequent: Vec<(&str, u64)> = seen.into_iter().filter(|&(_, rows)| rows >= MIN_VALUE_ROWS).collect();
    // The sort is stable and the map is sorted, so that ties are in the order of names.
    frequent.sort_by_key(|&(_, rows)| std::cmp::Reverse(rows));
    frequent.truncate(MAX_VALUES);
    frequent.sort_unstable_by_key(|&(value, _)| value);
    let rare = total - frequent.iter().map(|&(_, rows)| rows).sum::<u64>();
    let counts = [rare, missing].into_iter().chain(frequent.iter().map(|&(_, rows)| rows)).collect();
    Encoding::Category { vocabulary: frequent.into_iter().map(|(value, _)| value.to_owned()).collect(), counts }
}

fn calendar(cells: &Cells<'_>, training: Range<usize>) -> Encoding {
    let rows = training.len();
    let timestamps: Vec<i64> = training.filter_map(|row| cells.timestamp(row)).collect();
    let span = match (timestamps.iter().min(), timestamps.iter().max()) {
        (Some(first), Some(last)) => last.saturating_sub(*first),
        _ => 0,
    };
    Encoding::Calendar(Calendar { indicator: timestamps.len() < rows, ..Calendar::for_span(span) })
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float64Array, StringArray};

    use super::*;

    #[test]
    fn only_training_rows_are_used() {
        let array = Float64Array::from(vec![Some(1.0), Some(3.0), None, Some(1e9)]);
        let encoding = fit("x", ColumnKind::Numeric, &Cells::Float(&array), 0..3, 0).expect("numbers");
        let Encoding::Scaled { scaling, indicator } = encoding else { panic!("{encoding:?}") };
        assert_eq!((scaling.low, scaling.median, scaling.high, indicator), (1.0, 2.0, 3.0, true));
    }

    #[test]
    fn constant_values_are_not_used() {
        let array = Float64Array::from(vec![0.1; 7]);
        let encoding = |array: &Float64Array, rows| fit("x", ColumnKind::Numeric, &Cells::Float(array), 0..rows, 8);
        assert_eq!(encoding(&array, 7).expect("numbers"), Encoding::Constant { indicator: false });
        let missing = Float64Array::from(vec![Some(0.1), None]);
        assert_eq!(encoding(&missing, 2).expect("numbers"), Encoding::Constant { indicator: true });
    }

    #[test]
    fn rare_values_are_not_in_the_vocabulary() {
        let mut texts = vec![Some("b"); 6];
        texts.extend(vec![Some("a"); 5]);
        texts.extend([Some("rare"), None]);
        let rows = texts.len();
        let array = StringArray::from(texts);
        let encoding = fit("x", ColumnKind::Categorical, &Cells::Text(&array), 0..rows, 0).expect("texts");
        let expected = Encoding::Category { vocabulary: vec!["a".into(), "b".into()], counts: vec![1, 1, 5, 6] };
        assert_eq!(encoding, expected);
    }
}
