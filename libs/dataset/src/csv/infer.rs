use std::{borrow::Cow, sync::Arc};

use arrow::{
    array::{ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray, TimestampMillisecondArray},
    datatypes::DataType,
};
use chrono::{DateTime, NaiveDate, NaiveDateTime};

use crate::{cast::EXACT_INTEGER, schema::canonical_timestamp};

/// The column in the narrowest type that every value fits.
pub(super) fn typed(fields: &[Option<Cow<'_, str>>]) -> ArrayRef {
    if fields.iter().all(Option::is_none) {
        return Arc::new(StringArray::new_null(fields.len()));
    }
    if let Some(values) = parse_all(fields, parse_integer) {
        Arc::new(Int64Array::from(values))
    } else if let Some(values) = parse_all(fields, parse_number) {
        Arc::new(Float64Array::from(values))
    } else if let Some(values) = parse_all(fields, parse_boolean) {
        Arc::new(BooleanArray::from(values))
    } else if let Some(values) = parse_all(fields, parse_timestamp) {
        Arc::new(TimestampMillisecondArray::from(values))
    } else {
        Arc::new(fields.iter().map(Option::as_deref).collect::<StringArray>())
    }
}

/// What [`typed`] finds out with all values at hand, told one value at a time: the types that have held every one so far.
#[derive(Debug, Clone)]
pub(crate) struct Narrowest {
    empty: bool,
    integer: bool,
    number: bool,
    boolean: bool,
    timestamp: bool,
}

impl Narrowest {
    pub(crate) fn new() -> Self {
        Self { empty: true, integer: true, number: true, boolean: true, timestamp: true }
    }

    /// Takes a value that is not missing into account.
    pub(crate) fn see(&mut self, text: &str) {
        self.empty = false;
        match parse_integer(text).filter(|_| self.integer) {
            // What spares a column of integers being parsed as floats too; they are of no other type.
            Some(value) => {
                self.number &= is_exact(value);
                (self.boolean, self.timestamp) = (false, false);
            }
            None => {
                self.integer = false;
                self.number = self.number && parse_number(text).is_some();
                self.boolean = self.boolean && parse_boolean(text).is_some();
                self.timestamp = self.timestamp && parse_timestamp(text).is_some();
            }
        }
    }

    /// The canonical type; text without any value.
    pub(crate) fn data_type(&self) -> DataType {
        match self {
            Self { empty: true, .. } => DataType::Utf8,
            Self { integer: true, .. } => DataType::Int64,
            Self { number: true, .. } => DataType::Float64,
            Self { boolean: true, .. } => DataType::Boolean,
            Self { timestamp: true, .. } => canonical_timestamp(),
            _ => DataType::Utf8,
        }
    }
}

/// Every value parsed, or `None` at the first that does not.
fn parse_all<T>(fields: &[Option<Cow<'_, str>>], parse: fn(&str) -> Option<T>) -> Option<Vec<Option<T>>> {
    fields
        .iter()
        .map(|field| match field {
            None => Some(None),
            Some(text) => parse(text).map(Some),
        })
        .collect()
}

fn is_integer_literal(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
}

fn has_leading_zero(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text).as_bytes();
    matches!(digits, [b'0', b'0'..=b'9', ..])
}

pub(crate) fn parse_integer(text: &str) -> Option<i64> {
    if has_leading_zero(text) { None } else { text.parse().ok() }
}

pub(crate) fn parse_number(text: &str) -> Option<f64> {
    if has_leading_zero(text) { None } else { parse_float(text) }
}

/// Decimal and scientific notation, and `nan` and `inf` in any case. What overflows to infinity, and whole numbers that
/// a float might round, are refused.
pub(crate) fn parse_float(text: &str) -> Option<f64> {
    let value: f64 = text.parse().ok()?;
    let overflowed = value.is_infinite() && text.bytes().any(|b| b.is_ascii_digit());
    let rounded = is_integer_literal(text) && !text.parse().is_ok_and(is_exact);
    (!overflowed && !rounded).then_some(value)
}

fn is_exact(whole: i64) -> bool {
    whole.unsigned_abs() <= EXACT_INTEGER.unsigned_abs()
}

/// `true` or `false` in any case.
pub(crate) fn parse_boolean(text: &str) -> Option<bool> {
    if text.eq_ignore_ascii_case("true") {
        Some(true)
    } else if text.eq_ignore_ascii_case("false") {
        Some(false)
    } else {
        None
    }
}

/// Milliseconds since 1970 of RFC 3339, or of `YYYY-MM-DD`, `YYYY-MM-DD HH:MM:SS[.fff]` (also with `T`) taken as UTC.
/// What is finer than a millisecond is cut off.
pub(crate) fn parse_timestamp(text: &str) -> Option<i64> {
    if !text.as_bytes().first()?.is_ascii_digit() {
        return None;
    }
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.timestamp_millis());
    }
    if let Ok(date) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        return Some(date.and_hms_opt(0, 0, 0)?.and_utc().timestamp_millis());
    }
    ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f"]
        .iter()
        .find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())
        .map(|time| time.and_utc().timestamp_millis())
}
