//! Monitoring settings.

use std::collections::BTreeMap;

use rekindle_domain::{
    ColumnRule, ModelName, Slice, Watch, WatchSettings,
    alert::AlertRules,
    validation::{Checks, Violations},
};
use rekindle_proto::{json, monitor as wire};
use serde_json::Value;

use super::{
    alert::{rule_from_wire, rule_to_wire},
    field::{each, optional_span, span_or},
    time::span_to_wire,
};

/// The settings of a model as a message.
pub fn to_wire(watch: &Watch) -> wire::Watch {
    wire::Watch { revision: watch.revision, ..settings_to_wire(&watch.model, &watch.settings) }
}

/// The settings in proto3 JSON, with their revision.
pub fn to_json(watch: &Watch) -> Value {
    json::to_value(&to_wire(watch))
}

/// Settings to be set for a model.
pub fn settings_to_wire(model: &ModelName, settings: &WatchSettings) -> wire::Watch {
    wire::Watch {
        model: model.to_string(),
        window: Some(span_to_wire(settings.window)),
        window_offset: Some(span_to_wire(settings.window_offset)),
        lateness: Some(span_to_wire(settings.lateness)),
        label_wait: Some(span_to_wire(settings.label_wait)),
        min_rows: Some(settings.min_rows),
        drift_margin: Some(settings.drift_margin),
        degradation_margin: Some(settings.degradation_margin),
        false_alarm_rate: Some(settings.false_alarm_rate),
        alert_rules: settings.alerts.0.iter().map(|(kind, rule)| rule_to_wire(*kind, rule)).collect(),
        feed_timeout: settings.feed_timeout.map(span_to_wire),
        slices: settings.slices.iter().map(Slice::to_string).collect(),
        column_rules: settings.columns.iter().map(|(column, rule)| column_rule_to_wire(column, rule)).collect(),
        revision: 0,
    }
}

/// The settings of a model that a message holds; unset fields take their defaults.
pub fn from_wire(given: wire::Watch) -> Result<Watch, Violations> {
    convert(given, settings_from_wire)
}

/// The stored settings of a model. Their bounds were those of the release that stored them, so they are not checked again.
pub fn stored(given: wire::Watch) -> Result<Watch, Violations> {
    convert(given, recorded)
}

fn convert(
    given: wire::Watch,
    settings: impl FnOnce(wire::Watch) -> Result<WatchSettings, Violations>,
) -> Result<Watch, Violations> {
    let revision = given.revision;
    let mut checks = Checks::new();
    let model = checks.parsed("model", given.model.parse());
    let settings = checks.taken_here(settings(given));
    checks.finish()?;
    let (model, settings) = model.zip(settings).ok_or_else(|| Violations::of("model", "is missing"))?;
    Ok(Watch { model, settings, revision })
}

/// The settings alone; the model of the message is ignored.
pub fn settings_from_wire(given: wire::Watch) -> Result<WatchSettings, Violations> {
    let settings = recorded(given)?;
    settings.validate().map(|()| settings)
}

/// Stored settings. Their bounds were those of the release that stored them, so they are not checked again.
pub fn recorded(given: wire::Watch) -> Result<WatchSettings, Violations> {
    let base = WatchSettings::default();
    let rules = each("alert_rules", given.alert_rules, rule_from_wire)?;
    // Before each of them is parsed.
    let (count, most) = (given.slices.len(), WatchSettings::MOST_SLICES);
    if count > most {
        return Err(Violations::of("slices", format!("has {count} entries: expected at most {most}")));
    }
    let slices =
        each("slices", given.slices, |slice| slice.parse().map_err(|reason: String| Violations::of("", reason)))?;
    let columns = given.column_rules.into_iter().map(column_rule_from_wire).collect::<Vec<_>>();
    Ok(WatchSettings {
        window: span_or("window", given.window, base.window)?,
        window_offset: span_or("window_offset", given.window_offset, base.window_offset)?,
        lateness: span_or("lateness", given.lateness, base.lateness)?,
        label_wait: span_or("label_wait", given.label_wait, base.label_wait)?,
        min_rows: given.min_rows.unwrap_or(base.min_rows),
        drift_margin: given.drift_margin.unwrap_or(base.drift_margin),
        degradation_margin: given.degradation_margin.unwrap_or(base.degradation_margin),
        false_alarm_rate: given.false_alarm_rate.unwrap_or(base.false_alarm_rate),
        alerts: AlertRules(unique("alert_rules", rules)?),
        feed_timeout: optional_span("feed_timeout", given.feed_timeout)?,
        columns: unique("column_rules", columns)?,
        slices,
    })
}

/// Rules by what they are about, at most one each.
fn unique<K: Ord + std::fmt::Debug, V>(field: &str, rules: Vec<(K, V)>) -> Result<BTreeMap<K, V>, Violations> {
    let mut unique = BTreeMap::new();
    for (key, rule) in rules {
        if unique.contains_key(&key) {
            return Err(Violations::of(field, format!("has two rules of {key:?}: expected one")));
        }
        unique.insert(key, rule);
    }
    Ok(unique)
}

fn column_rule_to_wire(column: &str, rule: &ColumnRule) -> wire::ColumnRule {
    let ColumnRule { muted, drift_margin, by, why } = rule.clone();
    wire::ColumnRule { column: column.to_owned(), muted, drift_margin, by, why }
}

fn column_rule_from_wire(given: wire::ColumnRule) -> (String, ColumnRule) {
    let wire::ColumnRule { column, muted, drift_margin, by, why } = given;
    (column, ColumnRule { muted, drift_margin, by, why })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rekindle_domain::alert::{AlertKind, AlertRule};

    use super::*;

    #[test]
    fn settings_survive_and_unset_fields_take_defaults() {
        let rule = AlertRule { windows: 2, of: 3, disabled: true, ..AlertRule::default_of(AlertKind::Drift) };
        let muted = ColumnRule { muted: true, drift_margin: Some(0.5), by: "ann".into(), why: "a sensor".into() };
        let settings = WatchSettings {
            window: Duration::from_secs(7 * 86_400),
            min_rows: 7,
            alerts: AlertRules([(AlertKind::Drift, rule)].into()),
            feed_timeout: Some(Duration::from_secs(600)),
            columns: [("depth".to_owned(), muted)].into(),
            slices: vec!["carrier".parse().expect("a feature"), "distance > 1000".parse().expect("a condition")],
            ..WatchSettings::default()
        };
        let watch = Watch { model: "m".parse().expect("a name"), settings, revision: 3 };
        assert_eq!(from_wire(to_wire(&watch)), Ok(watch));
        assert_eq!(settings_from_wire(wire::Watch::default()), Ok(WatchSettings::default()));
    }

    #[test]
    fn two_rules_of_one_column_or_kind_are_refused() {
        let column = wire::ColumnRule { column: "a".to_owned(), why: "x".to_owned(), ..Default::default() };
        let given = wire::Watch { column_rules: vec![column.clone(), column], ..Default::default() };
        assert!(settings_from_wire(given).expect_err("two of a").to_string().contains("column_rules"));
        let rule = wire::AlertRule { kind: wire::AlertKind::Drift.into(), ..Default::default() };
        let given = wire::Watch { alert_rules: vec![rule, rule], ..Default::default() };
        assert!(settings_from_wire(given).expect_err("two of DRIFT").to_string().contains("alert_rules"));
    }

    #[test]
    fn spans_out_of_range_are_refused_by_name() {
        let longest = WatchSettings::LONGEST_SPAN.as_secs();
        let longest = i64::try_from(longest).expect("fits");
        for seconds in [i64::MIN, i64::MIN + 1, -10, longest + 10, i64::MAX / 1_000, i64::MAX] {
            for nanos in [i32::MIN, 0, i32::MAX] {
                let span = prost_types::Duration { seconds, nanos };
                let given = wire::Watch { label_wait: Some(span), ..Default::default() };
                let refused = settings_from_wire(given).expect_err(&format!("{seconds} s, {nanos} ns"));
                assert!(refused.to_string().starts_with("label_wait"), "{refused}");
            }
        }
        let span = prost_types::Duration { seconds: longest, nanos: 0 };
        let given = wire::Watch { label_wait: Some(span), ..Default::default() };
        assert!(settings_from_wire(given).is_ok());
    }
}
