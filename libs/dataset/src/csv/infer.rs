use arrow::datatypes::DataType;
use rekindle_domain::dataset::TimeFormat;

use super::{
    parse_time,
    strays::{Strays, TextReason},
};
use crate::{cast::EXACT_INTEGER, schema::canonical_timestamp};

/// Infers the type of a column value by value: keeps the types that hold every value so far.
#[derive(Debug, Clone)]
pub(crate) struct Narrowest {
    times: TimeFormat,
    /// Whether the column was declared to hold times, and so is no candidate for another type.
    is_time: bool,
    empty: bool,
    integer: bool,
    number: bool,
    boolean: bool,
    timestamp: bool,
    /// The least and the greatest number.
    range: Option<(f64, f64)>,
    strays: Strays,
}

impl Narrowest {
    /// Of a column whose times are written in a format.
    pub(crate) fn new(times: TimeFormat) -> Self {
        Self {
            times,
            is_time: false,
            empty: true,
            integer: true,
            number: true,
            boolean: true,
            timestamp: true,
            range: None,
            strays: Strays::default(),
        }
    }

    /// Of a column that was declared to hold times in a format.
    pub(crate) fn of_times(times: TimeFormat) -> Self {
        Self { is_time: true, integer: false, number: false, boolean: false, ..Self::new(times) }
    }

    /// Adds a value that is not missing. False for a value that is not of the declared type.
    pub(crate) fn see(&mut self, text: &str) -> bool {
        self.empty = false;
        if self.is_time {
            return parse_time(text, self.times).is_some();
        }
        if !self.number && self.strays.is_searching() {
            self.strays.see(text, parse_number(text).is_some(), self.times);
        }
        match parse_integer(text).filter(|_| self.integer) {
            // An integer is of no other type, so a column of integers is not parsed as floats too.
            Some(value) => {
                self.number &= is_exact(value);
                self.widen(value as f64);
                self.strays.numbers += 1;
                (self.boolean, self.timestamp) = (false, false);
            }
            None => {
                self.integer = false;
                if self.number {
                    let number = parse_number(text);
                    self.number = number.is_some();
                    number.into_iter().for_each(|number| self.widen(number));
                    self.strays.see(text, self.number, self.times);
                }
                self.boolean = self.boolean && parse_boolean(text).is_some();
                self.timestamp = self.timestamp && parse_time(text, self.times).is_some();
            }
        }
        true
    }

    fn widen(&mut self, number: f64) {
        let (least, greatest) = self.range.get_or_insert((number, number));
        *least = least.min(number);
        *greatest = greatest.max(number);
    }

    /// The least and the greatest number of a numeric column.
    pub(crate) fn range(&self) -> Option<(f64, f64)> {
        self.range.filter(|_| self.integer || self.number)
    }

    /// Why a column is text although its values look like another type, as far as its first values tell.
    pub(crate) fn text_reason(&self) -> Option<TextReason> {
        if self.data_type() == DataType::Utf8 { self.strays.reason() } else { None }
    }

    /// Whether no value was added.
    pub(crate) fn is_empty(&self) -> bool {
        self.empty
    }

    /// The canonical type; `Utf8` without any value.
    pub(crate) fn data_type(&self) -> DataType {
        match self {
            Self { is_time: true, .. } => canonical_timestamp(),
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
