//! Notes on how a file is read: what a person should know before the values are used.

use std::fmt;

use arrow::datatypes::DataType;
use rekindle_domain::dataset::EpochUnit;

use crate::{
    csv::{SPELLINGS, Spelling, TextReason},
    normalise::is_whole_decimal,
};

/// What a person should know about how a column is read. Its text is a sentence without a full stop.
#[derive(Debug, Clone, PartialEq)]
pub struct Note {
    /// The column.
    pub column: String,
    /// What about it.
    pub kind: NoteKind,
}

/// What a note is about. Values are cut to 40 characters.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum NoteKind {
    /// Text because of a value, while most are numbers.
    NoNumber {
        /// The value.
        value: String,
    },
    /// Text because of a value, while most are times.
    NoTime {
        /// The value.
        value: String,
    },
    /// Text since numbers in it are not written as numbers are read.
    Spelled {
        /// How they are written.
        spelling: Spelling,
        /// One of them.
        value: String,
    },
    /// Text since numbers in it have leading zeros, or more digits than a number holds.
    Codes {
        /// One of them.
        value: String,
    },
    /// Text since its times are not written as times are read.
    UnreadTimes {
        /// One of them.
        value: String,
    },
    /// Whole numbers that look like dates.
    DateNumbers {
        /// One of them.
        value: i64,
    },
    /// A column without a name, which libraries write for an index of rows.
    Unnamed,
    /// Decimals with more digits than a number holds.
    Decimals {
        /// Their type.
        found: String,
    },
    /// Numbers that are read as times.
    Epoch {
        /// Their unit.
        unit: EpochUnit,
    },
}

impl Note {
    /// The note on a column that is text for a reason.
    pub(crate) fn of_text(column: &str, reason: TextReason) -> Self {
        let kind = match reason {
            TextReason::NoNumber(value) => NoteKind::NoNumber { value },
            TextReason::NoTime(value) => NoteKind::NoTime { value },
            TextReason::Spelled(spelling, value) => NoteKind::Spelled { spelling, value },
            TextReason::LeadingZeros(value) => NoteKind::Codes { value },
            TextReason::UnreadTimes(value) => NoteKind::UnreadTimes { value },
        };
        Self { column: column.to_owned(), kind }
    }

    /// The note on a column of whole numbers, if they are years, months and days.
    pub(crate) fn of_numbers(column: &str, (least, greatest): (f64, f64)) -> Option<Self> {
        let is_date = |number: f64| {
            let number = number as u32;
            let (year, month, day) = (number / 10_000, number / 100 % 100, number % 100);
            (1900..2100).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day)
        };
        let kind = NoteKind::DateNumbers { value: least as i64 };
        (is_date(least) && is_date(greatest)).then(|| Self { column: column.to_owned(), kind })
    }

    /// The note on decimals that have more digits than a number holds.
    pub(crate) fn of_decimals(column: &str, found: &DataType) -> Option<Self> {
        let digits = match found {
            DataType::Decimal32(digits, _) | DataType::Decimal64(digits, _) => *digits,
            DataType::Decimal128(digits, _) | DataType::Decimal256(digits, _) => *digits,
            _ => 0,
        };
        let kind = NoteKind::Decimals { found: found.to_string() };
        (digits > 15 && !is_whole_decimal(found)).then(|| Self { column: column.to_owned(), kind })
    }

    /// The note on a column whose header is empty, or as pandas names and stores an index.
    pub(crate) fn of_index(column: &str, has_name: bool) -> Option<Self> {
        let is_index = !has_name || column.starts_with("Unnamed: ") || column.starts_with("__index_level_");
        is_index.then(|| Self { column: column.to_owned(), kind: NoteKind::Unnamed })
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let column = &self.column;
        match &self.kind {
            NoteKind::NoNumber { value } => write!(
                f,
                "{column:?} is read as text since it has the value {value:?}; if that stands for a missing value, use --missing"
            ),
            NoteKind::NoTime { value } => write!(
                f,
                "{column:?} is read as text and not as times since it has the value {value:?}; if that stands for a missing value, use --missing"
            ),
            NoteKind::Spelled { spelling, value } => {
                write!(
                    f,
                    "{column:?} is read as text since it has numbers {spelling}, such as {value:?}; write them with digits and a decimal point only"
                )
            }
            NoteKind::Codes { value } => write!(
                f,
                "{column:?} is read as text since it has codes, such as {value:?}: numbers with leading zeros, or with more digits than a 64-bit number holds"
            ),
            NoteKind::UnreadTimes { value } => write!(
                f,
                "{column:?} is read as text although it looks like times, such as {value:?}; times are read as {SPELLINGS}, \
                 and others with --time-format day-first or month-first"
            ),
            NoteKind::DateNumbers { value } => write!(
                f,
                "{column:?} is read as numbers although it looks like dates, such as {value}; times are read as {SPELLINGS}"
            ),
            NoteKind::Unnamed => write!(
                f,
                "{column:?} has no name of its own, as an index of rows that was written with the data; if it is one, exclude it with --ignore"
            ),
            NoteKind::Decimals { found } => write!(
                f,
                "{column:?} has the type {found} and is read as the nearest 64-bit floating-point numbers, which hold 15 digits, and whole numbers up to 2^53"
            ),
            NoteKind::Epoch { unit } => write!(
                f,
                "{column:?} is read as {} since 1970; if its unit is another, use --time-format {column}=epoch-s, epoch-ms, epoch-us or epoch-ns",
                unit.name()
            ),
        }
    }
}

impl fmt::Display for Spelling {
    /// As in "numbers with a percent sign".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Currency => "with a currency sign",
            Self::Percent => "with a percent sign",
            Self::Thousands => "with separators of thousands",
            Self::DecimalComma => "with a decimal comma",
            Self::Padded => "with space around them",
        })
    }
}
