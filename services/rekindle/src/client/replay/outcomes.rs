//! Outcomes of a replay, reported in row order once they are due.

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
    accepted: u64,
    calls: JoinSet<Result<u64, Error>>,
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
            accepted: 0,
            calls: JoinSet::new(),
        })
    }

    /// Reports every answered row whose label is due at `now`, in event time. Rows are reported in order, so a row that is still waiting
    /// for its answer delays those after it.
    pub(super) fn report_due(&mut self, run: &Run, now: Option<i64>) -> Result<()> {
        while let Some(done) = self.calls.try_join_next() {
            self.accepted += done??;
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

    /// Reports all remaining rows. Returns how many outcomes were accepted in all.
    pub(super) async fn finish(mut self, answers: &[Option<Answer>]) -> Result<u64> {
        let rest: Vec<Outcome> = (self.next..answers.len())
            .filter_map(|row| answers[row].as_ref().and_then(|answer| self.outcome(row, answer)))
            .collect();
        for batch in rest.chunks(PER_CALL) {
            self.report(batch.to_vec());
        }
        while let Some(done) = self.calls.join_next().await {
            self.accepted += done??;
        }
        Ok(self.accepted)
    }

    fn outcome(&self, row: usize, answer: &Answer) -> Option<Outcome> {
        let label = self.labels[row].clone()?;
        Some(Outcome { prediction: answer.prediction, row: 0, label })
    }

    fn report(&mut self, outcomes: Vec<Outcome>) {
        if outcomes.is_empty() {
            return;
        }
        let (monitor, model) = (self.monitor.clone(), self.model.clone());
        self.calls.spawn(async move { monitor.report_outcomes(&model, &outcomes, "").await });
    }
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
