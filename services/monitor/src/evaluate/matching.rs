//! Checking captured outcomes against the predictions, chunk by chunk.
//!
//! A chunk is checked as soon as it is captured, and again, each time after twice its age, while predictions are missing: the truth may be
//! reported first. Once the wait is over, outcomes without a prediction are unmatched.

use chrono::{DateTime, TimeDelta, Utc};
use rekindle_domain::{ModelName, prediction_log::OutcomeCounts};
use rekindle_service::{Fault as _, chain};
use rekindle_store::{Fence, in_transaction};

use super::{Evaluation, Step, now};
use crate::{
    Error,
    chunk::{self, Chunk, outcomes},
    matching::{self, Finding},
    metrics,
    outcome::RowLabel,
    store::{
        chunks,
        outcome_checks::{self, Due},
    },
};

/// The shortest time between two checks of a chunk.
const RECHECK: TimeDelta = TimeDelta::seconds(2);

impl Evaluation {
    /// Checks the chunk of outcomes that has been due longest.
    pub(super) async fn match_next(&self, model: &ModelName, fence: &Fence) -> Result<Step, Error> {
        let now = now();
        let Some(due) = outcome_checks::due(&self.db, model, now).await? else { return Ok(Step::Idle) };
        let is_last = now - due.captured_at >= self.outcome_wait;
        let counts = match self.check(model, &due).await {
            Ok((outcomes, findings)) => counts(&outcomes, &findings, is_last),
            Err(error) if error.is_transient() => return Err(error),
            Err(error) => {
                tracing::error!(%model, chunk = %due.chunk, error = chain(&error), "outcomes cannot be read");
                let examples = [("unmatched".to_owned(), format!("chunk {}: {}", due.chunk, chain(&error)))].into();
                OutcomeCounts { unmatched: due.outcomes, examples, ..OutcomeCounts::default() }
            }
        };
        let due_at = if is_last || counts.pending == 0 { None } else { Some(self.next_check(&due, now)) };
        if due_at.is_none() {
            count(model, &counts);
        }
        let (fence, chunk) = (fence.clone(), due.chunk);
        in_transaction(&self.db, async move |txn| {
            fence.check(txn).await?;
            Ok::<_, Error>(outcome_checks::record(txn, chunk, &counts, due_at).await?)
        })
        .await?;
        Ok(Step::Worked)
    }

    fn next_check(&self, due: &Due, now: DateTime<Utc>) -> DateTime<Utc> {
        let age = (now - due.captured_at).max(RECHECK);
        (now + age).min(due.captured_at + self.outcome_wait).max(now + RECHECK)
    }

    async fn check(&self, model: &ModelName, due: &Due) -> Result<(Vec<RowLabel>, Vec<Finding>), Error> {
        let Some(chunk) = chunks::get(&self.db, due.chunk).await? else { return Ok(Default::default()) };
        let outcomes = self.outcomes(&chunk).await?;
        let log = matching::Log { db: &self.db, artifacts: &self.artifacts, references: &self.references };
        let findings = matching::find(log, model, &outcomes, usize::MAX).await?;
        Ok((outcomes, findings))
    }

    async fn outcomes(&self, chunk: &Chunk) -> Result<Vec<RowLabel>, Error> {
        let bytes = self.artifacts.get_object_verified(&chunk.object_key, &chunk.digest).await?;
        let read = tokio::task::spawn_blocking(move || {
            let mut outcomes = Vec::new();
            for batch in chunk::read(bytes, |_| true)? {
                outcomes::visit(&batch?, |key, _, label| {
                    outcomes.push(RowLabel { key, label: label() });
                })?;
            }
            Ok::<_, Error>(outcomes)
        });
        read.await?
    }
}

/// The findings by reason, each reason with its first outcome as the example. After the last check, what is pending is unmatched.
fn counts(outcomes: &[RowLabel], findings: &[Finding], is_last: bool) -> OutcomeCounts {
    let mut counts = OutcomeCounts::default();
    for (outcome, finding) in outcomes.iter().zip(findings) {
        let about = || format!("row {} of prediction {}", outcome.key.row, outcome.key.prediction_id());
        let (reason, example) = match finding {
            Finding::Matched => {
                counts.matched += 1;
                continue;
            }
            Finding::Pending if !is_last => {
                counts.pending += 1;
                continue;
            }
            Finding::Pending => {
                counts.unmatched += 1;
                ("unmatched", format!("{}: the prediction was not logged", about()))
            }
            Finding::RowOutOfRange(rows) => {
                counts.row_out_of_range += 1;
                ("row_out_of_range", format!("{}: the request has {rows} rows, from 0", about()))
            }
            Finding::WrongModel(model) => {
                counts.wrong_model += 1;
                ("wrong_model", format!("{}: the prediction was made by {model}", about()))
            }
            Finding::InvalidLabel(problem) => {
                counts.invalid_label += 1;
                ("invalid_label", format!("{}: the label {problem}", about()))
            }
        };
        counts.examples.entry(reason.to_owned()).or_insert(example);
    }
    counts
}

/// Counts the outcomes that no quality will count, once it is known for good.
pub(super) fn count(model: &ModelName, counts: &OutcomeCounts) {
    for (reason, outcomes) in counts.refused() {
        metrics::refused(model, reason, outcomes);
    }
}

#[cfg(test)]
mod tests {
    use rekindle_domain::outcome::Label;

    use super::*;
    use crate::outcome::Key;

    #[test]
    fn each_finding_is_counted_with_an_example() {
        let findings = [
            Finding::Matched,
            Finding::Pending,
            Finding::RowOutOfRange(2),
            Finding::RowOutOfRange(2),
            Finding::WrongModel("weather".parse().expect("a name")),
            Finding::InvalidLabel("is 0.5: expected a class".to_owned()),
        ];
        let outcome = |row| RowLabel { key: Key { prediction: 0, row }, label: Label::Number(0.5) };
        let outcomes: Vec<RowLabel> = (0..6).map(outcome).collect();
        let before = counts(&outcomes, &findings, false);
        assert_eq!((before.matched, before.pending, before.unmatched), (1, 1, 0));
        assert_eq!(before.refused().map(|(_, count)| count), [0, 2, 1, 1, 0, 0]);
        assert!(before.examples["row_out_of_range"].starts_with("row 2 of prediction 0000"), "the first");
        let last = counts(&outcomes, &findings, true);
        assert_eq!((last.pending, last.unmatched), (0, 1));
        assert_eq!(
            last.examples.keys().collect::<Vec<_>>(),
            ["invalid_label", "row_out_of_range", "unmatched", "wrong_model"]
        );
    }
}
