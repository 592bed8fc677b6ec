//! Parts of the calendar, in UTC. A part is used only where training rows span two periods of it, since otherwise it
//! would be a clock that tells training rows apart from all later ones.

use std::f64::consts::TAU;

use serde::{Deserialize, Serialize};

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
const WEEK_MS: i64 = 7 * DAY_MS;
/// The mean Gregorian year: 365.2425 days.
const YEAR_MS: i64 = 31_556_952_000;

/// Which parts of an instant a model looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calendar {
    /// Time of day, as sine and cosine.
    pub time_of_day: bool,
    /// Day of the week, as seven numbers of which one is 1; Monday is the first.
    pub day_of_week: bool,
    /// Time of year, as sine and cosine.
    pub time_of_year: bool,
    /// Whether one more number says that the instant was missing; the others are then 0.
    pub indicator: bool,
}

impl Calendar {
    /// The parts of which a span of milliseconds holds two periods.
    pub(crate) fn for_span(span: i64, indicator: bool) -> Self {
        Self {
            time_of_day: span >= 2 * DAY_MS,
            day_of_week: span >= 2 * WEEK_MS,
            time_of_year: span >= 2 * YEAR_MS,
            indicator,
        }
    }

    /// How many numbers it gives.
    pub fn width(&self) -> usize {
        2 * usize::from(self.time_of_day)
            + 7 * usize::from(self.day_of_week)
            + 2 * usize::from(self.time_of_year)
            + usize::from(self.indicator)
    }

    /// Writes the numbers of one instant into `slots`, which are [`Self::width`] zeros.
    pub(crate) fn write(&self, instant: Option<i64>, slots: &mut [f32]) {
        let mut slots = slots.iter_mut();
        let mut put = |value: f64| {
            if let Some(slot) = slots.next() {
                *slot = value as f32;
            }
        };
        let mut wave = |used: bool, period: i64| {
            if used {
                let (sin, cos) = instant.map_or((0.0, 0.0), |at| phase(at, period).sin_cos());
                put(sin);
                put(cos);
            }
        };
        wave(self.time_of_day, DAY_MS);
        wave(self.time_of_year, YEAR_MS);
        if self.day_of_week {
            let today = instant.map(weekday);
            for day in 0..7 {
                put(f64::from(u8::from(today == Some(day))));
            }
        }
        if self.indicator {
            put(f64::from(u8::from(instant.is_none())));
        }
    }
}

/// How far into the period an instant lies, in radians.
fn phase(instant: i64, period: i64) -> f64 {
    instant.rem_euclid(period) as f64 / period as f64 * TAU
}

/// 0 for Monday; 1 January 1970 was a Thursday.
fn weekday(instant: i64) -> i64 {
    (instant.div_euclid(DAY_MS) + 3).rem_euclid(7)
}

#[cfg(test)]
mod tests {
    use super::*;

    // 2013-01-01T06:00:00Z, a Tuesday.
    const TUESDAY_AT_SIX: i64 = 1_357_020_000_000;

    #[test]
    fn writes_hour_and_weekday() {
        let calendar = Calendar::for_span(120 * DAY_MS, false);
        assert!(calendar.time_of_day && calendar.day_of_week && !calendar.time_of_year);
        let mut slots = vec![0.0; calendar.width()];
        calendar.write(Some(TUESDAY_AT_SIX), &mut slots);
        assert!((slots[0] - 1.0).abs() < 1e-6 && slots[1].abs() < 1e-6, "a quarter of the day: {slots:?}");
        assert_eq!(slots[2..], [0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn a_missing_instant_is_all_zeros_but_the_indicator() {
        let calendar = Calendar::for_span(3 * YEAR_MS, true);
        let mut slots = vec![0.0; calendar.width()];
        calendar.write(None, &mut slots);
        let (last, rest) = slots.split_last().expect("twelve");
        assert!(*last == 1.0 && rest.iter().all(|&slot| slot == 0.0), "{slots:?}");
    }

    #[test]
    fn a_short_span_has_no_calendar() {
        assert_eq!(Calendar::for_span(DAY_MS, false).width(), 0);
    }
}
