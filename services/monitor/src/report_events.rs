//! The events of a report, to be enqueued in the transaction that stores it.

use chrono::{DateTime, Utc};
use rekindle_client::wire::event;
use rekindle_domain::{
    ModelName, Principal, WorkflowId,
    event::{EventContext, Fact},
    report::{Quality, Verdict, WindowReport},
};
use rekindle_store::{audit::Change, outbox::NewEvent};
use serde_json::Value;
use uuid::Uuid;

use crate::report::{Announced, Report};

/// A window was closed: the report and, if it has drifted or its data are faulty, what was detected.
pub(crate) fn of_closed(report: &WindowReport, now: DateTime<Utc>) -> Vec<Change> {
    let mut facts = vec![event::window_reported(report)];
    if report.drift.verdict == Verdict::Drifted {
        facts.push(event::drift_detected(report));
    }
    facts.extend(event::data_fault_detected(report));
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

/// The quality of a window was measured again: the report and, unless they were announced before, degradation and new classes. Returns what is
/// announced then, too.
pub(crate) fn of_revision(report: &Report, now: DateTime<Utc>) -> (Vec<Change>, Announced) {
    let Report { content, announced, .. } = report;
    let mut facts = vec![event::window_reported(content)];
    let Some(quality) = &content.quality else { return (Vec::new(), announced.clone()) };
    let after = announced.clone().with(quality);
    if after.degradation && !announced.degradation {
        facts.push(event::degradation_detected(content, quality));
    }
    if after.classes != announced.classes {
        facts.push(event::new_class_detected(content, quality));
    }
    (facts.into_iter().map(|fact| new(content, fact, now)).collect(), after)
}

fn new(report: &WindowReport, fact: Fact<Value>, now: DateTime<Utc>) -> Change {
    let actor = Principal::service("monitor").to_string();
    change(fact, &report.window.model, report.correlation_id, actor, now)
}

/// A change of something of a model, with an event of its own.
pub(crate) fn change(
    fact: Fact<Value>,
    model: &ModelName,
    correlation_id: Option<WorkflowId>,
    actor: String,
    now: DateTime<Utc>,
) -> Change {
    let event = NewEvent {
        id: Uuid::now_v7(),
        kind: fact.kind,
        name: fact.name,
        data: fact.data,
        context: EventContext::correlated(correlation_id.map(|id| id.to_string()).unwrap_or_default()),
        partition_key: model.to_string(),
        time: now,
    };
    Change { event, actor, before: None }
}

#[cfg(test)]
mod tests {
    use rekindle_domain::{
        event::EventKind,
        report::{ColumnDrift, DriftCause},
    };

    use super::*;
    use crate::{alert::finding::tests::column, evaluate::contents::tests::report, window::Window};

    #[test]
    fn a_data_fault_is_an_event_beside_the_drift_and_names_the_faulty_columns_alone() {
        let column = |name: &str, cause| column(name, Verdict::Drifted, cause);
        let kinds_and_data = |features: Vec<ColumnDrift>| {
            let mut report = report(Window { from: 100, until: 200 }, 40).content;
            (report.drift.verdict, report.drift.features) = (Verdict::Drifted, features);
            let changes = of_closed(&report, DateTime::UNIX_EPOCH).into_iter().map(|change| change.event);
            changes.map(|event| (event.kind, event.data)).collect::<Vec<_>>()
        };
        let season = || column("temp", Some(DriftCause::UnseenSeason));
        let kinds = |events: &[(EventKind, Value)]| events.iter().map(|(kind, _)| *kind).collect::<Vec<_>>();
        let drifted = kinds_and_data(vec![season()]);
        assert_eq!(kinds(&drifted), [EventKind::WINDOW_REPORTED, EventKind::DRIFT_DETECTED]);
        let faulty = kinds_and_data(vec![season(), column("depth", Some(DriftCause::DataFault))]);
        let expected = [EventKind::WINDOW_REPORTED, EventKind::DRIFT_DETECTED, EventKind::DATA_FAULT_DETECTED];
        assert_eq!(kinds(&faulty), expected);
        let features = faulty[2].1["features"].as_array().expect("columns");
        assert_eq!(features.len(), 1, "{features:?}");
        assert_eq!((&features[0]["name"], &features[0]["reason"]), (&"depth".into(), &"depth has changed".into()));
        let alert = event::detection(EventKind::DRIFT_DETECTED, &faulty[1].1).expect("it reads").expect("an alert");
        assert!(alert.has_data_fault());
    }

    #[test]
    fn a_revision_announces_what_no_revision_before_did() {
        let quality = |verdict, classes: &[&str]| Quality {
            verdict,
            new_classes: classes.iter().map(|&class| (class.to_owned(), 1)).collect(),
            ..Quality::inconclusive()
        };
        let mut announced = Announced::default().with(&quality(Verdict::Stable, &[]));
        let mut kinds = |after: Quality| -> Vec<EventKind> {
            let mut report = report(Window { from: 100, until: 200 }, 40);
            (report.content.quality, report.announced) = (Some(after), announced.clone());
            let (changes, after) = of_revision(&report, DateTime::UNIX_EPOCH);
            announced = after;
            changes.into_iter().map(|change| change.event.kind).collect()
        };
        assert_eq!(kinds(quality(Verdict::Stable, &[])), [EventKind::WINDOW_REPORTED]);
        let all = [EventKind::WINDOW_REPORTED, EventKind::DEGRADATION_DETECTED, EventKind::NEW_CLASS_DETECTED];
        assert_eq!(kinds(quality(Verdict::Drifted, &["cat"])), all);
        assert_eq!(kinds(quality(Verdict::Stable, &["cat"])), [EventKind::WINDOW_REPORTED]);
        assert_eq!(kinds(quality(Verdict::Drifted, &["cat"])), [EventKind::WINDOW_REPORTED], "announced once");
        let dog = quality(Verdict::Drifted, &["cat", "dog"]);
        assert_eq!(kinds(dog), [EventKind::WINDOW_REPORTED, EventKind::NEW_CLASS_DETECTED]);
    }
}
