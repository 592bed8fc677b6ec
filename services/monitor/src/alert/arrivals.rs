//! Alerts about the arrival of rows: late ones, ones ahead of the others, and feeds that have stopped.

use chrono::{DateTime, TimeDelta, Utc};
use rekindle_domain::{
    Alert, AlertId, ModelName,
    alert::{AlertKind, AlertState},
    event_time,
};
use rekindle_store::{Fence, in_transaction};
use sea_orm::{DatabaseConnection, DatabaseTransaction};

use super::{Finding, message, of_arrivals, open_alert, resolve};
use crate::{
    Error,
    event_clock::ROWS,
    store::{
        alerts, chunks,
        logs::{self, Arrivals},
        reports, watches,
    },
};

/// The kinds of alerts that are raised here.
const OF_ARRIVALS: [AlertKind; 3] = [AlertKind::LateRows, AlertKind::RowsAhead, AlertKind::FeedStopped];
/// The fewest late rows that open an alert.
const LEAST_LATE: u64 = 20;
/// The least share of late rows that opens an alert: one in so many.
const ONE_LATE_IN: u64 = 100;

/// A change of the alerts.
#[derive(Debug, Clone)]
enum Step {
    /// Late rows are counted among later rows only.
    See(Vec<ModelName>),
    Open(AlertKind, ModelName, Finding),
    /// The alert is about more late rows.
    Extend(AlertId, Finding),
    Resolve(AlertId, String),
}

/// Opens and resolves the alerts, under the lease of the instance that raises them.
pub(super) async fn check(db: &DatabaseConnection, fence: &Fence, now: DateTime<Utc>) -> Result<(), Error> {
    for step in steps(db, now).await? {
        let fence = fence.clone();
        in_transaction(db, async move |txn| {
            fence.check(txn).await?;
            apply(txn, step.clone(), now).await
        })
        .await?;
    }
    Ok(())
}

async fn steps(db: &DatabaseConnection, now: DateTime<Utc>) -> Result<Vec<Step>, Error> {
    let open = alerts::open_of_kinds(db, &OF_ARRIVALS).await?;
    let all = logs::arrivals(db).await?;
    let timeouts = watches::feed_timeouts(db).await?;
    let mut steps = Vec::new();
    let on_time = logs::on_time(db).await?;
    if !on_time.is_empty() {
        steps.push(Step::See(on_time));
    }
    for arrivals in &all {
        let model = &arrivals.model;
        match find(&open, model, AlertKind::LateRows) {
            Some(alert) if arrivals.late > alert.rows => steps.push(Step::Extend(alert.id, late(arrivals, now))),
            Some(_) => {}
            None if is_late(arrivals) => {
                steps.extend(opening(db, AlertKind::LateRows, model, late(arrivals, now)).await?);
            }
            None if arrivals.rows >= logs::FORGOTTEN_AFTER.unsigned_abs() => steps.push(Step::See(vec![model.clone()])),
            None => {}
        }
        if let (None, Some(finding)) = (find(&open, model, AlertKind::RowsAhead), ahead(arrivals)) {
            steps.extend(opening(db, AlertKind::RowsAhead, model, finding).await?);
        }
    }
    for (model, timeout) in &timeouts {
        let Some(last) = chunks::last_captured(db, model).await? else { continue };
        if has_passed(last, *timeout, now) && find(&open, model, AlertKind::FeedStopped).is_none() {
            let message = message::feed_stopped(model, last, *timeout);
            let finding = Finding { message, rows: 0, evidence: last };
            steps.extend(opening(db, AlertKind::FeedStopped, model, finding).await?);
        }
    }
    for alert in &open {
        let rule = watches::get(db, &alert.model).await?.settings.alerts.of(alert.kind);
        if rule.resolve_after > 0
            && let Some(why) = ended(db, alert, &all, &timeouts, now).await?
        {
            steps.push(Step::Resolve(alert.id, why));
        }
    }
    Ok(steps)
}

fn find<'a>(open: &'a [Alert], model: &ModelName, kind: AlertKind) -> Option<&'a Alert> {
    open.iter().find(|alert| alert.model == *model && alert.kind == kind)
}

/// The step that opens an alert, unless the kind is disabled, or somebody has resolved one with the same evidence.
async fn opening(
    db: &DatabaseConnection,
    kind: AlertKind,
    model: &ModelName,
    finding: Finding,
) -> Result<Option<Step>, Error> {
    if watches::get(db, model).await?.settings.alerts.of(kind).disabled {
        return Ok(None);
    }
    let before = alerts::last_resolved(db, model, kind).await?;
    let is_known = before.is_some_and(|alert| alert.until.timestamp_millis() == finding.evidence.timestamp_millis());
    Ok((!is_known).then(|| Step::Open(kind, model.clone(), finding)))
}

/// Why the finding of an alert is over; `None` while it is not.
async fn ended(
    db: &DatabaseConnection,
    alert: &Alert,
    all: &[Arrivals],
    timeouts: &[(ModelName, TimeDelta)],
    now: DateTime<Utc>,
) -> Result<Option<String>, Error> {
    let arrivals = all.iter().find(|arrivals| arrivals.model == alert.model);
    let is_over = match alert.kind {
        AlertKind::RowsAhead => arrivals.is_none_or(|arrivals| arrivals.clock.rows_ahead().is_none()),
        AlertKind::LateRows => {
            let no_more = arrivals.is_none_or(|arrivals| arrivals.late <= alert.rows);
            no_more && reports::closed_after(db, &alert.model, alert.updated_at).await?
        }
        _ => {
            let Some((_, timeout)) = timeouts.iter().find(|(model, _)| *model == alert.model) else {
                return Ok(Some("the feed timeout was removed".to_owned()));
            };
            let last = chunks::last_captured(db, &alert.model).await?;
            last.is_some_and(|last| !has_passed(last, *timeout, now))
        }
    };
    let why = match alert.kind {
        AlertKind::RowsAhead => "no rows are ahead of the others",
        AlertKind::LateRows => "a window was closed since without late rows",
        _ => "rows are captured again",
    };
    Ok(is_over.then(|| why.to_owned()))
}

/// Whether more time than the timeout has passed since the last row.
fn has_passed(last: DateTime<Utc>, timeout: TimeDelta, now: DateTime<Utc>) -> bool {
    now.signed_duration_since(last) > timeout
}

fn is_late(arrivals: &Arrivals) -> bool {
    arrivals.late >= LEAST_LATE && arrivals.late.saturating_mul(ONE_LATE_IN) >= arrivals.rows
}

fn late(arrivals: &Arrivals, now: DateTime<Utc>) -> Finding {
    let Arrivals { model, rows, late, .. } = arrivals;
    Finding { message: message::late_rows(model, *late, *rows), rows: *late, evidence: now }
}

/// The rows ahead of the clock, if they are more than rare errors explain.
fn ahead(arrivals: &Arrivals) -> Option<Finding> {
    let (ahead, latest) = arrivals.clock.rows_ahead().zip(arrivals.clock.latest())?;
    let message = message::rows_ahead(&arrivals.model, &ahead, event_time::clamped(latest));
    (ahead.rows >= u64::from(ROWS)).then_some(Finding { message, rows: ahead.rows, evidence: ahead.from })
}

async fn apply(txn: &DatabaseTransaction, step: Step, now: DateTime<Utc>) -> Result<(), Error> {
    match step {
        Step::See(models) => Ok(logs::see(txn, &models).await?),
        Step::Open(kind, model, finding) => {
            let rule = watches::get(txn, &model).await?.settings.alerts.of(kind);
            open_alert(txn, of_arrivals(kind, &rule, &model, finding, now), 0, now).await
        }
        // Somebody may have resolved it in between.
        Step::Extend(id, Finding { message, rows, evidence }) => match unresolved(txn, id).await? {
            Some(alert) => {
                let extended = Alert { message, rows, until: evidence, updated_at: now, ..alert };
                Ok(alerts::update(txn, &extended).await?)
            }
            None => Ok(()),
        },
        Step::Resolve(id, why) => match unresolved(txn, id).await? {
            Some(alert) => resolve(txn, alert, why, now).await,
            None => Ok(()),
        },
    }
}

async fn unresolved(txn: &DatabaseTransaction, id: AlertId) -> Result<Option<Alert>, Error> {
    Ok(alerts::get(txn, id).await?.filter(|alert| alert.state() != AlertState::Resolved))
}
