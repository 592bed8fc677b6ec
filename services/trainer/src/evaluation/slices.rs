//! The gate on slices: a challenger that is better overall must not be worse on a declared slice.

use std::collections::BTreeMap;

use arrow::{
    array::{Array, AsArray},
    datatypes::{DataType, Int64Type},
};
use rekindle_dataset::Table;
use rekindle_domain::{Gate, evaluation::SliceEvaluation};

use super::paired;
use crate::Error;

/// The value of rows without one.
const MISSING: &str = "(missing)";

/// Every slice with enough rows, in order of column and value.
pub(super) fn evaluate(
    rows: &Table,
    champion: &[f64],
    challenger: &[f64],
    gate: &Gate,
) -> Result<Vec<SliceEvaluation>, Error> {
    let mut evaluated = Vec::new();
    for column in &gate.slices {
        for (value, members) in values(rows, column)? {
            if (members.len() as u64) < gate.min_rows {
                continue;
            }
            let of = |losses: &[f64]| members.iter().map(|&row| losses[row]).collect::<Vec<f64>>();
            let found = paired(&of(champion), &of(challenger), gate)?;
            evaluated.push(SliceEvaluation {
                column: column.clone(),
                value,
                rows: members.len() as u64,
                improvement: found.mean,
                improvement_upper_bound: found.upper,
            });
        }
    }
    Ok(evaluated)
}

/// The rows of each value.
fn values(rows: &Table, column: &str) -> Result<BTreeMap<String, Vec<usize>>, Error> {
    let array = rows.column(column)?;
    let mut members: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for row in 0..array.len() {
        let value = if array.is_null(row) { MISSING.to_owned() } else { value(column, array.as_ref(), row)? };
        members.entry(value).or_default().push(row);
    }
    Ok(members)
}

fn value(column: &str, array: &dyn Array, row: usize) -> Result<String, Error> {
    match array.data_type() {
        DataType::Utf8 => Ok(array.as_string::<i32>().value(row).to_owned()),
        DataType::Int64 => Ok(array.as_primitive::<Int64Type>().value(row).to_string()),
        DataType::Boolean => Ok(array.as_boolean().value(row).to_string()),
        other => Err(Error::Evaluation(format!(
            "rows cannot be sliced by {column}, which is {other}: choose a column of strings, integers or booleans"
        ))),
    }
}
