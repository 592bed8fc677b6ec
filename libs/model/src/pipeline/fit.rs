//! Fitting a pipeline: medians, means, vocabularies and calendars from training rows alone.

use std::{collections::BTreeMap, ops::Range};

use super::{Calendar, Encoding};
use crate::{Error, column::Cells, signature::Kind};

/// Training rows that a value needs for an index of its own.
const MIN_VALUE_ROWS: u64 = 5;
/// Values with an index of their own at most, the most frequent ones.
const MAX_VALUES: usize = 20_000;

/// The encoding of one column, from its cells in `training`.
pub(crate) fn fit(name: &str, kind: Kind, cells: &Cells<'_>, training: Range<usize>) -> Result<Encoding, Error> {
    match (kind, cells) {
        (Kind::Numeric, Cells::Int(_) | Cells::Float(_)) => Ok(number(cells, training)),
        (Kind::Boolean, Cells::Flag(_)) => Ok(flag(cells, training)),
        (Kind::Categorical, Cells::Text(_)) => Ok(category(cells, training)),
        (Kind::Timestamp, Cells::Instant(_)) => Ok(calendar(cells, training)),
        _ => Err(Error::training(
            name,
            format!(
                "its values are not of the kind {kind:?}: register the dataset with another kind, or ignore the column"
            ),
        )),
    }
}

fn number(cells: &Cells<'_>, training: Range<usize>) -> Encoding {
    let rows = training.len();
    let mut values: Vec<f64> = training.filter_map(|row| cells.number(row)).collect();
    values.sort_unstable_by(f64::total_cmp);
    let indicator = values.len() < rows;
    let (mean, std) = mean_and_std(&values);
    Encoding::Number { median: median(&values), mean, std, indicator }
}

/// The middle of sorted values; 0 where there are none.
fn median(sorted: &[f64]) -> f64 {
    let half = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[half],
        _ => f64::midpoint(sorted[half - 1], sorted[half]),
    }
}

/// Mean and sample standard deviation; a spread that cannot be divided by becomes 1.
pub(crate) fn mean_and_std(values: &[f64]) -> (f64, f64) {
    if values.is_empty() {
        return (0.0, 1.0);
    }
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
    let std = variance.sqrt();
    let usable = std.is_finite() && std > f64::EPSILON * mean.abs().max(f64::MIN_POSITIVE);
    (mean, if usable { std } else { 1.0 })
}

fn flag(cells: &Cells<'_>, training: Range<usize>) -> Encoding {
    let rows = training.len();
    let values: Vec<bool> = training.filter_map(|row| cells.flag(row)).collect();
    let yes = values.iter().filter(|&&yes| yes).count();
    let share = if values.is_empty() { 0.0 } else { yes as f64 / values.len() as f64 };
    Encoding::Flag { share, indicator: values.len() < rows }
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
    // The sort is stable and the map was sorted, so ties go by name.
    frequent.sort_by_key(|&(_, rows)| std::cmp::Reverse(rows));
    frequent.truncate(MAX_VALUES);
    frequent.sort_unstable_by_key(|&(value, _)| value);
    let rare = total - frequent.iter().map(|&(_, rows)| rows).sum::<u64>();
    let counts = [rare, missing].into_iter().chain(frequent.iter().map(|&(_, rows)| rows)).collect();
    Encoding::Category { vocabulary: frequent.into_iter().map(|(value, _)| value.to_owned()).collect(), counts }
}

fn calendar(cells: &Cells<'_>, training: Range<usize>) -> Encoding {
    let rows = training.len();
    let instants: Vec<i64> = training.filter_map(|row| cells.instant(row)).collect();
    let span = match (instants.iter().min(), instants.iter().max()) {
        (Some(first), Some(last)) => last.saturating_sub(*first),
        _ => 0,
    };
    Encoding::Calendar(Calendar::for_span(span, instants.len() < rows))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float64Array, StringArray};

    use super::*;

    #[test]
    fn only_training_rows_count() {
        let array = Float64Array::from(vec![Some(1.0), Some(3.0), None, Some(1e9)]);
        let encoding = fit("x", Kind::Numeric, &Cells::Float(&array), 0..3).expect("numbers");
        let Encoding::Number { median, mean, std, indicator } = encoding else { panic!("{encoding:?}") };
        assert_eq!((median, mean, indicator), (2.0, 2.0, true));
        assert!((std - 2f64.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn alike_values_do_not_divide_by_zero() {
        let array = Float64Array::from(vec![0.1; 7]);
        let encoding = fit("x", Kind::Numeric, &Cells::Float(&array), 0..7).expect("numbers");
        assert!(matches!(encoding, Encoding::Number { std: 1.0, indicator: false, .. }), "{encoding:?}");
    }

    #[test]
    fn rare_values_share_an_index() {
        let mut texts = vec![Some("b"); 6];
        texts.extend(vec![Some("a"); 5]);
        texts.extend([Some("rare"), None]);
        let rows = texts.len();
        let array = StringArray::from(texts);
        let encoding = fit("x", Kind::Categorical, &Cells::Text(&array), 0..rows).expect("texts");
        let expected = Encoding::Category { vocabulary: vec!["a".into(), "b".into()], counts: vec![1, 1, 5, 6] };
        assert_eq!(encoding, expected);
    }
}
