use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{Array as _, ArrayRef, AsArray as _, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array},
    compute,
    datatypes::{DataType, Field, TimestampMillisecondType},
};
use chrono::{DateTime, Utc};

use crate::{
    Error,
    cast::lossless,
    normalise::normalise,
    schema::{Column, Kind, Schema, canonical_timestamp, check_names, kind_of, type_name},
};

/// The first and the last of some times.
pub type TimeRange = (DateTime<Utc>, DateTime<Utc>);

/// Rows in memory, in canonical types.
///
/// `schema` describes `batch` column for column; make tables with [`Table::from_batch`] so that they agree.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// The columns.
    pub schema: Schema,
    /// The values, in one batch.
    pub batch: RecordBatch,
}

impl Table {
    /// Takes over a batch, bringing every column to its canonical type.
    ///
    /// # Errors
    /// Unusable or duplicate names; a type without canonical form; an unsigned integer beyond `i64`.
    pub fn from_batch(batch: &RecordBatch) -> Result<Self, Error> {
        let fields = batch.schema();
        let columns = fields
            .fields()
            .iter()
            .zip(batch.columns())
            .map(|(field, array)| Ok((field.name().clone(), normalise(field.name(), array)?)))
            .collect::<Result<Vec<_>, Error>>()?;
        Self::from_columns(columns, batch.num_rows())
    }

    /// Puts together named columns of canonical type and equal length.
    pub(crate) fn from_columns(columns: Vec<(String, ArrayRef)>, rows: usize) -> Result<Self, Error> {
        check_names(columns.iter().map(|(name, _)| name.as_str()))?;
        let mut schema = Schema::default();
        let mut fields = Vec::with_capacity(columns.len());
        let mut arrays = Vec::with_capacity(columns.len());
        for (name, array) in columns {
            let kind = kind_of(array.data_type()).ok_or_else(|| Error::Unsupported {
                column: name.clone(),
                found: array.data_type().to_string(),
                fix: "normalise it first",
            })?;
            let nullable = array.null_count() > 0;
            fields.push(Field::new(&name, array.data_type().clone(), nullable));
            schema.columns.push(Column { name, data_type: array.data_type().clone(), kind, nullable });
            arrays.push(array);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch =
            RecordBatch::try_new_with_options(Arc::new(arrow::datatypes::Schema::new(fields)), arrays, &options)
                .map_err(Error::arrow("put the columns together"))?;
        Ok(Self { schema, batch })
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.batch.num_rows()
    }

    /// The values of a column.
    ///
    /// # Errors
    /// No such column.
    pub fn column(&self, name: &str) -> Result<&ArrayRef, Error> {
        self.batch.column_by_name(name).ok_or_else(|| Error::NoColumn {
            name: name.to_owned(),
            have: self.schema.names().map(str::to_owned).collect(),
        })
    }

    /// Gives columns the kinds named, changing their type where need be: an `Int64` column marked
    /// categorical becomes text, text marked numeric is parsed, integers marked timestamp are milliseconds
    /// since 1970. Columns not named stay as they are.
    ///
    /// # Errors
    /// No such column; a value that the new type cannot hold unchanged.
    pub fn with_kinds(&self, kinds: &BTreeMap<String, Kind>) -> Result<Self, Error> {
        for name in kinds.keys() {
            self.column(name)?;
        }
        self.map_columns(|column, array| match kinds.get(&column.name) {
            Some(&kind) if kind != column.kind => to_kind(&column.name, array, kind),
            _ => Ok(array.clone()),
        })
    }

    /// The columns named, in the order named.
    ///
    /// # Errors
    /// No such column; a name given twice.
    pub fn project(&self, names: &[&str]) -> Result<Self, Error> {
        let columns = names.iter().map(|name| Ok(((*name).to_owned(), self.column(name)?.clone())));
        Self::from_columns(columns.collect::<Result<_, Error>>()?, self.rows())
    }

    /// Every column but those named; naming one that is absent is allowed.
    pub fn without(&self, names: &[&str]) -> Result<Self, Error> {
        let kept: Vec<&str> = self.schema.names().filter(|name| !names.contains(name)).collect();
        self.project(&kept)
    }

    /// The rows in order of time; rows of equal time keep their order.
    ///
    /// # Errors
    /// No such column; it is not a timestamp; a missing time.
    pub fn sort_by_time(&self, column: &str) -> Result<Self, Error> {
        let times = self.times(column)?;
        if times.is_sorted() {
            return Ok(self.clone());
        }
        let mut order: Vec<u32> = (0..row_count(times.len())?).collect();
        order.sort_by_key(|&row| times[row as usize]);
        self.take(&UInt32Array::from(order))
    }

    /// The rows with `from <= time < until`, in their order; a bound left out is open.
    ///
    /// # Errors
    /// As [`sort_by_time`](Self::sort_by_time).
    pub fn slice_time(
        &self,
        column: &str,
        from: Option<DateTime<Utc>>,
        until: Option<DateTime<Utc>>,
    ) -> Result<Self, Error> {
        let from = from.map_or(i64::MIN, |time| time.timestamp_millis());
        let inside = |time: i64| time >= from && until.is_none_or(|until| time < until.timestamp_millis());
        self.filter(&self.times(column)?.iter().map(|&time| Some(inside(time))).collect())
    }

    /// The first and the last time, or `None` without rows. The rows may be in any order.
    ///
    /// # Errors
    /// As [`sort_by_time`](Self::sort_by_time), and a time outside the years that [`DateTime`] can tell.
    pub fn time_range(&self, column: &str) -> Result<Option<TimeRange>, Error> {
        let times = self.times(column)?;
        let (Some(&min), Some(&max)) = (times.iter().min(), times.iter().max()) else { return Ok(None) };
        let date = |millis: i64| {
            DateTime::from_timestamp_millis(millis).ok_or_else(|| Error::Lossy {
                column: column.to_owned(),
                row: times.iter().position(|&time| time == millis).unwrap_or_default(),
                value: millis.to_string(),
                to: "a date",
            })
        };
        Ok(Some((date(min)?, date(max)?)))
    }

    /// The times of a timestamp column, in milliseconds since 1970 in UTC.
    ///
    /// # Errors
    /// As [`sort_by_time`](Self::sort_by_time).
    pub fn times(&self, column: &str) -> Result<&[i64], Error> {
        let array = self.column(column)?;
        let Some(times) = array.as_primitive_opt::<TimestampMillisecondType>() else {
            let (found, expected) = (type_name(array.data_type()), "a timestamp; mark it as one, or choose another");
            return Err(Error::Type { column: column.to_owned(), found, expected });
        };
        match (0..times.len()).find(|&row| times.is_null(row)) {
            Some(row) if times.null_count() > 0 => Err(Error::MissingTime { column: column.to_owned(), row }),
            _ => Ok(times.values()),
        }
    }

    /// The rows where `keep` is true.
    ///
    /// # Errors
    /// `keep` is not as long as the table.
    pub fn filter(&self, keep: &BooleanArray) -> Result<Self, Error> {
        self.rebatch(compute::filter_record_batch(&self.batch, keep).map_err(Error::arrow("choose rows"))?)
    }

    /// The rows at `rows`, in that order.
    ///
    /// # Errors
    /// A row that does not exist; more text in one column than 2 GiB.
    pub fn take(&self, rows: &UInt32Array) -> Result<Self, Error> {
        self.rebatch(compute::take_record_batch(&self.batch, rows).map_err(Error::arrow("choose rows"))?)
    }

    /// `rows` rows from `offset` on, without a copy; cut to what there is.
    pub fn slice(&self, offset: usize, rows: usize) -> Self {
        let offset = offset.min(self.rows());
        let batch = self.batch.slice(offset, rows.min(self.rows() - offset));
        self.rebatch(batch).expect("a slice has the columns of its table")
    }

    /// The tables one after the other: the columns that all have, in the order and types of the first.
    ///
    /// A column of another type is brought to the first's where every value survives: `Float64` to `Int64` if
    /// whole, text that spells a number to that number, integers to a timestamp as milliseconds since 1970.
    ///
    /// # Errors
    /// No tables; no common column; a value that the first's type cannot hold unchanged.
    pub fn concat(tables: &[Self]) -> Result<Self, Error> {
        let (first, rest) = tables.split_first().ok_or(Error::Concat("there are none"))?;
        let everywhere = |name: &&str| rest.iter().all(|table| table.schema.column(name).is_some());
        let shared: Vec<&str> = first.schema.names().filter(everywhere).collect();
        if shared.is_empty() {
            return Err(Error::Concat("no column is in all of them"));
        }
        let columns = shared.iter().map(|name| Ok(((*name).to_owned(), concat_column(tables, name)?)));
        Self::from_columns(columns.collect::<Result<_, Error>>()?, tables.iter().map(Self::rows).sum())
    }

    fn map_columns(&self, change: impl Fn(&Column, &ArrayRef) -> Result<ArrayRef, Error>) -> Result<Self, Error> {
        let pairs = self.schema.columns.iter().zip(self.batch.columns());
        let changed = pairs.map(|(column, array)| Ok((column.name.clone(), change(column, array)?)));
        Self::from_columns(changed.collect::<Result<_, Error>>()?, self.rows())
    }

    /// A batch of the same columns, whose nullability may have changed with the rows.
    fn rebatch(&self, batch: RecordBatch) -> Result<Self, Error> {
        let rows = batch.num_rows();
        let names = self.schema.names().map(str::to_owned);
        Self::from_columns(names.zip(batch.columns().iter().cloned()).collect(), rows)
    }
}

fn row_count(rows: usize) -> Result<u32, Error> {
    u32::try_from(rows).map_err(|_| Error::TooLarge { what: "rows", limit: u32::MAX as usize })
}

fn to_kind(name: &str, array: &ArrayRef, kind: Kind) -> Result<ArrayRef, Error> {
    match kind {
        Kind::Numeric if array.data_type() == &DataType::Utf8 => {
            lossless(name, array, &DataType::Int64).or_else(|_| lossless(name, array, &DataType::Float64))
        }
        Kind::Numeric => lossless(name, array, &DataType::Int64),
        Kind::Categorical => lossless(name, array, &DataType::Utf8),
        Kind::Timestamp => lossless(name, array, &canonical_timestamp()),
        Kind::Boolean => lossless(name, array, &DataType::Boolean),
    }
}

fn concat_column(tables: &[Table], name: &str) -> Result<ArrayRef, Error> {
    let target = tables[0].column(name)?.data_type().clone();
    let parts = tables.iter().map(|table| lossless(name, table.column(name)?, &target));
    let parts = parts.collect::<Result<Vec<_>, Error>>()?;
    let arrays: Vec<&dyn arrow::array::Array> = parts.iter().map(AsRef::as_ref).collect();
    compute::concat(&arrays).map_err(Error::arrow("put the tables one after the other"))
}
