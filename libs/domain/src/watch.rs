//! Monitoring settings of a model: windows, waits, margins and the false-alarm budget.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    ModelName, Slice,
    alert::AlertRules,
    validation::{Checks, Violations},
};

/// Monitoring settings. The monitor applies them, a policy may carry them; both apply [`validate`](Self::validate).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WatchSettings {
    /// Length of a window in event time.
    #[serde(with = "humantime_serde")]
    pub window: Duration,
    /// Offset of the windows from multiples of their length since 1970-01-01 UTC; less than `window`.
    #[serde(with = "humantime_serde")]
    pub window_offset: Duration,
    /// Allowed lateness: how far behind the latest event time a row may arrive and still be counted.
    #[serde(with = "humantime_serde")]
    pub lateness: Duration,
    /// How long after the end of a window, in event time, to wait for its outcomes.
    #[serde(with = "humantime_serde")]
    pub label_wait: Duration,
    /// Rows below which a window is inconclusive.
    pub min_rows: u64,
    /// Smallest population stability index that counts as drift.
    pub drift_margin: f64,
    /// Smallest relative increase of the loss that counts as degradation.
    pub degradation_margin: f64,
    /// Probability of any false drift alarm in [`WatchSettings::WINDOWS`] windows without a change, over all columns, in (0, 0.5]. The
    /// same budget again holds for false degradation alarms, for those of all slices, for changes of dependence, and for the volume.
    pub false_alarm_rate: f64,
    /// How columns are compared that are not compared as the others, by name; the prediction is `(prediction)`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub columns: BTreeMap<String, ColumnRule>,
    /// Parts of the rows whose quality is measured apart.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub slices: Vec<Slice>,
    /// When alerts of a kind open and resolve.
    #[serde(skip_serializing_if = "AlertRules::is_default")]
    pub alerts: AlertRules,
    /// The longest time without a captured row; afterwards an alert opens. `None`: never.
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    pub feed_timeout: Option<Duration>,
}

/// How a column is compared.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColumnRule {
    /// Whether the column decides nothing: it is compared and shown, and no window is drifted because of it.
    #[serde(default)]
    pub muted: bool,
    /// Smallest population stability index of the column that counts as drift; `None`: that of the settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift_margin: Option<f64>,
    /// Who set the rule.
    #[serde(default)]
    pub by: String,
    /// Why.
    #[serde(default)]
    pub why: String,
}

/// The monitoring settings of one model.
#[derive(Debug, Clone, PartialEq)]
pub struct Watch {
    /// The model.
    pub model: ModelName,
    /// The settings; the defaults until they are set.
    pub settings: WatchSettings,
    /// 0 until they are set.
    pub revision: u64,
}

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

impl Default for WatchSettings {
    fn default() -> Self {
        Self {
            window: DAY,
            window_offset: Duration::ZERO,
            lateness: HOUR,
            label_wait: DAY,
            min_rows: 200,
            drift_margin: 0.2,
            degradation_margin: 0.1,
            false_alarm_rate: 0.05,
            columns: BTreeMap::new(),
            slices: Vec::new(),
            alerts: AlertRules::default(),
            feed_timeout: None,
        }
    }
}

impl WatchSettings {
    /// Windows that share one false-alarm budget: a month of days.
    pub const WINDOWS: u32 = 30;
    /// The shortest window.
    pub const SHORTEST_WINDOW: Duration = Duration::from_secs(1);
    /// The most columns with a rule.
    pub const MOST_COLUMN_RULES: usize = 1000;
    /// The most declarations of slices.
    pub const MOST_SLICES: usize = 20;
    /// The longest text of a rule, in characters.
    pub const LONGEST_TEXT: usize = 1000;
    /// The shortest feed timeout.
    pub const SHORTEST_FEED_TIMEOUT: Duration = Duration::from_secs(1);
    /// The longest of all spans: ten years.
    pub const LONGEST_SPAN: Duration = Duration::from_secs(3653 * 24 * 3600);
    /// The least that `min_rows` may be.
    pub const LEAST_ROWS: u64 = 2;
    /// The greatest that either margin may be.
    pub const GREATEST_MARGIN: f64 = 100.0;
    /// The greatest that `false_alarm_rate` may be.
    pub const GREATEST_FALSE_ALARM_RATE: f64 = 0.5;

    /// Checks every bound.
    pub fn validate(&self) -> Result<(), Violations> {
        let mut checks = Checks::new();
        self.check_spans(&mut checks);
        checks.require(self.min_rows >= Self::LEAST_ROWS, "min_rows", self.min_rows, "at least 2");
        let mut share = |field, given: f64, most: f64, expected| {
            checks.require(given > 0.0 && given <= most, field, given, expected);
        };
        share("drift_margin", self.drift_margin, Self::GREATEST_MARGIN, "above 0 and at most 100");
        share("degradation_margin", self.degradation_margin, Self::GREATEST_MARGIN, "above 0 and at most 100");
        let (rate, most) = (self.false_alarm_rate, Self::GREATEST_FALSE_ALARM_RATE);
        share("false_alarm_rate", rate, most, "above 0 and at most 0.5");
        let rules = self.columns.len();
        checks.require(rules <= Self::MOST_COLUMN_RULES, "columns", rules, "at most 1000");
        for (name, rule) in &self.columns {
            checks.require(!name.is_empty(), "columns", "\"\"", "the name of a column");
            checks.nested(&format!("columns.{name}"), rule.validate());
        }
        let slices = self.slices.len();
        checks.require(slices <= Self::MOST_SLICES, "slices", slices, "at most 20");
        for (at, slice) in self.slices.iter().enumerate() {
            checks.require(!self.slices[..at].contains(slice), "slices", slice, "each slice once");
        }
        checks.nested("alerts", self.alerts.validate());
        checks.finish()
    }

    /// Spans are compared in whole milliseconds, the precision in which windows are computed.
    fn check_spans(&self, checks: &mut Checks) {
        let mut span = |field, given: Duration, least: Duration, expected| {
            let holds = (least.as_millis()..=Self::LONGEST_SPAN.as_millis()).contains(&given.as_millis());
            checks.require(holds, field, format!("{given:?}"), expected);
        };
        span("window", self.window, Self::SHORTEST_WINDOW, "between 1 second and 10 years");
        span("lateness", self.lateness, Duration::ZERO, "at most 10 years");
        span("label_wait", self.label_wait, Duration::ZERO, "at most 10 years");
        let timeout = self.feed_timeout.unwrap_or(Self::SHORTEST_FEED_TIMEOUT);
        span("feed_timeout", timeout, Self::SHORTEST_FEED_TIMEOUT, "between 1 second and 10 years");
        let (offset, window) = (self.window_offset, self.window);
        let is_shorter = offset.as_millis() < window.as_millis();
        checks.require(is_shorter, "window_offset", format!("{offset:?}"), "less than the window");
    }
}

impl ColumnRule {
    fn validate(&self) -> Result<(), Violations> {
        let mut checks = Checks::new();
        let margin = self.drift_margin.unwrap_or(WatchSettings::GREATEST_MARGIN);
        let bounded = margin > 0.0 && margin <= WatchSettings::GREATEST_MARGIN;
        checks.require(bounded, "drift_margin", margin, "above 0 and at most 100");
        for (field, text) in [("by", &self.by), ("why", &self.why)] {
            let characters = text.chars().count();
            let most = WatchSettings::LONGEST_TEXT;
            checks.require(characters <= most, field, format!("{characters} characters"), "at most 1000");
        }
        let is_given = !self.why.trim().is_empty();
        checks.require(is_given, "why", "empty", "the reason of the rule");
        checks.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::{AlertKind, AlertRule};

    #[test]
    fn the_defaults_are_valid_and_survive_json() {
        let settings = WatchSettings::default();
        assert_eq!(settings.validate(), Ok(()));
        let json = serde_json::to_string(&settings).expect("json");
        assert_eq!(serde_json::from_str::<WatchSettings>(&json).expect("same"), settings);
        assert_eq!(serde_json::from_str::<WatchSettings>("{}").expect("defaults"), settings);
        assert!(serde_json::from_str::<WatchSettings>(r#"{"windows": "1day"}"#).is_err());
    }

    #[test]
    fn each_bound_is_named() {
        let base = WatchSettings::default();
        let rule = AlertRule { of: 31, ..AlertRule::default_of(AlertKind::Drift) };
        let alerts = AlertRules([(AlertKind::Drift, rule)].into());
        let rule_of = |why: &str| ColumnRule { why: why.to_owned(), ..ColumnRule::default() };
        let with_rule = |rule| WatchSettings { columns: [("a".to_owned(), rule)].into(), ..base.clone() };
        for (field, bad) in [
            ("window", WatchSettings { window: Duration::ZERO, ..base.clone() }),
            ("window", WatchSettings { window: 3654 * DAY, ..base.clone() }),
            ("window", WatchSettings { window: Duration::from_millis(999), ..base.clone() }),
            ("window_offset", WatchSettings { window_offset: DAY, ..base.clone() }),
            ("lateness", WatchSettings { lateness: 3654 * DAY, ..base.clone() }),
            ("label_wait", WatchSettings { label_wait: 3654 * DAY, ..base.clone() }),
            ("min_rows", WatchSettings { min_rows: 1, ..base.clone() }),
            ("drift_margin", WatchSettings { drift_margin: 0.0, ..base.clone() }),
            ("drift_margin", WatchSettings { drift_margin: f64::INFINITY, ..base.clone() }),
            ("degradation_margin", WatchSettings { degradation_margin: f64::NAN, ..base.clone() }),
            ("false_alarm_rate", WatchSettings { false_alarm_rate: 0.6, ..base.clone() }),
            ("feed_timeout", WatchSettings { feed_timeout: Some(Duration::from_millis(999)), ..base.clone() }),
            ("slices", WatchSettings { slices: vec![Slice::ByValue("a".to_owned()); 2], ..base.clone() }),
            ("alerts.DRIFT.of", WatchSettings { alerts, ..base.clone() }),
            ("columns.a.why", with_rule(ColumnRule { muted: true, ..ColumnRule::default() })),
            ("columns.a.drift_margin", with_rule(ColumnRule { drift_margin: Some(0.0), ..rule_of("x") })),
            ("columns.a.by", with_rule(ColumnRule { by: "x".repeat(1001), ..rule_of("x") })),
        ] {
            let violations = bad.validate().expect_err(field);
            assert!(violations.iter().any(|violation| violation.field == field), "{violations}");
        }
    }
}
