//! Measuring the quality of reported windows, once their labels are known or no longer waited for.

use ::metrics::counter;
use chrono::{DateTime, Utc};
use rekindle_bundle::LossSample;
use rekindle_domain::{
    ModelName, WatchSettings, WorkflowId,
    alert::AlertRules,
    report::{Quality, Verdict, WindowReport},
};
use rekindle_service::{Fault as _, chain};
use rekindle_store::{Fence, audit, in_transaction};
use sea_orm::DatabaseConnection;
use uuid::Uuid;

use super::{
    Evaluation, Step, now,
    plan::{self, Labels},
};
use crate::{
    Error, alert,
    capture::{Captured as _, outcomes::OutcomeMessage},
    chunk::{Chunk, columns::OUTPUT},
    frame::Frame,
    metrics, quality,
    report::Report,
    report_events,
    store::{self, chunks, logs, reports::Of},
    window::Timing,
};

/// How the reason of a report begins whose quality cannot be measured.
pub(super) const UNMEASURED: &str = "the quality cannot be measured";

/// Reports without a quality that one step considers.
const PAGE: u64 = 16;

/// A report with its quality, to be committed.
struct Scored {
    report: WindowReport,
    quality: Quality,
    at: DateTime<Utc>,
    /// The position of the log up to which it counts outcomes.
    position: i64,
}

/// What the alerts of a report depend on.
struct Alerting {
    rules: AlertRules,
    /// The position of the log after which the windows were read.
    since: i64,
}

impl Evaluation {
    /// Measures the quality of the next report whose labels are known or due. A pass over the reports takes several steps: one considers
    /// [`PAGE`] reports and reads the rows of one window at most.
    pub(super) async fn score_next(
        &mut self,
        model: &ModelName,
        settings: &WatchSettings,
        fence: &Fence,
    ) -> Result<Step, Error> {
        let after = self.memory.entry(model.clone()).or_default().scanned;
        let page = store::reports::without_quality(&self.db, model, after, PAGE).await?;
        if let (None, Some(oldest)) = (after, page.first()) {
            self.advance_outcomes(model, settings, oldest).await;
        }
        // After the outcome watermark: outcomes that were captured below it are joined, however they name their rows.
        self.resolve(model, fence).await?;
        let (is_last, timing) = ((page.len() as u64) < PAGE, Timing::of(settings));
        // Before the outcomes of a report are listed: a later one is counted by a revision.
        let position = if page.is_empty() { 0 } else { chunks::latest_outcomes(&self.db, model).await? };
        for report in page {
            let memory = self.memory.entry(model.clone()).or_default();
            // Before the attempt: a window that cannot be read now must not delay the others.
            memory.scanned = Some(store::reports::cursor(&report));
            let outcomes_until = memory.outcomes.until();
            // Queried after the outcome watermark, so that none of the outcomes below it is missing.
            let outcomes = chunks::outcomes_of(&self.db, model, report.ids).await?;
            let reported = outcomes.iter().map(|chunk| chunk.rows).sum();
            match plan::labels(&timing, self.labelled_share, &report, outcomes_until, reported) {
                Labels::Pending => {}
                labels => {
                    Box::pin(self.score(fence, report, (&outcomes, position), labels, settings)).await?;
                    return Ok(Step::Worked);
                }
            }
        }
        if !is_last {
            return Ok(Step::Worked);
        }
        self.memory.entry(model.clone()).or_default().scanned = None;
        Ok(Step::Idle)
    }

    /// Advances the model's outcome watermark if its oldest report waits for it. Without the bus, reports whose labels are known are still
    /// measured.
    async fn advance_outcomes(&mut self, model: &ModelName, settings: &WatchSettings, oldest: &Report) {
        let timing = Timing::of(settings);
        let advanced = async {
            let Some(latest) = logs::get(&self.db, model).await?.clock.latest() else { return Ok(()) };
            let watermark = &mut self.memory.entry(model.clone()).or_default().outcomes;
            if timing.labels_are_due(oldest.window.until, latest) && watermark.until() < Some(latest) {
                watermark.advance(latest, self.bus.progress(OutcomeMessage::STREAM, OutcomeMessage::CONSUMER).await?);
            }
            Ok::<_, Error>(())
        };
        if let Err(error) = advanced.await {
            tracing::warn!(%model, error = chain(&error), "progress of the outcomes is unknown, retrying");
        }
    }

    async fn score(
        &self,
        fence: &Fence,
        report: Report,
        (outcomes, position): (&[Chunk], i64),
        labels: Labels,
        settings: &WatchSettings,
    ) -> Result<(), Error> {
        let measured = match self.measure(&report, outcomes, labels, settings).await {
            Ok(Some(quality)) => Ok(quality),
            Ok(None) => return Ok(()),
            Err(error) if error.is_transient() => return Err(error),
            Err(error) => Err(chain(&error)),
        };
        let alerting = Alerting { rules: settings.alerts.clone(), since: report.since };
        let scored = Scored { position, ..scored(report.content, measured, now(), Uuid::now_v7) };
        commit(&self.db, fence, scored, alerting).await
    }

    /// `None` if more outcomes are waited for.
    pub(super) async fn measure(
        &self,
        report: &Report,
        outcomes: &[Chunk],
        labels: Labels,
        settings: &WatchSettings,
    ) -> Result<Option<Quality>, Error> {
        let header = &report.content.window;
        let version = header.version;
        let timing = Timing::of(settings);
        let mut chunks = chunks::in_window(&self.db, &header.model, report.since, &timing, &report.window).await?;
        // Rows that were captured after a reset have later ids.
        chunks.retain(|chunk| {
            chunk.bundle == Some(version.bundle)
                && chunk.model_version == version.version
                && chunk.ids.0 <= report.ids.1
        });
        let reference = self.references.get(&version.bundle).await?;
        let inputs = quality::inputs(&reference, settings);
        let is_needed = move |column: &str| column.starts_with(OUTPUT) || inputs.contains(column);
        let filter = self.filter(&chunks, report.window, Box::new(is_needed));
        let frame = Frame::scan(&self.artifacts, &chunks, filter).await?;
        let frame = frame.with_labels(&self.artifacts, outcomes).await?;
        let (rows, labelled) = frame.labelled();
        if !plan::is_labelled(labels, self.labelled_share, rows, labelled) {
            return Ok(None);
        }
        let (sample, settings) = (self.references.loss_sample(&reference).await?, settings.clone());
        let measured = tokio::task::spawn_blocking(move || {
            let Some(rows) = frame.in_order()? else { return Ok(Quality::inconclusive()) };
            let sample = sample.map(|bytes| LossSample::from_bytes(&bytes)).transpose()?;
            quality::evaluate(&reference, sample.as_ref(), &rows.batch, &rows.labels, &settings)
        });
        measured.await?.map(Some)
    }
}

/// Commits the quality of a report with its events, under the model's lease.
async fn commit(db: &DatabaseConnection, fence: &Fence, scored: Scored, alerting: Alerting) -> Result<(), Error> {
    let (fence, report, quality) = (fence.clone(), scored.report.clone(), scored.quality.clone());
    in_transaction(db, async move |txn| {
        fence.check(txn).await?;
        let Scored { report, quality, at, position } = &scored;
        if !store::reports::complete(txn, report, quality, *position, *at).await? {
            return Err(Error::LostRace { what: "the quality of a window", model: report.window.model.clone() });
        }
        for change in report_events::of_quality(report, quality, *at) {
            audit::record(txn, change).await?;
        }
        let Alerting { rules, since } = &alerting;
        alert::observe(txn, &report.window.model, rules, Of::Quality, *since, *at).await
    })
    .await?;
    count(&report, &quality);
    Ok(())
}

/// The completed report. Pure: the time and the id are inputs. `measured` is the quality, or why it cannot be measured.
fn scored(
    mut report: WindowReport,
    measured: Result<Quality, String>,
    at: DateTime<Utc>,
    new_id: impl FnOnce() -> Uuid,
) -> Scored {
    let quality = measured.unwrap_or_else(|why| {
        let separator = if report.reason.is_empty() { "" } else { "; " };
        report.reason = format!("{}{separator}{UNMEASURED}: {why}", report.reason);
        Quality::inconclusive()
    });
    if quality.verdict == Verdict::Drifted {
        // Drift and degradation of one window share a correlation id.
        report.correlation_id = report.correlation_id.or_else(|| Some(WorkflowId::new(new_id())));
    }
    report.quality = Some(quality.clone());
    report.quality_at = Some(at);
    Scored { report, quality, at, position: 0 }
}

fn count(report: &WindowReport, quality: &Quality) {
    let window = &report.window;
    let (model, version, until) = (&window.model, window.version.version, window.until);
    let (labelled, invalid, verdict) = (quality.labelled_rows, quality.invalid_outcomes, quality.verdict.name());
    let reason = &report.reason;
    tracing::info!(%model, version, %until, labelled, invalid, verdict, reason, "quality measured");
    counter!(metrics::QUALITY_REPORTS, "model" => model.to_string(), "verdict" => verdict).increment(1);
    metrics::add(metrics::INVALID_OUTCOMES, model, invalid);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{evaluate::contents::tests::report, window::Window};

    const NEW: WorkflowId = WorkflowId::new(Uuid::from_u128(7));

    fn with(correlation_id: Option<WorkflowId>, measured: Result<Quality, String>) -> WindowReport {
        let report = WindowReport { correlation_id, ..report(Window { from: 0, until: 100 }, 40).content };
        scored(report, measured, DateTime::UNIX_EPOCH, || NEW.uuid()).report
    }

    #[test]
    fn degradation_shares_the_correlation_id_of_drift() {
        let quality = |verdict| Ok(Quality { verdict, ..Quality::inconclusive() });
        let drifted = Some(WorkflowId::new(Uuid::from_u128(3)));
        assert_eq!(with(drifted, quality(Verdict::Drifted)).correlation_id, drifted);
        assert_eq!(with(None, quality(Verdict::Drifted)).correlation_id, Some(NEW));
        assert_eq!(with(None, quality(Verdict::Stable)).correlation_id, None);
    }

    #[test]
    fn a_quality_that_cannot_be_measured_is_inconclusive_with_the_reason() {
        let report = with(None, Err("no object".to_owned()));
        assert_eq!(report.reason, "the quality cannot be measured: no object");
        assert_eq!(report.quality.map(|quality| quality.verdict), Some(Verdict::Inconclusive));
        assert_eq!(report.quality_at, Some(DateTime::UNIX_EPOCH));
    }
}
