//! How the values of files are read, where the files do not say it themselves.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

use crate::event_time;

/// How the values of files are read: the same options for registering, comparing and replaying files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadOptions {
    /// Field delimiter of CSV files, as [`parse_separator`] accepts it.
    pub separator: u8,
    /// Spellings of a missing value, beside the empty text. One that is a number stands for the number, however a file spells or
    /// stores it: `inf` is the infinity of a Parquet file too.
    pub missing: BTreeSet<String>,
    /// How dates are written, in the columns without an entry in `time_formats`. Not an epoch, for which any number could be taken.
    pub time_format: TimeFormat,
    /// How times are written, by column. These columns are timestamps.
    pub time_formats: BTreeMap<String, TimeFormat>,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self { separator: b',', missing: BTreeSet::new(), time_format: TimeFormat::Iso, time_formats: BTreeMap::new() }
    }
}

impl ReadOptions {
    /// How the times of a column are written.
    pub fn time_format_of(&self, column: &str) -> TimeFormat {
        self.time_formats.get(column).copied().unwrap_or(self.time_format)
    }
}

/// The field delimiter that a text names: one ASCII character, or the word `tab`.
///
/// # Errors
/// A letter, a digit, a quote, a line end, or more than one character.
pub fn parse_separator(text: &str) -> Result<u8, &'static str> {
    match text.as_bytes() {
        _ if text == "tab" => Ok(b'\t'),
        [byte] if byte.is_ascii() && !byte.is_ascii_alphanumeric() && !b"\"\r\n".contains(byte) => Ok(*byte),
        _ => Err("expected one ASCII character, such as ; or |, or the word tab"),
    }
}

/// How times are written. Every format includes ISO 8601, which begins with the year.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TimeFormat {
    /// `2024-03-01`, `2024-03-01 10:30:00` and the like only.
    #[default]
    Iso,
    /// `31/12/2024`, also with `.` or `-`, and a time of day.
    DayFirst,
    /// `12/31/2024`, also with `.` or `-`, and a time of day.
    MonthFirst,
    /// Numbers since 1970.
    Epoch(EpochUnit),
}

/// The unit of numbers since 1970-01-01 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EpochUnit {
    /// Seconds; fractions are read too.
    Seconds,
    /// Milliseconds.
    Millis,
    /// Microseconds.
    Micros,
    /// Nanoseconds.
    Nanos,
}

impl TimeFormat {
    /// Every format.
    pub const ALL: [Self; 7] = [
        Self::Iso,
        Self::DayFirst,
        Self::MonthFirst,
        Self::Epoch(EpochUnit::Seconds),
        Self::Epoch(EpochUnit::Millis),
        Self::Epoch(EpochUnit::Micros),
        Self::Epoch(EpochUnit::Nanos),
    ];

    /// Its name, e.g. `day-first` or `epoch-ms`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Iso => "iso",
            Self::DayFirst => "day-first",
            Self::MonthFirst => "month-first",
            Self::Epoch(EpochUnit::Seconds) => "epoch-s",
            Self::Epoch(EpochUnit::Millis) => "epoch-ms",
            Self::Epoch(EpochUnit::Micros) => "epoch-us",
            Self::Epoch(EpochUnit::Nanos) => "epoch-ns",
        }
    }
}

impl fmt::Display for TimeFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for TimeFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|format| format.name() == text).ok_or_else(|| {
            format!("{text:?} is no time format: expected one of {}", Self::ALL.map(Self::name).join(", "))
        })
    }
}

impl EpochUnit {
    /// Every unit.
    pub const ALL: [Self; 4] = [Self::Seconds, Self::Millis, Self::Micros, Self::Nanos];

    /// Its name in sentences.
    pub fn name(self) -> &'static str {
        match self {
            Self::Seconds => "seconds",
            Self::Millis => "milliseconds",
            Self::Micros => "microseconds",
            Self::Nanos => "nanoseconds",
        }
    }

    /// Units per second.
    fn per_second(self) -> f64 {
        match self {
            Self::Seconds => 1.0,
            Self::Millis => 1e3,
            Self::Micros => 1e6,
            Self::Nanos => 1e9,
        }
    }

    /// Milliseconds since 1970, truncated towards the past; `None` outside of the years 1 to 9999.
    pub fn millis(self, value: i64) -> Option<i64> {
        let millis = match self {
            Self::Seconds => value.checked_mul(1000)?,
            Self::Millis => value,
            Self::Micros => value.div_euclid(1000),
            Self::Nanos => value.div_euclid(1_000_000),
        };
        event_time::checked(millis).ok()
    }

    /// As [`millis`](Self::millis), of a float. Seconds may have a fraction, and are rounded to the nearest millisecond, since the
    /// fraction of a float is not exact; `None` for a fraction of another unit.
    pub fn millis_of_float(self, value: f64) -> Option<i64> {
        if self != Self::Seconds && value.fract() != 0.0 {
            return None;
        }
        let millis = value * (1e3 / self.per_second());
        let millis = if self == Self::Seconds { millis.round() } else { millis.floor() };
        // Far within the integers that a float represents exactly; NaN is in no range.
        let bounds = (*event_time::RANGE.start() as f64)..=(*event_time::RANGE.end() as f64);
        bounds.contains(&millis).then_some(millis as i64)
    }

    /// The unit of the numbers from `least` to `greatest`, if no other fits: from 10^8 to 10^10 seconds, which are the years 1973 to 2286,
    /// no number is in the range of two units.
    pub fn certain(least: f64, greatest: f64) -> Option<Self> {
        let holds =
            |unit: &Self| least >= LEAST_SECONDS * unit.per_second() && greatest < GREATEST_SECONDS * unit.per_second();
        Self::ALL.into_iter().find(holds)
    }

    /// The unit that is [`certain`](Self::certain), or else milliseconds if the numbers are below all ranges.
    ///
    /// # Errors
    /// Numbers of different ranges, or between the ranges.
    pub fn inferred(least: f64, greatest: f64) -> Result<Self, AmbiguousEpoch> {
        let are_small = least > -LEAST_SECONDS && greatest < LEAST_SECONDS;
        let small = are_small.then_some(Self::Millis);
        Self::certain(least, greatest).or(small).ok_or(AmbiguousEpoch { least, greatest })
    }
}

/// The range of seconds in which a number is certainly seconds.
const LEAST_SECONDS: f64 = 1e8;
const GREATEST_SECONDS: f64 = 1e10;

/// Numbers since 1970 whose unit is not certain.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("the numbers from {least} to {greatest} are times since 1970 in no certain unit; declare it, e.g. epoch-ms")]
pub struct AmbiguousEpoch {
    /// The least number.
    pub least: f64,
    /// The greatest.
    pub greatest: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_parsed_by_name() {
        for format in TimeFormat::ALL {
            assert_eq!(format.to_string().parse(), Ok(format));
        }
        let error = "epoch".parse::<TimeFormat>().expect_err("no format");
        assert!(error.contains("\"epoch\"") && error.contains("epoch-ms"), "{error}");
    }

    #[test]
    fn a_separator_is_one_character_that_no_value_begins_with() {
        for (text, separator) in [(";", b';'), ("|", b'|'), ("tab", b'\t'), ("\t", b'\t'), (" ", b' ')] {
            assert_eq!(parse_separator(text), Ok(separator));
        }
        for text in ["", "a", "1", "\"", "\n", ";;", "é"] {
            assert!(parse_separator(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn units_of_epochs_are_inferred_where_no_other_fits() {
        use EpochUnit::{Micros, Millis, Nanos, Seconds};
        for (least, greatest, unit) in [
            (1.7e9, 1.8e9, Some(Seconds)),
            (1.7e12, 1.8e12, Some(Millis)),
            (1.7e15, 1.8e15, Some(Micros)),
            (1.7e18, 1.8e18, Some(Nanos)),
            (0.0, 2000.0, Some(Millis)),
            (0.0, 1.7e9, None),
            (1.7e9, 1.7e12, None),
            (5e10, 6e10, None),
            (-1e9, 1e9, None),
        ] {
            assert_eq!(EpochUnit::inferred(least, greatest).ok(), unit, "{least} to {greatest}");
        }
    }

    #[test]
    fn epochs_become_milliseconds_within_the_years_1_to_9999() {
        assert_eq!(EpochUnit::Seconds.millis(1_710_460_800), Some(1_710_460_800_000));
        assert_eq!(EpochUnit::Micros.millis(-1), Some(-1), "truncated towards the past");
        assert_eq!(EpochUnit::Nanos.millis(1_999_999), Some(1));
        assert_eq!(EpochUnit::Millis.millis(i64::MAX), None);
        assert_eq!(EpochUnit::Seconds.millis(i64::MAX), None);
        assert_eq!(EpochUnit::Seconds.millis_of_float(1_710_460_800.123), Some(1_710_460_800_123));
        assert_eq!(EpochUnit::Seconds.millis_of_float(f64::NAN), None);
        assert_eq!(EpochUnit::Millis.millis_of_float(1e300), None);
        assert_eq!(
            (EpochUnit::Millis.millis_of_float(0.5), EpochUnit::Micros.millis_of_float(1500.0)),
            (None, Some(1))
        );
    }
}
