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
    strays: Strays,
}

/// What stands in the way of a column of numbers.
#[derive(Debug, Clone, Default)]
struct Strays {
    numbers: u64,
    others: u64,
    first: Option<String>,
    has_codes: bool,
}

/// Values after which a column that is text is no longer searched for what makes it so.
const SEARCHED: u64 = 10_000;

/// Of so many numbers at least one may not be one for it to be worth telling.
const NUMBERS_PER_STRAY: u64 = 9;

/// Characters of a value that are enough to find it by.
const STRAY_CHARS: usize = 40;

impl Strays {
    fn see(&mut self, text: &str, is_number: bool) {
        if is_number {
            self.numbers += 1;
        } else if text.parse::<f64>().is_ok() {
            // A code such as 0123: the column is text with good reason.
            self.has_codes = true;
        } else {
            self.others += 1;
            self.first.get_or_insert_with(|| text.chars().take(STRAY_CHARS).collect());
        }
    }
}

impl Narrowest {
    pub(crate) fn new() -> Self {
        let strays = Strays::default();
        Self { empty: true, integer: true, number: true, boolean: true, timestamp: true, strays }
    }

    /// Takes a value that is not missing into account.
    pub(crate) fn see(&mut self, text: &str) {
        self.empty = false;
        if !self.number && self.strays.numbers + self.strays.others < SEARCHED {
            self.strays.see(text, parse_number(text).is_some());
        }
        match parse_integer(text).filter(|_| self.integer) {
            // What spares a column of integers being parsed as floats too; they are of no other type.
            Some(value) => {
                self.number &= is_exact(value);
                self.strays.numbers += 1;
                (self.boolean, self.timestamp) = (false, false);
            }
            None => {
                self.integer = false;
                if self.number {
                    self.number = parse_number(text).is_some();
                    self.strays.see(text, self.number);
                }
                self.boolean = self.boolean && parse_boolean(text).is_some();
                self.timestamp = self.timestamp && parse_timestamp(text).is_some();
            }
        }
    }

    /// A value that makes text of what is numbers nearly throughout, as far as was looked.
    pub(crate) fn stray(&self) -> Option<&str> {
        let Strays { numbers, others, first, has_codes } = &self.strays;
        let is_text = self.data_type() == DataType::Utf8 && !has_codes;
        first.as_deref().filter(|_| is_text && *numbers >= NUMBERS_PER_STRAY * others)
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

/// Whether all of the text is digits after a sign, of any number, but no code with leading zeros.
pub(crate) fn is_whole_number(text: &str) -> bool {
    is_integer_literal(text) && !has_leading_zero(text)
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

/// Whether all digits of a date are there, and of a time if there is one: parsers take fewer, and then codes such as `3-2-1` for days.
fn begins_with_time(text: &[u8]) -> bool {
    const DATE: &[u8] = b"0000-00-00";
    const TIME: &[u8] = b"00:00:00";
    let is_like = |text: &[u8], pattern: &[u8]| {
        let digit =
            |(&found, &wanted): (&u8, &u8)| if wanted == b'0' { found.is_ascii_digit() } else { found == wanted };
        text.len() == pattern.len() && text.iter().zip(pattern).all(digit)
    };
    let time = text.get(DATE.len() + 1..DATE.len() + 1 + TIME.len());
    text.get(..DATE.len()).is_some_and(|date| is_like(date, DATE))
        && (text.len() == DATE.len() || time.is_some_and(|time| is_like(time, TIME)))
}

/// Milliseconds since 1970 of RFC 3339, or of `YYYY-MM-DD`, `YYYY-MM-DD HH:MM:SS[.fff]` (also with `T`) taken as UTC.
/// What is finer than a millisecond is cut off.
pub(crate) fn parse_timestamp(text: &str) -> Option<i64> {
    if !begins_with_time(text.as_bytes()) {
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
