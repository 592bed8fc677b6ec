//! Outcomes as they are told on the bus: one JSON object per line, each naming a prediction's row and its truth.
//!
//! A line that cannot be read never holds up the others: it is handed back with the reason, to be set aside.

use rekindle_domain::PredictionId;
use serde::{Deserialize, Serialize};

/// Bytes of a label at most.
pub const MAX_LABEL: usize = 256;
/// Bytes of a line at most; longer ones are set aside unread.
const MAX_LINE: usize = 4096;

/// One row of a prediction, as the log and the outcomes name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The prediction id's 128 bits, big-endian.
    pub prediction: u128,
    /// The row within the request.
    pub row: u32,
}

/// What turned out.
#[derive(Debug, Clone, PartialEq)]
pub enum Truth {
    /// The class, as the training data spelled it.
    Label(String),
    /// A number: the target of a regression, or a class that is spelled as a number.
    Number(f64),
}

/// The truth of one row.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Whose truth.
    pub key: Key,
    /// The truth.
    pub truth: Truth,
}

/// Why an outcome cannot be taken, naming the field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct InvalidOutcome {
    /// `prediction_id`, `label`, `number` or `truth`; empty where the line is not an object at all.
    pub field: &'static str,
    /// What is wrong and what was expected.
    pub problem: String,
}

/// A line that was set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    /// Counted from 1.
    pub line: u32,
    /// The line, cut to 4096 bytes.
    pub text: String,
    /// Why.
    pub reason: String,
}

/// A line on the wire.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    prediction_id: String,
    #[serde(default)]
    row: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    label: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    number: Option<f64>,
}

/// Checks one outcome field by field.
pub fn check(
    prediction_id: &str,
    row: u32,
    label: Option<String>,
    number: Option<f64>,
) -> Result<Outcome, InvalidOutcome> {
    let invalid = |field, problem: String| InvalidOutcome { field, problem };
    let id: PredictionId = prediction_id.parse().map_err(|error| invalid("prediction_id", format!("{error}")))?;
    let truth = match (label, number) {
        (Some(label), None) if label.is_empty() => {
            return Err(invalid("label", "must not be empty: give the class as the training data spelled it".into()));
        }
        (Some(label), None) if label.len() > MAX_LABEL => {
            return Err(invalid("label", format!("is {} bytes long: at most {MAX_LABEL} are taken", label.len())));
        }
        (Some(label), None) => Truth::Label(label),
        (None, Some(number)) if number.is_finite() => Truth::Number(number),
        (None, Some(number)) => return Err(invalid("number", format!("is {number}: expected a finite number"))),
        (None, None) => return Err(invalid("truth", "is missing: give a label or a number".into())),
        (Some(_), Some(_)) => return Err(invalid("truth", "is told twice: give a label or a number".into())),
    };
    Ok(Outcome { key: Key { prediction: id.uuid().as_u128(), row }, truth })
}

/// Reads a message: what could be read, with line numbers from 1, and what could not. Blank lines are skipped.
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
        return Err(format!("the line is {} bytes long: at most {MAX_LINE} are read", line.len()));
    }
    let line: Line = serde_json::from_slice(line).map_err(|error| format!("not an outcome: {error}"))?;
    check(&line.prediction_id, line.row, line.label, line.number).map_err(|error| error.to_string())
}

/// Writes outcomes as messages of at most `max_bytes` each (one line may exceed it alone).
pub fn encode(outcomes: &[Outcome], max_bytes: usize) -> Vec<Vec<u8>> {
    let mut messages: Vec<Vec<u8>> = Vec::new();
    for outcome in outcomes {
        let (label, number) = match &outcome.truth {
            Truth::Label(label) => (Some(label.clone()), None),
            Truth::Number(number) => (None, Some(*number)),
        };
        let prediction_id = uuid::Uuid::from_u128(outcome.key.prediction).to_string();
        let line = Line { prediction_id, row: outcome.key.row, label, number };
        let text = serde_json::to_vec(&line).expect("texts and finite numbers have a JSON form");
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

    use super::*;

    const ID: &str = "018f6e1a-5f2b-7c31-9a52-0c8e4f6b1d20";

    #[test]
    fn good_lines_pass_beside_bad_ones() {
        let payload = format!(
            "{{\"prediction_id\":\"{ID}\",\"row\":2,\"label\":\"1\"}}\r\n\nnonsense\n{{\"prediction_id\":\"{ID}\",\"number\":12.5}}\n"
        );
        let (good, bad) = parse(payload.as_bytes());
        assert_eq!(good.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [1, 4]);
        assert_eq!(good[0].1.key.row, 2);
        assert_eq!(good[1].1.truth, Truth::Number(12.5));
        assert_eq!(bad.len(), 1);
        assert_eq!((bad[0].line, bad[0].text.as_str()), (3, "nonsense"));
    }

    #[test]
    fn each_reason_names_the_field() {
        for (line, field) in [
            (r#"{"prediction_id":"x","label":"1"}"#.to_owned(), "prediction_id"),
            (format!(r#"{{"prediction_id":"{ID}"}}"#), "truth"),
            (format!(r#"{{"prediction_id":"{ID}","label":""}}"#), "label"),
            (format!(r#"{{"prediction_id":"{ID}","label":"1","number":1}}"#), "truth"),
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
        assert_eq!(check(ID, 0, None, Some(f64::NAN)).expect_err("not finite").field, "number");
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_read_again(
            rows in proptest::collection::vec((any::<u128>(), any::<u32>(), "[ -~]{1,20}", any::<Option<i32>>()), 1..40),
            max_bytes in 1usize..2000,
        ) {
            let outcomes: Vec<Outcome> = rows
                .into_iter()
                .map(|(prediction, row, label, number)| Outcome {
                    key: Key { prediction, row },
                    truth: number.map_or(Truth::Label(label), |n| Truth::Number(f64::from(n) / 8.0)),
                })
                .collect();
            let messages = encode(&outcomes, max_bytes);
            let mut again = Vec::new();
            for message in &messages {
                let (good, bad) = parse(message);
                prop_assert!(bad.is_empty());
                prop_assert!(message.len() <= max_bytes.max(good.len().min(1) * 400));
                again.extend(good.into_iter().map(|(_, outcome)| outcome));
            }
            prop_assert_eq!(again, outcomes);
        }

        #[test]
        fn no_bytes_can_break_the_reader(payload in proptest::collection::vec(any::<u8>(), 0..300)) {
            let (good, bad) = parse(&payload);
            prop_assert!(good.len() + bad.len() <= payload.split(|&b| b == b'\n').count());
        }
    }
}
