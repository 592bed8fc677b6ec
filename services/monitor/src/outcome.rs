//! Outcomes as they are reported on the bus: one JSON object per line, each with the key of a predicted row and its label.
//!
//! An invalid line does not affect the others of its message: it is returned with the reason, to be dead-lettered.

use rekindle_domain::{
    ModelName, PredictionId,
    outcome::{Label, Outcome},
};

use crate::join_key::{JoinKey, RowName};

/// Longest line, in bytes; longer ones are dead-lettered without being parsed.
const MAX_LINE: usize = 4096;

/// The key of a predicted row, in the log and in outcomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The prediction id's 128 bits, big-endian.
    pub prediction: u128,
    /// The row within the request.
    pub row: u32,
}

impl Key {
    /// The prediction's id.
    pub fn prediction_id(&self) -> PredictionId {
        PredictionId::new(uuid::Uuid::from_u128(self.prediction))
    }
}

/// Where an outcome stands in the stream of outcomes: the bus's time of its message, the message's sequence, and the line in the
/// message. Of several outcomes of one row the one with the greatest position is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Nanoseconds since 1970-01-01 UTC, by the bus's clock.
    pub at: i64,
    /// Sequence in the stream.
    pub sequence: u64,
    /// Line in the message, from 1.
    pub line: u32,
}

/// The label of a row.
#[derive(Debug, Clone, PartialEq)]
pub struct RowLabel {
    /// The row.
    pub key: Key,
    /// The label.
    pub label: Label,
}

/// A label and its position in the stream.
#[derive(Debug, Clone, PartialEq)]
pub struct ReportedLabel {
    /// Where it was reported.
    pub position: Position,
    /// What was reported.
    pub row: RowLabel,
}

/// An outcome by join key, whose row is not known yet.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PendingOutcome {
    /// Where it was reported.
    pub(crate) position: Position,
    /// The key.
    pub(crate) join_key: JoinKey,
    /// The row's distance from the row of the key.
    pub(crate) row: u32,
    /// What was reported.
    pub(crate) label: Label,
    /// The row in words.
    pub(crate) about: String,
}

/// An outcome as the log keeps it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Reported {
    /// By the prediction id.
    Label(ReportedLabel),
    /// By a join key.
    Pending(PendingOutcome),
}

impl Reported {
    /// An outcome of a model's row.
    pub(crate) fn new(model: &ModelName, position: Position, outcome: Outcome) -> Self {
        let Outcome { row: about, label } = outcome;
        match RowName::of(model, &about) {
            RowName::Key(key) => Self::Label(ReportedLabel { position, row: RowLabel { key, label } }),
            RowName::JoinKey { join_key, row } => {
                Self::Pending(PendingOutcome { position, join_key, row, label, about: about.to_string() })
            }
        }
    }
}

/// A line that is no valid outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    /// Its number, from 1.
    pub line: u32,
    /// The line, truncated to 4096 bytes.
    pub text: String,
    /// Why it is invalid.
    pub reason: String,
}

/// Parses a message into valid outcomes, with line numbers from 1, and invalid lines. Blank lines are skipped.
pub fn parse(payload: &[u8]) -> (Vec<(u32, Outcome)>, Vec<BadLine>) {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for (number, line) in (1u32..).zip(payload.split(|&byte| byte == b'\n')) {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        match parse_line(line) {
            Ok(outcome) => good.push((number, outcome)),
            Err(reason) => {
                let text = String::from_utf8_lossy(&line[..line.len().min(MAX_LINE)]).into_owned();
                bad.push(BadLine { line: number, text, reason });
            }
        }
    }
    (good, bad)
}

fn parse_line(line: &[u8]) -> Result<Outcome, String> {
    if line.len() > MAX_LINE {
        return Err(format!("the line is {} bytes long: expected at most {MAX_LINE}", line.len()));
    }
    Outcome::from_json_line(line).map_err(|error| error.to_string())
}

/// Encodes outcomes as messages of at most `max_bytes` each (a single line may exceed it).
pub fn encode(outcomes: &[Outcome], max_bytes: usize) -> Vec<Vec<u8>> {
    let mut messages: Vec<Vec<u8>> = Vec::new();
    for outcome in outcomes {
        let text = outcome.to_json_line();
        match messages.last_mut() {
            Some(message) if message.len() + text.len() < max_bytes => message.extend_from_slice(&text),
            _ => messages.push(text),
        }
        messages.last_mut().expect("pushed just now").push(b'\n');
    }
    messages
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rekindle_domain::outcome::{Label, PredictedRow};

    use super::*;

    const ID: &str = "018f6e1a-5f2b-7c31-9a52-0c8e4f6b1d20";

    #[test]
    fn valid_lines_are_parsed_beside_invalid_ones() {
        let payload = format!(
            "{{\"prediction_id\":\"{ID}\",\"row\":2,\"label\":\"1\"}}\r\n\nnonsense\n{{\"prediction_id\":\"{ID}\",\"number\":12.5}}\n"
        );
        let (good, bad) = parse(payload.as_bytes());
        assert_eq!(good.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [1, 4]);
        assert_eq!(good[0].1.row, PredictedRow::Prediction { id: ID.parse().expect("an id"), row: 2 });
        assert_eq!(good[1].1.label, Label::Number(12.5));
        assert_eq!(bad.len(), 1);
        assert_eq!((bad[0].line, bad[0].text.as_str()), (3, "nonsense"));
    }

    #[test]
    fn a_label_is_a_text_a_number_or_a_boolean() {
        for (label, expected) in [
            ("\"1\"", Label::Class("1".to_owned())),
            ("1", Label::Number(1.0)),
            ("true", Label::Class("true".to_owned())),
        ] {
            let (good, bad) = parse(format!(r#"{{"prediction_id":"{ID}","label":{label}}}"#).as_bytes());
            assert_eq!((good[0].1.label.clone(), bad.len()), (expected, 0), "{label}");
        }
    }

    #[test]
    fn each_reason_names_the_invalid_field() {
        for (line, field) in [
            (r#"{"prediction_id":"x","label":"1"}"#.to_owned(), "prediction_id"),
            (r#"{"label":"1"}"#.to_owned(), "request_id"),
            (format!(r#"{{"prediction_id":"{ID}","request_id":"x","label":"1"}}"#), "one of"),
            (r#"{"entity_key":"x","label":"1"}"#.to_owned(), "event_time"),
            (r#"{"entity_key":"x","event_time":"noon","label":"1"}"#.to_owned(), "RFC 3339"),
            (r#"{"entity_key":"x","event_time":1710460800000000,"label":"1"}"#.to_owned(), "microseconds"),
            (format!(r#"{{"prediction_id":"{ID}"}}"#), "label: is missing"),
            (format!(r#"{{"prediction_id":"{ID}","label":""}}"#), "label"),
            (format!(r#"{{"prediction_id":"{ID}","label":"1","number":1}}"#), "either label or number"),
            (format!(r#"{{"prediction_id":"{ID}","labl":"1"}}"#), "labl"),
            (format!(r#"{{"prediction_id":"{ID}","row":-1,"label":"1"}}"#), "-1"),
            (format!(r#"{{"prediction_id":"{ID}","label":"{}"}}"#, "x".repeat(300)), "label"),
            (format!(r#"{{"prediction_id":"{ID}","label":"{}"}}"#, "x".repeat(5000)), "4096"),
            ("[1]".to_owned(), "not an outcome"),
            ("\u{fffd}".to_owned(), "not an outcome"),
        ] {
            let (good, bad) = parse(line.as_bytes());
            assert!(good.is_empty(), "{line}");
            assert!(bad[0].reason.contains(field), "{line}: {}", bad[0].reason);
        }
    }

    proptest! {
        #[test]
        fn encoded_outcomes_parse_back(
            rows in proptest::collection::vec((any::<u128>(), any::<u32>(), "[ -~]{1,20}", any::<Option<i32>>()), 1..40),
            max_bytes in 1usize..2000,
        ) {
            let outcomes: Vec<Outcome> = rows
                .into_iter()
                .map(|(prediction, row, label, number)| {
                    let label = number.map_or(Label::Class(label), |n| Label::Number(f64::from(n) / 8.0));
                    Outcome::new(PredictionId::new(uuid::Uuid::from_u128(prediction)), row, label)
                })
                .collect();
            let messages = encode(&outcomes, max_bytes);
            let mut parsed = Vec::new();
            for message in &messages {
                let (good, bad) = parse(message);
                prop_assert!(bad.is_empty());
                prop_assert!(message.len() <= max_bytes.max(good.len().min(1) * 400));
                parsed.extend(good.into_iter().map(|(_, outcome)| outcome));
            }
            prop_assert_eq!(parsed, outcomes);
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(payload in proptest::collection::vec(any::<u8>(), 0..300)) {
            let (good, bad) = parse(&payload);
            prop_assert!(good.len() + bad.len() <= payload.split(|&b| b == b'\n').count());
        }
    }
}
