//! Fields of requests as protobuf's JSON has them: numbers of 64 bits may be texts, and floats may be `NaN` or `Infinity`.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use rekindle_domain::{RunId, event_time};
use serde::{Deserialize, Deserializer, de::Error as _};

use super::Refused;
use crate::experiment::View;

/// A name and a value.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Pair {
    pub(super) key: String,
    #[serde(default)]
    pub(super) value: String,
}

/// Texts by name; of several with one name the last.
pub(super) fn texts(pairs: Vec<Pair>) -> BTreeMap<String, String> {
    pairs.into_iter().map(|pair| (pair.key, pair.value)).collect()
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Integer(i64),
    Float(f64),
    Text(String),
}

/// A number of 64 bits.
pub(super) fn integer<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    let Some(given) = Option::<Number>::deserialize(deserializer)? else { return Ok(None) };
    let number = match given {
        Number::Integer(number) => Some(number),
        #[expect(clippy::cast_possible_truncation, reason = "whole numbers of this magnitude are exact")]
        Number::Float(number) if number.fract() == 0.0 && number.abs() < 9e15 => Some(number as i64),
        Number::Float(_) => None,
        Number::Text(text) => text.parse().ok(),
    };
    number.map(Some).ok_or_else(|| D::Error::custom("expected a whole number"))
}

/// A float of any value.
pub(super) fn float<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    match Number::deserialize(deserializer)? {
        #[expect(clippy::cast_precision_loss, reason = "a float is what is stored")]
        Number::Integer(number) => Ok(number as f64),
        Number::Float(number) => Ok(number),
        Number::Text(text) => match text.as_str() {
            "NaN" => Ok(f64::NAN),
            "Infinity" => Ok(f64::INFINITY),
            "-Infinity" => Ok(f64::NEG_INFINITY),
            other => other.parse().map_err(|_| D::Error::custom("expected a number, NaN, Infinity or -Infinity")),
        },
    }
}

/// The number of an experiment, which MLflow has as a text.
pub(super) fn experiment_id(text: &str) -> Result<i64, Refused> {
    text.parse().map_err(|_| Refused::not_found(format!("no experiment has the id {text:?}")))
}

/// The id of a run, with or without hyphens, in the field `run_id` or in its former name, `run_uuid`. Clients send both.
pub(super) fn run_id(run_id: &str, run_uuid: &str) -> Result<RunId, Refused> {
    let text = if run_id.is_empty() { run_uuid } else { run_id };
    let id = uuid::Uuid::try_parse(text).ok();
    id.map(RunId::new).ok_or_else(|| Refused::not_found(format!("no run has the id {text:?}")))
}

/// A time in milliseconds since 1970 UTC.
pub(super) fn time(millis: i64) -> Result<DateTime<Utc>, Refused> {
    event_time::checked(millis).map(event_time::clamped).map_err(|error| Refused::invalid(error.to_string()))
}

/// Which records a list contains, by MLflow's name.
pub(super) fn view(name: &str) -> Result<View, Refused> {
    match name {
        "" | "ACTIVE_ONLY" => Ok(View::Active),
        "DELETED_ONLY" => Ok(View::Deleted),
        "ALL" => Ok(View::All),
        other => Err(Refused::invalid(format!("the view is {other:?}: expected ACTIVE_ONLY, DELETED_ONLY or ALL"))),
    }
}

/// The size of a page: as given, but at most `most`.
pub(super) fn page_size(given: Option<i64>, most: usize) -> Result<usize, Refused> {
    match given.map_or(most, |given| usize::try_from(given).unwrap_or(0)).min(most) {
        0 => Err(Refused::invalid("max_results: expected a number from 1")),
        size => Ok(size),
    }
}

/// Texts by name, as messages have them.
pub(super) fn pairs(texts: &BTreeMap<String, String>) -> Vec<serde_json::Value> {
    texts.iter().map(|(key, value)| serde_json::json!({ "key": key, "value": value })).collect()
}
