//! The predicted row that an outcome is about.

use std::fmt;

use chrono::{DateTime, Utc};

use crate::{
    PredictionId,
    validation::{Checks, Violations},
};

/// A predicted row of one model, by one of three keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PredictedRow {
    /// By the prediction id of the answer.
    Prediction {
        /// The prediction.
        id: PredictionId,
        /// The row within the request, from 0.
        row: u32,
    },
    /// By the id that the client gave the request.
    Request {
        /// The `id` of the request.
        id: String,
        /// The row within the request, from 0.
        row: u32,
    },
    /// By what the row is about, and when.
    Entity {
        /// The element of the request's `entity_key` tensor.
        key: String,
        /// The event time of the row, exact to the millisecond.
        event_time: DateTime<Utc>,
    },
}

impl PredictedRow {
    /// Longest request id or entity key, in bytes.
    pub const MAX_KEY: usize = 256;

    /// The row named by the fields of a message or of a line; an empty text is absent.
    ///
    /// # Errors
    /// None or several of the three keys, a key out of bounds, a field of another key. The violation names the field.
    pub fn of_fields(
        prediction_id: &str,
        request_id: String,
        entity_key: String,
        row: u32,
        event_time: Option<DateTime<Utc>>,
    ) -> Result<Self, Violations> {
        let given = [prediction_id, request_id.as_str(), entity_key.as_str()];
        let mut checks = Checks::new();
        match given.iter().filter(|key| !key.is_empty()).count() {
            0 => checks.violation("prediction_id", "is missing: specify prediction_id, request_id or entity_key"),
            1 => {}
            _ => checks.violation("prediction_id", "specify one of prediction_id, request_id and entity_key"),
        }
        checks.parsed("request_id", check_length(&request_id));
        checks.parsed("entity_key", check_length(&entity_key));
        let (is_entity, row_given) = (!entity_key.is_empty(), row > 0);
        if is_entity && event_time.is_none() {
            checks.violation("event_time", "is missing: specify the event time of the row of this entity_key");
        }
        if !is_entity && event_time.is_some() {
            checks.violation("event_time", "belongs to entity_key: leave it out");
        }
        if is_entity && row_given {
            checks.violation("row", "belongs to prediction_id or request_id: leave it out");
        }
        checks.finish()?;
        Ok(match event_time {
            Some(event_time) => Self::Entity { key: entity_key, event_time },
            None if request_id.is_empty() => {
                let id = prediction_id.parse().map_err(|error| Violations::of("prediction_id", format!("{error}")))?;
                Self::Prediction { id, row }
            }
            None => Self::Request { id: request_id, row },
        })
    }
}

/// Checks the length of a request id or entity key.
fn check_length(key: &str) -> Result<(), String> {
    let (length, most) = (key.len(), PredictedRow::MAX_KEY);
    if length <= most { Ok(()) } else { Err(format!("has {length} bytes: expected at most {most}")) }
}

impl fmt::Display for PredictedRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prediction { id, row } => write!(f, "row {row} of prediction {id}"),
            Self::Request { id, row } => write!(f, "row {row} of request {id:?}"),
            Self::Entity { key, event_time } => {
                let time = event_time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true);
                write!(f, "entity {key:?} at {time}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "018f6e1a-5f2b-7c31-9a52-0c8e4f6b1d20";

    #[test]
    fn a_row_has_exactly_one_key() {
        let at = Some(DateTime::UNIX_EPOCH);
        let of = |prediction: &str, request: &str, entity: &str, row, at| {
            PredictedRow::of_fields(prediction, request.to_owned(), entity.to_owned(), row, at)
        };
        let described = |row: Result<PredictedRow, Violations>| row.expect("valid").to_string();
        assert_eq!(described(of(ID, "", "", 2, None)), format!("row 2 of prediction {ID}"));
        assert_eq!(described(of("", "mine", "", 1, None)), "row 1 of request \"mine\"");
        assert_eq!(described(of("", "", "N1", 0, at)), "entity \"N1\" at 1970-01-01T00:00:00Z");
        let long = "x".repeat(257);
        for (refused, field) in [
            (of("", "", "", 0, None), "prediction_id"),
            (of(ID, "mine", "", 0, None), "prediction_id"),
            (of("", "mine", "N1", 0, at), "prediction_id"),
            (of("1", "", "", 0, None), "prediction_id"),
            (of("", &long, "", 0, None), "request_id"),
            (of("", "", &long, 0, at), "entity_key"),
            (of("", "", "N1", 0, None), "event_time"),
            (of("", "mine", "", 0, at), "event_time"),
            (of("", "", "N1", 1, at), "row"),
        ] {
            let violations = refused.expect_err("not one key");
            assert_eq!(violations.iter().map(|violation| violation.field.as_str()).collect::<Vec<_>>(), [field]);
        }
    }
}
