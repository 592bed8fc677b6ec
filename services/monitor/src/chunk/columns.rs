//! Typed access to the columns of a chunk.

use std::sync::Arc;

use arrow::{
    array::{Array, AsArray, FixedSizeBinaryArray, RecordBatch, StringArray, TimestampMillisecondArray, UInt32Array},
    datatypes::{DataType, Field, Float32Type, Float64Type, Int64Type, Schema, TimestampMillisecondType, UInt32Type},
};
use rekindle_dataset::prediction_log;
pub use rekindle_dataset::prediction_log::{
    ANSWERED_AT, ENTITY_KEY, EVENT_TIME, GUARDRAILS, INPUT_PREFIX as INPUT, OUTPUT_PREFIX as OUTPUT, PREDICTION_ID,
    REQUEST_ID, ROW,
};

use crate::{Error, outcome::Key};

/// Name of the column of replica names.
pub const REPLICA: &str = "replica";
/// Name of the column of replica incarnations.
pub const INCARNATION: &str = "incarnation";

pub(super) fn missing(column: &str, expected: &'static str) -> Error {
    Error::Column { column: column.to_owned(), expected }
}

/// A required column of any type.
pub fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a dyn Array, Error> {
    batch.column_by_name(name).map(AsRef::as_ref).ok_or_else(|| missing(name, "any type"))
}

/// The columns that identify a row.
pub struct Keys<'a> {
    ids: &'a FixedSizeBinaryArray,
    rows: &'a UInt32Array,
}

impl<'a> Keys<'a> {
    /// The key columns of a batch.
    pub fn of(batch: &'a RecordBatch) -> Result<Self, Error> {
        let ids = column(batch, PREDICTION_ID)?
            .as_fixed_size_binary_opt()
            .filter(|ids| ids.value_length() == 16)
            .ok_or_else(|| missing(PREDICTION_ID, "16 bytes"))?;
        let rows = column(batch, ROW)?.as_primitive_opt::<UInt32Type>().ok_or_else(|| missing(ROW, "uint32"))?;
        Ok(Self { ids, rows })
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    /// The key of the row at `index`.
    pub fn key(&self, index: usize) -> Key {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(self.ids.value(index));
        Key { prediction: u128::from_be_bytes(bytes), row: self.rows.value(index) }
    }

    /// The smallest and the greatest prediction id; `None` for an empty batch.
    pub fn id_range(&self) -> Option<(u128, u128)> {
        let ids = || (0..self.rows()).map(|index| self.key(index).prediction);
        ids().min().zip(ids().max())
    }
}

/// The column of event times.
pub fn event_times(batch: &RecordBatch) -> Result<&TimestampMillisecondArray, Error> {
    column(batch, EVENT_TIME)?
        .as_primitive_opt::<TimestampMillisecondType>()
        .ok_or_else(|| missing(EVENT_TIME, "timestamp in milliseconds"))
}

/// A required text column.
pub fn texts<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a StringArray, Error> {
    column(batch, name)?.as_string_opt::<i32>().ok_or_else(|| missing(name, "text"))
}

/// A column of numbers as doubles; nulls stay missing. `None` for a column of another type.
pub fn numbers(column: &dyn Array) -> Option<Vec<Option<f64>>> {
    if let Some(values) = column.as_primitive_opt::<Float64Type>() {
        return Some(values.iter().collect());
    }
    if let Some(values) = column.as_primitive_opt::<Float32Type>() {
        return Some(values.iter().map(|value| value.map(f64::from)).collect());
    }
    let values = column.as_primitive_opt::<Int64Type>()?;
    Some(values.iter().map(|value| value.map(|value| value as f64)).collect())
}

/// Rows of the prediction log with the replica that sent them, and with every optional column, so that the rows of all requests have the same
/// columns.
pub fn with_replica(batch: &RecordBatch, replica: &str, incarnation: &str) -> Result<RecordBatch, Error> {
    let repeat = |text: &str| Arc::new(StringArray::from_iter_values(std::iter::repeat_n(text, batch.num_rows())));
    let mut fields: Vec<_> = batch.schema().fields().iter().cloned().collect();
    let mut columns = batch.columns().to_vec();
    for (name, text) in [(REPLICA, replica), (INCARNATION, incarnation)] {
        fields.push(Arc::new(Field::new(name, DataType::Utf8, false)));
        columns.push(repeat(text));
    }
    for name in prediction_log::OPTIONAL {
        if batch.column_by_name(name).is_none() {
            fields.push(Arc::new(prediction_log::optional_field(name)));
            columns.push(Arc::new(StringArray::new_null(batch.num_rows())));
        }
    }
    // Without the schema metadata: it describes one message, and a chunk holds rows of many.
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}
