//! Which rows a slice has.

use std::cmp::Ordering;

use rekindle_domain::slice::{Condition, Constant, Test};

use crate::column::Cells;

/// Whether a condition is true of each of `rows` rows. `feature` returns the values of a feature.
///
/// # Errors
/// A feature that is not among the columns, or not of the type of a constant.
pub fn select<'a>(
    condition: &Condition,
    rows: usize,
    feature: &impl Fn(&str) -> Option<Cells<'a>>,
) -> Result<Vec<bool>, String> {
    Ok(truths(condition, rows, feature)?.into_iter().map(|truth| truth == Some(true)).collect())
}

/// True, false, or neither: the comparison with a missing value.
fn truths<'a>(
    condition: &Condition,
    rows: usize,
    feature: &impl Fn(&str) -> Option<Cells<'a>>,
) -> Result<Vec<Option<bool>>, String> {
    let joined = |parts: &[Condition], decisive: bool| {
        let mut all = vec![Some(!decisive); rows];
        for part in parts {
            for (all, part) in all.iter_mut().zip(truths(part, rows, feature)?) {
                *all = match (*all, part) {
                    (Some(value), _) | (_, Some(value)) if value == decisive => Some(decisive),
                    (None, _) | (_, None) => None,
                    _ => Some(!decisive),
                };
            }
        }
        Ok(all)
    };
    match condition {
        Condition::All(parts) => joined(parts, false),
        Condition::Any(parts) => joined(parts, true),
        Condition::Not(part) => {
            Ok(truths(part, rows, feature)?.into_iter().map(|truth| truth.map(|truth| !truth)).collect())
        }
        Condition::Is { feature: name, test } => {
            let cells = feature(name).ok_or_else(|| format!("{name} is no feature"))?;
            (0..rows).map(|row| passes(&cells, name, test, row)).collect()
        }
    }
}

fn passes(cells: &Cells<'_>, name: &str, test: &Test, row: usize) -> Result<Option<bool>, String> {
    match test {
        // NaN stands for a missing value.
        Test::Missing => Ok(Some(match cells {
            Cells::Float(_) => cells.number(row).is_none(),
            _ => cells.is_missing(row),
        })),
        Test::Compare(comparison, constant) => {
            Ok(compare(cells, name, constant, row)?.map(|ordering| comparison.holds(ordering)))
        }
        Test::In(constants) => {
            let mut is_equal = Some(false);
            for constant in constants {
                match compare(cells, name, constant, row)? {
                    Some(Ordering::Equal) => return Ok(Some(true)),
                    Some(_) => {}
                    None => is_equal = None,
                }
            }
            Ok(is_equal)
        }
    }
}

/// How the value of a row compares with a constant; `None` of a missing value.
fn compare(cells: &Cells<'_>, name: &str, constant: &Constant, row: usize) -> Result<Option<Ordering>, String> {
    match (cells, constant) {
        (Cells::Int(_) | Cells::Float(_), Constant::Number(number)) => {
            Ok(cells.number(row).and_then(|value| value.partial_cmp(number)))
        }
        // A category may be written as an integer.
        (Cells::Text(_) | Cells::Int(_), Constant::Text(text)) => {
            Ok(cells.class(row).map(|value| (*value).cmp(text.as_str())))
        }
        (Cells::Bool(_), Constant::Flag(flag)) => Ok(cells.boolean(row).map(|value| value.cmp(flag))),
        (cells, _) => Err(format!("{name} has {}, and is compared with {constant}", kind(cells))),
    }
}

fn kind(cells: &Cells<'_>) -> &'static str {
    match cells {
        Cells::Int(_) | Cells::Float(_) => "numbers",
        Cells::Text(_) => "texts",
        Cells::Bool(_) => "true and false",
        Cells::Timestamp(_) => "times",
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{BooleanArray, Float64Array, Int64Array, StringArray};
    use rekindle_domain::Slice;

    use super::*;

    fn selected(text: &str) -> Result<Vec<usize>, String> {
        let floats = Float64Array::from(vec![Some(1.0), Some(f64::NAN), None, Some(4.0)]);
        let codes = Int64Array::from(vec![Some(7), Some(8), None, Some(8)]);
        let texts = StringArray::from(vec![Some("AA"), None, Some("UA"), Some("AA")]);
        let flags = BooleanArray::from(vec![Some(true), Some(false), None, Some(false)]);
        let feature = |name: &str| match name {
            "x" => Cells::of(&floats),
            "code" => Cells::of(&codes),
            "carrier" => Cells::of(&texts),
            "member" => Cells::of(&flags),
            _ => None,
        };
        let Slice::Where(condition) = text.parse().expect(text) else { panic!("{text} is no condition") };
        let selected = select(&condition, 4, &feature)?;
        Ok(selected.iter().enumerate().filter_map(|(row, is_selected)| is_selected.then_some(row)).collect())
    }

    #[test]
    fn rows_are_selected_by_numbers_texts_and_flags() {
        for (text, rows) in [
            ("x > 1", vec![3]),
            ("x <= 4", vec![0, 3]),
            ("x IS NULL", vec![1, 2]),
            ("x IS NOT NULL AND code = 8", vec![3]),
            ("code = '8'", vec![1, 3]),
            ("carrier = 'AA'", vec![0, 3]),
            ("carrier != 'AA'", vec![2]),
            ("carrier IN ('UA', 'DL') OR member = true", vec![0, 2]),
            ("member = false", vec![1, 3]),
        ] {
            assert_eq!(selected(text), Ok(rows), "{text}");
        }
    }

    #[test]
    fn a_comparison_with_a_missing_value_is_neither_true_nor_false() {
        assert_eq!(selected("NOT x > 1"), Ok(vec![0]));
        assert_eq!(selected("NOT (x > 1 AND carrier = 'DL')"), Ok(vec![0, 2, 3]));
        assert_eq!(selected("x > 1 OR carrier = 'UA'"), Ok(vec![2, 3]));
        assert_eq!(selected("NOT (x > 1 OR carrier = 'AA')"), Ok(Vec::new()));
        assert_eq!(selected("carrier NOT IN ('AA')"), Ok(vec![2]));
    }

    #[test]
    fn unknown_features_and_other_types_are_refused() {
        for (text, reason) in [
            ("y = 1", "y is no feature"),
            ("carrier = 1", "carrier has texts"),
            ("x = 'a'", "x has numbers"),
            ("member = 1", "member has true and false"),
        ] {
            // A float is compared with no text; an integer may be a category.
            let refused = selected(text).expect_err(text);
            assert!(refused.starts_with(reason), "{refused}");
        }
    }
}
