//! Alerts: what follows from the findings of reports and of the arrival of rows, and to whom it is sent.
//!
//! ```text
//! report --(findings)--+
//!                      +--(rule)--> alert --(unless silenced)--> notification --(signed, retried)--> webhook
//! arrival of rows -----+              |
//!                                     +--(repeated each minute)--> Alertmanager
//! ```
//! Alerts of windows follow from the findings that are stored with the reports, in the transaction that stores the latest of them. The
//! others are raised by one instance, the holder of the lease [`ownership::ALERTS`](crate::ownership::ALERTS), which also sends.

mod alertmanager;
mod arrivals;
pub(crate) mod config;
pub(crate) mod finding;
mod message;
mod notify;
mod public;
mod rule;
mod send;
pub(crate) mod task;

use chrono::{DateTime, Utc};
use rekindle_client::wire::event;
use rekindle_domain::{
    Alert, AlertId, ModelName, Principal,
    alert::{AlertKind, AlertRule, AlertRules, AlertState, Message, Note},
    event_time,
};
use rekindle_service::Call;
use rekindle_store::audit::{self, Change};
use sea_orm::DatabaseTransaction;
use uuid::Uuid;

use self::{
    finding::Findings,
    rule::{Decision, Observed, Past, decide},
};
pub(crate) use self::{notify::test, send::Receivers};
use crate::{
    Error, load, metrics,
    report::Report,
    report_events::change,
    store::{
        alerts, logs,
        reports::{self, Of},
    },
};

/// The kinds of alerts that are about the inputs and predictions of windows, and those about their outcomes.
const OF_DRIFT: [AlertKind; 5] = [
    AlertKind::Drift,
    AlertKind::DataFault,
    AlertKind::DependenceChange,
    AlertKind::VolumeAnomaly,
    AlertKind::DuplicateRows,
];
const OF_QUALITY: [AlertKind; 3] = [AlertKind::Degradation, AlertKind::SliceDegradation, AlertKind::NewClass];
/// Windows whose findings are read: enough for [`AlertRule::MOST_WINDOWS`] with a verdict, unless most have none.
const READ: u64 = 4 * AlertRule::MOST_WINDOWS as u64;

/// Opens, extends and resolves the alerts of a model by the findings `of` its latest windows, those since the position `since` of the log.
/// In the transaction that stores the latest of them. Windows before a restart decide nothing.
pub(crate) async fn observe(
    txn: &DatabaseTransaction,
    model: &ModelName,
    rules: &AlertRules,
    of: Of,
    since: i64,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    if logs::get(txn, model).await?.reset_at != since {
        return Ok(());
    }
    let kinds = match of {
        Of::Drift => &OF_DRIFT[..],
        Of::Quality => &OF_QUALITY,
    };
    let (open, windows) = (alerts::open_of(txn, model).await?, reports::findings(txn, model, since, of, READ).await?);
    let decided = Decided { model, rules, since, now };
    for &kind in kinds {
        let observed: Vec<Observed> = observed(&windows, kind).collect();
        decided.apply(txn, kind, &observed, open.iter().find(|alert| alert.kind == kind)).await?;
    }
    Ok(())
}

/// The model whose alerts are decided, and by what.
struct Decided<'a> {
    model: &'a ModelName,
    rules: &'a AlertRules,
    since: i64,
    now: DateTime<Utc>,
}

impl Decided<'_> {
    async fn apply(
        &self,
        txn: &DatabaseTransaction,
        kind: AlertKind,
        observed: &[Observed],
        present: Option<&Alert>,
    ) -> Result<(), Error> {
        // Most windows find nothing.
        if present.is_none() && !observed.iter().any(|window| window.is_found) {
            return Ok(());
        }
        let past = match present {
            Some(alert) => Past::Open { until: alert.until.timestamp_millis() },
            None => Past::Closed { until: alerts::resolved_until(txn, self.model, kind, self.since).await? },
        };
        match (decide(&self.rules.of(kind), observed, past), present) {
            (Decision::Open { windows, from, until }, None) => {
                let Some(report) = self.with_finding(txn, until, kind).await? else { return Ok(()) };
                let first = self.with_finding(txn, from, kind).await?;
                let from = first.as_ref().unwrap_or(&report).content.window.from;
                let severity = self.rules.of(kind).severity;
                let alert = Alert { from, windows, severity, ..of_report(kind, &report, self.now) };
                open_alert(txn, alert, self.since, self.now).await
            }
            (Decision::Extend { windows, until }, Some(alert)) => {
                let Some(report) = self.with_finding(txn, until, kind).await? else { return Ok(()) };
                // The severity is that of the opening: it identifies the alert to an Alertmanager.
                let extended = Alert {
                    id: alert.id,
                    severity: alert.severity,
                    from: alert.from,
                    windows: alert.windows.saturating_add(windows),
                    opened_at: alert.opened_at,
                    acknowledged: alert.acknowledged.clone(),
                    ..of_report(kind, &report, self.now)
                };
                Ok(alerts::update(txn, &extended).await?)
            }
            (Decision::Resolve { windows }, Some(alert)) => {
                let why = match windows {
                    1 => "the last window with a verdict does not have the finding".to_owned(),
                    several => format!("the last {several} windows with a verdict do not have the finding"),
                };
                resolve(txn, alert.clone(), why, self.now).await
            }
            _ => Ok(()),
        }
    }

    /// The report of a window that has a finding; of several versions, the latest.
    async fn with_finding(
        &self,
        txn: &DatabaseTransaction,
        until: i64,
        kind: AlertKind,
    ) -> Result<Option<Report>, Error> {
        let mut reports = reports::of_window(txn, self.model, self.since, until).await?;
        if kind == AlertKind::Degradation {
            load::associate(txn, &mut reports).await?;
        }
        Ok(reports.into_iter().find(|report| Findings::of_report(&report.content).of(kind) == Some(true)))
    }
}

/// Resolves every open alert of a model about windows, whose windows were restarted.
pub(crate) async fn restart(txn: &DatabaseTransaction, model: &ModelName, by: &Note) -> Result<(), Error> {
    for alert in alerts::open_of(txn, model).await? {
        if alert.kind.is_about_windows() {
            let actor = by.by.clone();
            store_resolved(txn, alert.resolved(by.clone()), actor).await?;
        }
    }
    Ok(())
}

/// The windows with a verdict of a kind, the latest first.
fn observed(windows: &[(i64, Findings)], kind: AlertKind) -> impl Iterator<Item = Observed> {
    windows
        .iter()
        .filter_map(move |(until, findings)| findings.of(kind).map(|is_found| Observed { until: *until, is_found }))
}

/// The alert of one report.
fn of_report(kind: AlertKind, report: &Report, now: DateTime<Utc>) -> Alert {
    let (window, drift) = (&report.content.window, &report.content.drift);
    let repeated = drift.repeated.filter(|_| kind == AlertKind::DuplicateRows);
    Alert {
        id: AlertId::new(Uuid::now_v7()),
        model: window.model.clone(),
        kind,
        severity: AlertRule::default_of(kind).severity,
        message: message::of_report(kind, &report.content),
        version: Some(window.version.version),
        from: window.from,
        until: event_time::clamped(report.window.until),
        windows: 1,
        rows: repeated.map_or(window.rows, |repeated| repeated.rows),
        report: Some(window.report),
        correlation_id: report.content.correlation_id,
        opened_at: now,
        updated_at: now,
        acknowledged: None,
        resolved: None,
    }
}

/// An alert that is not about windows. Two with the same `evidence` are about the same rows.
fn of_arrivals(kind: AlertKind, rule: &AlertRule, model: &ModelName, finding: Finding, now: DateTime<Utc>) -> Alert {
    let Finding { message, rows, evidence } = finding;
    Alert {
        id: AlertId::new(Uuid::now_v7()),
        model: model.clone(),
        kind,
        severity: rule.severity,
        message,
        version: None,
        from: evidence,
        until: evidence,
        windows: 0,
        rows,
        report: None,
        correlation_id: None,
        opened_at: now,
        updated_at: now,
        acknowledged: None,
        resolved: None,
    }
}

/// What was found about the arrival of rows.
#[derive(Debug, Clone)]
struct Finding {
    message: Message,
    rows: u64,
    /// The time that tells this finding from another of the kind.
    evidence: DateTime<Utc>,
}

/// Opens an alert, about windows since the position `since` of the log, or 0.
async fn open_alert(txn: &DatabaseTransaction, alert: Alert, since: i64, now: DateTime<Utc>) -> Result<(), Error> {
    alerts::insert(txn, &alert, since).await?;
    audit::record(txn, changed(&alert, Principal::service("monitor").to_string(), now)).await?;
    let (model, kind, severity, summary) =
        (&alert.model, alert.kind.name(), alert.severity.name(), &alert.message.summary);
    tracing::warn!(%model, kind, severity, summary, "alert opened");
    metrics::alert(model, kind);
    Ok(())
}

/// Resolves an alert because the finding has ended.
async fn resolve(txn: &DatabaseTransaction, alert: Alert, why: String, now: DateTime<Utc>) -> Result<(), Error> {
    let by = Principal::service("monitor").to_string();
    store_resolved(txn, alert.resolved(Note { by: by.clone(), why, at: now }), by).await
}

async fn store_resolved(txn: &DatabaseTransaction, alert: Alert, actor: String) -> Result<(), Error> {
    store(txn, &alert).await?;
    audit::record(txn, changed(&alert, actor, alert.updated_at)).await?;
    tracing::info!(model = %alert.model, kind = alert.kind.name(), "alert resolved");
    Ok(())
}

/// Stores an alert that a caller has changed.
pub(crate) async fn store_change(txn: &DatabaseTransaction, alert: &Alert, call: &Call) -> Result<(), Error> {
    store(txn, alert).await?;
    audit::record(txn, call.change(event::alert_changed(alert), &alert.model)).await?;
    Ok(())
}

async fn store(txn: &DatabaseTransaction, alert: &Alert) -> Result<(), Error> {
    alerts::update(txn, alert).await?;
    if alert.kind == AlertKind::LateRows && alert.state() == AlertState::Resolved {
        // The rows that it was about open no other.
        logs::see(txn, std::slice::from_ref(&alert.model)).await?;
    }
    Ok(())
}

/// The event of an alert that changed its state.
fn changed(alert: &Alert, actor: String, now: DateTime<Utc>) -> Change {
    change(event::alert_changed(alert), &alert.model, alert.correlation_id, actor, now)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An alert that opened in 1970.
    pub(crate) fn open_alert() -> Alert {
        let now = DateTime::UNIX_EPOCH;
        let finding = Finding { message: Message::default(), rows: 0, evidence: now };
        let (kind, model) = (AlertKind::FeedStopped, "flights".parse().expect("a name"));
        of_arrivals(kind, &AlertRule::default_of(kind), &model, finding, now)
    }
}
