//! Checking captured outcomes against the predictions.
//!
//! Several chunks are checked at once. A chunk is checked as soon as it is captured, and again, each time after twice its age, while predictions are missing: the truth may be
//! reported first. Once the wait is over, outcomes without a prediction are unmatched.

use chrono::{DateTime, TimeDelta, Utc};
use rekindle_domain::{ModelName, prediction_log::OutcomeCounts};
use rekindle_service::{Fault as _, chain};
use rekindle_store::{Fence, in_transaction};

use super::{Evaluation, Step, now};
use crate::{
    Error,
    chunk::{self, outcomes},
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

/// Outcomes that are checked at once. Each of them may be about any row, so that the keys of all rows are read for them; one takes about
/// 400 bytes of memory meanwhile.
const OUTCOMES: u64 = 200_000;

/// A chunk of outcomes that was checked.
struct Checked {
    due: Due,
    counts: OutcomeCounts,
    /// The time of the next check; `None` after the last.
    again_at: Option<DateTime<Utc>>,
}

impl Evaluation {
    /// Checks the chunks of outcomes that have been due longest.
    pub(super) async fn match_next(&self, model: &ModelName, fence: &Fence) -> Result<Step, Error> {
        let now = now();
        let due = outcome_checks::due(&self.db, model, now, OUTCOMES).await?;
        if due.is_empty() {
            return Ok(Step::Idle);
        }
        let checked = self.check(model, due, now).await?;
        for checked in checked.iter().filter(|checked| checked.again_at.is_none()) {
            count(model, &checked.counts);
        }
        let fence = fence.clone();
        in_transaction(&self.db, async move |txn| {
            fence.check(txn).await?;
            for Checked { due, counts, again_at } in &checked {
                outcome_checks::record(txn, due.chunk, counts, *again_at).await?;
            }
            Ok::<_, Error>(())
        })
        .await?;
        Ok(Step::Worked)
    }

    async fn check(&self, model: &ModelName, due: Vec<Due>, now: DateTime<Utc>) -> Result<Vec<Checked>, Error> {
        let (mut checked, mut read, mut outcomes) = (Vec::new(), Vec::new(), Vec::new());
        for due in due {
            match self.outcomes(&due).await {
                Ok(found) => {
                    read.push((due, found.len()));
                    outcomes.extend(found);
                }
                Err(error) if error.is_transient() => return Err(error),
                Err(error) => {
                    tracing::error!(%model, chunk = %due.chunk, error = chain(&error), "outcomes cannot be read");
                    let examples = [("unmatched".to_owned(), format!("chunk {}: {}", due.chunk, chain(&error)))].into();
                    let counts = OutcomeCounts { unmatched: due.outcomes, examples, ..OutcomeCounts::default() };
                    checked.push(Checked { due, counts, again_at: None });
                }
            }
        }
        let log = matching::Log { db: &self.db, artifacts: &self.artifacts, references: &self.references };
        let findings = matching::find(log, model, &outcomes, usize::MAX).await?;
        let mut from = 0;
        for (due, rows) in read {
            let of_chunk = from..from + rows;
            from += rows;
            let is_last = now - due.captured_at >= self.outcome_wait;
            let counts = counts(&outcomes[of_chunk.clone()], &findings[of_chunk], is_last);
            let again_at = (!is_last && counts.pending > 0).then(|| self.next_check(&due, now));
            checked.push(Checked { due, counts, again_at });
        }
        Ok(checked)
    }

    fn next_check(&self, due: &Due, now: DateTime<Utc>) -> DateTime<Utc> {
        let age = (now - due.captured_at).max(RECHECK);
        (now + age).min(due.captured_at + self.outcome_wait).max(now + RECHECK)
    }

    /// The outcomes of a chunk; none of one that is not in the index.
    async fn outcomes(&self, due: &Due) -> Result<Vec<RowLabel>, Error> {
        let Some(chunk) = chunks::get(&self.db, due.chunk).await? else { return Ok(Vec::new()) };
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
