//! Notifications: which alerts receivers are notified of, and delivery until they accept.

use std::{collections::HashSet, time::Duration};

use chrono::{DateTime, Utc};
use rekindle_client::wire;
use rekindle_domain::{
    Alert, AlertId,
    alert::{AlertKind, AlertRule, AlertState, Notification, Silence},
};
use rekindle_store::{Fence, in_transaction};
use sea_orm::DatabaseConnection;
use uuid::Uuid;

use super::{
    Finding, alertmanager,
    config::Format,
    message, of_arrivals,
    send::{self, Receivers, Refusal, Sender},
};
use crate::{
    Error, metrics,
    store::{
        alerts::{self, Notified},
        notifications::{self, Pending},
        silences,
    },
};

/// Alerts and notifications that are read at a time.
const AT_ONCE: u64 = 256;

/// Creates the notifications of alerts that opened or were resolved, but of those that are silenced.
pub(super) async fn create(
    db: &DatabaseConnection,
    fence: &Fence,
    receivers: &Receivers,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    if receivers.of(Format::Webhook).next().is_none() {
        return Ok(());
    }
    let silences = silences::active(db, now).await?;
    let mut after = None;
    loop {
        let pending = alerts::pending(db, after, AT_ONCE).await?;
        let is_last = (pending.len() as u64) < AT_ONCE;
        after = pending.last().map(|(alert, _)| alert.id);
        for (alert, notified) in pending {
            if let Some(to) = receivers_of(db, receivers, &alert, notified, &silences, now).await? {
                store(db, fence, alert, to, now).await?;
            }
        }
        if is_last {
            return Ok(());
        }
    }
}

/// The receivers to be notified of the state of an alert; `None` while it is silenced.
async fn receivers_of(
    db: &DatabaseConnection,
    receivers: &Receivers,
    alert: &Alert,
    notified: Notified,
    silences: &[Silence],
    now: DateTime<Utc>,
) -> Result<Option<Vec<String>>, Error> {
    let is_resolved = alert.state() == AlertState::Resolved;
    Ok(match notified {
        // Nobody needs to know of the end of what they were not notified of.
        Notified::Nothing if is_resolved => Some(Vec::new()),
        // Once the silence has ended.
        Notified::Nothing if silences.iter().any(|silence| silence.covers(&alert.model, alert.kind, now)) => None,
        Notified::Nothing => {
            let wanting = receivers.of(Format::Webhook).filter(|sender| sender.wants(alert));
            Some(wanting.map(|sender| sender.name().to_owned()).collect())
        }
        Notified::Open => {
            let mut to = notifications::receivers_of(db, alert.id).await?;
            // Some may have been removed since.
            to.retain(|name| receivers.of(Format::Webhook).any(|sender| sender.name() == name));
            Some(to)
        }
    })
}

async fn store(
    db: &DatabaseConnection,
    fence: &Fence,
    alert: Alert,
    to: Vec<String>,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let state = if alert.state() == AlertState::Resolved { AlertState::Resolved } else { AlertState::Open };
    let created = to.into_iter().map(|receiver| new(&alert, state, receiver, now)).collect::<Vec<_>>();
    let fence = fence.clone();
    in_transaction(db, async move |txn| {
        fence.check(txn).await?;
        // If somebody has resolved it in between, the next turn decides.
        if alerts::set_notified(txn, &alert).await? {
            for pending in &created {
                notifications::insert(txn, pending).await?;
            }
        }
        Ok::<_, Error>(())
    })
    .await
}

fn new(alert: &Alert, state: AlertState, receiver: String, now: DateTime<Utc>) -> Pending {
    let notification = Notification {
        id: Uuid::now_v7(),
        receiver,
        state,
        created_at: now,
        attempts: 0,
        delivered_at: None,
        failed_at: None,
        next_attempt_at: Some(now),
        error: String::new(),
    };
    Pending { notification, alert: alert.id, body: send::webhook_body(&wire::alert::to_json(alert), state, now) }
}

/// Sends what is due to one webhook: the notifications of one alert in their order, and after a failure no others of that alert.
pub(super) async fn deliver(
    db: &DatabaseConnection,
    fence: &Fence,
    sender: &Sender,
    retry_for: Duration,
    clock: impl Fn() -> DateTime<Utc>,
) -> Result<(), Error> {
    let mut waiting: HashSet<AlertId> = HashSet::new();
    for pending in notifications::pending(db, sender.name(), AT_ONCE).await? {
        let now = clock();
        let is_due = pending.notification.next_attempt_at.is_some_and(|at| at <= now);
        if waiting.contains(&pending.alert) || !is_due {
            waiting.insert(pending.alert);
            continue;
        }
        let sent = sender.send_webhook(pending.notification.id, &pending.body, now).await;
        let notification = after(pending.notification, sent.as_ref().err(), clock(), retry_for);
        if notification.next_attempt_at.is_some() {
            waiting.insert(pending.alert);
        }
        log(&notification);
        let (fence, stored) = (fence.clone(), notification);
        in_transaction(db, async move |txn| {
            fence.check(txn).await?;
            Ok::<_, Error>(notifications::update(txn, &stored).await?)
        })
        .await?;
    }
    Ok(())
}

/// A notification after an attempt.
fn after(before: Notification, refusal: Option<&Refusal>, now: DateTime<Utc>, retry_for: Duration) -> Notification {
    let attempts = before.attempts.saturating_add(1);
    let Some(refusal) = refusal else {
        return Notification { attempts, delivered_at: Some(now), next_attempt_at: None, ..before };
    };
    let next_attempt_at = send::next_attempt(refusal, attempts, before.id, before.created_at, now, retry_for);
    let failed_at = next_attempt_at.is_none().then_some(now);
    Notification { attempts, next_attempt_at, failed_at, error: refusal.error.clone(), ..before }
}

fn log(notification: &Notification) {
    let Notification { id, receiver, attempts, error, .. } = notification;
    match (notification.delivered_at, notification.failed_at) {
        (Some(_), _) => {
            metrics::notification(receiver, "delivered");
            tracing::info!(%id, receiver, attempts, "notification delivered");
        }
        (None, Some(_)) => {
            metrics::notification(receiver, "failed");
            tracing::error!(%id, receiver, attempts, error, "notification given up");
        }
        // One line per state, not per attempt.
        (None, None) if *attempts == 1 => {
            metrics::notification(receiver, "refused");
            tracing::warn!(%id, receiver, error, "notification refused, retrying");
        }
        (None, None) => metrics::notification(receiver, "refused"),
    }
}

/// Sends the alerts that are open or were resolved a short time ago, and are not silenced, to one Alertmanager.
pub(super) async fn repeat(db: &DatabaseConnection, sender: &Sender, now: DateTime<Utc>) -> Result<(), Error> {
    let recent = alerts::open_or_resolved_after(db, now - alertmanager::RESOLVED_FOR).await?;
    let silences = silences::active(db, now).await?;
    let is_open = |alert: &&Alert| alert.state() != AlertState::Resolved;
    let open: HashSet<_> = recent.iter().filter(is_open).map(alertmanager::identity).collect();
    // One that is announced already goes on: without it, the Alertmanager would announce its end.
    let is_silenced = |alert: &Alert| {
        silences
            .iter()
            .any(|silence| silence.covers(&alert.model, alert.kind, now) && silence.created_at <= alert.opened_at)
    };
    // A resolved alert would end the open one that has its labels.
    let is_superseded =
        |alert: &Alert| alert.state() == AlertState::Resolved && open.contains(&alertmanager::identity(alert));
    let is_sent = |alert: &&Alert| sender.wants(alert) && !is_silenced(alert) && !is_superseded(alert);
    let sent: Vec<Alert> = recent.iter().filter(is_sent).cloned().collect();
    if sent.is_empty() {
        return Ok(());
    }
    sender
        .send_alertmanager(&alertmanager::body(sent.iter(), now))
        .await
        .map_err(|refusal| Error::Refused { receiver: sender.name().to_owned(), error: refusal.error })
}

/// Sends a test to a receiver once, and says what became of it.
pub(crate) async fn test(sender: &Sender, now: DateTime<Utc>) -> Notification {
    let rule = AlertRule::default_of(AlertKind::Drift);
    let model = "receiver-test".parse().expect("a valid name");
    let finding = Finding { message: message::test(sender.name()), rows: 0, evidence: now };
    let alert = of_arrivals(AlertKind::Drift, &rule, &model, finding, now);
    let pending = new(&alert, AlertState::Open, sender.name().to_owned(), now);
    let sent = match sender.format() {
        Format::Webhook => sender.send_webhook(pending.notification.id, &pending.body, now).await,
        // Of a test there is nothing to resolve later.
        Format::Alertmanager => sender.send_alertmanager(&alertmanager::test(&alert, now)).await,
    };
    after(pending.notification, sent.as_ref().err(), Utc::now(), Duration::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_delivers_or_is_repeated_or_fails_for_good() {
        let at = |second| DateTime::from_timestamp(second, 0).expect("a time");
        let pending = Notification {
            id: Uuid::nil(),
            receiver: "ops".to_owned(),
            state: AlertState::Open,
            created_at: at(0),
            attempts: 0,
            delivered_at: None,
            failed_at: None,
            next_attempt_at: Some(at(0)),
            error: String::new(),
        };
        let hour = Duration::from_secs(3600);
        let delivered = after(pending.clone(), None, at(5), hour);
        assert_eq!((delivered.delivered_at, delivered.next_attempt_at, delivered.attempts), (Some(at(5)), None, 1));
        let refusal = Refusal::of("HTTP 500");
        let repeated = after(pending.clone(), Some(&refusal), at(5), hour);
        assert_eq!(
            (repeated.next_attempt_at, repeated.failed_at, repeated.error.as_str()),
            (Some(at(6)), None, "HTTP 500")
        );
        let failed = after(repeated, Some(&refusal), at(3600), hour);
        assert_eq!((failed.next_attempt_at, failed.failed_at, failed.attempts), (None, Some(at(3600)), 2));
    }
}
