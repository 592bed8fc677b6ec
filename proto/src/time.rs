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
    TimeDelta::seconds(span.seconds).checked_add(&TimeDelta::nanoseconds(span.nanos.into()))
}
