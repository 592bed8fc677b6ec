//! Conversions between canonical types that keep the meaning of every value.

use std::sync::Arc;

use arrow::{
    array::{
        Array as _, ArrayRef, AsArray as _, BooleanArray, Float64Array, Int64Array, StringArray,
        TimestampMillisecondArray, new_null_array,
    },
    compute,
    datatypes::{DataType, Float64Type, Int64Type, TimeUnit, TimestampMillisecondType},
};
use chrono::{DateTime, SecondsFormat};
use rekindle_domain::dataset::{EpochUnit, TimeFormat};

use crate::{
    Error,
    csv::{parse_boolean, parse_float, parse_time, parse_timestamp},
    normalise::normalise,
    schema::{canonical_timestamp, type_name},
};

/// Integers up to this magnitude have an exact `f64`; a whole `f64` below it represents exactly one integer.
pub(crate) const EXACT_INTEGER: i64 = 1 << 53;

/// One value of a canonical column.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Value<'a> {
    Int(i64),
    Float(f64),
    Bool(bool),
    Text(&'a str),
    Time(i64),
}

/// The value at `row`; `None` if missing. The array has a canonical type.
pub(crate) fn value_at(array: &ArrayRef, row: usize) -> Option<Value<'_>> {
    if array.is_null(row) {
        return None;
    }
    match array.data_type() {
        DataType::Int64 => Some(Value::Int(array.as_primitive::<Int64Type>().value(row))),
        DataType::Float64 => Some(Value::Float(array.as_primitive::<Float64Type>().value(row))),
        DataType::Boolean => Some(Value::Bool(array.as_boolean().value(row))),
        DataType::Utf8 => Some(Value::Text(array.as_string::<i32>().value(row))),
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            Some(Value::Time(array.as_primitive::<TimestampMillisecondType>().value(row)))
        }
        other => unreachable!("{other} is not a canonical type"),
    }
}

impl Value<'_> {
    /// The value as text; times in RFC 3339.
    pub(crate) fn text(self) -> String {
        match self {
            Self::Int(v) => v.to_string(),
            Self::Float(v) => v.to_string(),
            Self::Bool(v) => v.to_string(),
            Self::Text(v) => v.to_owned(),
            Self::Time(v) => DateTime::from_timestamp_millis(v)
                .map_or_else(|| v.to_string(), |time| time.to_rfc3339_opts(SecondsFormat::AutoSi, true)),
        }
    }

    fn int(self) -> Option<i64> {
        match self {
            Self::Int(v) | Self::Time(v) => Some(v),
            Self::Float(v) => whole(v),
            Self::Bool(v) => Some(i64::from(v)),
            Self::Text(v) => v.parse().ok(),
        }
    }

    fn float(self) -> Option<f64> {
        match self {
            Self::Int(v) => (v.unsigned_abs() <= EXACT_INTEGER.unsigned_abs()).then_some(v as f64),
            Self::Float(v) => Some(v),
            Self::Bool(v) => Some(f64::from(u8::from(v))),
            Self::Text(v) => parse_float(v),
            Self::Time(_) => None,
        }
    }

    fn boolean(self) -> Option<bool> {
        match self {
            Self::Bool(v) => Some(v),
            Self::Text(v) => parse_boolean(v),
            Self::Int(_) | Self::Float(_) => match self.int() {
                Some(0) => Some(false),
                Some(1) => Some(true),
                _ => None,
            },
            Self::Time(_) => None,
        }
    }

    /// The canonical spelling of a category. Whole floats have that of their integer, since a column of whole numbers with missing
    /// values is often stored as floats.
    fn category(self) -> String {
        match self {
            Self::Float(v) => whole(v).map_or_else(|| v.to_string(), |v| v.to_string()),
            other => other.text(),
        }
    }

    fn time(self) -> Option<i64> {
        match self {
            Self::Int(v) | Self::Time(v) => Some(v),
            Self::Float(v) => whole(v),
            Self::Text(v) => parse_timestamp(v),
            Self::Bool(_) => None,
        }
    }
}

fn whole(value: f64) -> Option<i64> {
    (value.fract() == 0.0 && value.abs() < EXACT_INTEGER as f64).then_some(value as i64)
}

/// The type that holds the values of both types. Integers widen to numbers, and everything widens to text; numbers beside booleans are 0
/// and 1, and beside timestamps milliseconds since 1970. The order of files is irrelevant.
pub(crate) fn wider(one: &DataType, other: &DataType) -> DataType {
    match (one, other) {
        (one, other) if one == other => one.clone(),
        (DataType::Utf8, _) | (_, DataType::Utf8) => DataType::Utf8,
        (DataType::Int64, other) => other.clone(),
        (one, DataType::Int64) => one.clone(),
        (DataType::Float64, other) => other.clone(),
        (one, DataType::Float64) => one.clone(),
        _ => DataType::Utf8,
    }
}

/// Converts a canonical column to another canonical type. Missing values stay missing, and not-a-number is missing.
///
/// # Errors
/// The first value that the type cannot hold unchanged.
pub(crate) fn lossless(name: &str, array: &ArrayRef, to: &DataType) -> Result<ArrayRef, Error> {
    if array.data_type() == to {
        return Ok(array.clone());
    }
    if array.null_count() == array.len() {
        return Ok(new_null_array(to, array.len()));
    }
    match to {
        DataType::Int64 => convert_all(name, array, to, |v| v.int()).map(|v| Arc::new(Int64Array::from(v)) as _),
        DataType::Float64 => convert_all(name, array, to, |v| v.float()).map(|v| Arc::new(Float64Array::from(v)) as _),
        DataType::Boolean => {
            convert_all(name, array, to, |v| v.boolean()).map(|v| Arc::new(BooleanArray::from(v)) as _)
        }
        DataType::Utf8 => {
            convert_all(name, array, to, |v| Some(v.category())).map(|v| Arc::new(StringArray::from(v)) as _)
        }
        _ => convert_all(name, array, to, |v| v.time()).map(|v| Arc::new(TimestampMillisecondArray::from(v)) as _),
    }
}

/// The least and the greatest number of a numeric column; `None` without values.
pub(crate) fn number_range(array: &ArrayRef) -> Result<Option<(f64, f64)>, Error> {
    let numbers = compute::cast(array, &DataType::Float64).map_err(Error::arrow("read numbers"))?;
    let numbers = numbers.as_primitive::<Float64Type>();
    Ok(compute::min(numbers).zip(compute::max(numbers)))
}

/// Numbers since 1970 as timestamps. Missing values stay missing.
///
/// # Errors
/// The first number outside of the years 1 to 9999.
pub(crate) fn epochs(name: &str, array: &ArrayRef, unit: EpochUnit) -> Result<ArrayRef, Error> {
    let array = normalise(name, array)?;
    let convert = |value: Value<'_>| match value {
        Value::Int(value) => unit.millis(value),
        Value::Float(value) => unit.millis_of_float(value),
        _ => None,
    };
    convert_all(name, &array, &canonical_timestamp(), convert)
        .map(|times| Arc::new(TimestampMillisecondArray::from(times)) as _)
}

/// Text as timestamps. Missing values stay missing.
///
/// # Errors
/// The first text that is not a time in the format.
pub(crate) fn times(name: &str, array: &ArrayRef, format: TimeFormat) -> Result<ArrayRef, Error> {
    let convert = |value: Value<'_>| match value {
        Value::Text(text) => parse_time(text, format),
        _ => None,
    };
    convert_all(name, array, &canonical_timestamp(), convert)
        .map(|times| Arc::new(TimestampMillisecondArray::from(times)) as _)
}

fn convert_all<T>(
    name: &str,
    array: &ArrayRef,
    to: &DataType,
    change: impl Fn(Value<'_>) -> Option<T>,
) -> Result<Vec<Option<T>>, Error> {
    let at = |row| match value_at(array, row) {
        None => Ok(None),
        Some(Value::Float(value)) if value.is_nan() => Ok(None),
        Some(Value::Text(text)) if *to == DataType::Float64 && parse_float(text).is_some_and(f64::is_nan) => Ok(None),
        Some(value) => change(value).map(Some).ok_or_else(|| Error::Lossy {
            column: name.to_owned(),
            row,
            value: value.text().chars().take(80).collect(),
            to: type_name(to),
        }),
    };
    (0..array.len()).map(at).collect()
}
