//! Canary steps, bad versions that return by themselves, and the metrics of it all.

use std::{collections::BTreeMap, sync::atomic::Ordering, time::Duration};

use chrono::{TimeDelta, Utc};
use rekindle_domain::{
    Policy, WorkflowId, WorkflowState,
    deployment_status::{DeploymentStatus, RolloutOutcome},
    report::WindowReport,
    rollout::{CanaryStep, Strategy},
};
use rekindle_testkit::eventually;
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    alerts::{degradation, degraded},
    world::{World, model, policy, policy_with_long_observation},
};

const HOUR: Duration = Duration::from_secs(3600);

/// A shadow step and a step with a tenth of the requests.
fn policy_with_canary(duration: Duration) -> Policy {
    let policy = policy();
    let canary = [0, 1_000].map(|weight| CanaryStep { weight, duration }).to_vec();
    Policy { rollout: Strategy { canary, ..policy.rollout }, ..policy }
}

/// The deployment in a canary step.
async fn in_step(world: &World, step: u32) -> DeploymentStatus {
    eventually("a canary step", async || {
        let deployment = world.client().deployment(&model()).await.map_err(|error| format!("{error:?}"))?;
        if deployment.canary_step == Some(step) { Ok(deployment) } else { Err(format!("{deployment:?}")) }
    })
    .await
}

/// Waits until the workflow has returned every replica, and prints how long that took.
async fn returned(world: &World, id: WorkflowId, since: Instant) -> String {
    let done = world.reaches(id, WorkflowState::RolledBack).await;
    world.settled(1, RolloutOutcome::Returned).await;
    world.every_replica_serves(1).await;
    println!(
        "every replica serves the stable version {:.2} s after the finding: {}",
        since.elapsed().as_secs_f64(),
        done.reason
    );
    world.champion_is(1).await;
    done.reason
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_goes_through_the_canary_steps_of_its_policy() {
    let world = World::on_sqlite().await;
    world.prepare(policy_with_canary(Duration::from_millis(200))).await;
    let id = world.start_workflow().await;
    let shadowed = in_step(&world, 1).await;
    assert_eq!((shadowed.shadow.map(|shadow| shadow.version), shadowed.weighted.len()), (Some(3), 0));
    let weighted = in_step(&world, 2).await;
    assert_eq!((weighted.shadow, weighted.weighted[0].version.version, weighted.weighted[0].weight), (None, 3, 1_000));
    assert_eq!((weighted.moved.len(), world.serving().await), (0, vec![1, 1, 1]));
    world.reaches(id, WorkflowState::Succeeded).await;
    let settled = world.settled(3, RolloutOutcome::Completed).await;
    assert_eq!((settled.weighted.len(), settled.canary_step), (0, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_whose_requests_fail_returns_by_itself() {
    let world = World::on_sqlite().await;
    world.prepare(policy_with_canary(HOUR)).await;
    let id = world.start_workflow().await;
    in_step(&world, 1).await;
    let since = Instant::now();
    world.failing.store(true, Ordering::Relaxed);
    let reason = returned(&world, id, since).await;
    assert!(reason.contains("1 of 1001 requests failed in version 3"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_is_too_slow_returns_by_itself() {
    let world = World::on_sqlite().await;
    let policy = policy_with_long_observation();
    let rollout = Strategy { max_latency: Some(Duration::from_millis(20)), ..policy.rollout };
    world.prepare(Policy { rollout, ..policy }).await;
    let id = world.start_workflow().await;
    world.reaches(id, WorkflowState::Observing).await;
    let since = Instant::now();
    world.latency.store(20_001, Ordering::Relaxed);
    let reason = returned(&world, id, since).await;
    assert!(reason.contains("took up to 20.001ms, the limit is 20ms"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_whose_quality_degrades_returns_by_itself() {
    let world = World::on_sqlite().await;
    world.prepare(policy_with_long_observation()).await;
    let id = world.start_workflow().await;
    world.reaches(id, WorkflowState::Observing).await;
    // That of the stable version, and drift of the other one, change nothing.
    degradation(&world, TimeDelta::zero(), 1, WorkflowId::new(Uuid::now_v7())).await;
    crate::alerts::drift(&world, TimeDelta::zero(), 3).await;
    let since = Instant::now();
    degradation(&world, TimeDelta::seconds(1), 3, WorkflowId::new(Uuid::now_v7())).await;
    let reason = returned(&world, id, since).await;
    let expected = "version 3 was being rolled out: degradation in the window until 1970-01-01T00:00:01Z";
    assert_eq!(reason, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_degraded_version_stays_while_the_stable_one_has_degraded_as_well() {
    let world = World::on_sqlite().await;
    world.prepare(policy_with_long_observation()).await;
    let id = world.start_workflow().await;
    world.reaches(id, WorkflowState::Observing).await;
    let report = |second: i64, version: u32, loss: f64| {
        let report = crate::alerts::report(TimeDelta::seconds(second), version);
        WindowReport { quality: Some(degraded(loss)), ..report }
    };
    world.peers.state().reports = vec![report(0, 3, 0.9), report(0, 1, 0.95)];
    degradation(&world, TimeDelta::zero(), 3, WorkflowId::new(Uuid::now_v7())).await;
    world.peers.state().reports.extend([report(1, 3, 0.9), report(1, 1, 0.7)]);
    // Alerts are processed in order.
    degradation(&world, TimeDelta::seconds(1), 3, WorkflowId::new(Uuid::now_v7())).await;
    let reason = returned(&world, id, Instant::now()).await;
    assert_eq!(reason, "version 3 was being rolled out: degradation in the window until 1970-01-01T00:00:01Z");
}

#[tokio::test(flavor = "multi_thread")]
async fn delivery_metrics_are_those_of_the_events_also_for_another_instance() {
    let mut world = World::on_sqlite().await;
    world.prepare(policy()).await;
    let id = crate::alerts::drift(&world, TimeDelta::zero(), 1).await;
    crate::alerts::started(&world, id).await;
    let done = world.reaches(id, WorkflowState::Succeeded).await;
    world.rollback("back").await.expect("accepted");
    world.settled(1, RolloutOutcome::Completed).await;
    // The events are on their way to the bus.
    let until = Utc::now() + TimeDelta::hours(1);
    let measured = eventually("the metrics of every event", async || {
        let (_, metrics) = world
            .client()
            .delivery_metrics(Some(&model()), None, Some(until))
            .await
            .map_err(|error| format!("{error:?}"))?;
        if metrics.rolled_back == 1 { Ok(metrics) } else { Err(format!("{metrics:?}")) }
    })
    .await;
    assert_eq!((measured.deployments, measured.returned, measured.change_failure_rate), (2, 0, Some(0.5)));
    assert_eq!((measured.detections, measured.replayed_detections), (1, 1), "a window of 1970");
    assert_eq!((measured.stable_versions, measured.defect_rate), (2, Some(0.0)));
    assert_eq!(measured.workflows, BTreeMap::from([(WorkflowState::Succeeded, 1)]));
    let lead = done.ended_at.expect("ended") - done.queued_at;
    assert_eq!((measured.lead_time.count, measured.lead_time.max), (1, lead));
    assert_eq!((measured.time_to_restore.count, measured.time_to_respond.count), (1, 1));
    world.kill().await;
    world.start().await;
    let (span, again) = world.client().delivery_metrics(None, None, Some(until)).await.expect("metrics");
    assert_eq!((again, span.end), (measured, until));
    let reversed = world.client().delivery_metrics(None, Some(until), Some(until)).await.expect_err("an empty span");
    assert_eq!(reversed.code(), tonic::Code::InvalidArgument);
}
