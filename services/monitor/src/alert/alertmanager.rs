//! The alerts as Prometheus Alertmanager takes them: all of them, again and again, so that it notices when their source has gone.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use rekindle_domain::{
    Alert, ModelName,
    alert::{AlertKind, AlertState, Severity},
};
use serde_json::{Value, json};

/// How long an alert is open for an Alertmanager after it was last sent: four times the time between two messages, as Prometheus has it.
const OPEN_FOR: TimeDelta = TimeDelta::minutes(4);
/// How long resolved alerts are sent on, in case that a message is lost.
pub(super) const RESOLVED_FOR: TimeDelta = TimeDelta::minutes(15);

/// What the labels of an alert are made of: alerts with the same labels are one to an Alertmanager.
pub(super) fn identity(alert: &Alert) -> (ModelName, AlertKind, Severity) {
    (alert.model.clone(), alert.kind, alert.severity)
}

/// The body of a message with these alerts.
pub(super) fn body<'a>(alerts: impl Iterator<Item = &'a Alert>, now: DateTime<Utc>) -> Value {
    alerts.map(|alert| one(alert, now)).collect()
}

/// The body of a message with an alert that ends by itself after a minute.
pub(super) fn test(alert: &Alert, now: DateTime<Utc>) -> Value {
    json!([until(alert, now + TimeDelta::minutes(1))])
}

fn one(alert: &Alert, now: DateTime<Utc>) -> Value {
    let ends_at = match alert.state() {
        AlertState::Open | AlertState::Acknowledged => now + OPEN_FOR,
        AlertState::Resolved => alert.updated_at,
    };
    until(alert, ends_at)
}

fn until(alert: &Alert, ends_at: DateTime<Utc>) -> Value {
    let message = &alert.message;
    let time = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Millis, true);
    json!({
        // The labels identify the alert, so they do not change while it is open.
        "labels": {
            "alertname": alert_name(alert.kind),
            "model": alert.model.to_string(),
            "severity": alert.severity.name().to_lowercase(),
            "service": "rekindle",
        },
        "annotations": {
            "summary": message.summary,
            "description": message.causes.join("\n"),
            "response": message.response,
            "advice": message.advice,
            "alert_id": alert.id.to_string(),
            "state": alert.state().name(),
        },
        "startsAt": time(alert.opened_at),
        "endsAt": time(ends_at),
    })
}

/// E.g. `RekindleDataFault`.
fn alert_name(kind: AlertKind) -> String {
    let capitalized = |word: &str| word[..1].to_owned() + &word[1..].to_lowercase();
    kind.name().split('_').map(capitalized).fold("Rekindle".to_owned(), |name, word| name + &word)
}

#[cfg(test)]
mod tests {
    use rekindle_domain::alert::{AlertRule, Note};

    use super::*;
    use crate::alert::{Finding, message, of_arrivals};

    #[test]
    fn an_open_alert_ends_in_the_future_and_a_resolved_one_when_it_was_resolved() {
        let at = |second| DateTime::from_timestamp(second, 0).expect("a time");
        let rule = AlertRule::default_of(AlertKind::DataFault);
        let model = "flights".parse().expect("a name");
        let finding = Finding { message: message::test("ops"), rows: 0, evidence: at(60) };
        let open = of_arrivals(AlertKind::DataFault, &rule, &model, finding, at(60));
        let body = |alert: &Alert| super::body([alert].into_iter(), at(120));
        let json = body(&open);
        assert_eq!(json[0]["labels"]["alertname"], "RekindleDataFault");
        assert_eq!(json[0]["labels"]["severity"], "critical");
        assert_eq!(
            (&json[0]["startsAt"], &json[0]["endsAt"]),
            (&"1970-01-01T00:01:00.000Z".into(), &"1970-01-01T00:06:00.000Z".into())
        );
        let resolved = open.resolved(Note { by: "ann".to_owned(), why: String::new(), at: at(90) });
        assert_eq!(body(&resolved)[0]["endsAt"], "1970-01-01T00:01:30.000Z");
        assert_eq!(body(&resolved)[0]["labels"], json[0]["labels"]);
    }
}
