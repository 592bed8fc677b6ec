//! The orchestrator through its API: a real bus, a real database, and fakes of the other services.

mod alerts;
mod endings;
mod instance;
mod peers;
mod random;
mod recorded;
mod refit;
mod rollouts;
mod routes;
mod triggers;
mod world;

use rekindle_client::{PageRequest, orchestrator::DeployRequest, orchestrator::WorkflowChange};
use rekindle_domain::{
    AliasName, Policy, WorkflowId, WorkflowState, deployment_status::RolloutOutcome, workflow::Decision,
    workflow::WorkflowStep,
};
use rekindle_testkit::eventually;
use tonic::Code;

use self::{
    peers::Verdict,
    world::{World, deployment, policy, policy_with_long_observation},
};

async fn a_workflow_replaces_the_champion(world: World) {
    world.prepare(policy()).await;
    let done = world.reaches(world.start_workflow().await, WorkflowState::Succeeded).await;
    assert_eq!((done.from_version, done.to_version), (Some(1), Some(3)));
    assert!(done.serving_everywhere_at.is_some() && done.ended_at.is_some());
    let states: Vec<WorkflowState> = done.steps.iter().map(|step: &WorkflowStep| step.state).collect();
    assert_eq!(states.len(), 7, "{states:?}");
    abbreviated(&world, done.id).await;
    world.settled(3, RolloutOutcome::Completed).await;
    assert_eq!(world.serving().await, [3, 3, 3]);
    assert_eq!([AliasName::champion(), AliasName::challenger()].map(|name| world.alias(&name)), [Some(3); 2]);
    eventually("the watch to be pushed", async || {
        world.peers.state().watch.as_ref().map(|_| ()).ok_or_else(|| "none".to_owned())
    })
    .await;
}

/// The workflow is found by the first digits of its id, and another id is not.
async fn abbreviated(world: &World, id: WorkflowId) {
    let find = async |digits: &str| world.client().find_workflow(&digits.parse().expect(digits)).await;
    assert_eq!(find(&id.to_string()[..13]).await.expect("the only one").id, id);
    let absent = find("ffff").await.expect_err("no workflow");
    assert!(absent.is_not_found(), "{absent:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_succeeds() {
    a_workflow_replaces_the_champion(World::on_sqlite().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_succeeds_on_postgres() {
    let postgres = rekindle_testkit::Postgres::start().await;
    let url = postgres.fresh_database().await;
    a_workflow_replaces_the_champion(World::start_on(tempfile::tempdir().expect("a folder"), &url).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_challenger_that_the_gate_rejects_is_not_rolled_out() {
    let world = World::on_sqlite().await;
    world.peers.state().gate = Verdict::Reject;
    world.prepare(policy()).await;
    let done = world.reaches(world.start_workflow().await, WorkflowState::Rejected).await;
    assert_eq!(done.reason, Verdict::Reject.reason());
    assert_eq!(world.serving().await, [1, 1, 1]);
    let refused = world.deploy("anyway", 3).await.expect_err("the gate rejected it");
    assert_eq!(refused.code(), Code::FailedPrecondition);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_few_new_rows_end_a_workflow_before_training() {
    let world = World::on_sqlite().await;
    world.peers.state().new_rows = 10;
    world.prepare(policy()).await;
    let done = world.reaches(world.start_workflow().await, WorkflowState::Rejected).await;
    assert!(done.reason.contains("10 new labelled rows"), "{}", done.reason);
    assert!(world.peers.state().runs.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_cannot_load_the_challenger_returns_every_replica() {
    let world = World::on_sqlite().await;
    world.refused.lock().expect("not poisoned").insert(3);
    world.prepare(policy()).await;
    let done = world.reaches(world.start_workflow().await, WorkflowState::RolledBack).await;
    assert!(done.reason.contains("warm-up failed"), "{}", done.reason);
    world.settled(1, RolloutOutcome::Returned).await;
    assert_eq!((world.serving().await, world.alias(&AliasName::champion())), (vec![1, 1, 1], Some(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_interrupted_in_any_state_continues_and_has_each_effect_once() {
    let mut world = World::on_sqlite().await;
    world.prepare(policy()).await;
    world.peers.state().hold = Some("train");
    let id = world.start_workflow().await;
    world.reaches(id, WorkflowState::Training).await;
    world.kill().await;
    world.peers.release().await;
    world.peers.state().hold = Some("evaluate");
    world.start().await;
    world.reaches(id, WorkflowState::Evaluating).await;
    world.kill().await;
    world.peers.release().await;
    world.start().await;
    for _ in 0..4 {
        world.kill().await;
        world.start().await;
    }
    world.reaches(id, WorkflowState::Succeeded).await;
    let state = world.peers.state();
    assert_eq!((state.versions.len(), state.runs.len(), state.datasets.len()), (3, 2, 2));
    assert_eq!(state.aliases[&AliasName::champion()].revision, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_run_is_attempted_again_a_bounded_number_of_times() {
    let world = World::on_sqlite().await;
    world.peers.state().failures = 3;
    world.prepare(policy()).await;
    let done = world.reaches(world.start_workflow().await, WorkflowState::Failed).await;
    assert!(done.reason.contains("attempt 3 of 3"), "{}", done.reason);
    assert_eq!(world.peers.state().runs.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_workflow_starts_no_step_until_it_is_resumed() {
    let world = World::on_sqlite().await;
    world.peers.state().hold = Some("train");
    world.prepare(policy()).await;
    let id = world.start_workflow().await;
    world.reaches(id, WorkflowState::Training).await;
    assert!(world.change(id, WorkflowChange::Pause).await.expect("paused").paused);
    world.peers.release().await;
    // A deployment completes meanwhile, so the reconciler has had many turns.
    world.deploy("second", 2).await.expect("deployed");
    world.settled(2, RolloutOutcome::Completed).await;
    assert_eq!(world.workflow(id).await.state, WorkflowState::Training);
    world.change(id, WorkflowChange::Resume).await.expect("resumed");
    let done = world.reaches(id, WorkflowState::Failed).await;
    assert!(done.reason.contains("version 2 was deployed since"), "{}", done.reason);
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_ends_the_job_and_the_workflow() {
    let world = World::on_sqlite().await;
    world.peers.state().hold = Some("train");
    world.prepare(policy()).await;
    let id = world.start_workflow().await;
    eventually("a submitted job", async || match world.peers.state().runs.len() {
        1 => Ok(()),
        n => Err(n.to_string()),
    })
    .await;
    world.change(id, WorkflowChange::Cancel).await.expect("accepted");
    let done = world.reaches(id, WorkflowState::Cancelled).await;
    assert_eq!(done.reason, "cancelled by tester: a reason");
    assert_eq!(world.peers.state().cancelled.len(), 1);
    let late = world.change(id, WorkflowChange::Pause).await.expect_err("it has ended");
    assert_eq!(late.code(), Code::FailedPrecondition);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_while_observing_cancels_the_workflow() {
    let world = World::on_sqlite().await;
    world.prepare(policy_with_long_observation()).await;
    let id = world.start_workflow().await;
    world.reaches(id, WorkflowState::Observing).await;
    let busy = world.deploy("between", 2).await.expect_err("a rollout is in progress");
    assert_eq!(busy.code(), Code::FailedPrecondition);
    world.rollback("back").await.expect("accepted");
    world.reaches(id, WorkflowState::Cancelled).await;
    world.settled(1, RolloutOutcome::Returned).await;
    assert_eq!(world.serving().await, [1, 1, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_can_require_the_approval_of_a_person() {
    let world = World::on_sqlite().await;
    world.prepare(Policy { require_approval: true, ..policy() }).await;
    let id = world.start_workflow().await;
    world.reaches(id, WorkflowState::AwaitingApproval).await;
    let approver = world.client_of("ada");
    approver.decide_workflow(id, Decision::Approve, "good").await.expect("accepted");
    world.reaches(id, WorkflowState::Succeeded).await;
    assert_eq!(world.peers.state().versions[&3].review.by, "ada");
}

#[tokio::test(flavor = "multi_thread")]
async fn rollback_returns_version_by_version() {
    let world = World::on_sqlite().await;
    world.prepare(policy()).await;
    world.deploy("second", 2).await.expect("deployed");
    world.settled(2, RolloutOutcome::Completed).await;
    world.rollback("a").await.expect("accepted");
    world.settled(1, RolloutOutcome::Completed).await;
    world.champion_is(1).await;
    let refused = world.rollback("b").await.expect_err("nothing before version 1");
    assert_eq!(refused.code(), Code::FailedPrecondition);
}

#[tokio::test(flavor = "multi_thread")]
async fn stale_revisions_and_reused_keys_change_nothing() {
    let world = World::on_sqlite().await;
    world.prepare(policy()).await;
    let client = world.client();
    assert_eq!(client.set_policy(&policy(), 7).await.expect_err("stale").code(), Code::Aborted);
    let stale = DeployRequest { expected_revision: Some(999), ..deployment("x", Some(2)) };
    assert_eq!(client.deploy(&stale).await.expect_err("stale").code(), Code::Aborted);
    assert_eq!(world.deploy("first", 2).await.expect_err("reused").code(), Code::AlreadyExists);
    let error = client.set_policy(&Policy { holdout_share: 2.0, ..policy() }, 1).await.expect_err("out of bounds");
    assert_eq!(error.code(), Code::InvalidArgument);
    let message = error.status().expect("an answer").message();
    assert!(message.contains("holdout_share"), "{message}");
    let (unchanged, revision) = client.policy(&world::model()).await.expect("set");
    assert_eq!((unchanged, revision), (policy(), 1));
    world.settled(1, RolloutOutcome::Completed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_with_a_confidence_of_one_half_is_refused_when_the_policy_is_set() {
    let world = World::on_sqlite().await;
    let mut coin = policy();
    coin.gate.confidence = 0.5;
    let error = world.client().set_policy(&coin, 0).await.expect_err("out of bounds");
    assert_eq!(error.code(), Code::InvalidArgument);
    let message = error.status().expect("an answer").message();
    assert!(message.contains("gate.confidence"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reason_that_the_registry_would_refuse_is_refused_first() {
    let world = World::on_sqlite().await;
    world.prepare(policy()).await;
    let client = world.client();
    let longest = "ä".repeat(4096);
    for why in ["x".repeat(4097), "\0".to_owned()] {
        let refusals = [
            client.deploy(&DeployRequest { why: why.clone(), ..deployment("refused", Some(2)) }).await.err(),
            client.rollback(&world::model(), why.clone(), "refused back").await.err(),
            client.start_workflow(&world::model(), why, "refused workflow").await.err(),
        ];
        for refusal in refusals {
            let refusal = refusal.expect("refused");
            assert_eq!(refusal.code(), Code::InvalidArgument);
            assert!(refusal.status().expect("an answer").message().starts_with("why: "), "{refusal:?}");
        }
    }
    client.deploy(&DeployRequest { why: longest.clone(), ..deployment("second", Some(2)) }).await.expect("accepted");
    world.settled(2, RolloutOutcome::Completed).await;
    world.champion_is(2).await;
    // The reason that is recorded names the caller too, and is cut to the longest that the registry takes.
    client.rollback(&world::model(), longest, "back").await.expect("accepted");
    world.settled(1, RolloutOutcome::Completed).await;
    world.champion_is(1).await;
    let why = world.peers.state().aliases[&AliasName::champion()].why.clone();
    assert_eq!(rekindle_domain::text::check_reason(&why), Ok(()), "{why}");
    assert!(why.starts_with("rolled back by") && why.ends_with('…'), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_have_pages() {
    let world = World::on_sqlite().await;
    world.prepare(policy()).await;
    world.every_replica_serves(1).await;
    let mut page = PageRequest::first(2);
    let mut sizes = Vec::new();
    loop {
        let found = world.client().replicas(page).await.expect("a page");
        sizes.push(found.items.len());
        if found.next_page_token.is_empty() {
            break;
        }
        page = PageRequest { size: 2, token: found.next_page_token };
    }
    assert_eq!(sizes, [2, 1]);
    let all = world.client().deployments(PageRequest::first(1)).await.expect("a page");
    assert_eq!((all.items.len(), all.next_page_token.as_str()), (1, ""));
}
