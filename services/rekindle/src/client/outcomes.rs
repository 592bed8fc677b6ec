//! `rekindle outcomes`: telling what turned out to be true.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use rekindle_proto::{
    json,
    monitor::{Outcome, ReportOutcomesRequest, ReportOutcomesResponse, outcome::Truth},
};

use super::{Global, parse};

/// Outcomes of one call at most, as the monitor has it.
const AT_ONCE: usize = 10_000;

/// What turned out.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A file has one JSON object per line: {\"prediction_id\": \"0199…\", \"row\": 0, \"label\": \"1\"}, with \"number\" in place of \"label\"
where a number was predicted. The last outcome told of a row wins.

Examples:
  rekindle outcomes flight-delay 0199a7c2-…=1 0199a7c3-…/4=0
  rekindle outcomes house-price 0199a7c2-…=412000 --number
  rekindle outcomes flight-delay --file outcomes.jsonl")]
pub(crate) struct Args {
    /// The model
    model: String,
    /// A prediction's id, with the row where it had several, and the truth
    #[arg(value_name = "PREDICTION[/ROW]=TRUTH", value_parser = parse::pair, required_unless_present = "file")]
    outcomes: Vec<(String, String)>,
    /// The truths are numbers, not classes
    #[arg(long)]
    number: bool,
    /// Take outcomes from a file of JSON lines
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

pub(crate) async fn run(args: Args, global: &Global) -> Result<()> {
    let mut outcomes = Vec::with_capacity(args.outcomes.len());
    for (prediction, truth) in &args.outcomes {
        outcomes.push(outcome(prediction, truth, args.number)?);
    }
    if let Some(path) = &args.file {
        outcomes.extend(read(path)?);
    }
    let mut client = global.connect()?.monitor();
    let mut accepted = 0;
    for batch in outcomes.chunks(AT_ONCE) {
        let request = ReportOutcomesRequest {
            model: args.model.clone(),
            outcomes: batch.to_vec(),
            idempotency_key: String::new(),
        };
        accepted += client.report_outcomes(request).await?.into_inner().accepted;
    }
    let told = ReportOutcomesResponse { accepted };
    global.format().message(&told, |told| vec![("accepted", told.accepted.to_string())]);
    Ok(())
}

fn outcome(prediction: &str, truth: &str, number: bool) -> Result<Outcome> {
    let (prediction_id, row) = match prediction.split_once('/') {
        Some((id, row)) => (id, row.parse().with_context(|| format!("{prediction}: the row is no number"))?),
        None => (prediction, 0),
    };
    let truth = if number {
        Truth::Number(truth.parse().with_context(|| format!("{truth:?} is no number"))?)
    } else {
        Truth::Label(truth.to_owned())
    };
    Ok(Outcome { prediction_id: prediction_id.to_owned(), row, truth: Some(truth) })
}

fn read(path: &Path) -> Result<Vec<Outcome>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let numbered = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let outcomes = numbered.map(|(index, line)| {
        let place = || format!("{}, line {}", path.display(), index + 1);
        let outcome: Outcome = json::from_slice(line.as_bytes()).with_context(place)?;
        if outcome.truth.is_none() {
            bail!("{}: neither label nor number is given", place());
        }
        Ok(outcome)
    });
    outcomes.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_truths_are_read() {
        let told = outcome("0199/4", "1", false).expect("valid");
        assert_eq!((told.prediction_id.as_str(), told.row, told.truth), ("0199", 4, Some(Truth::Label("1".into()))));
        assert_eq!(outcome("0199", "1.5", true).expect("valid").truth, Some(Truth::Number(1.5)));
        assert!(outcome("0199/x", "1", false).is_err() && outcome("0199", "x", true).is_err());
    }

    #[test]
    fn lines_are_numbered_in_errors() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let good = r#"{"prediction_id": "0199", "row": 1, "label": "a"}"#;
        std::fs::write(file.path(), format!("{good}\n\n{{\"prediction_id\": \"0199\"}}\n")).expect("written");
        let problem = read(file.path()).expect_err("the truth is missing");
        assert!(problem.to_string().contains("line 3"), "{problem}");
        std::fs::write(file.path(), good).expect("written");
        assert_eq!(read(file.path()).expect("valid").len(), 1);
    }
}
