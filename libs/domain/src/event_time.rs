//! Event times: when the rows of a request happened, in milliseconds since 1970-01-01 UTC, within the years 1 to 9999.

use std::ops::RangeInclusive;

use chrono::{DateTime, Utc};

/// 0001-01-01T00:00:00Z to 9999-12-31T23:59:59.999Z, the range of `google.protobuf.Timestamp` and RFC 3339.
pub const RANGE: RangeInclusive<i64> = -62_135_596_800_000..=253_402_300_799_999;

/// An event time outside of the years 1 to 9999.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is {given}: expected milliseconds since 1970, in the years 1 to 9999{}", hint(*given))]
pub struct OutOfRange {
    /// The event time as given.
    pub given: i64,
}

/// The event time, if it is in [`RANGE`].
pub fn checked(millis: i64) -> Result<i64, OutOfRange> {
    if RANGE.contains(&millis) { Ok(millis) } else { Err(OutOfRange { given: millis }) }
}

/// The event time as a timestamp; the nearest one of [`RANGE`] if it is outside.
pub fn clamped(millis: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(millis.clamp(*RANGE.start(), *RANGE.end())).unwrap_or_default()
}

/// The unit that the number appears to have, if it is a plausible time in it.
fn hint(given: i64) -> String {
    let plausible = |millis: i64| (1970..2200).contains(&chrono::Datelike::year(&clamped(millis)));
    let unit = [("microseconds", 1_000), ("nanoseconds", 1_000_000)];
    let unit =
        unit.into_iter().find(|&(_, per_milli)| RANGE.contains(&(given / per_milli)) && plausible(given / per_milli));
    unit.map_or_else(String::new, |(unit, _)| format!("; it looks like {unit}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_is_that_of_rfc_3339() {
        for (text, millis) in [("0001-01-01T00:00:00Z", *RANGE.start()), ("9999-12-31T23:59:59.999Z", *RANGE.end())] {
            let time: DateTime<Utc> = text.parse().expect(text);
            assert_eq!(time.timestamp_millis(), millis);
            assert_eq!(checked(millis), Ok(millis));
            assert_eq!(clamped(millis), time);
        }
        for outside in [i64::MIN, RANGE.start() - 1, RANGE.end() + 1, i64::MAX] {
            assert_eq!(checked(outside), Err(OutOfRange { given: outside }));
            assert!(RANGE.contains(&clamped(outside).timestamp_millis()));
        }
    }

    #[test]
    fn a_wrong_unit_is_named() {
        let problem = |given: i64| checked(given).expect_err("out of range").to_string();
        assert!(problem(1_710_460_800_000_000).ends_with("; it looks like microseconds"));
        assert!(problem(1_710_460_800_000_000_000).ends_with("; it looks like nanoseconds"));
        assert!(problem(i64::MAX).ends_with("in the years 1 to 9999"), "{}", problem(i64::MAX));
        assert!(problem(i64::MIN).ends_with("in the years 1 to 9999"));
    }
}
