//! Closing windows and judging them. A reconciler: it keeps nothing that it cannot find out again, so that after a crash it goes on
//! with what the index and the segments say, and says the same.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use rekindle_artifacts::Artifacts;
use rekindle_bus::Bus;
use rekindle_domain::{Digest, ModelName, ReportId, VersionRef};
use rekindle_store::{in_transaction, outbox};
use sea_orm::DatabaseConnection;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    Error, alert,
    capture::{Captured as _, outcomes::Truths},
    drift,
    error::chain,
    followed::Followed,
    frame::{Frame, Wanted},
    join::Sample,
    quality,
    reference::References,
    report::{Drift, Quality, Report, Verdict},
    segment::{INPUT, OUTPUT, Segment},
    store::{
        self,
        logs::{self, Log},
        segments, watches,
    },
    watch::Settings,
    window::{Span, Window},
};

/// Reports that wait for their outcomes and are looked at in one round.
const UNJUDGED: u64 = 1000;

/// What evaluation works with.
pub(crate) struct Evaluation {
    pub(crate) db: DatabaseConnection,
    pub(crate) bus: Bus,
    pub(crate) artifacts: Artifacts,
    pub(crate) references: References,
    pub(crate) captured: Arc<Notify>,
    pub(crate) every: Duration,
    pub(crate) window_rows: u64,
    pub(crate) labelled_share: f64,
    /// How far the outcomes of each model have followed its predictions.
    pub(crate) followed: HashMap<ModelName, Followed>,
}

impl Evaluation {
    /// Evaluates whenever something was captured, and every so often, until `stop`.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), Error> {
        loop {
            if let Err(error) = self.round(&stop).await {
                tracing::warn!(error = chain(&error), "looking for models to evaluate failed, trying again");
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = self.captured.notified() => {}
                () = tokio::time::sleep(self.every) => {}
            }
        }
    }

    /// Every model once. A model that cannot be evaluated does not hold up the others.
    async fn round(&mut self, stop: &CancellationToken) -> Result<(), Error> {
        for model in logs::models(&self.db).await? {
            if stop.is_cancelled() {
                break;
            }
            if let Err(error) = self.model(&model).await {
                metrics::counter!("rekindle_monitor_evaluation_failures_total", "model" => model.to_string())
                    .increment(1);
                tracing::warn!(%model, error = chain(&error), "evaluation failed, trying again");
            }
        }
        Ok(())
    }

    async fn model(&mut self, model: &ModelName) -> Result<(), Error> {
        let settings = watches::get(&self.db, model).await?.settings;
        while self.close_next(model, &settings).await? {}
        self.judge_due(model, &settings).await
    }

    /// Closes the earliest open window that has rows; `false` where none is to be closed.
    async fn close_next(&self, model: &ModelName, settings: &Settings) -> Result<bool, Error> {
        let log = logs::get(&self.db, model).await?;
        let Some(latest) = log.latest_event else { return Ok(false) };
        let timing = settings.timing();
        let mut cursor = log.reported_until;
        while let Some(next) = segments::next_event(&self.db, model, cursor).await? {
            let window = timing.window_from(cursor, next);
            if !timing.is_closed(&window, latest) {
                break;
            }
            let (closed, next_event) = self.close(model, settings, &log, window).await?;
            if closed {
                return Ok(true);
            }
            // Nothing lies in this window; go on where the next row may.
            let begins = segments::next_beginning(&self.db, model, window.until).await?;
            let Some(next) = [next_event, begins].into_iter().flatten().min() else { break };
            cursor = Some(next.max(window.until));
        }
        Ok(false)
    }

    /// Reports on every version that answered in the window; `false` where none did. Also tells the earliest row after it.
    async fn close(
        &self,
        model: &ModelName,
        settings: &Settings,
        log: &Log,
        window: Window,
    ) -> Result<(bool, Option<i64>), Error> {
        let mut by_version: BTreeMap<(u32, Digest), Vec<Segment>> = BTreeMap::new();
        for segment in segments::in_window(&self.db, model, &settings.timing(), &window).await? {
            let Some(bundle) = segment.bundle else { continue };
            by_version.entry((segment.model_version, bundle)).or_default().push(segment);
        }
        let read: HashSet<Uuid> = by_version.values().flatten().map(|segment| segment.id).collect();
        let across = segments::across(&self.db, model, window.until).await?;
        // A segment that came too late for this window, and was not read, may still hold rows of the next one.
        let mut next_event = across.iter().any(|id| !read.contains(id)).then_some(window.until);
        let all = span(&window, by_version.values().flatten());
        let log_began = segments::next_event(&self.db, model, None).await?;
        let mut found = Vec::new();
        for ((version, bundle), segments) in by_version {
            let frame = match Frame::read(&self.artifacts, &segments, self.wanted(&segments, window, is_value)).await {
                Ok(frame) => frame,
                Err(error) if error.is_lasting() => {
                    found.push(unreadable(model, VersionRef { version, bundle }, window, &segments, &error));
                    continue;
                }
                Err(error) => return Err(error),
            };
            next_event = [next_event, frame.next_event()].into_iter().flatten().min();
            if frame.rows() == 0 {
                continue;
            }
            let mut report = self.report(model, VersionRef { version, bundle }, window, frame, settings).await?;
            if let (Some(own), Some(all), Some(log_began)) = (span(&window, &segments), all, log_began)
                && !window.is_covered_by(own, all, log_began)
            {
                cannot_tell(&mut report, own);
            }
            found.push(report);
        }
        if found.is_empty() {
            return Ok((false, next_event));
        }
        self.enter_closed(log, &found).await?;
        Ok((true, next_event))
    }

    fn wanted(&self, segments: &[Segment], window: Window, columns: fn(&str) -> bool) -> Wanted {
        let rows = segments.iter().map(|segment| segment.rows).sum();
        Wanted {
            from: Some(window.from),
            until: Some(window.until),
            key: None,
            sample: Sample::of_rows(rows, self.window_rows),
            columns,
        }
    }

    async fn report(
        &self,
        model: &ModelName,
        version: VersionRef,
        window: Window,
        frame: Frame,
        settings: &Settings,
    ) -> Result<Report, Error> {
        let (rows, ids) = (frame.rows(), frame.ids().unwrap_or_default());
        let (drift, reason) = match self.compare(version, frame, settings).await {
            Ok(drift) => (drift, String::new()),
            // Serving has it, so it was registered: the window can still be counted, and must not hold up the next.
            Err(error) if error.is_lasting() => {
                tracing::error!(%model, version = version.version, error = chain(&error), "window cannot be compared");
                let reason =
                    format!("cannot be compared with the reference in bundle {}: {}", version.bundle, chain(&error));
                (unknown(), reason)
            }
            Err(error) => return Err(error),
        };
        let reason = if reason.is_empty() { drift.doubt(rows).unwrap_or_default() } else { reason };
        let correlation_id = (drift.verdict == Verdict::Drifted).then(Uuid::now_v7);
        Ok(Report {
            id: ReportId::new(Uuid::now_v7()),
            model: model.clone(),
            version,
            window,
            rows,
            drift,
            quality: None,
            ids,
            closed_at: Utc::now(),
            quality_at: None,
            correlation_id,
            reason,
        })
    }

    async fn compare(&self, version: VersionRef, frame: Frame, settings: &Settings) -> Result<Drift, Error> {
        let (reference, settings) = (self.references.get(&version.bundle).await?, settings.clone());
        let compared = tokio::task::spawn_blocking(move || match frame.batch()? {
            Some(batch) => drift::compare(&reference, &batch, &settings),
            None => Ok(unknown()),
        });
        compared.await?
    }

    async fn enter_closed(&self, log: &Log, found: &[Report]) -> Result<(), Error> {
        let Some(Report { model, window, .. }) = found.first() else { return Ok(()) };
        let (before, until, named, reports) = (log.reported_until, window.until, model.clone(), found.to_vec());
        in_transaction(&self.db, async move |txn| {
            if !logs::move_reported_until(txn, &named, before, until).await? {
                return Err(Error::LostRace { what: "the end of what was reported", model: named.clone() });
            }
            for report in &reports {
                store::reports::insert(txn, report).await?;
                for event in alert::of_closed(report, report.closed_at) {
                    outbox::enqueue(txn, event).await?;
                }
            }
            Ok(())
        })
        .await?;
        for report in found {
            let (version, rows, drift) = (report.version.version, report.rows, report.drift.verdict.as_str());
            tracing::info!(%model, version, from = window.from, until = window.until, rows, drift, "window closed");
            metrics::counter!("rekindle_monitor_windows_total", "model" => model.to_string(), "drift" => drift)
                .increment(1);
        }
        Ok(())
    }

    /// Judges the windows whose outcomes are in, or are no longer waited for.
    async fn judge_due(&mut self, model: &ModelName, settings: &Settings) -> Result<(), Error> {
        let Some(latest) = logs::get(&self.db, model).await?.latest_event else { return Ok(()) };
        let timing = settings.timing();
        let is_due = |report: &Report, latest| timing.labels_are_due(report.window.until, latest);
        let unjudged = store::reports::unjudged(&self.db, model, UNJUDGED).await?;
        let mut failed = None;
        if unjudged.iter().any(|report| is_due(report, latest)) {
            // Windows whose outcomes are in do not need the bus.
            failed = self.follow(model, latest).await.err();
        }
        let followed = self.followed.get(model).and_then(Followed::until);
        for report in unjudged {
            let due = followed.is_some_and(|followed| is_due(&report, followed));
            // Read after that was asked, so that none of those followed is missing.
            let outcomes = segments::outcomes_of(&self.db, model, report.ids).await?;
            let told: u64 = outcomes.iter().map(|segment| segment.rows).sum();
            // No more rows can be labelled than outcomes were told: most looks end here, without reading anything.
            if due || told as f64 >= self.labelled_share * report.rows as f64 {
                // One window that cannot be read now does not hold up the others.
                failed = failed.or(self.judge(report, &outcomes, due, settings).await.err());
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Asks how far the outcomes have followed predictions that have come to `latest`.
    async fn follow(&mut self, model: &ModelName, latest: i64) -> Result<(), Error> {
        let followed = self.followed.entry(model.clone()).or_default();
        if followed.until() < Some(latest) {
            followed.note(latest, self.bus.progress(Truths::STREAM, Truths::CONSUMER).await?);
        }
        Ok(())
    }

    async fn judge(
        &self,
        mut report: Report,
        outcomes: &[Segment],
        due: bool,
        settings: &Settings,
    ) -> Result<(), Error> {
        let in_window = segments::in_window(&self.db, &report.model, &settings.timing(), &report.window).await?;
        let version = report.version;
        let of_version =
            |segment: &Segment| segment.bundle == Some(version.bundle) && segment.model_version == version.version;
        let in_window: Vec<Segment> = in_window.into_iter().filter(of_version).collect();
        let quality = match self.score(&report, &in_window, outcomes, due, settings).await {
            Ok(Some(quality)) => quality,
            Ok(None) => return Ok(()),
            Err(error) if error.is_lasting() => {
                let (model, version) = (&report.model, version.version);
                tracing::error!(%model, version, error = chain(&error), "window cannot be judged");
                let reason = format!("quality cannot be told: {}", chain(&error));
                report.reason = if report.reason.is_empty() { reason } else { format!("{}; {reason}", report.reason) };
                unjudgeable()
            }
            Err(error) => return Err(error),
        };
        self.enter_judged(report, quality).await
    }

    /// `None` where more outcomes are waited for.
    async fn score(
        &self,
        report: &Report,
        segments: &[Segment],
        outcomes: &[Segment],
        due: bool,
        settings: &Settings,
    ) -> Result<Option<Quality>, Error> {
        let frame = Frame::read(&self.artifacts, segments, self.wanted(segments, report.window, is_output)).await?;
        let frame = frame.tell(&self.artifacts, outcomes).await?;
        let (rows, labelled) = frame.labelled();
        if !due && (labelled as f64) < self.labelled_share * rows as f64 {
            return Ok(None);
        }
        let (reference, settings) = (self.references.get(&report.version.bundle).await?, settings.clone());
        let judged = tokio::task::spawn_blocking(move || match frame.batch()? {
            Some(batch) => quality::judge(&reference.manifest, &batch, frame.truths(), &settings),
            None => Ok(unjudgeable()),
        });
        judged.await?.map(Some)
    }

    async fn enter_judged(&self, mut report: Report, quality: Quality) -> Result<(), Error> {
        let now = Utc::now();
        if quality.verdict == Verdict::Drifted {
            report.correlation_id = report.correlation_id.or_else(|| Some(Uuid::now_v7()));
        }
        report.quality = Some(quality.clone());
        report.quality_at = Some(now);
        let (model, version, until) = (report.model.clone(), report.version.version, report.window.until);
        let (labelled, invalid) = (quality.labelled_rows, quality.invalid_outcomes);
        let verdict = quality.verdict.as_str();
        in_transaction(&self.db, async move |txn| {
            if !store::reports::complete(txn, &report, &quality, now).await? {
                return Err(Error::LostRace { what: "the quality of a window", model: report.model.clone() });
            }
            for event in alert::of_judged(&report, &quality, now) {
                outbox::enqueue(txn, event).await?;
            }
            Ok(())
        })
        .await?;
        tracing::info!(%model, version, until, labelled, invalid, verdict, "window judged");
        metrics::counter!("rekindle_monitor_judgements_total", "model" => model.to_string(), "verdict" => verdict)
            .increment(1);
        metrics::counter!("rekindle_monitor_invalid_outcomes_total", "model" => model.to_string()).increment(invalid);
        Ok(())
    }
}

/// The part of a window that the segments' rows lie in.
fn span<'a>(window: &Window, segments: impl IntoIterator<Item = &'a Segment>) -> Option<Span> {
    let spans = segments.into_iter().filter_map(|segment| segment.events);
    spans.map(|(first, last)| window.clip(Span { first, last })).reduce(Span::with)
}

/// Takes the verdict on drift back: the rows are a part of the window, and a part need not resemble the whole.
fn cannot_tell(report: &mut Report, own: Span) {
    let time = |millis| DateTime::from_timestamp_millis(millis).map(|time| time.to_rfc3339()).unwrap_or_default();
    let why = format!("the version answered only from {} to {}", time(own.first), time(own.last));
    let Drift { verdict, features, prediction } = &mut report.drift;
    *verdict = Verdict::Unknown;
    for column in features.iter_mut().chain(prediction) {
        (column.verdict, column.reason) = (Verdict::Unknown, why.clone());
    }
    report.correlation_id = None;
    report.reason = format!("cannot tell: {why}");
}

/// A window whose rows are gone: it is told as one that cannot be, with as many rows as its segments hold, and the next is gone on with.
fn unreadable(model: &ModelName, version: VersionRef, window: Window, segments: &[Segment], error: &Error) -> Report {
    let why = chain(error);
    tracing::error!(%model, version = version.version, error = why, "rows of a window cannot be read");
    let ids = segments.iter().map(|segment| segment.ids).reduce(|all, one| (all.0.min(one.0), all.1.max(one.1)));
    Report {
        id: ReportId::new(Uuid::now_v7()),
        model: model.clone(),
        version,
        window,
        rows: segments.iter().map(|segment| segment.rows).sum(),
        drift: unknown(),
        quality: None,
        ids: ids.unwrap_or_default(),
        closed_at: Utc::now(),
        quality_at: None,
        correlation_id: None,
        reason: format!("cannot tell: its rows cannot be read, and are counted by their segments: {why}"),
    }
}

fn is_value(column: &str) -> bool {
    column.starts_with(INPUT) || column.starts_with(OUTPUT)
}

fn is_output(column: &str) -> bool {
    column.starts_with(OUTPUT)
}

fn unknown() -> Drift {
    Drift { verdict: Verdict::Unknown, features: Vec::new(), prediction: None }
}

fn unjudgeable() -> Quality {
    Quality {
        verdict: Verdict::Unknown,
        labelled_rows: 0,
        invalid_outcomes: 0,
        metrics: BTreeMap::new(),
        reference_metrics: BTreeMap::new(),
        loss: 0.0,
        reference_loss: 0.0,
        rise_lower_bound: 0.0,
    }
}
