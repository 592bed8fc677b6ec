//! Stories of moves that do not end as they were meant to.

use rekindle_proto::{
    orchestrator::{self as o, WorkflowState},
    registry as r,
};
use rekindle_testkit::eventually;

use crate::{
    change,
    stage::{Stage, policy},
};

fn observing_for_long() -> o::Policy {
    let policy = policy();
    let observe = Some(prost_types::Duration { seconds: 3600, nanos: 0 });
    o::Policy { rollout: Some(o::RolloutStrategy { observe, ..policy.rollout.unwrap_or_default() }), ..policy }
}

fn back(key: &str) -> o::RollbackRequest {
    o::RollbackRequest { idempotency_key: key.into(), model: "flights".into(), ..Default::default() }
}

async fn champion(stage: &Stage, version: u32) {
    eventually("the champion", async || match stage.alias("champion") {
        found if found == version => Ok(()),
        found => Err(format!("version {found}")),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_version_that_nobody_can_serve_fails_and_another_can_follow() {
    let stage = Stage::set().await;
    stage.refused.lock().expect("not poisoned").insert(1);
    stage.deploy("first", 1).await.expect("accepted");
    let failed = stage.settled(1, "failed").await;
    assert!(failed.reason.contains("does not warm up"), "{}", failed.reason);
    assert_eq!(stage.alias("champion"), 0);
    stage.deploy("second", 2).await.expect("accepted");
    stage.settled(2, "completed").await;
    assert_eq!(stage.serving().await, [2, 2, 2]);
    champion(&stage, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_first_version_is_through_once_it_is_served_after_all() {
    let stage = Stage::set().await;
    stage.refused.lock().expect("not poisoned").insert(1);
    stage.deploy("first", 1).await.expect("accepted");
    stage.settled(1, "failed").await;
    stage.refused.lock().expect("not poisoned").clear();
    stage.settled(1, "completed").await;
    champion(&stage, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_challenger_that_a_person_rejects_on_its_way_is_brought_back() {
    let stage = Stage::set().await;
    stage.ready(policy()).await;
    stage.peers.world().rejects_after_approval = true;
    let done = stage.reaches(&stage.begin().await, WorkflowState::RolledBack).await;
    assert!(done.reason.contains("ada rejected version 3"), "{}", done.reason);
    stage.settled(1, "returned").await;
    assert_eq!(stage.serving().await, [1, 1, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_champion_that_the_registry_refuses_ends_the_workflow_and_does_not_block_the_model() {
    let stage = Stage::set().await;
    stage.ready(policy()).await;
    champion(&stage, 1).await;
    stage.peers.world().champion_refused = true;
    let done = stage.reaches(&stage.begin().await, WorkflowState::Failed).await;
    assert!(done.reason.contains("it may not be pointed at"), "{}", done.reason);
    let settled = stage.settled(3, "completed").await;
    assert!(settled.reason.contains("champion does not point at version 3"), "{}", settled.reason);
    stage.peers.world().champion_refused = false;
    stage.deploy("next", 2).await.expect("accepted");
    stage.settled(2, "completed").await;
    champion(&stage, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_ends_on_demand_while_the_registry_keeps_the_champion_waiting() {
    let stage = Stage::set().await;
    stage.ready(policy()).await;
    champion(&stage, 1).await;
    stage.peers.world().champion_away = true;
    let id = stage.begin().await;
    stage.settled(3, "completed").await;
    stage.reaches(&id, WorkflowState::Observing).await;
    stage.client().cancel_workflow(change(&id)).await.expect("accepted");
    let done = stage.reaches(&id, WorkflowState::Succeeded).await;
    assert!(done.reason.contains("has yet to follow"), "{}", done.reason);
    stage.peers.world().champion_away = false;
    champion(&stage, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promoted_version_that_does_not_take_over_loses_the_alias_again() {
    let stage = Stage::set().await;
    stage.ready(policy()).await;
    champion(&stage, 1).await;
    stage.refused.lock().expect("not poisoned").insert(2);
    let promoted = r::Alias { alias: "champion".into(), version: 2, revision: 2, ..Default::default() };
    stage.peers.world().aliases.insert("champion".into(), promoted);
    stage.deploy("promoted", 0).await.expect("accepted");
    stage.settled(1, "returned").await;
    champion(&stage, 1).await;
    let why = stage.peers.world().alias_why.clone();
    assert!(why.contains("version 2 did not take over") && why.contains("does not warm up"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_asked_for_twice_goes_back_once() {
    let stage = Stage::set().await;
    stage.ready(observing_for_long()).await;
    stage.deploy("second", 2).await.expect("accepted");
    eventually("version 2 everywhere", async || match stage.serving().await {
        serving if serving == [2, 2, 2] => Ok(()),
        serving => Err(format!("{serving:?}")),
    })
    .await;
    // The move to version 2 is being watched for an hour, so this brings the replicas back.
    stage.client().rollback(back("a")).await.expect("accepted");
    stage.settled(1, "returned").await;
    let quick = o::SetPolicyRequest { policy: Some(policy()), expected_revision: 1 };
    stage.client().set_policy(quick).await.expect("set");
    stage.deploy("again", 2).await.expect("accepted");
    stage.settled(2, "completed").await;
    let slow = o::SetPolicyRequest { policy: Some(observing_for_long()), expected_revision: 2 };
    stage.client().set_policy(slow).await.expect("set");
    let begun = stage.client().rollback(back("b")).await.expect("accepted").into_inner();
    let again = stage.client().rollback(back("c")).await.expect("accepted").into_inner();
    assert_eq!(begun.target, again.target);
    assert!(matches!(again.phase(), o::DeploymentPhase::RollingOut | o::DeploymentPhase::Observing), "{again:?}");
    eventually("version 1 everywhere", async || match stage.serving().await {
        serving if serving == [1, 1, 1] => Ok(()),
        serving => Err(format!("{serving:?}")),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_requests_do_not_end_a_rollback_but_end_a_deployment() {
    let stage = Stage::set().await;
    stage.ready(policy()).await;
    stage.deploy("second", 2).await.expect("accepted");
    stage.settled(2, "completed").await;
    stage.failing.store(true, std::sync::atomic::Ordering::Relaxed);
    stage.client().rollback(back("a")).await.expect("accepted");
    stage.settled(1, "completed").await;
    stage.deploy("again", 2).await.expect("accepted");
    let returned = stage.settled(1, "returned").await;
    assert!(returned.reason.contains("requests failed"), "{}", returned.reason);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_run_is_cancelled_before_the_next_attempt() {
    let stage = Stage::set().await;
    stage.peers.world().hold = Some("train");
    stage.ready(policy()).await;
    let id = stage.begin().await;
    let first = eventually("a submitted job", async || {
        stage.peers.world().runs.keys().next().cloned().ok_or_else(|| "none".to_owned())
    })
    .await;
    stage.peers.lose(&first);
    stage.reaches(&id, WorkflowState::Succeeded).await;
    let world = stage.peers.world();
    assert_eq!(world.cancelled.iter().collect::<Vec<_>>(), [&first]);
    assert_eq!((world.versions.len(), world.submitted_beside_lost), (3, 0));
}
