//! The orchestrator's stories: real bus, real database, and peers that play along.

mod endings;
mod peers;
mod stage;

use rekindle_bus::{
    cloudevent::{self, CloudEvent},
    consumer::{Consumer, Puller},
    streams,
};
use rekindle_domain::event::EventKind;
use rekindle_proto::{
    client::Context,
    events::{DegradationDetected, DriftDetected, WorkflowAdvanced},
    json,
    orchestrator::{self as o, WorkflowState},
};
use rekindle_testkit::eventually;
use tonic::Code;
use uuid::Uuid;

use self::stage::{Stage, policy};

pub(crate) fn change(id: &str) -> o::ChangeWorkflowRequest {
    o::ChangeWorkflowRequest { id: id.into(), by: "a test".into(), why: "to see".into() }
}

async fn a_trip_succeeds(stage: Stage) {
    stage.ready(policy()).await;
    let id = stage.begin().await;
    let done = stage.reaches(&id, WorkflowState::Succeeded).await;
    assert_eq!((done.from_version, done.to_version), (1, 3));
    assert!(done.serving_everywhere_at.is_some() && done.ended_at.is_some());
    let states: Vec<&str> = done.steps.iter().map(|step| step.state().as_str_name()).collect();
    assert_eq!(states.len(), 7, "{states:?}");
    stage.settled(3, "completed").await;
    assert_eq!(stage.serving().await, [3, 3, 3]);
    assert_eq!((stage.alias("champion"), stage.alias("challenger")), (3, 3));
    eventually("the watch to be pushed", async || {
        stage.peers.world().watch.as_ref().map(|_| ()).ok_or_else(|| "none".to_owned())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trip_round_the_loop_succeeds() {
    a_trip_succeeds(Stage::set().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trip_round_the_loop_succeeds_on_postgres() {
    let postgres = rekindle_testkit::Postgres::start().await;
    let url = postgres.fresh_database().await;
    a_trip_succeeds(Stage::on(tempfile::tempdir().expect("a folder"), url).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gate_says_no() {
    let stage = Stage::set().await;
    stage.peers.world().verdict = "reject";
    stage.ready(policy()).await;
    let done = stage.reaches(&stage.begin().await, WorkflowState::Rejected).await;
    assert_eq!(done.reason, "it is a reject");
    assert_eq!(stage.serving().await, [1, 1, 1]);
    let refused = stage.deploy("anyway", 3).await.expect_err("the gate rejected it");
    assert_eq!(refused.code(), Code::FailedPrecondition);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_few_new_rows_end_it_before_training() {
    let stage = Stage::set().await;
    stage.peers.world().new_rows = 10;
    stage.ready(policy()).await;
    let done = stage.reaches(&stage.begin().await, WorkflowState::Rejected).await;
    assert!(done.reason.contains("10 new labelled rows"), "{}", done.reason);
    assert!(stage.peers.world().runs.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_refuses_brings_all_back() {
    let stage = Stage::set().await;
    stage.refused.lock().expect("not poisoned").insert(3);
    stage.ready(policy()).await;
    let done = stage.reaches(&stage.begin().await, WorkflowState::RolledBack).await;
    assert!(done.reason.contains("does not warm up"), "{}", done.reason);
    stage.settled(1, "returned").await;
    assert_eq!((stage.serving().await, stage.alias("champion")), (vec![1, 1, 1], 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_every_state_it_goes_on_and_does_everything_once() {
    let mut stage = Stage::set().await;
    stage.ready(policy()).await;
    stage.peers.world().hold = Some("train");
    let id = stage.begin().await;
    stage.reaches(&id, WorkflowState::Training).await;
    stage.kill().await;
    stage.peers.release().await;
    stage.peers.world().hold = Some("evaluate");
    stage.start().await;
    stage.reaches(&id, WorkflowState::Evaluating).await;
    stage.kill().await;
    stage.peers.release().await;
    stage.start().await;
    for _ in 0..4 {
        stage.kill().await;
        stage.start().await;
    }
    stage.reaches(&id, WorkflowState::Succeeded).await;
    let world = stage.peers.world();
    assert_eq!((world.versions.len(), world.runs.len(), world.datasets.len()), (3, 2, 2));
    assert_eq!(world.aliases["champion"].revision, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_run_is_tried_anew_a_bounded_number_of_times() {
    let stage = Stage::set().await;
    stage.peers.world().failures = 3;
    stage.ready(policy()).await;
    let done = stage.reaches(&stage.begin().await, WorkflowState::Failed).await;
    assert!(done.reason.contains("3 attempts"), "{}", done.reason);
    assert_eq!(stage.peers.world().runs.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_workflow_starts_nothing_until_it_is_resumed() {
    let stage = Stage::set().await;
    stage.peers.world().hold = Some("train");
    stage.ready(policy()).await;
    let id = stage.begin().await;
    stage.reaches(&id, WorkflowState::Training).await;
    assert!(stage.client().pause_workflow(change(&id)).await.expect("paused").into_inner().paused);
    stage.peers.release().await;
    // A deployment goes its whole way meanwhile, so the loop has looked at the workflow many times.
    stage.deploy("second", 2).await.expect("deployed");
    stage.settled(2, "completed").await;
    assert_eq!(stage.workflow(&id).await.state(), WorkflowState::Training);
    stage.client().resume_workflow(change(&id)).await.expect("resumed");
    let done = stage.reaches(&id, WorkflowState::Failed).await;
    assert!(done.reason.contains("deployed meanwhile"), "{}", done.reason);
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_ends_the_job_and_the_workflow() {
    let stage = Stage::set().await;
    stage.peers.world().hold = Some("train");
    stage.ready(policy()).await;
    let id = stage.begin().await;
    eventually("a submitted job", async || match stage.peers.world().runs.len() {
        1 => Ok(()),
        n => Err(n.to_string()),
    })
    .await;
    stage.client().cancel_workflow(change(&id)).await.expect("accepted");
    stage.reaches(&id, WorkflowState::Cancelled).await;
    assert_eq!(stage.peers.world().cancelled.len(), 1);
    let late = stage.client().pause_workflow(change(&id)).await.expect_err("it has ended");
    assert_eq!(late.code(), Code::FailedPrecondition);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_while_observing_cancels_the_workflow() {
    let stage = Stage::set().await;
    let mut slow = policy();
    slow.rollout = Some(o::RolloutStrategy {
        observe: Some(prost_types::Duration { seconds: 3600, nanos: 0 }),
        ..slow.rollout.unwrap_or_default()
    });
    stage.ready(slow).await;
    let id = stage.begin().await;
    stage.reaches(&id, WorkflowState::Observing).await;
    let busy = stage.deploy("between", 2).await.expect_err("a rollout is in progress");
    assert_eq!(busy.code(), Code::FailedPrecondition);
    let request = o::RollbackRequest { idempotency_key: "back".into(), model: "flights".into(), ..Default::default() };
    stage.client().rollback(request).await.expect("accepted");
    stage.reaches(&id, WorkflowState::Cancelled).await;
    stage.settled(1, "returned").await;
    assert_eq!(stage.serving().await, [1, 1, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_is_asked_where_the_policy_says_so() {
    let stage = Stage::set().await;
    stage.ready(o::Policy { require_approval: true, ..policy() }).await;
    let id = stage.begin().await;
    stage.reaches(&id, WorkflowState::AwaitingApproval).await;
    let request = o::ApproveWorkflowRequest { id: id.clone(), approve: true, by: "ada".into(), why: "good".into() };
    stage.client().approve_workflow(request).await.expect("accepted");
    stage.reaches(&id, WorkflowState::Succeeded).await;
    assert_eq!(stage.peers.world().versions[&3].review.as_ref().map(|review| review.by.as_str()), Some("ada"));
}

#[tokio::test(flavor = "multi_thread")]
async fn rollback_goes_back_version_by_version() {
    let stage = Stage::set().await;
    stage.ready(policy()).await;
    stage.deploy("second", 2).await.expect("deployed");
    stage.settled(2, "completed").await;
    let back =
        |key: &str| o::RollbackRequest { idempotency_key: key.into(), model: "flights".into(), ..Default::default() };
    stage.client().rollback(back("a")).await.expect("accepted");
    stage.settled(1, "completed").await;
    eventually("the champion", async || if stage.alias("champion") == 1 { Ok(()) } else { Err("not yet".into()) })
        .await;
    let refused = stage.client().rollback(back("b")).await.expect_err("nothing before version 1");
    assert_eq!(refused.code(), Code::FailedPrecondition);
}

#[tokio::test(flavor = "multi_thread")]
async fn stale_revisions_and_reused_keys_change_nothing() {
    let stage = Stage::set().await;
    stage.ready(policy()).await;
    let stale = o::SetPolicyRequest { policy: Some(policy()), expected_revision: 7 };
    assert_eq!(stage.client().set_policy(stale).await.expect_err("stale").code(), Code::Aborted);
    let stale = o::DeployRequest {
        idempotency_key: "x".into(),
        model: "flights".into(),
        version: 2,
        expected_revision: 999,
        ..Default::default()
    };
    assert_eq!(stage.client().deploy(stale).await.expect_err("stale").code(), Code::Aborted);
    assert_eq!(stage.deploy("first", 2).await.expect_err("reused").code(), Code::AlreadyExists);
    let bad = o::Policy { holdout_share: 2.0, ..policy() };
    let bad = o::SetPolicyRequest { policy: Some(bad), expected_revision: 1 };
    let error = stage.client().set_policy(bad).await.expect_err("out of bounds");
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.message().contains("holdout_share"), "{error}");
    stage.settled(1, "completed").await;
}

async fn alert(stage: &Stage, until: i64, version: u32) -> String {
    let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
    let drift = DriftDetected {
        model: "flights".into(),
        model_version: version,
        until: at(until),
        closed_at: at(until),
        ..Default::default()
    };
    let id = Uuid::now_v7().to_string();
    tell(stage, EventKind::DRIFT_DETECTED, &drift, &id).await;
    id
}

/// The degradation of the window whose drift was told under that id.
async fn degraded(stage: &Stage, until: i64, version: u32, id: &str) -> Uuid {
    let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
    let degradation = DegradationDetected {
        model: "flights".into(),
        model_version: version,
        until: at(until),
        closed_at: at(until),
        ..Default::default()
    };
    tell(stage, EventKind::DEGRADATION_DETECTED, &degradation, id).await
}

async fn tell(stage: &Stage, kind: EventKind, alert: &impl json::Named, correlation_id: &str) -> Uuid {
    let event = CloudEvent {
        id: Uuid::now_v7(),
        source: "/rekindle/monitor/1".into(),
        kind,
        name: "flights".into(),
        time: chrono::Utc::now(),
        recorded_time: chrono::Utc::now(),
        context: Context::correlated(correlation_id),
        partition_key: "flights".into(),
        traceparent: None,
        data: json::to_value(alert),
    };
    let payload = event.data.to_string().into();
    stage.bus.publish(event.subject(), &event.identity(), event.to_headers(), payload).await.expect("stored");
    event.id
}

/// Every workflow there was, newest first, once there are so many.
async fn workflows(stage: &Stage, count: usize) -> Vec<o::Workflow> {
    eventually("the workflows", async || {
        let found = stage.client().list_workflows(o::ListWorkflowsRequest::default()).await;
        let found = found.map_err(|status| status.to_string())?.into_inner().workflows;
        if found.len() == count { Ok(found) } else { Err(format!("{found:?}")) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_that_came_to_nothing_does_not_swallow_the_next_alert_of_its_window() {
    let stage = Stage::set().await;
    let enough = std::mem::replace(&mut stage.peers.world().new_rows, 10);
    stage.ready(o::Policy { on_degradation: true, ..policy() }).await;
    let window = alert(&stage, 0, 1).await;
    let [first] = <[_; 1]>::try_from(workflows(&stage, 1).await).expect("one");
    assert_eq!(first.id, window);
    stage.reaches(&window, WorkflowState::Rejected).await;
    stage.peers.world().new_rows = enough;
    let told = degraded(&stage, 0, 1, &window).await;
    let second = workflows(&stage, 2).await.swap_remove(0);
    assert!(second.id > window, "listed before it because it is newer: {second:?}");
    stage.reaches(&second.id, WorkflowState::Succeeded).await;
    assert_eq!(stage.reaches(&window, WorkflowState::Rejected).await.steps.len(), 3);
    let advanced = advanced(&stage, &second.id).await;
    for event in &advanced {
        let (of, by) = (&event.context.correlation_id, &event.context.causation_id);
        assert_eq!((of, by), (&window, &told.to_string()), "{event:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_under_way_or_at_its_goal_answers_every_alert_of_its_window() {
    let stage = Stage::set().await;
    stage.ready(o::Policy { on_degradation: true, cooldown: no_time(), ..policy() }).await;
    let window = alert(&stage, 0, 1).await;
    workflows(&stage, 1).await;
    degraded(&stage, 0, 1, &window).await;
    stage.reaches(&window, WorkflowState::Succeeded).await;
    // Of the version that it brought, so that nothing else is against it.
    degraded(&stage, 0, 3, &window).await;
    let next = alert(&stage, 1, 3).await;
    // Alerts are heard in order, so once the last one has made a workflow the others were ignored.
    let ids: Vec<String> = workflows(&stage, 2).await.into_iter().map(|workflow| workflow.id).collect();
    assert_eq!(ids, [next, window]);
}

fn no_time() -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds: 0, nanos: 0 })
}

/// What was told of a workflow that has succeeded.
async fn advanced(stage: &Stage, id: &str) -> Vec<CloudEvent> {
    let subject = EventKind::WORKFLOW_ADVANCED.subject("flights");
    let mut puller = Puller::new(stage.bus.clone(), Consumer::new("test", streams::EVENTS, [subject]));
    let mut found = Vec::new();
    while !found.iter().any(|(_, to)| to == "SUCCEEDED") {
        let event = cloudevent::from_message(puller.next(1).await.message()).expect("an event");
        let told: WorkflowAdvanced = event.decode().expect("its message");
        if told.workflow_id == id {
            found.push((event, told.to_state));
        }
    }
    found.into_iter().map(|(event, _)| event).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn drift_starts_a_workflow_and_the_cooldown_counts_event_time() {
    let stage = Stage::set().await;
    stage.ready(policy()).await;
    const WEEK: i64 = 7 * 24 * 3600;
    let first = alert(&stage, 0, 1).await;
    eventually("a workflow", async || {
        let found = stage.client().get_workflow(o::GetWorkflowRequest { id: first.clone() }).await;
        found.map(|_| ()).map_err(|status| status.to_string())
    })
    .await;
    stage.reaches(&first, WorkflowState::Succeeded).await;
    let early = alert(&stage, WEEK - 1, 3).await;
    let due = alert(&stage, WEEK, 3).await;
    // Alerts are heard in order, so once the later one has made a workflow the earlier one was ignored.
    eventually("the second workflow", async || {
        let found = stage.client().get_workflow(o::GetWorkflowRequest { id: due.clone() }).await;
        found.map(|_| ()).map_err(|status| status.to_string())
    })
    .await;
    let ignored = stage.client().get_workflow(o::GetWorkflowRequest { id: early }).await.expect_err("ignored");
    assert_eq!(ignored.code(), Code::NotFound);
}
