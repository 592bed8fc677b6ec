//! How a model is watched.

use rekindle_domain::{ModelName, policy::Watch as Bounds};
use serde::{Deserialize, Serialize};

use crate::window::Timing;

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// The longest span that may be set, in milliseconds: ten years.
pub const LONGEST: i64 = Bounds::LONGEST_SPAN.as_millis() as i64;

const SHORTEST_WINDOW: i64 = Bounds::SHORTEST_WINDOW.as_millis() as i64;

/// A model's settings and how often they were changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Watch {
    /// The model.
    pub model: ModelName,
    /// The settings.
    pub settings: Settings,
    /// 0 where nobody set any.
    pub revision: u64,
}

/// Windows that share a budget of false alarms: a month of days.
pub const LOOKS: u32 = 30;

/// Settings of one model. Spans are event time in milliseconds. A row that was stored before a field was there takes its default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Length of a window.
    pub window: i64,
    /// Where windows begin, counted from multiples of their length since 1970-01-01 UTC.
    pub window_offset: i64,
    /// How far behind the latest event time a row may come and still be counted.
    pub lateness: i64,
    /// How long after a window's end its outcomes are waited for.
    pub label_wait: i64,
    /// Rows below which a window is answered 'cannot tell'.
    pub min_rows: u64,
    /// Smallest population stability index that matters.
    pub drift_margin: f64,
    /// Smallest relative rise of the loss that matters.
    pub degradation_margin: f64,
    /// The budget: chance of any false alarm in [`LOOKS`] windows in which nothing changed, over all columns; that of a false alarm of
    /// lost quality is the same again.
    pub false_alarm_rate: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            window: DAY,
            window_offset: 0,
            lateness: HOUR,
            label_wait: DAY,
            min_rows: 200,
            drift_margin: 0.2,
            degradation_margin: 0.1,
            false_alarm_rate: 0.05,
        }
    }
}

/// A setting out of its bounds.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{field} is {got}: expected {expected}")]
pub struct InvalidSetting {
    /// The field's name on the wire.
    pub field: &'static str,
    /// What it held.
    pub got: String,
    /// What it may hold.
    pub expected: &'static str,
}

impl Settings {
    /// Checks every bound, and reports the first that does not hold. The bounds are those of a policy's watch, so that what the
    /// orchestrator took is not refused here.
    pub fn validate(&self) -> Result<(), InvalidSetting> {
        let span = |field, millis: i64, least: i64, expected| {
            let held = (least..=LONGEST).contains(&millis);
            if held { Ok(()) } else { Err(InvalidSetting { field, got: format!("{millis} ms"), expected }) }
        };
        let share = |field, value: f64, most: f64, expected| {
            let held = value.is_finite() && value > 0.0 && value <= most;
            if held { Ok(()) } else { Err(InvalidSetting { field, got: value.to_string(), expected }) }
        };
        span("watch.window", self.window, SHORTEST_WINDOW, "between 1 second and 10 years")?;
        span("watch.window_offset", self.window_offset, 0, "between 0 and the window's length")?;
        if self.window_offset >= self.window {
            let got = format!("{} ms", self.window_offset);
            return Err(InvalidSetting {
                field: "watch.window_offset",
                got,
                expected: "less than the window's length",
            });
        }
        span("watch.lateness", self.lateness, 0, "between 0 and 10 years")?;
        span("watch.label_wait", self.label_wait, 0, "between 0 and 10 years")?;
        if self.min_rows < Bounds::LEAST_ROWS {
            let got = self.min_rows.to_string();
            return Err(InvalidSetting { field: "watch.min_rows", got, expected: "at least 2" });
        }
        let margin = "above 0 and at most 100";
        share("watch.drift_margin", self.drift_margin, Bounds::GREATEST_MARGIN, margin)?;
        share("watch.degradation_margin", self.degradation_margin, Bounds::GREATEST_MARGIN, margin)?;
        let (rate, most) = (self.false_alarm_rate, Bounds::GREATEST_FALSE_ALARM_RATE);
        share("watch.false_alarm_rate", rate, most, "above 0 and at most 0.5")
    }

    /// What the windows need to know.
    pub fn timing(&self) -> Timing {
        Timing { length: self.window, offset: self.window_offset, lateness: self.lateness, label_wait: self.label_wait }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rekindle_domain::policy::InvalidPolicy;

    use super::*;

    /// The first field that the monitor refuses, and the first that a policy is refused for.
    fn refused(settings: &Settings) -> (Option<&'static str>, Option<&'static str>) {
        let span = |millis: i64| Duration::from_millis(millis.unsigned_abs());
        let policy = Bounds {
            window: span(settings.window),
            window_offset: span(settings.window_offset),
            lateness: span(settings.lateness),
            label_wait: span(settings.label_wait),
            min_rows: settings.min_rows,
            drift_margin: settings.drift_margin,
            degradation_margin: settings.degradation_margin,
            false_alarm_rate: settings.false_alarm_rate,
        };
        let by_policy = match policy.validate() {
            Ok(()) => None,
            Err(InvalidPolicy::Field { field, .. }) => Some(field),
            Err(InvalidPolicy::Recipe(error)) => panic!("a watch has no recipe: {error}"),
        };
        (settings.validate().err().map(|error| error.field), by_policy)
    }

    #[test]
    fn a_policy_is_held_to_the_same_bounds() {
        let base = Settings::default();
        let spans = [0, 1, SHORTEST_WINDOW - 1, SHORTEST_WINDOW, DAY - 1, DAY, DAY + 1, LONGEST, LONGEST + 1, i64::MAX];
        let spans = spans.into_iter().flat_map(|span| {
            let base = base.clone();
            [
                Settings { window: span, ..base.clone() },
                Settings { window_offset: span, ..base.clone() },
                Settings { window_offset: span, window: LONGEST, ..base.clone() },
                Settings { lateness: span, ..base.clone() },
                Settings { label_wait: span, ..base },
            ]
        });
        let rows = [0, 1, 2, u64::MAX].map(|min_rows| Settings { min_rows, ..base.clone() });
        let (least, infinite) = (f64::MIN_POSITIVE, f64::INFINITY);
        let numbers = [-infinite, -1.0, 0.0, least, 0.5, 0.5f64.next_up(), 100.0, 100f64.next_up(), infinite, f64::NAN];
        let numbers = numbers.into_iter().flat_map(|number| {
            let base = base.clone();
            [
                Settings { drift_margin: number, ..base.clone() },
                Settings { degradation_margin: number, ..base.clone() },
                Settings { false_alarm_rate: number, ..base },
            ]
        });
        for settings in spans.chain(rows).chain(numbers) {
            let (here, by_policy) = refused(&settings);
            assert_eq!(here, by_policy, "{settings:?}");
        }
    }

    #[test]
    fn what_was_stored_before_a_field_was_there_reads_back() {
        let settings = Settings { window: 7 * DAY, ..Settings::default() };
        let stored = serde_json::to_value(&settings).expect("json");
        for field in stored.as_object().expect("an object").keys().filter(|field| *field != "window") {
            let mut older = stored.clone();
            older.as_object_mut().expect("an object").remove(field);
            assert_eq!(serde_json::from_value::<Settings>(older).expect(field), settings);
        }
        assert!(serde_json::from_str::<Settings>(r#"{"windows": 1000}"#).is_err(), "what is unknown is refused");
    }

    #[test]
    fn the_defaults_hold_and_each_bound_is_named() {
        let base = Settings::default();
        assert_eq!(base.validate(), Ok(()));
        for (field, bad) in [
            ("watch.window", Settings { window: 10, ..base.clone() }),
            ("watch.window_offset", Settings { window_offset: DAY, ..base.clone() }),
            ("watch.lateness", Settings { lateness: -1, ..base.clone() }),
            ("watch.label_wait", Settings { label_wait: LONGEST + 1, ..base.clone() }),
            ("watch.min_rows", Settings { min_rows: 1, ..base.clone() }),
            ("watch.drift_margin", Settings { drift_margin: f64::NAN, ..base.clone() }),
            ("watch.degradation_margin", Settings { degradation_margin: 0.0, ..base.clone() }),
            ("watch.false_alarm_rate", Settings { false_alarm_rate: 0.6, ..base }),
        ] {
            assert_eq!(bad.validate().expect_err(field).field, field);
        }
    }
}
