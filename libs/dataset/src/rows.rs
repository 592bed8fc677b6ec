//! Some rows of a canonical Parquet file.

use ::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use arrow::{
    array::{Array as _, ArrayRef, AsArray as _},
    datatypes::{DataType, Float64Type, Int64Type, TimestampMillisecondType},
};
use chrono::DateTime;
use rekindle_domain::dataset::{Cell, Row};

use crate::{Error, Section};

/// Rows that are decoded at a time: texts may be long.
const BATCH_ROWS: usize = 16;
/// Characters of a text that are returned.
const TEXT_CHARS: usize = 1000;

/// The names of the columns, and at most `limit` rows after `offset`. Values of columns that `is_hidden` are left out,
/// and texts are cut to 1,000 characters.
///
/// # Errors
/// A file that is not as [`write_parquet`](crate::write_parquet) writes it.
pub fn read_rows(
    parquet: &Section,
    (offset, limit): (usize, usize),
    is_hidden: impl Fn(&str) -> bool,
) -> Result<(Vec<String>, Vec<Row>), Error> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(parquet.clone()).map_err(Error::Parquet)?;
    let columns: Vec<String> = builder.schema().fields().iter().map(|field| field.name().clone()).collect();
    let hidden: Vec<bool> = columns.iter().map(|name| is_hidden(name)).collect();
    let reader =
        builder.with_batch_size(BATCH_ROWS).with_offset(offset).with_limit(limit).build().map_err(Error::Parquet)?;
    let mut rows = Vec::new();
    for batch in reader {
        let batch = batch.map_err(Error::arrow("read rows"))?;
        let cells = |row: usize| {
            let columns = batch.columns().iter().zip(&hidden);
            columns.map(|(array, hidden)| if *hidden { None } else { cell(array, row) }).collect()
        };
        rows.extend((0..batch.num_rows()).map(cells));
    }
    Ok((columns, rows))
}

fn cell(array: &ArrayRef, row: usize) -> Option<Cell> {
    if array.is_null(row) {
        return None;
    }
    match array.data_type() {
        DataType::Int64 => Some(Cell::Integer(array.as_primitive::<Int64Type>().value(row))),
        DataType::Float64 => Some(Cell::Number(array.as_primitive::<Float64Type>().value(row))),
        DataType::Boolean => Some(Cell::Boolean(array.as_boolean().value(row))),
        DataType::Utf8 => Some(Cell::Text(array.as_string::<i32>().value(row).chars().take(TEXT_CHARS).collect())),
        DataType::Timestamp(..) => {
            let millis = array.as_primitive::<TimestampMillisecondType>().value(row);
            DateTime::from_timestamp_millis(millis).map(Cell::Time)
        }
        _ => None,
    }
}
