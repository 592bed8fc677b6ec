//! The slices of the gate: a challenger that is better overall must not be worse on one of them.

use std::collections::BTreeMap;

use arrow::{
    array::{Array, AsArray},
    datatypes::{DataType, Int64Type},
};
use rekindle_dataset::Table;
use rekindle_domain::Gate;

use crate::Error;

/// The value of rows without one.
const MISSING: &str = "(missing)";

/// The rows of one value of a column.
#[derive(Debug)]
pub(super) struct Slice {
    pub column: String,
    pub value: String,
    /// The positions of its rows, in order.
    pub members: Vec<usize>,
}

/// Every slice of the gate, in order of column and value.
pub(super) fn of(rows: &Table, gate: &Gate) -> Result<Vec<Slice>, Error> {
    let mut slices = Vec::new();
    for column in &gate.slices {
        let of_column = values(rows, column)?.into_iter();
        slices.extend(of_column.map(|(value, members)| Slice { column: column.clone(), value, members }));
    }
    Ok(slices)
}

/// The rows of each value.
pub(super) fn values(rows: &Table, column: &str) -> Result<BTreeMap<String, Vec<usize>>, Error> {
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
