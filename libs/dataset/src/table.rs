use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{Array as _, ArrayRef, AsArray as _, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array},
    compute,
    datatypes::{DataType, Field, TimestampMillisecondType},
};
use chrono::{DateTime, Utc};
use rekindle_domain::{ColumnKind, dataset::EpochUnit};

use crate::{
    Error,
    cast::{epochs, lossless, number_range, wider},
    normalise::normalise,
    schema::{Column, Schema, canonical_timestamp, check_names, kind_of, type_name},
};

/// The earliest and the latest time.
pub type TimeRange = (DateTime<Utc>, DateTime<Utc>);

/// Rows in canonical types, in memory or in files that are mapped into it.
///
/// `schema` describes `batch` column by column; [`Table::from_batch`] makes them agree.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// The columns.
    pub schema: Schema,
    /// The values, in one batch.
    pub batch: RecordBatch,
}

impl Table {
    /// Converts every column of a batch to its canonical type.
    ///
    /// # Errors
    /// Unusable or duplicate names; a type without canonical form; an unsigned integer above `i64::MAX`.
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

    /// Assembles named columns of canonical type and equal length.
    pub(crate) fn from_columns(columns: Vec<(String, ArrayRef)>, rows: usize) -> Result<Self, Error> {
        check_names(columns.iter().map(|(name, _)| name.as_str()))?;
        let mut schema = Schema::default();
        let mut fields = Vec::with_capacity(columns.len());
        let mut arrays = Vec::with_capacity(columns.len());
        for (name, array) in columns {
            let kind = kind_of(array.data_type()).ok_or_else(|| Error::Unsupported {
                column: name.clone(),
                found: array.data_type().to_string(),
                fix: "convert it to a canonical type first",
            })?;
            let nullable = array.null_count() > 0;
            fields.push(Field::new(&name, array.data_type().clone(), nullable));
            schema.columns.push(Column { name, data_type: array.data_type().clone(), kind, nullable });
            arrays.push(array);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch =
            RecordBatch::try_new_with_options(Arc::new(arrow::datatypes::Schema::new(fields)), arrays, &options)
                .map_err(Error::arrow("assemble the columns"))?;
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

    /// Changes the kinds of columns, and their types where the kind requires it: an `Int64` column marked
    /// categorical becomes text, text marked numeric is parsed, integers marked timestamp are milliseconds
    /// since 1970. Other columns are unchanged.
    ///
    /// # Errors
    /// No such column; a value that the new type cannot hold unchanged.
    pub fn with_kinds(&self, kinds: &BTreeMap<String, ColumnKind>) -> Result<Self, Error> {
        for name in kinds.keys() {
            self.column(name)?;
        }
        self.map_columns(|column, array| match kinds.get(&column.name) {
            Some(&kind) if kind != column.kind => to_kind(&column.name, array, kind),
            _ => Ok(array.clone()),
        })
    }

    /// These columns, in this order.
    ///
    /// # Errors
    /// No such column; a name given twice.
    pub fn project(&self, names: &[&str]) -> Result<Self, Error> {
        let columns = names.iter().map(|name| Ok(((*name).to_owned(), self.column(name)?.clone())));
        Self::from_columns(columns.collect::<Result<_, Error>>()?, self.rows())
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

    /// The rows with `from <= time < until`, in their order; a bound left out is open. Rows in order of time are not copied.
    ///
    /// # Errors
    /// As [`sort_by_time`](Self::sort_by_time).
    pub fn slice_time(
        &self,
        column: &str,
        from: Option<DateTime<Utc>>,
        until: Option<DateTime<Utc>>,
    ) -> Result<Self, Error> {
        let times = self.times(column)?;
        let from = from.map_or(i64::MIN, |time| time.timestamp_millis());
        let is_before = |time: i64| until.is_none_or(|until| time < until.timestamp_millis());
        if times.is_sorted() {
            let first = times.partition_point(|&time| time < from);
            let end = times.partition_point(|&time| is_before(time));
            return Ok(self.slice(first, end.saturating_sub(first)));
        }
        self.filter(&times.iter().map(|&time| Some(time >= from && is_before(time))).collect())
    }

    /// The earliest and the latest time, or `None` without rows. The rows may be in any order.
    ///
    /// # Errors
    /// As [`sort_by_time`](Self::sort_by_time), and a time out of the range of [`DateTime`].
    pub fn time_range(&self, column: &str) -> Result<Option<TimeRange>, Error> {
        let times = self.times(column)?;
        let (Some(&min), Some(&max)) = (times.iter().min(), times.iter().max()) else { return Ok(None) };
        let row = |millis: i64| times.iter().position(|&time| time == millis).unwrap_or_default();
        Ok(Some((date(column, row(min), min)?, date(column, row(max), max)?)))
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

    /// The rows for which `keep` is true.
    ///
    /// # Errors
    /// `keep` has another length than the table.
    pub fn filter(&self, keep: &BooleanArray) -> Result<Self, Error> {
        self.rebatch(compute::filter_record_batch(&self.batch, keep).map_err(Error::arrow("select rows"))?)
    }

    /// The rows at `rows`, in that order.
    ///
    /// # Errors
    /// A row that does not exist; more than 2 GiB of text in one column.
    pub fn take(&self, rows: &UInt32Array) -> Result<Self, Error> {
        self.rebatch(compute::take_record_batch(&self.batch, rows).map_err(Error::arrow("select rows"))?)
    }

    /// `rows` rows from `offset` on, or as many as there are, without copying.
    pub fn slice(&self, offset: usize, rows: usize) -> Self {
        let offset = offset.min(self.rows());
        let batch = self.batch.slice(offset, rows.min(self.rows() - offset));
        self.rebatch(batch).expect("a slice has the columns of its table")
    }

    /// Concatenates tables: the columns that all of them have, in the order of the first. A column is of the type that holds the values of
    /// all: integers widen to numbers, everything widens to text, and numbers beside booleans or timestamps are read as such.
    ///
    /// # Errors
    /// No tables; no common column; a value that the type cannot hold unchanged, e.g. an integer that no number holds exactly.
    pub fn concat(tables: &[Self]) -> Result<Self, Error> {
        let (first, rest) = tables.split_first().ok_or(Error::Concat("there are no tables"))?;
        let everywhere = |name: &&str| rest.iter().all(|table| table.schema.column(name).is_some());
        let shared: Vec<&str> = first.schema.names().filter(everywhere).collect();
        if shared.is_empty() {
            return Err(Error::Concat("they have no column in common"));
        }
        let columns = shared.iter().map(|name| Ok(((*name).to_owned(), concat_column(tables, name)?)));
        Self::from_columns(columns.collect::<Result<_, Error>>()?, tables.iter().map(Self::rows).sum())
    }

    fn map_columns(&self, change: impl Fn(&Column, &ArrayRef) -> Result<ArrayRef, Error>) -> Result<Self, Error> {
        let pairs = self.schema.columns.iter().zip(self.batch.columns());
        let changed = pairs.map(|(column, array)| Ok((column.name.clone(), change(column, array)?)));
        Self::from_columns(changed.collect::<Result<_, Error>>()?, self.rows())
    }

    /// A table of the same columns, whose nullability depends on the rows.
    fn rebatch(&self, batch: RecordBatch) -> Result<Self, Error> {
        let rows = batch.num_rows();
        let names = self.schema.names().map(str::to_owned);
        Self::from_columns(names.zip(batch.columns().iter().cloned()).collect(), rows)
    }
}

fn row_count(rows: usize) -> Result<u32, Error> {
    u32::try_from(rows).map_err(|_| Error::TooLarge { what: "rows", limit: u32::MAX as usize })
}

/// A time as a date.
///
/// # Errors
/// It is out of the range of [`DateTime`].
pub(crate) fn date(column: &str, row: usize, millis: i64) -> Result<DateTime<Utc>, Error> {
    DateTime::from_timestamp_millis(millis).ok_or_else(|| Error::Lossy {
        column: column.to_owned(),
        row,
        value: millis.to_string(),
        to: "a date",
    })
}

/// Converts a column to a type of the kind. Text that becomes numeric is `Int64` if every value is an integer, else `Float64`. Numbers that
/// become times are in the unit that their range shows.
fn to_kind(name: &str, array: &ArrayRef, kind: ColumnKind) -> Result<ArrayRef, Error> {
    if kind == ColumnKind::Timestamp && array.data_type().is_numeric() {
        let Some((least, greatest)) = number_range(array)? else {
            return lossless(name, array, &canonical_timestamp());
        };
        let failed = |source| Error::Epoch { column: name.to_owned(), source };
        return epochs(name, array, EpochUnit::inferred(least, greatest).map_err(failed)?);
    }
    match type_of_kind(array.data_type(), kind) {
        Some(data_type) => lossless(name, array, &data_type),
        None => lossless(name, array, &DataType::Int64).or_else(|_| lossless(name, array, &DataType::Float64)),
    }
}

/// The type of a column of type `found` and another kind once it has kind `kind`; `None` if that depends on its values.
pub(crate) fn type_of_kind(found: &DataType, kind: ColumnKind) -> Option<DataType> {
    match kind {
        ColumnKind::Numeric if found == &DataType::Utf8 => None,
        ColumnKind::Numeric => Some(DataType::Int64),
        ColumnKind::Categorical => Some(DataType::Utf8),
        ColumnKind::Timestamp => Some(canonical_timestamp()),
        ColumnKind::Boolean => Some(DataType::Boolean),
    }
}

fn concat_column(tables: &[Table], name: &str) -> Result<ArrayRef, Error> {
    let arrays = tables.iter().map(|table| table.column(name)).collect::<Result<Vec<_>, Error>>()?;
    // A CSV column without values is of type text for want of another.
    let is_known = |array: &&&ArrayRef| array.null_count() < array.len() || array.data_type() != &DataType::Utf8;
    let known = arrays.iter().filter(is_known).map(|array| array.data_type().clone());
    let target = known.reduce(|one, other| wider(&one, &other)).unwrap_or_else(|| arrays[0].data_type().clone());
    let converted =
        |to: &DataType| arrays.iter().map(|&array| lossless(name, array, to)).collect::<Result<Vec<_>, _>>();
    // Whole numbers are often stored as floats for want of a missing integer: they stay integers beside integers.
    let has_integers = arrays.iter().any(|array| array.data_type() == &DataType::Int64);
    let whole = (target == DataType::Float64 && has_integers).then(|| converted(&DataType::Int64).ok()).flatten();
    let parts = whole.map_or_else(|| converted(&target), Ok)?;
    let arrays: Vec<&dyn arrow::array::Array> = parts.iter().map(AsRef::as_ref).collect();
    compute::concat(&arrays).map_err(Error::arrow("concatenate a column"))
}
