//! Alerts, their rules, silences and notifications.

use rekindle_domain::{
    Alert,
    alert::{AlertKind, AlertRule, AlertState, Message, Note, Notification, Severity, Silence},
    validation::Violations,
};
use rekindle_proto::{json, monitor as wire};
use serde_json::Value;

use super::{
    field::{enumeration, nested_optional, optional_time, parse, parse_optional, required_time},
    time,
};

/// An alert as a message, without its notifications.
pub fn to_wire(alert: &Alert) -> wire::Alert {
    wire::Alert {
        id: alert.id.to_string(),
        model: alert.model.to_string(),
        kind: kind_to_wire(alert.kind).into(),
        severity: severity_to_wire(alert.severity).into(),
        state: state_to_wire(alert.state()).into(),
        summary: alert.message.summary.clone(),
        causes: alert.message.causes.clone(),
        response: alert.message.response.clone(),
        advice: alert.message.advice.clone(),
        model_version: alert.version.unwrap_or_default(),
        from: Some(time::to_wire(alert.from)),
        until: Some(time::to_wire(alert.until)),
        windows: alert.windows,
        rows: alert.rows,
        report_id: alert.report.map(|id| id.to_string()).unwrap_or_default(),
        correlation_id: alert.correlation_id.map(|id| id.to_string()).unwrap_or_default(),
        opened_at: Some(time::to_wire(alert.opened_at)),
        updated_at: Some(time::to_wire(alert.updated_at)),
        acknowledged: alert.acknowledged.as_ref().map(note_to_wire),
        resolved: alert.resolved.as_ref().map(note_to_wire),
        notifications: Vec::new(),
    }
}

/// The alert in proto3 JSON.
pub fn to_json(alert: &Alert) -> Value {
    json::to_value(&to_wire(alert))
}

/// The same with its notifications.
pub fn notified_to_json((alert, notifications): &(Alert, Vec<Notification>)) -> Value {
    json::to_value(&notified_to_wire(alert, notifications))
}

/// An alert with its notifications as a message.
pub fn notified_to_wire(alert: &Alert, notifications: &[Notification]) -> wire::Alert {
    wire::Alert { notifications: notifications.iter().map(notification_to_wire).collect(), ..to_wire(alert) }
}

/// The alert that a message holds.
pub fn from_wire(given: wire::Alert) -> Result<Alert, Violations> {
    Ok(Alert {
        id: parse("id", &given.id)?,
        model: parse("model", &given.model)?,
        kind: kind_from_wire("kind", given.kind)?,
        severity: severity_from_wire(given.severity)?,
        message: Message {
            summary: given.summary,
            causes: given.causes,
            response: given.response,
            advice: given.advice,
        },
        version: Some(given.model_version).filter(|&version| version > 0),
        from: required_time("from", given.from)?,
        until: required_time("until", given.until)?,
        windows: given.windows,
        rows: given.rows,
        report: parse_optional("report_id", &given.report_id)?,
        correlation_id: parse_optional("correlation_id", &given.correlation_id)?,
        opened_at: required_time("opened_at", given.opened_at)?,
        updated_at: required_time("updated_at", given.updated_at)?,
        acknowledged: nested_optional("acknowledged", given.acknowledged, note_from_wire)?,
        resolved: nested_optional("resolved", given.resolved, note_from_wire)?,
    })
}

fn note_to_wire(note: &Note) -> wire::AlertNote {
    wire::AlertNote { by: note.by.clone(), why: note.why.clone(), at: Some(time::to_wire(note.at)) }
}

fn note_from_wire(given: wire::AlertNote) -> Result<Note, Violations> {
    Ok(Note { by: given.by, why: given.why, at: required_time("at", given.at)? })
}

/// A kind as its enumeration.
pub fn kind_to_wire(kind: AlertKind) -> wire::AlertKind {
    match kind {
        AlertKind::Drift => wire::AlertKind::Drift,
        AlertKind::DataFault => wire::AlertKind::DataFault,
        AlertKind::Degradation => wire::AlertKind::Degradation,
        AlertKind::NewClass => wire::AlertKind::NewClass,
        AlertKind::DuplicateRows => wire::AlertKind::DuplicateRows,
        AlertKind::LateRows => wire::AlertKind::LateRows,
        AlertKind::RowsAhead => wire::AlertKind::RowsAhead,
        AlertKind::FeedStopped => wire::AlertKind::FeedStopped,
        AlertKind::SliceDegradation => wire::AlertKind::SliceDegradation,
        AlertKind::VolumeAnomaly => wire::AlertKind::VolumeAnomaly,
        AlertKind::DependenceChange => wire::AlertKind::DependenceChange,
    }
}

fn kind(given: wire::AlertKind) -> Option<AlertKind> {
    match given {
        wire::AlertKind::Unspecified => None,
        wire::AlertKind::Drift => Some(AlertKind::Drift),
        wire::AlertKind::DataFault => Some(AlertKind::DataFault),
        wire::AlertKind::Degradation => Some(AlertKind::Degradation),
        wire::AlertKind::NewClass => Some(AlertKind::NewClass),
        wire::AlertKind::DuplicateRows => Some(AlertKind::DuplicateRows),
        wire::AlertKind::LateRows => Some(AlertKind::LateRows),
        wire::AlertKind::RowsAhead => Some(AlertKind::RowsAhead),
        wire::AlertKind::FeedStopped => Some(AlertKind::FeedStopped),
        wire::AlertKind::SliceDegradation => Some(AlertKind::SliceDegradation),
        wire::AlertKind::VolumeAnomaly => Some(AlertKind::VolumeAnomaly),
        wire::AlertKind::DependenceChange => Some(AlertKind::DependenceChange),
    }
}

fn kind_from_wire(field: &str, given: i32) -> Result<AlertKind, Violations> {
    enumeration(field, given, "ALERT_KIND_DRIFT to ALERT_KIND_DEPENDENCE_CHANGE", kind)
}

/// A kind, or `None` for the unspecified one.
pub fn optional_kind_from_wire(field: &str, given: i32) -> Result<Option<AlertKind>, Violations> {
    if given == 0 { Ok(None) } else { kind_from_wire(field, given).map(Some) }
}

fn severity_to_wire(severity: Severity) -> wire::Severity {
    match severity {
        Severity::Info => wire::Severity::Info,
        Severity::Warning => wire::Severity::Warning,
        Severity::Critical => wire::Severity::Critical,
    }
}

fn severity(given: wire::Severity) -> Option<Severity> {
    match given {
        wire::Severity::Unspecified => None,
        wire::Severity::Info => Some(Severity::Info),
        wire::Severity::Warning => Some(Severity::Warning),
        wire::Severity::Critical => Some(Severity::Critical),
    }
}

fn severity_from_wire(given: i32) -> Result<Severity, Violations> {
    enumeration("severity", given, "SEVERITY_INFO, SEVERITY_WARNING, SEVERITY_CRITICAL", severity)
}

fn state_to_wire(state: AlertState) -> wire::AlertState {
    match state {
        AlertState::Open => wire::AlertState::Open,
        AlertState::Acknowledged => wire::AlertState::Acknowledged,
        AlertState::Resolved => wire::AlertState::Resolved,
    }
}

fn state(given: wire::AlertState) -> Option<AlertState> {
    match given {
        wire::AlertState::Unspecified => None,
        wire::AlertState::Open => Some(AlertState::Open),
        wire::AlertState::Acknowledged => Some(AlertState::Acknowledged),
        wire::AlertState::Resolved => Some(AlertState::Resolved),
    }
}

/// The rule of a kind as a message.
pub fn rule_to_wire(kind: AlertKind, rule: &AlertRule) -> wire::AlertRule {
    wire::AlertRule {
        kind: kind_to_wire(kind).into(),
        severity: severity_to_wire(rule.severity).into(),
        windows: Some(rule.windows),
        of: Some(rule.of),
        resolve_after: Some(rule.resolve_after),
        disabled: rule.disabled,
    }
}

/// The rule that a message holds; unset fields have the defaults of the kind.
pub fn rule_from_wire(given: wire::AlertRule) -> Result<(AlertKind, AlertRule), Violations> {
    let kind = kind_from_wire("kind", given.kind)?;
    let base = AlertRule::default_of(kind);
    let windows = given.windows.unwrap_or(base.windows);
    let rule = AlertRule {
        severity: if given.severity == 0 { base.severity } else { severity_from_wire(given.severity)? },
        windows,
        of: given.of.unwrap_or(windows.max(base.of)),
        resolve_after: given.resolve_after.unwrap_or(base.resolve_after),
        disabled: given.disabled,
    };
    Ok((kind, rule))
}

/// A notification as a message.
pub fn notification_to_wire(notification: &Notification) -> wire::Notification {
    wire::Notification {
        id: notification.id.to_string(),
        receiver: notification.receiver.clone(),
        state: state_to_wire(notification.state).into(),
        created_at: Some(time::to_wire(notification.created_at)),
        attempts: notification.attempts,
        delivered_at: notification.delivered_at.map(time::to_wire),
        failed_at: notification.failed_at.map(time::to_wire),
        next_attempt_at: notification.next_attempt_at.map(time::to_wire),
        error: notification.error.clone(),
    }
}

/// The notification in proto3 JSON.
pub fn notification_to_json(notification: &Notification) -> Value {
    json::to_value(&notification_to_wire(notification))
}

/// The notification that a message holds.
pub fn notification_from_wire(given: wire::Notification) -> Result<Notification, Violations> {
    Ok(Notification {
        id: parse("id", &given.id)?,
        receiver: given.receiver,
        state: enumeration("state", given.state, "ALERT_STATE_OPEN, ALERT_STATE_RESOLVED", state)?,
        created_at: required_time("created_at", given.created_at)?,
        attempts: given.attempts,
        delivered_at: optional_time("delivered_at", given.delivered_at)?,
        failed_at: optional_time("failed_at", given.failed_at)?,
        next_attempt_at: optional_time("next_attempt_at", given.next_attempt_at)?,
        error: given.error,
    })
}

/// A silence as a message.
pub fn silence_to_wire(silence: &Silence) -> wire::Silence {
    wire::Silence {
        id: silence.id.to_string(),
        model: silence.model.to_string(),
        kind: silence.kind.map_or(wire::AlertKind::Unspecified, kind_to_wire).into(),
        created_at: Some(time::to_wire(silence.created_at)),
        until: Some(time::to_wire(silence.until)),
        by: silence.by.clone(),
        why: silence.why.clone(),
    }
}

/// The silence in proto3 JSON.
pub fn silence_to_json(silence: &Silence) -> Value {
    json::to_value(&silence_to_wire(silence))
}

/// The silence that a message holds.
pub fn silence_from_wire(given: wire::Silence) -> Result<Silence, Violations> {
    Ok(Silence {
        id: parse("id", &given.id)?,
        model: parse("model", &given.model)?,
        kind: optional_kind_from_wire("kind", given.kind)?,
        created_at: required_time("created_at", given.created_at)?,
        until: required_time("until", given.until)?,
        by: given.by,
        why: given.why,
    })
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    const ID: &str = "0193b3a0-0000-7000-8000-000000000000";

    fn alert() -> Alert {
        let at = DateTime::UNIX_EPOCH;
        Alert {
            id: ID.parse().expect("an id"),
            model: "flights".parse().expect("a name"),
            kind: AlertKind::Drift,
            severity: Severity::Warning,
            message: Message {
                summary: "what".to_owned(),
                causes: vec!["why".to_owned()],
                response: "response".to_owned(),
                advice: "advice".to_owned(),
            },
            version: Some(3),
            from: at,
            until: at,
            windows: 2,
            rows: 7,
            report: Some(ID.parse().expect("an id")),
            correlation_id: Some(ID.parse().expect("an id")),
            opened_at: at,
            updated_at: at,
            acknowledged: Some(Note { by: "ann".to_owned(), why: "mine".to_owned(), at }),
            resolved: None,
        }
    }

    #[test]
    fn alerts_survive() {
        for (&kind, &severity) in AlertKind::ALL.iter().zip(Severity::ALL.iter().cycle()) {
            let alert = Alert { kind, severity, ..alert() };
            assert_eq!(from_wire(to_wire(&alert)), Ok(alert));
        }
        let bare = Alert { version: None, report: None, correlation_id: None, acknowledged: None, ..alert() };
        assert_eq!(from_wire(to_wire(&bare)), Ok(bare));
        let json = to_json(&alert());
        assert_eq!((&json["kind"], &json["state"]), (&"ALERT_KIND_DRIFT".into(), &"ALERT_STATE_ACKNOWLEDGED".into()));
    }

    #[test]
    fn notifications_and_silences_survive() {
        let at = DateTime::UNIX_EPOCH;
        let notification = Notification {
            id: ID.parse().expect("an id"),
            receiver: "ops".to_owned(),
            state: AlertState::Resolved,
            created_at: at,
            attempts: 3,
            delivered_at: None,
            failed_at: Some(at),
            next_attempt_at: None,
            error: "refused".to_owned(),
        };
        assert_eq!(notification_from_wire(notification_to_wire(&notification)), Ok(notification));
        let silence = Silence {
            id: ID.parse().expect("an id"),
            model: "flights".parse().expect("a name"),
            kind: None,
            created_at: at,
            until: at,
            by: "ann".to_owned(),
            why: "a holiday".to_owned(),
        };
        let of_kind = Silence { kind: Some(AlertKind::NewClass), ..silence.clone() };
        assert_eq!(silence_from_wire(silence_to_wire(&silence)), Ok(silence));
        assert_eq!(silence_from_wire(silence_to_wire(&of_kind)), Ok(of_kind));
    }

    #[test]
    fn unset_fields_of_a_rule_have_the_defaults_of_its_kind() {
        let given =
            wire::AlertRule { kind: wire::AlertKind::Degradation.into(), windows: Some(2), ..Default::default() };
        let base = AlertRule::default_of(AlertKind::Degradation);
        let expected = AlertRule { windows: 2, of: 2, ..base };
        assert_eq!(rule_from_wire(given), Ok((AlertKind::Degradation, expected)));
        assert!(rule_from_wire(wire::AlertRule::default()).is_err(), "a rule of no kind");
        let unknown = wire::AlertRule { kind: wire::AlertKind::Drift.into(), severity: 9, ..Default::default() };
        assert!(rule_from_wire(unknown).is_err(), "a severity of a later release");
    }
}
