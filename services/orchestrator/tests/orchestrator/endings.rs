//! Rollouts and workflows that end otherwise than intended.

use std::sync::atomic::Ordering;

use chrono::DateTime;
use rekindle_client::orchestrator::WorkflowChange;
use rekindle_domain::{
    Alias, AliasName, WorkflowState,
    deployment_status::{DeploymentPhase, RolloutOutcome},
};
use rekindle_testkit::eventually;

use crate::{
    peers::bundle,
    world::{World, deployment, model, policy, policy_with_long_observation},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_first_version_that_no_replica_can_serve_fails_and_another_can_be_deployed() {
    let world = World::on_sqlite().await;
    world.refused.lock().expect("not poisoned").insert(1);
    world.deploy("first", 1).await.expect("accepted");
    let failed = world.settled(1, RolloutOutcome::Failed).await;
    assert!(failed.reason.contains("warm-up failed"), "{}", failed.reason);
    assert_eq!(world.alias(&AliasName::champion()), None);
    world.deploy("second", 2).await.expect("accepted");
    world.settled(2, RolloutOutcome::Completed).await;
    assert_eq!(world.serving().await, [2, 2, 2]);
    world.champion_is(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_first_version_completes_once_every_replica_serves_it() {
    let world = World::on_sqlite().await;
    world.refused.lock().expect("not poisoned").insert(1);
    world.deploy("first", 1).await.expect("accepted");
    world.settled(1, RolloutOutcome::Failed).await;
    world.refused.lock().expect("not poisoned").clear();
    world.settled(1, RolloutOutcome::Completed).await;
    world.champion_is(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_challenger_that_is_rejected_while_it_is_rolled_out_is_rolled_back() {
    let world = World::on_sqlite().await;
    world.prepare(policy()).await;
    world.peers.state().rejects_after_approval = true;
    let done = world.reaches(world.start_workflow().await, WorkflowState::RolledBack).await;
    assert!(done.reason.contains("ada rejected version 3"), "{}", done.reason);
    world.settled(1, RolloutOutcome::Returned).await;
    assert_eq!(world.serving().await, [1, 1, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_champion_that_the_registry_refuses_ends_the_workflow_and_does_not_block_the_model() {
    let world = World::on_sqlite().await;
    world.prepare(policy()).await;
    world.champion_is(1).await;
    world.peers.state().champion_refused = true;
    let done = world.reaches(world.start_workflow().await, WorkflowState::Failed).await;
    assert!(done.reason.contains("the alias must not point at version 3"), "{}", done.reason);
    let settled = world.settled(3, RolloutOutcome::Completed).await;
    assert!(settled.reason.contains("champion does not point at version 3"), "{}", settled.reason);
    world.peers.state().champion_refused = false;
    world.deploy("next", 2).await.expect("accepted");
    world.settled(2, RolloutOutcome::Completed).await;
    world.champion_is(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_can_be_ended_while_the_registry_is_unavailable_for_the_champion() {
    let world = World::on_sqlite().await;
    world.prepare(policy()).await;
    world.champion_is(1).await;
    world.peers.state().champion_unavailable = true;
    let id = world.start_workflow().await;
    world.settled(3, RolloutOutcome::Completed).await;
    world.reaches(id, WorkflowState::Observing).await;
    world.change(id, WorkflowChange::Cancel).await.expect("accepted");
    let done = world.reaches(id, WorkflowState::Succeeded).await;
    assert!(done.reason.contains("the alias champion is moved next"), "{}", done.reason);
    world.peers.state().champion_unavailable = false;
    world.champion_is(3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promoted_version_that_is_rolled_back_loses_the_alias() {
    let world = World::on_sqlite().await;
    world.prepare(policy()).await;
    world.champion_is(1).await;
    world.refused.lock().expect("not poisoned").insert(2);
    let promoted = Alias {
        model: model(),
        alias: AliasName::champion(),
        version: 2,
        bundle: bundle(2),
        revision: 2,
        by: "ada".into(),
        why: String::new(),
        moved_at: DateTime::UNIX_EPOCH,
        deleted: false,
    };
    world.peers.state().aliases.insert(AliasName::champion(), promoted);
    world.client().deploy(&deployment("promoted", None)).await.expect("accepted");
    world.settled(1, RolloutOutcome::Returned).await;
    world.champion_is(1).await;
    let why = world.peers.state().aliases[&AliasName::champion()].why.clone();
    assert!(why.contains("version 2 was rolled back") && why.contains("warm-up failed"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_in_progress_is_not_started_again() {
    let world = World::on_sqlite().await;
    world.prepare(policy_with_long_observation()).await;
    world.deploy("second", 2).await.expect("accepted");
    world.every_replica_serves(2).await;
    // The rollout of version 2 is observed for an hour, so this returns the replicas.
    world.rollback("a").await.expect("accepted");
    world.settled(1, RolloutOutcome::Returned).await;
    world.client().set_policy(&policy(), 1).await.expect("set");
    world.deploy("again", 2).await.expect("accepted");
    world.settled(2, RolloutOutcome::Completed).await;
    world.client().set_policy(&policy_with_long_observation(), 2).await.expect("set");
    let first = world.rollback("b").await.expect("accepted");
    let second = world.rollback("c").await.expect("accepted");
    assert_eq!(first.target, second.target);
    assert!(matches!(second.phase, DeploymentPhase::RollingOut | DeploymentPhase::Observing), "{second:?}");
    world.every_replica_serves(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_requests_do_not_end_a_rollback_but_end_a_deployment() {
    let world = World::on_sqlite().await;
    world.prepare(policy()).await;
    world.deploy("second", 2).await.expect("accepted");
    world.settled(2, RolloutOutcome::Completed).await;
    world.failing.store(true, Ordering::Relaxed);
    world.rollback("a").await.expect("accepted");
    world.settled(1, RolloutOutcome::Completed).await;
    world.deploy("again", 2).await.expect("accepted");
    let returned = world.settled(1, RolloutOutcome::Returned).await;
    assert!(returned.reason.contains("requests failed"), "{}", returned.reason);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_run_is_cancelled_before_the_next_attempt() {
    let world = World::on_sqlite().await;
    world.peers.state().hold = Some("train");
    world.prepare(policy()).await;
    let id = world.start_workflow().await;
    let first = eventually("a submitted job", async || {
        world.peers.state().runs.keys().next().copied().ok_or_else(|| "none".to_owned())
    })
    .await;
    world.peers.lose(first);
    world.reaches(id, WorkflowState::Succeeded).await;
    let state = world.peers.state();
    assert_eq!(state.cancelled.iter().collect::<Vec<_>>(), [&first]);
    assert_eq!((state.versions.len(), state.submitted_beside_lost), (3, 0));
}
