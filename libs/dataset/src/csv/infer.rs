use arrow::datatypes::DataType;
use chrono::{DateTime, NaiveDate, NaiveDateTime};

use crate::{cast::EXACT_INTEGER, schema::canonical_timestamp};

/// Infers the type of a column value by value: keeps the types that hold every value so far.
#[derive(Debug, Clone)]
pub(crate) struct Narrowest {
    empty: bool,
    integer: bool,
    number: bool,
    boolean: bool,
    timestamp: bool,
    strays: Strays,
}

/// The values that keep a column from being numeric.
#[derive(Debug, Clone, Default)]
struct Strays {
    numbers: u64,
    others: u64,
    first: Option<String>,
    has_codes: bool,
}

/// Values after which a text column is no longer searched for non-numeric values.
const SEARCHED: u64 = 10_000;

/// Numbers per non-numeric value from which the column counts as numeric with stray values.
const NUMBERS_PER_STRAY: u64 = 9;

/// Characters of a reported value.
const STRAY_CHARS: usize = 40;

impl Strays {
    fn see(&mut self, text: &str, is_number: bool) {
        if is_number {
            self.numbers += 1;
        } else if text.parse::<f64>().is_ok() {
            // A code such as 0123: the column is text by intent.
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

    /// Adds a value that is not missing.
    pub(crate) fn see(&mut self, text: &str) {
        self.empty = false;
        if !self.number && self.strays.numbers + self.strays.others < SEARCHED {
            self.strays.see(text, parse_number(text).is_some());
        }
        match parse_integer(text).filter(|_| self.integer) {
            // An integer is of no other type, so a column of integers is not parsed as floats too.
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

    /// A value that makes a nearly numeric column text, among the first values.
    pub(crate) fn stray(&self) -> Option<&str> {
        let Strays { numbers, others, first, has_codes } = &self.strays;
        let is_text = self.data_type() == DataType::Utf8 && !has_codes;
        first.as_deref().filter(|_| is_text && *numbers >= NUMBERS_PER_STRAY * others)
    }

    /// Whether no value was added.
    pub(crate) fn is_empty(&self) -> bool {
        self.empty
    }

    /// The canonical type; `Utf8` without any value.
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

fn is_integer_literal(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
}

fn has_leading_zero(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text).as_bytes();
    matches!(digits, [b'0', b'0'..=b'9', ..])
}

/// Whether the text is an optional sign and any number of digits without a leading zero.
pub(crate) fn is_whole_number(text: &str) -> bool {
    is_integer_literal(text) && !has_leading_zero(text)
}

pub(crate) fn parse_integer(text: &str) -> Option<i64> {
    if has_leading_zero(text) { None } else { text.parse().ok() }
}

pub(crate) fn parse_number(text: &str) -> Option<f64> {
    if has_leading_zero(text) { None } else { parse_float(text) }
}

/// Decimal and scientific notation, and `nan` and `inf` in any case. `None` for what overflows to infinity and for whole numbers
/// that a float may round.
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

/// Whether the date has all its digits, and the time if there is one. The parsers accept fewer, and so take codes such as `3-2-1` for
/// dates.
fn begins_with_time(text: &[u8]) -> bool {
    const DATE: &[u8] = b"0000-00-00";
    const TIME: &[u8] = b"00:00:00";
    let is_like = |text: &[u8], pattern: &[u8]| {
        let digit =
            |(&found, &expected): (&u8, &u8)| if expected == b'0' { found.is_ascii_digit() } else { found == expected };
        text.len() == pattern.len() && text.iter().zip(pattern).all(digit)
    };
    let time = text.get(DATE.len() + 1..DATE.len() + 1 + TIME.len());
    text.get(..DATE.len()).is_some_and(|date| is_like(date, DATE))
        && (text.len() == DATE.len() || time.is_some_and(|time| is_like(time, TIME)))
}

/// Milliseconds since 1970 of RFC 3339, or of `YYYY-MM-DD`, `YYYY-MM-DD HH:MM:SS[.fff]` (also with `T`) taken as UTC.
/// Truncated to milliseconds.
pub(crate) fn parse_timestamp(text: &str) -> Option<i64> {
    if !begins_with_time(text.as_bytes()) {
        return None;
    }
    if let Some(millis) = parse_plain_time(text.as_bytes()) {
        return Some(millis);
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

/// The most frequent spellings, `YYYY-MM-DD` and `YYYY-MM-DD HH:MM:SS` (also with `T`), of which chrono interprets the format for
/// every value. `None` for all else, leap seconds included. The text begins with a time.
fn parse_plain_time(text: &[u8]) -> Option<i64> {
    let number =
        |from: usize, to: usize| text[from..to].iter().fold(0, |value, byte| 10 * value + u32::from(byte - b'0'));
    let time = match text {
        [_, _, _, _, _, _, _, _, _, _] => (0, 0, 0),
        [_, _, _, _, _, _, _, _, _, _, b' ' | b'T', _, _, _, _, _, _, _, _] => {
            (number(11, 13), number(14, 16), number(17, 19))
        }
        _ => return None,
    };
    let date = NaiveDate::from_ymd_opt(number(0, 4).cast_signed(), number(5, 7), number(8, 10))?;
    Some(date.and_hms_opt(time.0, time.1, time.2)?.and_utc().timestamp_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What [`parse_timestamp`] does without [`parse_plain_time`].
    fn by_format(text: &str) -> Option<i64> {
        let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().and_then(|date| date.and_hms_opt(0, 0, 0));
        let formats = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f"];
        let time = formats.iter().find_map(|format| NaiveDateTime::parse_from_str(text, format).ok());
        date.or(time).map(|time| time.and_utc().timestamp_millis())
    }

    #[test]
    fn plain_times_are_what_their_format_says() {
        for date in ["2013-01-31", "0000-01-01", "9999-12-31", "2012-02-29", "2013-02-29", "2013-13-01", "2013-00-10"] {
            assert_eq!(parse_timestamp(date), by_format(date), "{date}");
            for time in [" 00:00:00", "T23:59:59", "t23:59:59", " 24:00:00", " 23:60:00", " 23:59:60", " 01:02:03.004"]
            {
                let text = date.to_owned() + time;
                assert_eq!(parse_timestamp(&text), by_format(&text), "{text}");
            }
        }
    }
}
