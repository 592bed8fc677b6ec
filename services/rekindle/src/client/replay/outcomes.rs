//! Outcomes of a replay, reported in row order once they are due.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail};
use arrow::{
    array::{Array, AsArray},
    datatypes::{DataType, Float64Type, Int64Type},
};
use rekindle_client::{Error, Monitor, inference::ModelMetadata};
use rekindle_domain::{
    ModelName,
    outcome::{Label, Outcome},
};
use tokio::task::JoinSet;

use super::{Answer, Options, Outcomes, Row, Run};

/// Maximum number of outcomes in one call.
const PER_CALL: usize = 1000;

/// Reports the label of each answered row.
pub(super) struct OutcomeReporter {
    model: ModelName,
    labels: Vec<Option<Label>>,
    delay_ms: i64,
    monitor: Monitor,
    /// The first row that is not reported yet.
    next: usize,
    reported: Reported,
    calls: JoinSet<Result<Reported, Error>>,
}

/// What the monitor made of the outcomes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Reported {
    /// Outcomes accepted.
    pub(crate) accepted: u64,
    /// Outcomes refused.
    pub(crate) refused: u64,
    /// Why the first of them was refused.
    pub(crate) first_refusal: Option<String>,
}

impl Reported {
    fn add(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.refused += other.refused;
        self.first_refusal = self.first_refusal.take().or(other.first_refusal);
    }
}

impl OutcomeReporter {
    pub(super) fn new(options: &Options, outcomes: &Outcomes, metadata: &ModelMetadata) -> Result<Self> {
        let is_regression = metadata.outputs.iter().any(|output| output.name == "prediction");
        let column = options.table.column(&outcomes.target)?;
        let label = if is_regression { number } else { class };
        let labels =
            (0..column.len()).map(|row| if column.is_null(row) { Ok(None) } else { label(column, row).map(Some) });
        Ok(Self {
            model: options.model.clone(),
            labels: labels.collect::<Result<_>>()?,
            delay_ms: i64::try_from(outcomes.delay.as_millis()).context("the delay is too long")?,
            monitor: outcomes.monitor.clone(),
            next: 0,
            reported: Reported::default(),
            calls: JoinSet::new(),
        })
    }

    /// Reports every answered row whose label is due at `now`, in event time. Rows are reported in order, so a row that is still waiting
    /// for its answer delays those after it.
    pub(super) fn report_due(&mut self, run: &Run, now: Option<i64>) -> Result<()> {
        while let Some(done) = self.calls.try_join_next() {
            self.reported.add(done??);
        }
        let mut batch = Vec::new();
        while self.next < run.sent {
            let is_due = match (run.time(self.next), now) {
                (Some(time), Some(now)) => time.saturating_add(self.delay_ms) <= now,
                _ => true,
            };
            match (&run.rows[self.next], is_due) {
                (Row::Waiting, _) | (_, false) => break,
                (Row::Failed, true) => {}
                (Row::Answered(answer), true) => batch.extend(self.outcome(self.next, answer)),
            }
            self.next += 1;
            if batch.len() == PER_CALL {
                self.report(std::mem::take(&mut batch));
            }
        }
        self.report(batch);
        Ok(())
    }

    /// Reports all remaining rows. Returns what became of all.
    pub(super) async fn finish(mut self, answers: &[Option<Answer>]) -> Result<Reported> {
        let rest: Vec<Outcome> = (self.next..answers.len())
            .filter_map(|row| answers[row].as_ref().and_then(|answer| self.outcome(row, answer)))
            .collect();
        for batch in rest.chunks(PER_CALL) {
            self.report(batch.to_vec());
        }
        while let Some(done) = self.calls.join_next().await {
            self.reported.add(done??);
        }
        Ok(self.reported)
    }

    fn outcome(&self, row: usize, answer: &Answer) -> Option<Outcome> {
        let label = self.labels[row].clone()?;
        Some(Outcome::new(answer.prediction, 0, label))
    }

    fn report(&mut self, outcomes: Vec<Outcome>) {
        if outcomes.is_empty() {
            return;
        }
        let (monitor, model) = (self.monitor.clone(), self.model.clone());
        self.calls.spawn(report(monitor, model, outcomes));
    }
}

/// Reports outcomes. If some are refused, those are counted and the others are reported.
async fn report(monitor: Monitor, model: ModelName, mut outcomes: Vec<Outcome>) -> Result<Reported, Error> {
    let mut reported = Reported::default();
    while !outcomes.is_empty() {
        let error = match monitor.report_outcomes(&model, &outcomes, "").await {
            Ok(accepted) => {
                reported.accepted = accepted.accepted;
                break;
            }
            Err(error) => error,
        };
        let Some(refused) = error.violations() else { return Err(error) };
        let indexes: BTreeSet<usize> = refused.iter().filter_map(|violation| index(&violation.field)).collect();
        if indexes.is_empty() {
            return Err(error);
        }
        reported.refused += indexes.len() as u64;
        reported.first_refusal = reported.first_refusal.or_else(|| refused.iter().next().map(ToString::to_string));
        let kept = outcomes.into_iter().enumerate().filter(|(index, _)| !indexes.contains(index));
        outcomes = kept.map(|(_, outcome)| outcome).collect();
    }
    Ok(reported)
}

/// The index in the name of a field `outcomes[<index>].<field>`.
fn index(field: &str) -> Option<usize> {
    field.strip_prefix("outcomes[")?.split_once(']')?.0.parse().ok()
}

fn number(column: &dyn Array, row: usize) -> Result<Label> {
    match column.data_type() {
        #[expect(clippy::cast_precision_loss, reason = "labels beyond 2^53 are rounded, as they are in training")]
        DataType::Int64 => Ok(Label::Number(column.as_primitive::<Int64Type>().value(row) as f64)),
        _ => class(column, row),
    }
}

fn class(column: &dyn Array, row: usize) -> Result<Label> {
    Ok(match column.data_type() {
        DataType::Int64 => Label::Class(column.as_primitive::<Int64Type>().value(row).to_string()),
        DataType::Float64 => Label::Number(column.as_primitive::<Float64Type>().value(row)),
        DataType::Boolean => Label::Class(column.as_boolean().value(row).to_string()),
        DataType::Utf8 => Label::Class(column.as_string::<i32>().value(row).to_owned()),
        other => bail!("the target column is {other}: expected classes or numbers"),
    })
}

#[cfg(test)]
mod tests {
    use arrow::array::{BooleanArray, Date32Array, Float64Array, Int64Array, StringArray};

    use super::*;

    #[test]
    fn refused_outcomes_are_found_by_the_index_in_the_name_of_their_field() {
        assert_eq!(index("outcomes[17].label"), Some(17));
        for other in ["model", "outcomes", "outcomes[x].row", "outcomes[1"] {
            assert_eq!(index(other), None, "{other}");
        }
    }

    #[test]
    fn integers_are_classes_or_numbers_by_the_task() {
        let column = Int64Array::from(vec![7]);
        assert_eq!(class(&column, 0).expect("a class"), Label::Class("7".into()));
        assert_eq!(number(&column, 0).expect("a number"), Label::Number(7.0));
        assert_eq!(class(&Float64Array::from(vec![1.5]), 0).expect("a number"), Label::Number(1.5));
        assert_eq!(class(&BooleanArray::from(vec![true]), 0).expect("a class"), Label::Class("true".into()));
        assert_eq!(class(&StringArray::from(vec!["late"]), 0).expect("a class"), Label::Class("late".into()));
        assert!(class(&Date32Array::from(vec![1]), 0).is_err());
    }
}
