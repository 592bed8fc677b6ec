mod moments;
mod tally;

use arrow::{
    array::{Array as _, ArrayRef, ArrowPrimitiveType, AsArray as _, PrimitiveArray},
    datatypes::{DataType, Float64Type, Int64Type, TimestampMillisecondType},
};
use rekindle_domain::dataset::ColumnSummary;

use self::{moments::Moments, tally::Tally};
use crate::{Table, cast::Value, normalise::canonical_bits};

/// Summarises every column, in order.
pub fn summarise(table: &Table) -> Vec<ColumnSummary> {
    let columns = table.schema.columns.iter().zip(table.batch.columns());
    let summary = |(column, array): (&crate::Column, &ArrayRef)| {
        let mut summariser = Summariser::new(array.data_type());
        summariser.add(array);
        summariser.finish(&column.name)
    };
    columns.map(summary).collect()
}

/// Makes the summary of a column that is read batch by batch. Its memory does not depend on the number of rows.
pub(crate) struct Summariser {
    data_type: DataType,
    missing: u64,
    tally: Tally,
    moments: Moments,
}

impl Summariser {
    /// For a column of a canonical type.
    pub(crate) fn new(data_type: &DataType) -> Self {
        Self { data_type: data_type.clone(), missing: 0, tally: Tally::new(), moments: Moments::new() }
    }

    /// Adds values of the type.
    pub(crate) fn add(&mut self, array: &ArrayRef) {
        self.missing += array.null_count() as u64;
        match array.data_type() {
            DataType::Int64 => self.add_integers(array.as_primitive::<Int64Type>()),
            DataType::Float64 => {
                let values = array.as_primitive::<Float64Type>();
                values.iter().flatten().for_each(|value| self.tally.add_key(canonical_bits(value)));
                self.moments.add(&values.iter().flatten().filter(|v| v.is_finite()).collect::<Vec<_>>());
            }
            DataType::Boolean => array.as_boolean().iter().flatten().for_each(|v| self.tally.add_key(u64::from(v))),
            DataType::Utf8 => array.as_string::<i32>().iter().flatten().for_each(|text| self.tally.add_text(text)),
            _ => self.add_integers(array.as_primitive::<TimestampMillisecondType>()),
        }
    }

    fn add_integers<T: ArrowPrimitiveType<Native = i64>>(&mut self, values: &PrimitiveArray<T>) {
        values.iter().flatten().for_each(|value| self.tally.add_key(value.cast_unsigned()));
        self.moments.add(&values.iter().flatten().map(|value| value as f64).collect::<Vec<_>>());
    }

    /// The summary of all values added.
    pub(crate) fn finish(self, name: &str) -> ColumnSummary {
        let as_text = |key: u64, name: &str| match self.data_type {
            DataType::Utf8 => name.to_owned(),
            DataType::Int64 => Value::Int(key.cast_signed()).text(),
            DataType::Float64 => Value::Float(f64::from_bits(key)).text(),
            DataType::Boolean => Value::Bool(key == 1).text(),
            _ => Value::Time(key.cast_signed()).text(),
        };
        ColumnSummary {
            name: name.to_owned(),
            missing: self.missing,
            distinct: self.tally.distinct(),
            min: self.moments.min(),
            max: self.moments.max(),
            mean: self.moments.mean(),
            std: self.moments.std(),
            top: self.tally.top(as_text),
        }
    }
}
