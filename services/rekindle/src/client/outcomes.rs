//! `rekindle outcomes`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use chrono::DateTime;
use rekindle_domain::{
    ModelName,
    outcome::{Label, Outcome, PredictedRow},
    prediction_log::AcceptedOutcomes,
};
use serde_json::json;

use super::{Global, capture, parse};

/// The most outcomes that the monitor accepts in one call.
const PER_CALL: usize = 10_000;

/// Outcomes to report.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A file has one JSON object per line: {\"prediction_id\": \"0199…\", \"row\": 0, \"label\": \"1\"}. In place of prediction_id, request_id is the id that
the client gave the request, and entity_key with event_time names the row by the request's entity_key tensor. The label is a text, a number or a
boolean. Outcomes that are known to be wrong are refused, each with its reason, and then none of them is accepted. The last outcome reported for a row is the valid one.

Examples:
  rekindle outcomes flight-delay 0199a7c2-…=1 0199a7c3-…/4=0
  rekindle outcomes house-price 0199a7c2-…=412000 --number
  rekindle outcomes flight-delay --by request order-4711=1
  rekindle outcomes flight-delay --by entity N14228@2026-03-01T12:00:00Z=1
  rekindle outcomes flight-delay --file outcomes.jsonl")]
pub(crate) struct Args {
    /// Model name
    model: ModelName,
    /// Prediction id or request id, row (needed if the request had several), and label; with `--by entity`, ENTITY_KEY@EVENT_TIME=LABEL
    #[arg(value_name = "ID[/ROW]=LABEL", value_parser = parse::pair, required_unless_present = "file")]
    outcomes: Vec<(String, String)>,
    /// What names the rows
    #[arg(long, value_enum, default_value_t = By::Prediction, conflicts_with = "file")]
    by: By,
    /// Labels are numbers (regression), not classes
    #[arg(long)]
    number: bool,
    /// Read outcomes from a file of JSON lines
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

/// What names a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum By {
    /// The prediction id of the answer
    Prediction,
    /// The id that the client gave the request
    Request,
    /// The entity key and the event time
    Entity,
}

pub(crate) async fn run(args: Args, global: &Global) -> Result<()> {
    let class: fn(&str) -> Result<Label> = |text| Ok(Label::Class(text.to_owned()));
    let label = if args.number { number } else { class };
    let given = args.outcomes.iter().map(|(name, text)| outcome(args.by, name, label(text)?));
    let mut outcomes = given.collect::<Result<Vec<_>>>()?;
    if let Some(path) = &args.file {
        outcomes.extend(read(path)?);
    }
    let monitor = global.platform()?.monitor();
    let mut all = AcceptedOutcomes::default();
    for batch in outcomes.chunks(PER_CALL) {
        let AcceptedOutcomes { accepted, matched } = monitor.report_outcomes(&args.model, batch, "").await?;
        all = AcceptedOutcomes { accepted: all.accepted + accepted, matched: all.matched + matched };
    }
    let json =
        |all: &AcceptedOutcomes| json!({ "accepted": all.accepted.to_string(), "matched": all.matched.to_string() });
    global.format().one(&all, json, |all| {
        let waiting = all.accepted - all.matched;
        vec![
            ("accepted", all.accepted.to_string()),
            ("matched", all.matched.to_string()),
            ("waiting for their prediction", waiting.to_string()),
        ]
    });
    capture::print_notes(&monitor, &args.model).await
}

fn number(text: &str) -> Result<Label> {
    Ok(Label::Number(text.parse().with_context(|| format!("{text:?} is not a number"))?))
}

fn outcome(by: By, name: &str, label: Label) -> Result<Outcome> {
    label.validate().with_context(|| name.to_owned())?;
    let (empty, none) = (String::new, None);
    let row = match by {
        By::Prediction => {
            let (id, row) = numbered(name)?;
            PredictedRow::of_fields(id, empty(), empty(), row, none)
        }
        By::Request => {
            let (id, row) = numbered(name)?;
            PredictedRow::of_fields("", id.to_owned(), empty(), row, none)
        }
        By::Entity => {
            let (key, time) =
                name.rsplit_once('@').with_context(|| format!("{name}: expected ENTITY_KEY@EVENT_TIME"))?;
            let time = DateTime::parse_from_rfc3339(time)
                .with_context(|| format!("{name}: the event time is not RFC 3339, e.g. 2026-03-01T12:00:00Z"))?;
            PredictedRow::of_fields("", empty(), key.to_owned(), 0, Some(time.to_utc()))
        }
    };
    Ok(Outcome { row: row.with_context(|| name.to_owned())?, label })
}

/// An id and, after its last `/`, the row.
fn numbered(name: &str) -> Result<(&str, u32)> {
    match name.rsplit_once('/') {
        Some((id, row)) => Ok((id, row.parse().with_context(|| format!("{name}: the row is not a number"))?)),
        None => Ok((name, 0)),
    }
}

fn read(path: &Path) -> Result<Vec<Outcome>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let numbered = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let outcomes = numbered.map(|(index, line)| {
        Outcome::from_json_line(line.as_bytes()).with_context(|| format!("{}, line {}", path.display(), index + 1))
    });
    outcomes.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0199a7c2-6f0e-7b7e-9d0e-3f1a2b3c4d5e";

    #[test]
    fn predictions_rows_and_labels_are_parsed() {
        let label = || Label::Class("1".into());
        let described = |by, name: &str| outcome(by, name, label()).expect("valid").row.to_string();
        assert_eq!(described(By::Prediction, &format!("{ID}/4")), format!("row 4 of prediction {ID}"));
        assert_eq!(described(By::Request, "order-1"), "row 0 of request \"order-1\"");
        let at = "2026-03-01T12:00:00Z";
        assert_eq!(described(By::Entity, &format!("N1@x@{at}")), format!("entity \"N1@x\" at {at}"));
        assert!(outcome(By::Entity, "N1", label()).is_err() && outcome(By::Entity, "N1@noon", label()).is_err());
        assert_eq!(number("1.5").expect("valid"), Label::Number(1.5));
        assert!(number("x").is_err() && outcome(By::Prediction, "0199", label()).is_err());
        assert!(outcome(By::Prediction, &format!("{ID}/x"), label()).is_err());
        assert!(outcome(By::Prediction, ID, Label::Class(String::new())).is_err());
    }

    #[test]
    fn errors_in_a_file_name_the_line() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let good = format!(r#"{{"prediction_id": "{ID}", "row": 1, "label": "a"}}"#);
        for bad in [
            format!(r#"{{"prediction_id": "{ID}"}}"#),
            format!(r#"{{"prediction_id": "{ID}", "label": "a", "number": 1}}"#),
            r#"{"prediction_id": "0199", "label": "a"}"#.to_owned(),
            format!(r#"{{"prediction_id": "{ID}", "label": []}}"#),
        ] {
            std::fs::write(file.path(), format!("{good}\n\n{bad}\n")).expect("written");
            let problem = read(file.path()).expect_err("the label is missing");
            assert!(problem.to_string().contains("line 3"), "{problem}");
        }
        std::fs::write(file.path(), format!("{good}\n{}", good.replace("label", "class"))).expect("written");
        let outcomes = read(file.path()).expect("valid");
        assert_eq!(outcomes.len(), 2);
        assert_eq!(outcomes[0], outcomes[1]);
        let labels = [("1.5", Label::Number(1.5)), ("true", Label::Class("true".into()))];
        for (label, expected) in labels {
            std::fs::write(file.path(), good.replace("\"a\"", label)).expect("written");
            assert_eq!(read(file.path()).expect("valid")[0].label, expected);
        }
    }
}
