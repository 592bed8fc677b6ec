//! The parameters of a prediction request, whichever encoding of the protocol carries them.

use std::borrow::Cow;

use chrono::DateTime;
use rekindle_domain::{Traffic, event_time, outcome::PredictedRow, traffic::UnknownTraffic};

use crate::tensor::InvalidInput;

/// A parameter's value, as far as a parameter that is read here can have it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Value<'a> {
    Text(&'a str),
    Integer(i64),
    Bool(bool),
    /// Of a type that no parameter has.
    Other,
}

/// What the parameters of a request say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Parameters {
    /// When the rows occurred, in milliseconds since 1970 UTC. A time input of the model takes precedence.
    pub(crate) event_time: Option<i64>,
    /// What the request is sent for.
    pub(crate) traffic: Traffic,
    /// Whether its rows are to be explained.
    pub(crate) explain: bool,
    /// Whether the answer is to have an out-of-distribution score per row.
    pub(crate) outlier_scores: bool,
}

/// Reads the parameters of a request.
pub(crate) fn read<'a>(parameter: impl Fn(&str) -> Option<Value<'a>>) -> Result<Parameters, InvalidInput> {
    Ok(Parameters {
        event_time: parameter("event_time").map(stated_time).transpose()?,
        traffic: parameter("traffic").map(stated_traffic).transpose()?.unwrap_or_default(),
        explain: flag("explain", parameter("explain"))?,
        outlier_scores: flag("outlier_scores", parameter("outlier_scores"))?,
    })
}

/// The client's id of a request.
pub(crate) fn request_id(id: &str) -> Result<String, InvalidInput> {
    let (length, most) = (id.len(), PredictedRow::MAX_KEY);
    if length > most {
        return Err(InvalidInput::new("id", format!("has {length} bytes: expected at most {most}")));
    }
    Ok(id.to_owned())
}

/// The parameter `routing_key`: requests with the same key are answered by the same version.
pub(crate) fn routing_key<'a>(parameter: impl Fn(&str) -> Option<Value<'a>>) -> Option<Cow<'a, [u8]>> {
    match parameter("routing_key")? {
        Value::Text(text) => Some(text.as_bytes().into()),
        Value::Integer(integer) => Some(integer.to_string().into_bytes().into()),
        Value::Bool(_) | Value::Other => None,
    }
}

/// A parameter that is false unless it is set.
fn flag(name: &str, value: Option<Value<'_>>) -> Result<bool, InvalidInput> {
    match value {
        None => Ok(false),
        Some(Value::Bool(flag)) => Ok(flag),
        Some(_) => Err(InvalidInput::new(format!("parameters[{name}]"), "is no boolean: expected true or false")),
    }
}

/// The parameter `event_time`, in milliseconds since 1970 UTC.
fn stated_time(value: Value<'_>) -> Result<i64, InvalidInput> {
    let millis = match value {
        Value::Text(text) => DateTime::parse_from_rfc3339(text).ok().map(|time| time.timestamp_millis()),
        Value::Integer(millis) => Some(millis),
        Value::Bool(_) | Value::Other => None,
    };
    let not_a_time =
        "is not a time: send an RFC 3339 string, e.g. 2026-03-01T12:00:00Z, or int64 milliseconds since 1970 UTC";
    let checked = millis.ok_or_else(|| not_a_time.to_owned());
    let checked = checked.and_then(|millis| event_time::checked(millis).map_err(|error| error.to_string()));
    checked.map_err(|problem| InvalidInput::new("parameters[event_time]", problem))
}

/// The parameter `traffic`.
fn stated_traffic(value: Value<'_>) -> Result<Traffic, InvalidInput> {
    let stated = match value {
        Value::Text(text) => text.parse().map_err(|error: UnknownTraffic| error.to_string()),
        _ => Err("is no string: expected live, replay or test".to_owned()),
    };
    stated.map_err(|problem| InvalidInput::new("parameters[traffic]", problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_traffic_of_a_request_is_stated_by_name() {
        assert_eq!(stated_traffic(Value::Text("test")), Ok(Traffic::Test));
        for value in [Value::Text("tests"), Value::Integer(1), Value::Other] {
            let refused = stated_traffic(value).expect_err("another value");
            assert_eq!(refused.field, "parameters[traffic]");
            assert!(refused.problem.contains("expected live, replay or test"), "{refused}");
        }
    }
}
