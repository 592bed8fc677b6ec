//! Revising qualities: outcomes that are reported, or corrected, after the quality of their window was measured.
//!
//! A quality counts the outcomes that were captured when it was measured. A later chunk of outcomes that may be about rows of the window waits
//! for `revise_after`, so that outcomes that arrive one by one cost one pass. Then the window is measured again, with all outcomes. If its
//! outcomes have changed, the report has a further revision, and its event is published again. In the end the outcomes of a quality do not
//! depend on when they arrived.
//!
//! Degradation and each new class are published once for a window, with the first revision that has them.

use std::collections::HashSet;

use ::metrics::counter;
use chrono::{DateTime, TimeDelta, Utc};
use rekindle_domain::{
    ModelName, WatchSettings, WorkflowId,
    report::{Quality, Verdict},
};
use rekindle_service::{Fault as _, chain};
use rekindle_store::{Fence, audit, in_transaction};
use uuid::Uuid;

use super::{Evaluation, Step, now, plan::Labels, scoring::UNMEASURED};
use crate::{
    Error, alert, metrics,
    report::Report,
    report_events,
    store::{self, chunks, reports::Of},
};

/// The shortest time until a window that could not be read is tried again.
const RETRY: TimeDelta = TimeDelta::seconds(60);

/// What is remembered of the revisions of a model between two steps.
#[derive(Debug, Default)]
pub(super) struct Revised {
    /// The position of the log up to which every measured quality counts its outcomes.
    until: Option<i64>,
    /// Reports that could not be measured again in the current pass.
    failed: HashSet<Uuid>,
}

impl Evaluation {
    /// Measures the earliest window again whose quality does not count outcomes that have waited long enough. One that cannot be read now
    /// delays no other.
    pub(super) async fn revise_next(
        &mut self,
        model: &ModelName,
        settings: &WatchSettings,
        fence: &Fence,
    ) -> Result<Step, Error> {
        let latest = chunks::latest_outcomes(&self.db, model).await?;
        let revised = &mut self.memory.entry(model.clone()).or_default().revised;
        let after = match revised.until {
            Some(until) => until,
            None => store::revisions::counted_until(&self.db, model).await?.unwrap_or(latest),
        };
        let chunk = if after == latest {
            None
        } else {
            store::revisions::uncounted(&self.db, model, after, &revised.failed).await?
        };
        let Some(chunk) = chunk else {
            if revised.failed.is_empty() {
                revised.until = Some(latest);
                self.due.wait_no_longer(model);
            } else {
                // All that are left have failed: a new pass tries them again.
                *revised = Revised::default();
                self.due.recheck_at(model, now() + RETRY);
            }
            return Ok(Step::Idle);
        };
        revised.until = Some(chunk.position - 1);
        let at = chunk.captured_at.checked_add_signed(self.revise_after).unwrap_or(DateTime::<Utc>::MAX_UTC);
        if at > now() {
            self.due.recheck_at(model, at);
            return Ok(Step::Idle);
        }
        let found = store::revisions::not_counting(&self.db, model, &chunk, &revised.failed).await?;
        let Some(report) = found else { return Ok(Step::Worked) };
        let id = report.content.window.report.uuid();
        match self.revise(fence, report, settings).await {
            Err(error) if error.is_lost_lease() => Err(error),
            Err(error) => {
                metrics::add(metrics::EVALUATION_FAILURES, model, 1);
                tracing::warn!(%model, report = %id, error = chain(&error), "revision failed, retrying");
                self.memory.entry(model.clone()).or_default().revised.failed.insert(id);
                Ok(Step::Worked)
            }
            Ok(()) => Ok(Step::Worked),
        }
    }

    async fn revise(&self, fence: &Fence, report: Report, settings: &WatchSettings) -> Result<(), Error> {
        let model = &report.content.window.model;
        // Before the outcomes are listed: a later one is counted by the next revision.
        let position = chunks::latest_outcomes(&self.db, model).await?;
        let outcomes = chunks::outcomes_of(&self.db, model, report.ids).await?;
        let measured = match self.measure(&report, &outcomes, Labels::Due, settings).await {
            Ok(measured) => measured,
            Err(error) if error.is_transient() => return Err(error),
            Err(error) => {
                let until = report.content.window.until;
                tracing::error!(%model, %until, error = chain(&error), "the quality cannot be measured again");
                None
            }
        };
        let revision = measured.and_then(|quality| revision(&report, quality, now(), Uuid::now_v7));
        let (fence, since, rules) = (fence.clone(), report.since, settings.alerts.clone());
        let (counted, revised) = (report.content.clone(), revision.clone());
        in_transaction(&self.db, async move |txn| {
            fence.check(txn).await?;
            let Some(report) = &revised else {
                return Ok(store::revisions::count_until(txn, &counted, position).await?);
            };
            let content = &report.content;
            let model = &content.window.model;
            let at = content.quality_at.unwrap_or_default();
            let (changes, announced) = report_events::of_revision(report, at);
            if !store::reports::revise(txn, content, &announced, position).await? {
                return Err(Error::LostRace { what: "the revision of a window", model: model.clone() });
            }
            for change in changes {
                audit::record(txn, change).await?;
            }
            alert::observe(txn, model, &rules, Of::Quality, since, at).await
        })
        .await?;
        if let Some(Report { content, .. }) = revision {
            let (window, revision, changes) = (&content.window, content.revision, &content.changes);
            let (model, version, until) = (&window.model, window.version.version, window.until);
            tracing::info!(%model, version, %until, revision, changes, "quality revised");
            counter!(metrics::REVISIONS, "model" => model.to_string()).increment(1);
        }
        Ok(())
    }
}

/// The next revision of a report; `None` if its outcomes have not changed, or if rows of the window or outcomes have been deleted since. Pure:
/// the time and the id are inputs.
fn revision(report: &Report, quality: Quality, at: DateTime<Utc>, new_id: impl FnOnce() -> Uuid) -> Option<Report> {
    let before = report.content.quality.as_ref()?;
    let is_deleted = quality.rows < before.rows || outcomes(&quality) < outcomes(before);
    if is_deleted || has_same_outcomes(before, &quality) {
        return None;
    }
    let mut revised = report.clone();
    let content = &mut revised.content;
    if quality.verdict == Verdict::Drifted {
        content.correlation_id = content.correlation_id.or_else(|| Some(WorkflowId::new(new_id())));
    }
    // The rows can be read again.
    if let Some(at) = content.reason.find(UNMEASURED) {
        content.reason.truncate(at);
        content.reason.truncate(content.reason.trim_end_matches("; ").len());
    }
    content.revision = content.revision.saturating_add(1);
    content.changes = changes(before, &quality);
    (content.quality, content.quality_at) = (Some(quality), Some(at));
    Some(revised)
}

/// Rows with an outcome, valid or not.
fn outcomes(quality: &Quality) -> u64 {
    quality.labelled_rows.saturating_add(quality.invalid_outcomes)
}

/// Whether two qualities of a window count the same outcomes. Other settings, and what an earlier release did not measure, make no revision.
fn has_same_outcomes(before: &Quality, after: &Quality) -> bool {
    let counts = |quality: &Quality| (quality.labelled_rows, quality.invalid_outcomes, quality.new_classes.clone());
    let is_same = |(name, value): (&String, &f64)| after.metrics.get(name).is_none_or(|after| after == value);
    counts(before) == counts(after) && before.loss == after.loss && before.metrics.iter().all(is_same)
}

/// What is new, e.g. `120 more rows have an outcome; the mean loss was 0.5100 and is 0.5300`.
fn changes(before: &Quality, after: &Quality) -> String {
    let rows = match outcomes(after).saturating_sub(outcomes(before)) {
        0 => "outcomes were corrected".to_owned(),
        1 => "1 more row has an outcome".to_owned(),
        more => format!("{more} more rows have an outcome"),
    };
    let loss = format!("the mean loss was {:.4} and is {:.4}", before.loss, after.loss);
    let verdict = (before.verdict != after.verdict)
        .then(|| format!("; the verdict was {} and is {}", before.verdict.name(), after.verdict.name()));
    format!("{rows}; {loss}{}", verdict.unwrap_or_default())
}

/// How long a chunk of outcomes waits, of a configured duration.
pub(crate) fn delay(configured: std::time::Duration) -> TimeDelta {
    TimeDelta::from_std(configured).unwrap_or(TimeDelta::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{evaluate::contents::tests::report, window::Window};

    fn quality(labelled_rows: u64, loss: f64, verdict: Verdict) -> Quality {
        Quality { verdict, rows: 40, labelled_rows, loss, ..Quality::inconclusive() }
    }

    fn measured(quality: Quality) -> Report {
        let mut report = report(Window { from: 0, until: 100 }, 40);
        report.content.quality = Some(quality);
        report
    }

    #[test]
    fn changed_outcomes_are_a_revision_that_says_what_changed() {
        let report = measured(quality(20, 0.5, Verdict::Stable));
        let next = |quality| {
            let id = || Uuid::from_u128(7);
            revision(&report, quality, DateTime::UNIX_EPOCH, id).map(|revised| revised.content)
        };
        assert_eq!(next(quality(20, 0.5, Verdict::Stable)), None);
        assert_eq!(next(quality(20, 0.5, Verdict::Drifted)), None, "other settings");
        let deleted = Quality { rows: 39, ..quality(30, 0.6, Verdict::Stable) };
        assert_eq!(next(deleted), None, "rows have been deleted");
        assert_eq!(next(quality(19, 0.6, Verdict::Stable)), None, "outcomes have been deleted");
        let more = next(quality(40, 0.75, Verdict::Drifted)).expect("a revision");
        assert_eq!((report.content.revision, more.revision), (1, 2));
        assert_eq!(
            more.changes,
            "20 more rows have an outcome; the mean loss was 0.5000 and is 0.7500; the verdict was STABLE and is DRIFTED"
        );
        assert_eq!(more.correlation_id, Some(WorkflowId::new(Uuid::from_u128(7))));
        let corrected = next(quality(20, 0.25, Verdict::Stable)).expect("a revision");
        assert_eq!(corrected.changes, "outcomes were corrected; the mean loss was 0.5000 and is 0.2500");
        assert_eq!((corrected.correlation_id, corrected.quality_at), (None, Some(DateTime::UNIX_EPOCH)));
        // A label that was corrected to an invalid one counts no longer.
        let invalid = Quality { invalid_outcomes: 1, ..quality(19, 0.5, Verdict::Stable) };
        assert_eq!(next(invalid).map(|revised| revised.revision), Some(2));
    }

    #[test]
    fn a_quality_that_can_be_measured_again_has_no_such_reason() {
        let of = |reason: &str| {
            let mut report = measured(Quality::inconclusive());
            report.content.reason = reason.to_owned();
            let revised = revision(&report, quality(20, 0.5, Verdict::Stable), DateTime::UNIX_EPOCH, Uuid::now_v7);
            revised.expect("a revision").content.reason
        };
        assert_eq!(of("inconclusive: 7 rows; the quality cannot be measured: no object"), "inconclusive: 7 rows");
        assert_eq!(of("the quality cannot be measured: no object"), "");
        assert_eq!(of("inconclusive: 7 rows"), "inconclusive: 7 rows");
    }
}
