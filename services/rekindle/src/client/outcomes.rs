//! `rekindle outcomes`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rekindle_domain::{
    ModelName,
    outcome::{Label, Outcome},
    prediction_log::AcceptedOutcomes,
};
use serde_json::json;

use super::{Global, capture, parse};

/// The most outcomes that the monitor accepts in one call.
const PER_CALL: usize = 10_000;

/// Outcomes to report.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A file has one JSON object per line: {\"prediction_id\": \"0199…\", \"row\": 0, \"label\": \"1\"}. The label is a text, a number or a
boolean. Outcomes that are known to be wrong are refused, each with its reason, and then none of them is accepted. The last outcome reported for a row is the valid one.

Examples:
  rekindle outcomes flight-delay 0199a7c2-…=1 0199a7c3-…/4=0
  rekindle outcomes house-price 0199a7c2-…=412000 --number
  rekindle outcomes flight-delay --file outcomes.jsonl")]
pub(crate) struct Args {
    /// Model name
    model: ModelName,
    /// Prediction id, row (needed if the request had several), and label
    #[arg(value_name = "PREDICTION[/ROW]=LABEL", value_parser = parse::pair, required_unless_present = "file")]
    outcomes: Vec<(String, String)>,
    /// Labels are numbers (regression), not classes
    #[arg(long)]
    number: bool,
    /// Read outcomes from a file of JSON lines
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

pub(crate) async fn run(args: Args, global: &Global) -> Result<()> {
    let class: fn(&str) -> Result<Label> = |text| Ok(Label::Class(text.to_owned()));
    let label = if args.number { number } else { class };
    let given = args.outcomes.iter().map(|(prediction, text)| outcome(prediction, label(text)?));
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

fn outcome(prediction: &str, label: Label) -> Result<Outcome> {
    let (id, row) = match prediction.split_once('/') {
        Some((id, row)) => (id, row.parse().with_context(|| format!("{prediction}: the row is not a number"))?),
        None => (prediction, 0),
    };
    label.validate().with_context(|| prediction.to_owned())?;
    Ok(Outcome { prediction: id.parse()?, row, label })
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
        let given = outcome(&format!("{ID}/4"), Label::Class("1".into())).expect("valid");
        assert_eq!((given.prediction.to_string().as_str(), given.row), (ID, 4));
        assert_eq!(number("1.5").expect("valid"), Label::Number(1.5));
        assert!(number("x").is_err() && outcome("0199", Label::Number(1.0)).is_err());
        assert!(outcome(&format!("{ID}/x"), Label::Number(1.0)).is_err());
        assert!(outcome(ID, Label::Class(String::new())).is_err());
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
