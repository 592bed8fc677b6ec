//! Records kept as JSON. Each carries the version of its shape as `schema`; a record without one was written before versions were
//! recorded, and has the first shape.

use std::time::Duration;

use rekindle_domain::{
    Alert, WatchSettings,
    report::{Drift, Estimate, Quality},
};
use sea_orm::DbErr;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::unreadable;

/// A record and its shapes.
pub(crate) trait Record: Serialize + DeserializeOwned {
    /// Its column, for errors.
    const COLUMN: &'static str;
    /// The version of the shape that this build writes, and the latest that it reads.
    const SCHEMA: u64;

    /// The record from the JSON of an earlier shape. By default every shape reads like the current one.
    fn upgrade(_schema: u64, json: Value) -> Result<Self, serde_json::Error> {
        serde_json::from_value(json)
    }
}

/// In the first shape an inconclusive verdict was `UNKNOWN`, which reads back as such.
impl Record for Drift {
    const COLUMN: &'static str = "reports.drift";
    const SCHEMA: u64 = 2;
}

/// As for [`Drift`].
impl Record for Quality {
    const COLUMN: &'static str = "reports.quality";
    const SCHEMA: u64 = 2;
}

impl Record for Estimate {
    const COLUMN: &'static str = "reports.estimate";
    const SCHEMA: u64 = 1;
}

impl Record for Alert {
    const COLUMN: &'static str = "alerts.content";
    const SCHEMA: u64 = 1;
}

/// In the first shape spans were milliseconds.
impl Record for WatchSettings {
    const COLUMN: &'static str = "watches.settings";
    const SCHEMA: u64 = 2;

    fn upgrade(_schema: u64, json: Value) -> Result<Self, serde_json::Error> {
        serde_json::from_value::<FirstSettings>(json).map(Self::from)
    }
}

/// The JSON of a record.
pub(crate) fn encode<R: Record>(record: &R) -> Result<Value, DbErr> {
    let mut json = serde_json::to_value(record).map_err(|error| unreadable(R::COLUMN, error))?;
    let fields = json.as_object_mut().ok_or_else(|| unreadable(R::COLUMN, "expected an object"))?;
    fields.insert("schema".to_owned(), R::SCHEMA.into());
    Ok(json)
}

/// The record that [`encode`] wrote, in this build or an earlier one.
pub(crate) fn decode<R: Record>(mut json: Value) -> Result<R, DbErr> {
    let schema = json.as_object_mut().and_then(|fields| fields.remove("schema"));
    let record = match schema.as_ref().map_or(Some(1), Value::as_u64) {
        Some(schema) if schema == R::SCHEMA => serde_json::from_value(json),
        Some(schema) if (1..R::SCHEMA).contains(&schema) => R::upgrade(schema, json),
        _ => {
            let given = schema.unwrap_or_default();
            return Err(unreadable(R::COLUMN, format!("schema is {given}: expected a number from 1 to {}", R::SCHEMA)));
        }
    };
    record.map_err(|error| unreadable(R::COLUMN, error))
}

/// Settings in the first shape. A record written before a field was added takes its default.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FirstSettings {
    window: u64,
    window_offset: u64,
    lateness: u64,
    label_wait: u64,
    min_rows: u64,
    drift_margin: f64,
    degradation_margin: f64,
    false_alarm_rate: f64,
}

impl Default for FirstSettings {
    fn default() -> Self {
        let hour = 3_600_000;
        Self {
            window: 24 * hour,
            window_offset: 0,
            lateness: hour,
            label_wait: 24 * hour,
            min_rows: 200,
            drift_margin: 0.2,
            degradation_margin: 0.1,
            false_alarm_rate: 0.05,
        }
    }
}

impl From<FirstSettings> for WatchSettings {
    fn from(first: FirstSettings) -> Self {
        Self {
            window: Duration::from_millis(first.window),
            window_offset: Duration::from_millis(first.window_offset),
            lateness: Duration::from_millis(first.lateness),
            label_wait: Duration::from_millis(first.label_wait),
            min_rows: first.min_rows,
            drift_margin: first.drift_margin,
            degradation_margin: first.degradation_margin,
            false_alarm_rate: first.false_alarm_rate,
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn settings() -> WatchSettings {
        WatchSettings { window: Duration::from_secs(7 * 86_400), min_rows: 7, ..WatchSettings::default() }
    }

    #[test]
    fn records_carry_their_schema_and_round_trip() {
        let json = encode(&settings()).expect("an object");
        assert_eq!((&json["schema"], &json["window"]), (&json!(2), &json!("7days")));
        assert_eq!(decode::<WatchSettings>(json).expect("as written"), settings());
    }

    #[test]
    fn a_record_without_a_schema_has_the_first_shape() {
        let first = json!({"window": 604_800_000, "min_rows": 7});
        assert_eq!(decode::<WatchSettings>(first.clone()).expect("the first shape"), settings());
        let mut versioned = first;
        versioned["schema"] = json!(1);
        assert_eq!(decode::<WatchSettings>(versioned).expect("the first shape"), settings());
        let drift = decode::<Drift>(json!({"verdict": "UNKNOWN", "features": [], "prediction": null}));
        assert_eq!(drift.expect("the first shape").verdict, rekindle_domain::report::Verdict::Inconclusive);
    }

    #[test]
    fn records_of_an_unknown_schema_or_with_unknown_fields_are_refused() {
        for schema in [json!(0), json!(3), json!("one")] {
            let refused = decode::<WatchSettings>(json!({"schema": schema})).expect_err("another shape").to_string();
            assert!(refused.contains(&format!("watches.settings: schema is {schema}: expected")), "{refused}");
        }
        assert!(decode::<WatchSettings>(json!({"windows": 1000})).is_err());
        assert!(decode::<WatchSettings>(json!({"windows": "1day", "schema": 2})).is_err());
    }
}
