//! Calendar features in UTC. A feature is used only if the training rows span two of its periods; otherwise it would
//! separate the training rows from all later rows.

use std::f64::consts::TAU;

use serde::{Deserialize, Serialize};

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
const WEEK_MS: i64 = 7 * DAY_MS;
/// The mean Gregorian year: 365.2425 days.
const YEAR_MS: i64 = 31_556_952_000;

/// The calendar features that are derived from a timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calendar {
    /// Time of day, as sine and cosine.
    pub time_of_day: bool,
    /// Day of the week, one-hot, Monday first.
    pub day_of_week: bool,
    /// Time of year, as sine and cosine.
    pub time_of_year: bool,
    /// Whether a last number indicates a missing timestamp; the others are then 0.
    pub indicator: bool,
}

impl Calendar {
    /// The features for training rows that span this many milliseconds, without indicator.
    pub fn for_span(span: i64) -> Self {
        Self {
            time_of_day: span >= 2 * DAY_MS,
            day_of_week: span >= 2 * WEEK_MS,
            time_of_year: span >= 2 * YEAR_MS,
            indicator: false,
        }
    }

    /// The number of dense features.
    pub fn width(&self) -> usize {
        2 * usize::from(self.time_of_day)
            + 7 * usize::from(self.day_of_week)
            + 2 * usize::from(self.time_of_year)
            + usize::from(self.indicator)
    }

    /// Writes the features of one timestamp into `slots`, which has [`Self::width`] elements.
    pub(crate) fn write(&self, timestamp: Option<i64>, slots: &mut [f32]) {
        let mut slots = slots.iter_mut();
        let mut put = |value: f64| {
            if let Some(slot) = slots.next() {
                *slot = value as f32;
            }
        };
        let periods = [(self.time_of_day, DAY_MS), (self.time_of_year, YEAR_MS)];
        for (_, period) in periods.into_iter().filter(|&(used, _)| used) {
            let (sin, cos) = timestamp.map_or((0.0, 0.0), |at| phase(at, period).sin_cos());
            put(sin);
            put(cos);
        }
        if self.day_of_week {
            let today = timestamp.map(weekday);
            for day in 0..7 {
                put(f64::from(u8::from(today == Some(day))));
            }
        }
        if self.indicator {
            put(f64::from(u8::from(timestamp.is_none())));
        }
    }
}

/// The position of a timestamp within the period, in radians.
fn phase(timestamp: i64, period: i64) -> f64 {
    timestamp.rem_euclid(period) as f64 / period as f64 * TAU
}

/// 0 for Monday; 1 January 1970 was a Thursday.
fn weekday(timestamp: i64) -> i64 {
    (timestamp.div_euclid(DAY_MS) + 3).rem_euclid(7)
}

#[cfg(test)]
mod tests {
    use super::*;

    // 2013-01-01T06:00:00Z, a Tuesday.
    const TUESDAY_AT_SIX: i64 = 1_357_020_000_000;

    #[test]
    fn encodes_time_of_day_and_weekday() {
        let calendar = Calendar::for_span(120 * DAY_MS);
        assert!(calendar.time_of_day && calendar.day_of_week && !calendar.time_of_year);
        let mut slots = vec![0.0; calendar.width()];
        calendar.write(Some(TUESDAY_AT_SIX), &mut slots);
        assert!((slots[0] - 1.0).abs() < 1e-6 && slots[1].abs() < 1e-6, "a quarter of the day: {slots:?}");
        assert_eq!(slots[2..], [0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn missing_timestamp_sets_only_the_indicator() {
        let calendar = Calendar { indicator: true, ..Calendar::for_span(3 * YEAR_MS) };
        let mut slots = vec![0.0; calendar.width()];
        calendar.write(None, &mut slots);
        let (last, rest) = slots.split_last().expect("twelve");
        assert!(*last == 1.0 && rest.iter().all(|&slot| slot == 0.0), "{slots:?}");
    }

    #[test]
    fn short_span_has_no_features() {
        assert_eq!(Calendar::for_span(DAY_MS).width(), 0);
    }
}
