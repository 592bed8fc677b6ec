//! Event times: when the rows of a request happened, in milliseconds since 1970-01-01 UTC, within the years 1 to 9999.

use std::{ops::RangeInclusive, time::Duration};

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};

use crate::validation::{Checks, Violations};

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

/// When the last `share` of a time range begins.
pub fn latest_share((first, last): (DateTime<Utc>, DateTime<Utc>), share: f64) -> DateTime<Utc> {
    let held_out = (last - first).num_milliseconds() as f64 * share;
    #[expect(clippy::cast_possible_truncation, reason = "a share of whole milliseconds")]
    let held_out = held_out as i64;
    last - TimeDelta::milliseconds(held_out)
}

/// How far the event time of a live request may lie from its arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// How far before it.
    pub max_age: Duration,
    /// How far after it.
    pub max_ahead: Duration,
}

/// An event time too far from the arrival of its request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "is {time}, more than {} {side} its arrival{}: expected milliseconds since 1970; for rows of the past send the parameter \
     traffic = \"replay\", for a test \"test\"",
    spelled(*bound),
    hint(*given)
)]
pub struct FarFromArrival {
    given: i64,
    time: String,
    side: &'static str,
    bound: Duration,
}

impl Bounds {
    /// The greatest that either bound may be: the length of [`RANGE`].
    pub const GREATEST: Duration = Duration::from_secs(10_000 * 366 * 24 * 3_600);

    /// Checks both bounds.
    pub fn validate(&self) -> Result<(), Violations> {
        let mut checks = Checks::new();
        for (field, given) in [("max_age", self.max_age), ("max_ahead", self.max_ahead)] {
            let most = "at most 10,000 years";
            checks.require(given <= Self::GREATEST, field, spelled(given), most);
        }
        checks.finish()
    }

    /// Checks the event time of a row of a live request. Both times are in milliseconds.
    pub fn check(&self, event_time: i64, arrival: i64) -> Result<(), FarFromArrival> {
        let distance = u128::from(event_time.abs_diff(arrival));
        let (side, bound) = if event_time < arrival { ("before", self.max_age) } else { ("after", self.max_ahead) };
        if distance <= bound.as_millis() {
            return Ok(());
        }
        let time = clamped(event_time).to_rfc3339_opts(SecondsFormat::AutoSi, true);
        Err(FarFromArrival { given: event_time, time, side, bound })
    }
}

/// In days, if there are whole ones.
fn spelled(span: Duration) -> String {
    const DAY: u64 = 24 * 3_600;
    match span.as_secs() / DAY {
        days if days > 1 && span == Duration::from_secs(days * DAY) => format!("{days} days"),
        _ => humantime_serde::re::humantime::format_duration(span).to_string(),
    }
}

/// The unit that the number appears to have: the one in which it is a time of these decades, if milliseconds are not.
fn hint(given: i64) -> String {
    let plausible = |millis: i64| (1990..2100).contains(&chrono::Datelike::year(&clamped(millis)));
    let units = [
        ("seconds", given.checked_mul(1_000)),
        ("microseconds", Some(given / 1_000)),
        ("nanoseconds", Some(given / 1_000_000)),
    ];
    if plausible(given) {
        return String::new();
    }
    let unit =
        units.into_iter().find(|(_, millis)| millis.is_some_and(|millis| RANGE.contains(&millis) && plausible(millis)));
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

    #[test]
    fn a_live_event_time_is_near_its_arrival() {
        let bounds = Bounds { max_age: Duration::from_secs(400 * 86_400), max_ahead: Duration::from_secs(3_600) };
        let arrival = 1_710_460_800_000;
        for near in [arrival, arrival - 400 * 86_400_000, arrival + 3_600_000] {
            assert_eq!(bounds.check(near, arrival), Ok(()));
        }
        let problem = |given: i64| bounds.check(given, arrival).expect_err("too far").to_string();
        assert!(
            problem(arrival + 3_600_001).starts_with("is 2024-03-15T01:00:00.001Z, more than 1h after its arrival: ")
        );
        assert!(problem(*RANGE.start()).starts_with("is 0001-01-01T00:00:00Z, more than 400 days before its arrival"));
        assert!(problem(arrival / 1_000).contains("; it looks like seconds: expected milliseconds"));
        assert!(problem(arrival * 100).starts_with("is 7390-"), "{}", problem(arrival * 100));
        assert!(problem(i64::MIN).contains("before"), "no overflow");
    }
}
