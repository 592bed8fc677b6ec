//! Closing a window: its rows are read and compared version by version, and the reports are committed together.

use std::collections::{BTreeMap, HashSet};

use ::metrics::counter;
use rekindle_domain::{
    ModelName, VersionRef, WatchSettings,
    alert::AlertRules,
    report::{Drift, Estimate, WindowReport},
};
use rekindle_service::{Fault as _, chain};
use rekindle_store::{Fence, audit, in_transaction};
use sea_orm::DatabaseConnection;
use uuid::Uuid;

use super::{
    Evaluation, Step,
    contents::{Comparison, Contents, VersionRows, inconclusive, reports},
    now, plan,
};
use crate::{
    Error, alert,
    chunk::{
        Chunk,
        columns::{INPUT, OUTPUT},
    },
    drift, estimate,
    frame::Frame,
    metrics,
    report::Report,
    report_events,
    store::{
        self, chunks, deletions,
        logs::{self, Log},
        reports::Of,
    },
    volume::{self, Earlier},
    window::{Span, Timing, Window},
};

/// A closed window, to be committed.
struct Closed {
    model: ModelName,
    /// The log before.
    before: Log,
    /// Up to where they are reported now.
    until: i64,
    /// One per version that answered in the window.
    reports: Vec<Report>,
    /// When alerts open and resolve.
    rules: AlertRules,
}

impl Evaluation {
    /// Closes the earliest window that is due.
    pub(super) async fn close_next(
        &self,
        model: &ModelName,
        settings: &WatchSettings,
        log: Log,
        fence: &Fence,
    ) -> Result<Step, Error> {
        let (reported_until, latest_event) = (log.reported_until, log.clock.latest());
        let next_event = chunks::next_event(&self.db, model, log.reset_at, reported_until).await?;
        let timing = Timing::of(settings);
        let progress = plan::Progress { reported_until, next_event, latest_event };
        let Some(window) = plan::next_window(&timing, &progress) else { return Ok(Step::Idle) };
        let contents = self.read_window(model, settings, log.reset_at, window).await?;
        let until = plan::reported_until(&timing, &window, !contents.versions.is_empty(), contents.next_event);
        let reports = reports(model, window, contents, now(), Uuid::now_v7);
        let rules = settings.alerts.clone();
        let closed = Closed { model: model.clone(), before: log, until, reports, rules };
        commit(&self.db, fence, closed).await?;
        Ok(Step::Worked)
    }

    /// Reads and compares the rows of each version in turn: one version's rows are in memory at a time.
    async fn read_window(
        &self,
        model: &ModelName,
        settings: &WatchSettings,
        since: i64,
        window: Window,
    ) -> Result<Contents, Error> {
        let mut by_version: BTreeMap<_, Vec<Chunk>> = BTreeMap::new();
        for chunk in chunks::in_window(&self.db, model, since, &Timing::of(settings), &window).await? {
            let Some(bundle) = chunk.bundle else { continue };
            by_version.entry((chunk.model_version, bundle)).or_default().push(chunk);
        }
        let all = span(&window, by_version.values().flatten());
        let mut next_event = self.next_event(model, since, &window, by_version.values().flatten()).await?;
        let log_began = self.log_began(model, since).await?;
        let earlier = self.earlier(model, since, log_began, window).await?;
        let mut versions = Vec::new();
        for ((version, bundle), chunks) in by_version {
            let version = VersionRef { version, bundle };
            let before = store::reports::before(&self.db, model, version, since, window.from).await?;
            let before = before.map(|report| report.content.drift);
            let (rows, next) = self.read_version(version, &chunks, window, settings, before).await?;
            next_event = [next_event, next].into_iter().flatten().min();
            versions.extend(rows);
        }
        let rows = versions.iter().map(|version: &VersionRows| version.rows).sum();
        // Of rows that cannot be read, those of the whole chunks are counted.
        let is_read = |version: &VersionRows| !matches!(version.comparison, Comparison::Unreadable(_));
        let is_covered = log_began.is_none_or(|began| began <= window.from) && versions.iter().all(is_read);
        let volume = if is_covered { volume::of(window, rows, &earlier, settings) } else { None };
        Ok(Contents { versions, all, since, log_began, next_event, volume })
    }

    /// The windows before one, the latest first, but for those that began before the log.
    async fn earlier(
        &self,
        model: &ModelName,
        since: i64,
        log_began: Option<i64>,
        window: Window,
    ) -> Result<Vec<Earlier>, Error> {
        let most = i64::try_from(volume::READ).unwrap_or(i64::MAX).saturating_mul(window.until - window.from);
        let from = log_began.unwrap_or(i64::MIN).max(window.from.saturating_sub(most));
        Ok(store::reports::volumes(&self.db, model, since, (from, window.from), volume::READ).await?)
    }

    /// The first event time of the log after the position `since`. If rows after it were deleted, the log began before any time.
    async fn log_began(&self, model: &ModelName, since: i64) -> Result<Option<i64>, Error> {
        if deletions::get(&self.db, model).await?.is_some_and(|deleted| deleted.position > since) {
            return Ok(Some(i64::MIN));
        }
        Ok(chunks::next_event(&self.db, model, since, None).await?)
    }

    /// The earliest event time after the window that the index shows. A chunk that was too late for the window is not read, and may hold
    /// rows of the next one.
    async fn next_event(
        &self,
        model: &ModelName,
        since: i64,
        window: &Window,
        read: impl Iterator<Item = &Chunk>,
    ) -> Result<Option<i64>, Error> {
        let read: HashSet<Uuid> = read.map(|chunk| chunk.id).collect();
        let across = chunks::across(&self.db, model, since, window.until).await?;
        if across.iter().any(|id| !read.contains(id)) {
            return Ok(Some(window.until));
        }
        Ok(chunks::next_beginning(&self.db, model, since, window.until).await?)
    }

    /// The rows of one version, if any, and the earliest event time after the window among the rows of its chunks. `before` is the drift of
    /// the version in its window before.
    async fn read_version(
        &self,
        version: VersionRef,
        chunks: &[Chunk],
        window: Window,
        settings: &WatchSettings,
        before: Option<Drift>,
    ) -> Result<(Option<VersionRows>, Option<i64>), Error> {
        let span = span(&window, chunks);
        let frame = match Frame::scan(&self.artifacts, chunks, self.filter(chunks, window, Box::new(is_value))).await {
            Ok(frame) => frame,
            Err(error) if error.is_transient() => return Err(error),
            Err(error) => {
                let ids = chunks.iter().map(|chunk| chunk.ids);
                let ids = ids.reduce(|all, one| (all.0.min(one.0), all.1.max(one.1))).unwrap_or_default();
                let rows = chunks.iter().map(|chunk| chunk.rows).sum();
                let comparison = Comparison::Unreadable(chain(&error));
                return Ok((Some(VersionRows { version, rows, ids, span, comparison, before, estimate: None }), None));
            }
        };
        let (rows, ids, next_event) = (frame.rows(), frame.ids().unwrap_or_default(), frame.next_event());
        if rows == 0 {
            return Ok((None, next_event));
        }
        let (comparison, estimate) = match self.compare(version, frame, settings, before.clone()).await {
            Ok((drift, estimate)) => (Comparison::Compared(Box::new(drift)), estimate),
            Err(error) if error.is_transient() => return Err(error),
            Err(error) => (Comparison::Incomparable(chain(&error)), None),
        };
        Ok((Some(VersionRows { version, rows, ids, span, comparison, before, estimate }), next_event))
    }

    async fn compare(
        &self,
        version: VersionRef,
        frame: Frame,
        settings: &WatchSettings,
        before: Option<Drift>,
    ) -> Result<(Drift, Option<Estimate>), Error> {
        let (reference, settings) = (self.references.get(&version.bundle).await?, settings.clone());
        let compared = tokio::task::spawn_blocking(move || match frame.batch()? {
            Some(batch) => {
                let mut drift = drift::compare(&reference, &batch, &settings, before.as_ref())?;
                // Of two rows that are the same, a sample may hold one.
                let is_sample = batch.num_rows() as u64 != frame.rows();
                drift.repeated = drift.repeated.filter(|_| !is_sample);
                let estimate = estimate::of_window(&reference, &batch, &drift, settings.min_rows)?;
                Ok((drift, estimate))
            }
            None => Ok((inconclusive(), None)),
        });
        compared.await?
    }
}

/// Commits the reports of a window with their events, under the model's lease.
async fn commit(db: &DatabaseConnection, fence: &Fence, closed: Closed) -> Result<(), Error> {
    let (fence, reports) = (fence.clone(), closed.reports.clone());
    in_transaction(db, async move |txn| {
        fence.check(txn).await?;
        let Closed { model, before, until, reports, rules } = &closed;
        if !logs::move_reported_until(txn, model, before, *until).await? {
            return Err(Error::LostRace { what: "the reported windows", model: model.clone() });
        }
        for report in reports {
            store::reports::insert(txn, report).await?;
            let judged = estimate::judged(txn, report.clone()).await?;
            for change in report_events::of_closed(&judged.content, judged.content.window.closed_at) {
                audit::record(txn, change).await?;
            }
        }
        if let Some(report) = reports.first() {
            alert::observe(txn, model, rules, Of::Drift, report.since, report.content.window.closed_at).await?;
        }
        Ok(())
    })
    .await?;
    reports.iter().for_each(count);
    Ok(())
}

/// The part of a window that the rows of chunks span.
fn span<'a>(window: &Window, chunks: impl IntoIterator<Item = &'a Chunk>) -> Option<Span> {
    let spans = chunks.into_iter().filter_map(|chunk| chunk.events);
    spans.map(|(first, last)| window.clip(Span { first, last })).reduce(Span::with)
}

fn count(report: &Report) {
    let (WindowReport { window, drift, reason, .. }, Window { from, until }) = (&report.content, report.window);
    let (model, version, rows, drift) = (&window.model, window.version.version, window.rows, drift.verdict.name());
    tracing::info!(%model, version, from, until, rows, drift, reason, "window closed");
    counter!(metrics::WINDOWS, "model" => model.to_string(), "drift" => drift).increment(1);
}

/// Whether a column has the values of a feature or of an output.
fn is_value(column: &str) -> bool {
    column.starts_with(INPUT) || column.starts_with(OUTPUT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        evaluate::contents::tests::{WINDOW, drifted},
        event_clock::EventClock,
        ownership::{
            self,
            tests::{database, holding, take_over},
        },
        store::logs::LogDelta,
    };

    /// A window of one version that has drifted, of a model whose log exists.
    async fn closed(db: &DatabaseConnection) -> Closed {
        let reports = drifted();
        let model = reports[0].content.window.model.clone();
        let before = Log::default();
        logs::apply(db, &model, &before, &LogDelta::default(), &EventClock::default()).await.expect("inserts");
        Closed { model, before, until: WINDOW.until, reports, rules: AlertRules::default() }
    }

    async fn stored(db: &DatabaseConnection, model: &ModelName) -> (Vec<Report>, u64) {
        let reports = store::reports::list(db, model, None, 10).await.expect("readable");
        (reports, rekindle_store::outbox::pending(db).await.expect("readable"))
    }

    #[tokio::test]
    async fn the_holder_commits_a_window_once() {
        let db = database().await;
        let closed = closed(&db).await;
        let (model, reports) = (closed.model.clone(), closed.reports.clone());
        let (_leases, fence) = holding(&db, &ownership::evaluation(&model)).await;
        commit(&db, &fence, closed).await.expect("commits");
        assert_eq!(stored(&db, &model).await, (reports.clone(), 2));
        let rules = AlertRules::default();
        let repeated = Closed { model: model.clone(), before: Log::default(), until: WINDOW.until, reports, rules };
        let refused = commit(&db, &fence, repeated).await.expect_err("the window is reported");
        assert!(matches!(refused, Error::LostRace { .. }), "{refused:?}");
    }

    #[tokio::test]
    async fn a_former_holder_commits_nothing() {
        let db = database().await;
        let closed = closed(&db).await;
        let model = closed.model.clone();
        let (_leases, fence) = holding(&db, &ownership::evaluation(&model)).await;
        take_over(&db).await;
        let refused = commit(&db, &fence, closed).await.expect_err("another instance holds the lease");
        assert!(refused.is_lost_lease(), "{refused:?}");
        assert_eq!(stored(&db, &model).await, (Vec::new(), 0));
        assert_eq!(logs::get(&db, &model).await.expect("readable").reported_until, None);
    }
}
