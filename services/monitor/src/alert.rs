//! The events of a report, to be enqueued in the transaction that stores it.

use chrono::{DateTime, Utc};
use rekindle_client::wire::event;
use rekindle_domain::{
    Principal,
    event::{EventContext, Fact},
    report::{Quality, Verdict, WindowReport},
};
use rekindle_store::{audit::Change, outbox::NewEvent};
use serde_json::Value;
use uuid::Uuid;

/// A window was closed: the report and, if it has drifted, the alerts.
pub(crate) fn of_closed(report: &WindowReport, now: DateTime<Utc>) -> Vec<Change> {
    let mut facts = vec![event::window_reported(report)];
    if report.drift.verdict == Verdict::Drifted {
        facts.push(event::drift_detected(report));
        facts.extend(event::data_fault_detected(report));
    }
    facts.into_iter().map(|fact| new(report, fact, now)).collect()
}

/// The quality of a window was measured: the report, the new classes if there are any and, if it has degraded, the alert.
pub(crate) fn of_quality(report: &WindowReport, quality: &Quality, now: DateTime<Utc>) -> Vec<Change> {
    let mut facts = vec![event::window_reported(report)];
    if quality.verdict == Verdict::Drifted {
        facts.push(event::degradation_detected(report, quality));
    }
    if !quality.new_classes.is_empty() {
        facts.push(event::new_class_detected(report, quality));
    }
    facts.into_iter().map(|fact| new(report, fact, now)).collect()
}

fn new(report: &WindowReport, fact: Fact<Value>, now: DateTime<Utc>) -> Change {
    let correlation_id = report.correlation_id.map(|id| id.to_string()).unwrap_or_default();
    let event = NewEvent {
        id: Uuid::now_v7(),
        kind: fact.kind,
        name: fact.name,
        data: fact.data,
        context: EventContext::correlated(correlation_id),
        partition_key: report.window.model.to_string(),
        time: now,
    };
    Change { event, actor: Principal::service("monitor").to_string(), before: None }
}
