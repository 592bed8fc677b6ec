//! Rows that repeat an earlier one: the same values at the same time.

use arrow::{
    array::ArrayRef,
    error::ArrowError,
    row::{RowConverter, SortField},
};
use twox_hash::XxHash3_64;

/// Rows that are converted at a time.
const AT_ONCE: usize = 8192;

/// The number of rows that have the values and the time of an earlier row. Rows are recognised by 64-bit hashes: among a million different
/// rows, the chance that any two are taken for the same is less than 1 in 10 million.
///
/// # Errors
/// A column is of a type without an order.
pub fn repeated_rows(columns: &[ArrayRef], times: &[i64]) -> Result<u64, ArrowError> {
    let fields = columns.iter().map(|column| SortField::new(column.data_type().clone()));
    let converter = RowConverter::new(fields.collect())?;
    let mut hashes = Vec::with_capacity(times.len());
    let mut bytes = Vec::new();
    for first in (0..times.len()).step_by(AT_ONCE) {
        let length = AT_ONCE.min(times.len() - first);
        let slices: Vec<ArrayRef> = columns.iter().map(|column| column.slice(first, length)).collect();
        let rows = converter.convert_columns(&slices)?;
        for (row, time) in rows.iter().zip(&times[first..]) {
            bytes.clear();
            bytes.extend_from_slice(&time.to_le_bytes());
            bytes.extend_from_slice(row.as_ref());
            hashes.push(XxHash3_64::oneshot(&bytes));
        }
    }
    hashes.sort_unstable();
    Ok(hashes.windows(2).filter(|pair| pair[0] == pair[1]).count() as u64)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{BooleanArray, Float64Array, Int64Array, StringArray};

    use super::*;

    #[test]
    fn a_row_is_repeated_if_all_values_and_the_time_are_the_same() {
        let numbers: ArrayRef =
            Arc::new(Float64Array::from(vec![Some(1.0), Some(1.0), Some(1.0), None, None, Some(2.0)]));
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), Some("a"), Some("b"), None, None, Some("a")]));
        let flags: ArrayRef = Arc::new(BooleanArray::from(vec![true; 6]));
        let columns = [numbers, texts, flags];
        assert_eq!(repeated_rows(&columns, &[7, 7, 7, 7, 7, 7]).expect("ordered"), 2);
        assert_eq!(repeated_rows(&columns, &[7, 8, 7, 7, 7, 7]).expect("ordered"), 1);
        assert_eq!(repeated_rows(&columns, &[1, 2, 3, 4, 5, 6]).expect("ordered"), 0);
    }

    #[test]
    fn rows_are_found_across_the_parts_that_are_converted_at_a_time() {
        let rows = 3 * AT_ONCE / 2;
        let values: Vec<i64> = (0..2 * rows).map(|row| i64::try_from(row % rows).expect("few")).collect();
        let column: ArrayRef = Arc::new(Int64Array::from(values));
        assert_eq!(repeated_rows(&[column], &vec![0; 2 * rows]).expect("ordered"), rows as u64);
        assert_eq!(repeated_rows(&[], &[]).expect("ordered"), 0);
    }
}
