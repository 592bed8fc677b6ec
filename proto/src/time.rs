//! Times and spans between the wire and chrono.

use chrono::{DateTime, TimeDelta, Utc};
use prost_types::{Duration, Timestamp};

/// A time as it travels.
pub fn to_wire(time: DateTime<Utc>) -> Timestamp {
    Timestamp { seconds: time.timestamp(), nanos: i32::try_from(time.timestamp_subsec_nanos()).unwrap_or(999_999_999) }
}

/// A time as it arrived; `None` where it is outside of what can be told.
pub fn from_wire(time: Timestamp) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(time.seconds, u32::try_from(time.nanos).ok()?)
}

/// A span as it travels.
pub fn span_to_wire(span: TimeDelta) -> Duration {
    Duration { seconds: span.num_seconds(), nanos: span.subsec_nanos() }
}

/// A span as it arrived; `None` where it is outside of what can be told.
pub fn span_from_wire(span: Duration) -> Option<TimeDelta> {
    TimeDelta::try_seconds(span.seconds)?.checked_add(&TimeDelta::nanoseconds(span.nanos.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_survive_the_way_and_those_that_cannot_be_told_are_none() {
        for span in [TimeDelta::zero(), TimeDelta::milliseconds(1_500), TimeDelta::milliseconds(-1_500)] {
            assert_eq!(span_from_wire(span_to_wire(span)), Some(span));
        }
        for span in [TimeDelta::MIN, TimeDelta::MAX] {
            assert_eq!(span_from_wire(span_to_wire(span)), Some(span));
        }
        for (seconds, nanos) in [(i64::MIN, 0), (i64::MAX, 0), (i64::MAX, i32::MAX), (i64::MIN, i32::MIN)] {
            assert_eq!(span_from_wire(Duration { seconds, nanos }), None, "{seconds} s, {nanos} ns");
        }
        let last = TimeDelta::MAX.num_seconds();
        assert_eq!(span_from_wire(Duration { seconds: last, nanos: i32::MAX }), None, "the sum does not fit");
    }

    #[test]
    fn times_that_cannot_be_told_are_none() {
        for (seconds, nanos) in [(i64::MIN, 0), (i64::MAX, 0), (0, -1), (0, i32::MAX)] {
            assert_eq!(from_wire(Timestamp { seconds, nanos }), None, "{seconds} s, {nanos} ns");
        }
        assert_eq!(from_wire(to_wire(DateTime::UNIX_EPOCH)), Some(DateTime::UNIX_EPOCH));
    }
}
