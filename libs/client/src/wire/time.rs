//! Times and spans.

use chrono::{DateTime, TimeDelta, Utc};
use prost_types::{Duration, Timestamp};

/// The first and the last second for which `google.protobuf.Timestamp` is defined.
const EARLIEST: i64 = -62_135_596_800;
const LATEST: i64 = 253_402_300_799;
/// The longest span for which `google.protobuf.Duration` is defined: 10,000 years.
const LONGEST: TimeDelta = TimeDelta::seconds(315_576_000_000);

/// A time as a message holds it; one outside of the years 1 to 9999 is the nearest second that is defined.
pub fn to_wire(time: DateTime<Utc>) -> Timestamp {
    let seconds = time.timestamp();
    let defined = seconds.clamp(EARLIEST, LATEST);
    let nanos =
        if seconds == defined { i32::try_from(time.timestamp_subsec_nanos()).unwrap_or(999_999_999) } else { 0 };
    Timestamp { seconds: defined, nanos: nanos.min(999_999_999) }
}

/// The time that a message holds; `None` outside of the years 1 to 9999, for which alone a timestamp is defined.
pub fn from_wire(time: Timestamp) -> Option<DateTime<Utc>> {
    let nanos = u32::try_from(time.nanos).ok()?;
    DateTime::from_timestamp(time.seconds, nanos).filter(|_| (EARLIEST..=LATEST).contains(&time.seconds))
}

/// A span as a message holds it; a longer one is the longest that is defined.
pub fn span_to_wire(span: std::time::Duration) -> Duration {
    let span = TimeDelta::from_std(span).map_or(LONGEST, |span| span.min(LONGEST));
    Duration { seconds: span.num_seconds(), nanos: span.subsec_nanos() }
}

/// The span that a message holds; `None` if negative or out of range.
pub fn span_from_wire(span: Duration) -> Option<std::time::Duration> {
    let span = TimeDelta::try_seconds(span.seconds)?.checked_add(&TimeDelta::nanoseconds(span.nanos.into()))?;
    (span <= LONGEST).then_some(span)?.to_std().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_survive_and_those_out_of_range_are_none() {
        for millis in [0, 1, 1_500, 86_400_000] {
            let span = std::time::Duration::from_millis(millis);
            assert_eq!(span_from_wire(span_to_wire(span)), Some(span));
        }
        let longest = span_to_wire(std::time::Duration::MAX);
        assert_eq!(longest, Duration { seconds: 315_576_000_000, nanos: 0 });
        assert!(span_from_wire(longest).is_some());
        let outside = [
            (315_576_000_000, 1),
            (-1, 0),
            (0, -1),
            (i64::MIN, 0),
            (i64::MAX, 0),
            (i64::MAX, i32::MAX),
            (i64::MIN, i32::MIN),
        ];
        for (seconds, nanos) in outside {
            assert_eq!(span_from_wire(Duration { seconds, nanos }), None, "{seconds} s, {nanos} ns");
        }
    }

    #[test]
    fn times_survive_and_those_out_of_range_are_none() {
        // The last two are the second before the year 1 and the first of the year 10,000.
        let outside = [
            (i64::MIN, 0),
            (i64::MAX, 0),
            (0, -1),
            (0, i32::MAX),
            (300_000_000_000, 0),
            (-62_135_596_801, 0),
            (253_402_300_800, 0),
        ];
        for (seconds, nanos) in outside {
            assert_eq!(from_wire(Timestamp { seconds, nanos }), None, "{seconds} s, {nanos} ns");
        }
        assert_eq!(from_wire(to_wire(DateTime::UNIX_EPOCH)), Some(DateTime::UNIX_EPOCH));
        for (time, seconds) in [(DateTime::<Utc>::MIN_UTC, EARLIEST), (DateTime::<Utc>::MAX_UTC, LATEST)] {
            assert_eq!(to_wire(time), Timestamp { seconds, nanos: 0 });
            assert!(from_wire(to_wire(time)).is_some());
        }
    }
}
