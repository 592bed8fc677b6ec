//! Alerts of the monitor, and the workflows that they start.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use rekindle_bus::{
    cloudevent::{self, CloudEvent},
    consumer::{Consumer, Puller},
    streams, subject,
};
use rekindle_client::{PageRequest, wire};
use rekindle_domain::{
    Policy, ReportId, Trigger, VersionRef, WorkflowId, WorkflowState,
    event::{EventContext, EventKind, Fact},
    report::{Drift, Interval, Quality, Verdict, WindowHeader, WindowReport},
    workflow::WorkflowStatus,
};
use rekindle_testkit::eventually;
use tonic::Code;
use uuid::Uuid;

use crate::{
    peers::bundle,
    world::{MODEL, World, model, policy},
};

const WEEK: TimeDelta = TimeDelta::days(7);

/// Retrains on drift and on degradation.
pub(crate) fn policy_on_every_alert() -> Policy {
    Policy { triggers: BTreeSet::from([Trigger::Drift, Trigger::Degradation]), ..policy() }
}

/// A drifted and degraded window that ends so long after 1970.
pub(crate) fn report(until: TimeDelta, version: u32) -> WindowReport {
    let until = DateTime::UNIX_EPOCH + until;
    let window = WindowHeader {
        report: ReportId::new(Uuid::now_v7()),
        model: model(),
        version: VersionRef { version, bundle: bundle(version) },
        slice: String::new(),
        from: until - TimeDelta::days(1),
        until,
        rows: 1_000,
        closed_at: Utc::now(),
    };
    let drift = Drift::of(Verdict::Drifted, Vec::new(), None);
    WindowReport {
        window,
        drift,
        estimate: None,
        quality: None,
        quality_at: None,
        correlation_id: None,
        reason: String::new(),
        revision: 1,
        changes: String::new(),
    }
}

/// Publishes drift of a window; returns the id of the workflow that it starts.
pub(crate) async fn drift(world: &World, until: TimeDelta, version: u32) -> WorkflowId {
    let id = WorkflowId::new(Uuid::now_v7());
    publish(world, wire::event::drift_detected(&report(until, version)), id).await;
    id
}

/// Publishes degradation of a window whose drift was published with that correlation id; returns the id of the event.
pub(crate) async fn degradation(world: &World, until: TimeDelta, version: u32, correlation: WorkflowId) -> Uuid {
    publish(world, wire::event::degradation_detected(&report(until, version), &degraded(0.9)), correlation).await
}

/// Degraded quality with that mean loss.
pub(crate) fn degraded(loss: f64) -> Quality {
    let interval = Interval { lower: loss - 0.05, upper: loss + 0.05 };
    Quality {
        verdict: Verdict::Drifted,
        labelled_rows: 1_000,
        loss,
        intervals: BTreeMap::from([("log_loss".to_owned(), interval)]),
        reference_loss: 0.4,
        rise_lower_bound: 0.3,
        ..Quality::inconclusive()
    }
}

pub(crate) async fn publish(world: &World, alert: Fact<serde_json::Value>, correlation: WorkflowId) -> Uuid {
    let event = CloudEvent {
        id: Uuid::now_v7(),
        source: "/rekindle/monitor/1".into(),
        kind: alert.kind,
        name: alert.name,
        time: Utc::now(),
        recorded_time: Utc::now(),
        context: EventContext::correlated(correlation.to_string()),
        partition_key: MODEL.into(),
        traceparent: None,
        position: None,
        data: alert.data,
    };
    let payload = event.data.to_string().into();
    world.bus.publish(event.subject(), &event.identity(), event.to_headers(), payload).await.expect("stored");
    event.id
}

/// Every workflow, newest first, once their number is `count`.
pub(crate) async fn workflows(world: &World, count: usize) -> Vec<WorkflowStatus> {
    eventually("the workflows", async || {
        let found = world.client().workflows(None, PageRequest::default()).await;
        let found = found.map_err(|error| format!("{error:?}"))?.items;
        if found.len() == count { Ok(found) } else { Err(format!("{found:?}")) }
    })
    .await
}

pub(crate) async fn started(world: &World, id: WorkflowId) {
    eventually("the workflow to start", async || {
        world.client().workflow(id).await.map(|_| ()).map_err(|error| format!("{error:?}"))
    })
    .await;
}

/// The events of the transitions of a workflow that has succeeded.
async fn transitions(world: &World, id: WorkflowId) -> Vec<CloudEvent> {
    let subject = subject::event(EventKind::WORKFLOW_ADVANCED, MODEL);
    let mut puller = Puller::new(world.bus.clone(), Consumer::new("test", streams::EVENTS, [subject]));
    let mut found: Vec<CloudEvent> = Vec::new();
    while found.last().is_none_or(|event| event.data["to_state"] != "WORKFLOW_STATE_SUCCEEDED") {
        let event = cloudevent::from_message(puller.next(1).await.message()).expect("an event");
        if event.data["workflow_id"] == id.to_string() {
            found.push(event);
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_that_was_rejected_does_not_absorb_the_next_alert_of_its_window() {
    let world = World::on_sqlite().await;
    let enough = mem::replace(&mut world.peers.state().new_rows, 10);
    world.prepare(policy_on_every_alert()).await;
    let window = drift(&world, TimeDelta::zero(), 1).await;
    let [first] = <[_; 1]>::try_from(workflows(&world, 1).await).expect("one");
    assert_eq!((first.id, first.trigger), (window, Trigger::Drift));
    world.reaches(window, WorkflowState::Rejected).await;
    world.peers.state().new_rows = enough;
    let alert = degradation(&world, TimeDelta::zero(), 1, window).await;
    let second = workflows(&world, 2).await.swap_remove(0);
    assert!(second.id > window, "the list begins with the newest: {second:?}");
    assert_eq!(second.trigger, Trigger::Degradation);
    world.reaches(second.id, WorkflowState::Succeeded).await;
    assert_eq!(world.reaches(window, WorkflowState::Rejected).await.steps.len(), 3);
    for event in &transitions(&world, second.id).await {
        let EventContext { correlation_id, causation_id } = &event.context;
        assert_eq!((correlation_id, causation_id), (&window.to_string(), &alert.to_string()), "{event:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_that_is_active_or_has_succeeded_settles_every_alert_of_its_window() {
    let world = World::on_sqlite().await;
    world.prepare(Policy { cooldown: Duration::ZERO, ..policy_on_every_alert() }).await;
    let window = drift(&world, TimeDelta::zero(), 1).await;
    workflows(&world, 1).await;
    degradation(&world, TimeDelta::zero(), 1, window).await;
    world.reaches(window, WorkflowState::Succeeded).await;
    // About the version that it rolled out, so that no other reason applies.
    degradation(&world, TimeDelta::zero(), 3, window).await;
    let next = drift(&world, TimeDelta::seconds(1), 3).await;
    // Alerts are processed in order: once the last one has started a workflow, the others were ignored.
    let ids: Vec<WorkflowId> = workflows(&world, 2).await.into_iter().map(|workflow| workflow.id).collect();
    assert_eq!(ids, [next, window]);
}

#[tokio::test(flavor = "multi_thread")]
async fn drift_starts_a_workflow_and_the_cooldown_counts_event_time() {
    let world = World::on_sqlite().await;
    world.prepare(policy()).await;
    let first = drift(&world, TimeDelta::zero(), 1).await;
    started(&world, first).await;
    world.reaches(first, WorkflowState::Succeeded).await;
    let early = drift(&world, WEEK - TimeDelta::seconds(1), 3).await;
    let due = drift(&world, WEEK, 3).await;
    // Alerts are processed in order: once the later one has started a workflow, the earlier one was ignored.
    started(&world, due).await;
    let ignored = world.client().workflow(early).await.expect_err("ignored");
    assert_eq!(ignored.code(), Code::NotFound);
}
