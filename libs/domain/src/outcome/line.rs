//! An outcome as one line of JSON, on the bus and in files.

use serde::{Deserialize, Serialize};

use super::{Label, Outcome};
use crate::validation::Violations;

/// A line that is no outcome; why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidLine(String);

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    prediction_id: String,
    #[serde(default)]
    row: u32,
    #[serde(default, alias = "class", skip_serializing_if = "Option::is_none")]
    label: Option<Given>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
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

impl Outcome {
    /// The outcome in a line `{"prediction_id": "...", "row": 0, "label": ...}`. The row is 0 if it is absent. The label is a text, a number or
    /// a boolean; `number` in its place is a number.
    ///
    /// # Errors
    /// Another form; a label out of bounds. The message names the field.
    pub fn from_json_line(line: &[u8]) -> Result<Self, InvalidLine> {
        let line: Line =
            serde_json::from_slice(line).map_err(|error| InvalidLine(format!("not an outcome: {error}")))?;
        let prediction = line.prediction_id.parse().map_err(|error| InvalidLine(format!("prediction_id: {error}")))?;
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
        Ok(Self { prediction, row: line.row, label })
    }

    /// The line, without its end.
    pub fn to_json_line(&self) -> Vec<u8> {
        let (label, number) = match &self.label {
            Label::Class(class) => (Some(Given::Text(class.clone())), None),
            Label::Number(number) => (None, Some(*number)),
        };
        let line = Line { prediction_id: self.prediction.to_string(), row: self.row, label, number };
        serde_json::to_vec(&line).expect("texts and finite numbers have a JSON form")
    }
}
