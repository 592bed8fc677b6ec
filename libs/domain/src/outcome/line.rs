//! An outcome as one line of JSON, on the bus and in files.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

use super::{Label, Outcome, PredictedRow};
use crate::{event_time, validation::Violations};

/// A line that is no outcome; why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidLine(String);

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Line {
    #[serde(skip_serializing_if = "String::is_empty")]
    prediction_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    request_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    entity_key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_time: Option<Time>,
    row: u32,
    #[serde(alias = "class", skip_serializing_if = "Option::is_none")]
    label: Option<Given>,
    #[serde(skip_serializing_if = "Option::is_none")]
    number: Option<f64>,
}

/// A label as JSON writes it. A number is the class of that name for a classifier.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Given {
    Text(String),
    Boolean(bool),
    Number(f64),
}

/// An event time as JSON writes it: RFC 3339, or milliseconds since 1970 UTC.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Time {
    Text(String),
    Millis(i64),
}

impl Time {
    fn read(self) -> Result<DateTime<Utc>, String> {
        match self {
            Self::Text(text) => DateTime::parse_from_rfc3339(&text).map(|time| time.to_utc()).map_err(|_| {
                format!("is {text:?}: expected RFC 3339, e.g. 2026-03-01T12:00:00Z, or milliseconds since 1970 UTC")
            }),
            Self::Millis(millis) => {
                event_time::checked(millis).map(event_time::clamped).map_err(|error| error.to_string())
            }
        }
    }
}

impl Outcome {
    /// The outcome in a line `{"prediction_id": "...", "row": 0, "label": ...}`. In place of the prediction id, `request_id` is the client's
    /// id of the request, and `entity_key` with `event_time` (RFC 3339, or milliseconds since 1970 UTC) names one row. The row is 0 if it is
    /// absent. The label is a text, a number or a boolean; `number` in its place is a number.
    ///
    /// # Errors
    /// Another form; a key or a label out of bounds. The message names the field.
    pub fn from_json_line(line: &[u8]) -> Result<Self, InvalidLine> {
        let line: Line =
            serde_json::from_slice(line).map_err(|error| InvalidLine(format!("not an outcome: {error}")))?;
        let event_time = line.event_time.map(Time::read).transpose();
        let event_time = event_time.map_err(|problem| InvalidLine(format!("event_time: {problem}")))?;
        let row = PredictedRow::of_fields(&line.prediction_id, line.request_id, line.entity_key, line.row, event_time)
            .map_err(|violations| InvalidLine(violations.to_string()))?;
        let (field, label) = match (line.label, line.number) {
            (Some(Given::Text(class)), None) => ("label", Label::Class(class)),
            (Some(Given::Boolean(class)), None) => ("label", Label::Class(class.to_string())),
            (Some(Given::Number(number)), None) => ("label", Label::Number(number)),
            (None, Some(number)) => ("number", Label::Number(number)),
            (None, None) => return Err(InvalidLine("label: is missing: specify label or number".to_owned())),
            (Some(_), Some(_)) => {
                return Err(InvalidLine("label: specify either label or number, not both".to_owned()));
            }
        };
        // The line calls a class its label.
        let described = |violations: Violations| {
            let descriptions: Vec<String> = violations.into_iter().map(|violation| violation.description).collect();
            InvalidLine(format!("{field}: {}", descriptions.join("; ")))
        };
        label.validate().map_err(described)?;
        Ok(Self { row, label })
    }

    /// The line, without its end.
    pub fn to_json_line(&self) -> Vec<u8> {
        let (label, number) = match &self.label {
            Label::Class(class) => (Some(Given::Text(class.clone())), None),
            Label::Number(number) => (None, Some(*number)),
        };
        let mut line = Line { label, number, ..Line::default() };
        match &self.row {
            PredictedRow::Prediction { id, row } => (line.prediction_id, line.row) = (id.to_string(), *row),
            PredictedRow::Request { id, row } => (line.request_id, line.row) = (id.clone(), *row),
            PredictedRow::Entity { key, event_time } => {
                line.entity_key.clone_from(key);
                line.event_time = Some(Time::Text(event_time.to_rfc3339_opts(SecondsFormat::Millis, true)));
            }
        }
        serde_json::to_vec(&line).expect("texts and finite numbers have a JSON form")
    }
}
