//! Reports: one row per model, version, window and slice, inserted when the window closes and completed with its quality.

use std::{collections::HashSet, fmt, str::FromStr};

use chrono::{DateTime, Utc};
use rekindle_domain::{
    ModelName, ReportId, VersionRef, WorkflowId, event_time,
    report::{Quality, WindowHeader, WindowReport},
};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, Condition, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect, Select, UpdateMany, sea_query::Expr,
};
use serde::Serialize;
use uuid::Uuid;

use super::{counted, entities::report, record, stored, unreadable};
use crate::{
    alert::finding::Findings,
    report::{Announced, Report},
    volume::Earlier,
    window::Window,
};

/// The position of a report in a list by window: the window's end in milliseconds, and the report's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cursor {
    until: i64,
    id: Uuid,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.until, self.id)
    }
}

impl FromStr for Cursor {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (until, id) = text.split_once('/').ok_or(())?;
        Ok(Self { until: until.parse().map_err(|_| ())?, id: id.parse().map_err(|_| ())? })
    }
}

/// The position of a report.
pub(crate) fn cursor(report: &Report) -> Cursor {
    Cursor { until: report.window.until, id: report.content.window.report.uuid() }
}

pub(super) fn read(row: report::Model) -> Result<Report, DbErr> {
    let window = Window { from: row.from_ms, until: row.until_ms };
    let header = WindowHeader {
        report: ReportId::new(row.id),
        model: row.model.parse().map_err(|error| unreadable("reports.model", error))?,
        version: VersionRef {
            version: u32::try_from(row.model_version).map_err(|error| unreadable("reports.model_version", error))?,
            bundle: row.bundle_digest.parse().map_err(|error| unreadable("reports.bundle_digest", error))?,
        },
        slice: row.slice,
        from: event_time::clamped(window.from),
        until: event_time::clamped(window.until),
        rows: counted(row.rows),
        closed_at: row.closed_at,
    };
    let content = WindowReport {
        window: header,
        drift: record::decode(row.drift)?,
        estimate: row.estimate.map(record::decode).transpose()?,
        quality: row.quality.map(record::decode).transpose()?,
        quality_at: row.quality_at,
        correlation_id: row.correlation_id.map(WorkflowId::new),
        reason: row.reason,
        revision: u32::try_from(row.revision).map_err(|error| unreadable("reports.revision", error))?,
        changes: row.changes,
    };
    let announced = match (row.announced, &content.quality) {
        (Some(json), _) => serde_json::from_value(json).map_err(|error| unreadable("reports.announced", error))?,
        // The first quality announces all that it has.
        (None, Some(quality)) => Announced::default().with(quality),
        (None, None) => Announced::default(),
    };
    Ok(Report { content, window, ids: (row.id_min.as_u128(), row.id_max.as_u128()), since: row.since, announced })
}

/// The models with a report whose quality is not measured.
pub(crate) async fn unmeasured(db: &impl ConnectionTrait) -> Result<HashSet<String>, DbErr> {
    let query = report::Entity::find().filter(report::Column::Quality.is_null()).select_only();
    let names: Vec<String> = query.column(report::Column::Model).distinct().into_tuple().all(db).await?;
    Ok(names.into_iter().collect())
}

/// Inserts the report of a closed window. Until the windows are restarted, the database refuses a second one of the same model, version,
/// window and slice.
pub(crate) async fn insert(txn: &impl ConnectionTrait, report: &Report) -> Result<(), DbErr> {
    let Report { content, window, ids, since, .. } = report;
    let header = &content.window;
    let row = report::ActiveModel {
        id: Set(header.report.uuid()),
        model: Set(header.model.to_string()),
        model_version: Set(header.version.version.into()),
        bundle_digest: Set(header.version.bundle.to_string()),
        from_ms: Set(window.from),
        until_ms: Set(window.until),
        slice: Set(header.slice.clone()),
        since: Set(*since),
        rows: Set(stored(header.rows)),
        drift: Set(record::encode(&content.drift)?),
        estimate: Set(content.estimate.as_ref().map(record::encode).transpose()?),
        estimate_missed: Set(None),
        quality: Set(None),
        id_min: Set(Uuid::from_u128(ids.0)),
        id_max: Set(Uuid::from_u128(ids.1)),
        closed_at: Set(header.closed_at),
        quality_at: Set(None),
        correlation_id: Set(content.correlation_id.map(WorkflowId::uuid)),
        reason: Set(content.reason.clone()),
        revision: Set(1),
        changes: Set(String::new()),
        outcomes_position: Set(0),
        announced: Set(None),
        findings: Set(Some(json("reports.findings", &Findings::of_drift(&content.drift))?)),
    };
    report::Entity::insert(row).exec_without_returning(txn).await?;
    Ok(())
}

fn json(column: &'static str, value: &impl Serialize) -> Result<serde_json::Value, DbErr> {
    serde_json::to_value(value).map_err(|error| unreadable(column, error))
}

/// Stores the quality of a report that has none yet, which counts the outcomes up to a position of the log; `false` if it has one.
pub(crate) async fn complete(
    txn: &impl ConnectionTrait,
    report: &WindowReport,
    quality: &Quality,
    position: i64,
    now: DateTime<Utc>,
) -> Result<bool, DbErr> {
    let unmeasured = report::Entity::update_many().filter(report::Column::QualityAt.is_null());
    set_quality(txn, unmeasured, report, (quality, now), position).await
}

/// Stores the next revision of a report, which counts the outcomes up to a position of the log; `false` if there is one.
pub(crate) async fn revise(
    txn: &impl ConnectionTrait,
    report: &WindowReport,
    announced: &Announced,
    position: i64,
) -> Result<bool, DbErr> {
    let (Some(quality), Some(at)) = (&report.quality, report.quality_at) else { return Ok(false) };
    let update = report::Entity::update_many()
        .filter(report::Column::Revision.eq(report.revision.saturating_sub(1)))
        .col_expr(report::Column::Revision, Expr::value(report.revision))
        .col_expr(report::Column::Announced, Expr::value(json("reports.announced", announced)?))
        .col_expr(report::Column::Changes, Expr::value(report.changes.clone()));
    set_quality(txn, update, report, (quality, at), position).await
}

async fn set_quality(
    txn: &impl ConnectionTrait,
    update: UpdateMany<report::Entity>,
    report: &WindowReport,
    (quality, at): (&Quality, DateTime<Utc>),
    position: i64,
) -> Result<bool, DbErr> {
    let findings = Findings::of_drift(&report.drift).with(Findings::of_quality(quality));
    let missed = report.estimate.as_ref().and_then(|estimate| estimate.is_missed(quality));
    let completed = update
        .filter(report::Column::Id.eq(report.window.report.uuid()))
        .col_expr(report::Column::OutcomesPosition, Expr::value(position))
        .col_expr(report::Column::Quality, Expr::value(record::encode(quality)?))
        .col_expr(report::Column::EstimateMissed, Expr::value(missed))
        .col_expr(report::Column::QualityAt, Expr::value(at))
        .col_expr(report::Column::Reason, Expr::value(report.reason.clone()))
        .col_expr(report::Column::CorrelationId, Expr::value(report.correlation_id.map(WorkflowId::uuid)))
        .col_expr(report::Column::Findings, Expr::value(json("reports.findings", &findings)?))
        .exec(txn)
        .await?;
    Ok(completed.rows_affected == 1)
}

/// Whether the estimates of a version were missed, since the position `since` of the log: of its last windows that end at `until` or before and
/// are measured, the latest first. Each with its end in milliseconds.
pub(crate) async fn missed(
    db: &impl ConnectionTrait,
    model: &ModelName,
    (version, since): (VersionRef, i64),
    until: i64,
    windows: u64,
) -> Result<Vec<(i64, bool)>, DbErr> {
    let query = of_version(model, version, since)
        .filter(report::Column::UntilMs.lte(until))
        .filter(report::Column::EstimateMissed.is_not_null())
        .select_only()
        .column(report::Column::UntilMs)
        .column(report::Column::EstimateMissed);
    query.order_by_desc(report::Column::UntilMs).limit(windows).into_tuple().all(db).await
}

/// The reports of a version of a model since the position `since` of the log.
fn of_version(model: &ModelName, version: VersionRef, since: i64) -> Select<report::Entity> {
    report::Entity::find()
        .filter(report::Column::Model.eq(model.as_str()))
        .filter(report::Column::ModelVersion.eq(i64::from(version.version)))
        .filter(report::Column::BundleDigest.eq(version.bundle.to_string()))
        .filter(report::Column::Since.eq(since))
}

/// The windows of the measured reports of a version since the position `since` of the log, up to the one that ends at `until`, the latest
/// first, with their qualities.
pub(crate) async fn qualities(
    db: &impl ConnectionTrait,
    model: &ModelName,
    (version, since): (VersionRef, i64),
    until: i64,
    windows: u64,
) -> Result<Vec<(Window, Quality)>, DbErr> {
    let query = of_version(model, version, since)
        .filter(report::Column::UntilMs.lte(until))
        .filter(report::Column::Quality.is_not_null())
        .select_only()
        .columns([report::Column::FromMs, report::Column::UntilMs, report::Column::Quality]);
    let rows: Vec<(i64, i64, serde_json::Value)> =
        query.order_by_desc(report::Column::UntilMs).limit(windows).into_tuple().all(db).await?;
    rows.into_iter().map(|(from, until, json)| Ok((Window { from, until }, record::decode(json)?))).collect()
}

/// The windows of a model since the position `since` of the log that lie within `[from, until)`, the latest first, with the rows of all
/// versions.
pub(crate) async fn volumes(
    db: &impl ConnectionTrait,
    model: &ModelName,
    since: i64,
    (from, until): (i64, i64),
    windows: u64,
) -> Result<Vec<Earlier>, DbErr> {
    let query = report::Entity::find()
        .filter(report::Column::Model.eq(model.as_str()))
        .filter(report::Column::Since.eq(since))
        .filter(report::Column::FromMs.gte(from))
        .filter(report::Column::UntilMs.lte(until))
        .select_only()
        .columns([report::Column::FromMs, report::Column::UntilMs, report::Column::Rows]);
    // A window has one row for each version that answered in it: a few at most.
    const VERSIONS: u64 = 4;
    let rows: Vec<(i64, i64, i64)> = query
        .order_by_desc(report::Column::UntilMs)
        .order_by_desc(report::Column::FromMs)
        .limit(VERSIONS.saturating_mul(windows))
        .into_tuple()
        .all(db)
        .await?;
    let mut volumes: Vec<Earlier> = Vec::new();
    for (from, until, rows) in rows {
        let window = Window { from, until };
        match volumes.last_mut().filter(|last| last.window == window) {
            Some(last) => last.rows = last.rows.saturating_add(counted(rows)),
            None => volumes.push(Earlier { window, rows: counted(rows) }),
        }
    }
    Ok(volumes)
}

/// Reports of a model without a quality, oldest window first, from after `after`.
pub(crate) async fn without_quality(
    db: &impl ConnectionTrait,
    model: &ModelName,
    after: Option<Cursor>,
    limit: u64,
) -> Result<Vec<Report>, DbErr> {
    let mut query = report::Entity::find()
        .filter(report::Column::Model.eq(model.as_str()))
        .filter(report::Column::QualityAt.is_null());
    if let Some(Cursor { until, id }) = after {
        let same_window = Condition::all().add(report::Column::UntilMs.eq(until)).add(report::Column::Id.gt(id));
        query = query.filter(Condition::any().add(report::Column::UntilMs.gt(until)).add(same_window));
    }
    let rows = query.order_by_asc(report::Column::UntilMs).order_by_asc(report::Column::Id).limit(limit).all(db);
    rows.await?.into_iter().map(read).collect()
}

/// Whose findings are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Of {
    /// Those of inputs and predictions, which every report has.
    Drift,
    /// Those of outcomes: of the reports whose quality is measured, which may lie far behind the latest ones.
    Quality,
}

/// What was found in the latest windows of a model since the position `since` of the log, over all versions, the latest window first. Each
/// with its end in milliseconds.
pub(crate) async fn findings(
    db: &impl ConnectionTrait,
    model: &ModelName,
    since: i64,
    of: Of,
    windows: u64,
) -> Result<Vec<(i64, Findings)>, DbErr> {
    let reports = || {
        let of_model = report::Entity::find().filter(report::Column::Model.eq(model.as_str()));
        let of_model = match of {
            Of::Drift => of_model,
            Of::Quality => of_model.filter(report::Column::QualityAt.is_not_null()),
        };
        of_model.filter(report::Column::Since.eq(since)).select_only().column(report::Column::UntilMs)
    };
    let ends = reports().distinct().order_by_desc(report::Column::UntilMs).limit(windows);
    let ends: Vec<i64> = ends.into_tuple().all(db).await?;
    let Some(&first) = ends.last() else { return Ok(Vec::new()) };
    let query = reports().column(report::Column::Findings).filter(report::Column::UntilMs.gte(first));
    let rows: Vec<(i64, Option<serde_json::Value>)> =
        query.order_by_desc(report::Column::UntilMs).into_tuple().all(db).await?;
    let mut found: Vec<(i64, Findings)> = Vec::new();
    for (until, json) in rows {
        // Reports of earlier releases have none.
        let Some(json) = json else { continue };
        let of_report = serde_json::from_value(json).map_err(|error| unreadable("reports.findings", error))?;
        match found.last_mut().filter(|(last, _)| *last == until) {
            Some((_, of_window)) => *of_window = std::mem::take(of_window).with(of_report),
            None => found.push((until, of_report)),
        }
    }
    Ok(found)
}

/// The reports of a window of a model since the position `since` of the log.
pub(crate) async fn of_window(
    db: &impl ConnectionTrait,
    model: &ModelName,
    since: i64,
    until: i64,
) -> Result<Vec<Report>, DbErr> {
    let query = report::Entity::find()
        .filter(report::Column::Model.eq(model.as_str()))
        .filter(report::Column::Since.eq(since))
        .filter(report::Column::UntilMs.eq(until));
    query.order_by_desc(report::Column::ModelVersion).all(db).await?.into_iter().map(read).collect()
}

/// Whether a window of a model was closed after a time.
pub(crate) async fn closed_after(
    db: &impl ConnectionTrait,
    model: &ModelName,
    time: DateTime<Utc>,
) -> Result<bool, DbErr> {
    let query = report::Entity::find()
        .filter(report::Column::Model.eq(model.as_str()))
        .filter(report::Column::ClosedAt.gt(time))
        .select_only()
        .column(report::Column::Id);
    Ok(query.limit(1).into_tuple::<Uuid>().one(db).await?.is_some())
}

/// Reports without a comparison that [`before`] passes over.
const PASSED_OVER: u64 = 8;

/// The report of a version on its last window that ends at `from` or before, among those since the position `since` of the log. Windows that
/// could not be compared are passed over, but for many in a row.
pub(crate) async fn before(
    db: &impl ConnectionTrait,
    model: &ModelName,
    version: VersionRef,
    since: i64,
    from: i64,
) -> Result<Option<Report>, DbErr> {
    let query = of_version(model, version, since).filter(report::Column::UntilMs.lte(from));
    let rows = query.order_by_desc(report::Column::UntilMs).limit(PASSED_OVER).all(db).await?;
    let reports = rows.into_iter().map(read).collect::<Result<Vec<_>, _>>()?;
    Ok(reports.into_iter().find(|report| report.content.drift.columns().next().is_some()))
}

/// A model's reports, newest window first, from after `after`.
pub(crate) async fn list(
    db: &impl ConnectionTrait,
    model: &ModelName,
    after: Option<Cursor>,
    limit: u64,
) -> Result<Vec<Report>, DbErr> {
    let mut query = report::Entity::find().filter(report::Column::Model.eq(model.as_str()));
    if let Some(Cursor { until, id }) = after {
        let same_window = Condition::all().add(report::Column::UntilMs.eq(until)).add(report::Column::Id.lt(id));
        query = query.filter(Condition::any().add(report::Column::UntilMs.lt(until)).add(same_window));
    }
    let rows = query.order_by_desc(report::Column::UntilMs).order_by_desc(report::Column::Id).limit(limit).all(db);
    rows.await?.into_iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use rekindle_domain::{
        Digest,
        alert::AlertKind,
        report::{ColumnDrift, Verdict},
    };

    use super::*;
    use crate::{alert::finding::tests::column, evaluate::contents::tests::report, ownership::tests::database};

    #[tokio::test]
    async fn the_report_before_is_the_last_earlier_one_of_the_version_since_the_reset() {
        let db = database().await;
        let (since, reset) = (0, 7);
        let compared = [column("a", Verdict::Stable, None)];
        let stored = async |id: u128, until: i64, version: u32, since: i64, columns: &[ColumnDrift]| {
            let mut report = report(Window { from: until - 100, until }, 40);
            report.since = since;
            report.content.window.report = ReportId::new(Uuid::from_u128(id));
            report.content.window.version.version = version;
            report.content.drift.features = columns.to_vec();
            insert(&db, &report).await.expect("inserts");
            report
        };
        let first = stored(1, 100, 1, since, &compared).await;
        let second = stored(2, 200, 1, since, &compared).await;
        stored(5, 250, 1, since, &[]).await;
        stored(3, 300, 2, since, &compared).await;
        stored(4, 400, 1, reset, &compared).await;
        let header = &first.content.window;
        let before = async |version: VersionRef, since: i64, from: i64| {
            let found = before(&db, &header.model, version, since, from).await.expect("readable");
            found.map(|report| (report.content.window.report, report.window))
        };
        let of = |report: &Report| Some((report.content.window.report, report.window));
        assert_eq!(
            before(header.version, since, 500).await,
            of(&second),
            "a window without a comparison is passed over"
        );
        assert_eq!(before(header.version, since, 199).await, of(&first));
        assert_eq!(before(header.version, since, 99).await, None);
        assert_eq!(before(header.version, reset, 399).await, None, "a reset restarts the windows");
        let other = VersionRef { bundle: Digest::of(b"another bundle"), ..header.version };
        assert_eq!(before(other, since, 500).await, None);
    }

    #[tokio::test]
    async fn the_findings_of_outcomes_are_those_of_measured_windows_however_far_back() {
        let db = database().await;
        let (windows, measured) = (200, 3);
        for n in 1..=windows {
            let mut report = report(Window { from: (n - 1) * 100, until: n * 100 }, 40);
            report.content.window.report = ReportId::new(Uuid::from_u128(n.unsigned_abs().into()));
            insert(&db, &report).await.expect("inserts");
            if n <= measured {
                let quality = Quality { verdict: Verdict::Drifted, ..Quality::inconclusive() };
                assert!(complete(&db, &report.content, &quality, 0, Utc::now()).await.expect("completes"));
            }
        }
        let model = "flights".parse().expect("a name");
        let ends = async |of: Of| {
            let found = findings(&db, &model, 0, of, 2).await.expect("readable");
            found.into_iter().map(|(until, found)| (until, found.of(AlertKind::Degradation))).collect::<Vec<_>>()
        };
        assert_eq!(ends(Of::Drift).await, [(20_000, None), (19_900, None)]);
        assert_eq!(ends(Of::Quality).await, [(300, Some(true)), (200, Some(true))]);
    }

    #[tokio::test]
    async fn the_first_quality_has_announced_all_that_it_has() {
        let db = database().await;
        let report = report(Window { from: 0, until: 100 }, 40);
        insert(&db, &report).await.expect("inserts");
        let model = &report.content.window.model;
        let announced = async || list(&db, model, None, 1).await.expect("readable").remove(0).announced;
        assert_eq!(announced().await, Announced::default());
        let classes = [("cat".to_owned(), 1)].into();
        let quality = Quality { verdict: Verdict::Drifted, new_classes: classes, ..Quality::inconclusive() };
        assert!(complete(&db, &report.content, &quality, 0, Utc::now()).await.expect("completes"));
        assert_eq!(announced().await, Announced { degradation: true, classes: ["cat".to_owned()].into() });
    }
}
