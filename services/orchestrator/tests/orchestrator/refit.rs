//! The refit of a challenger that passed the gate.

use std::time::Duration;

use rekindle_domain::{
    AliasName, Policy, WorkflowState,
    deployment_status::RolloutOutcome,
    job::{Requirement, Work},
    model_version::Approval,
    workflow::{Decision, WorkflowStatus},
};

use crate::{
    peers::{FOUND_LOOKBACK, Verdict},
    world::{World, policy},
};

fn refitting() -> Policy {
    Policy { refit: true, ..policy() }
}

/// The states that a workflow entered.
fn states(workflow: &WorkflowStatus) -> Vec<WorkflowState> {
    workflow.steps.iter().map(|step| step.state).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_challenger_that_passed_the_gate_is_trained_on_all_rows_and_checked() {
    let world = World::on_sqlite().await;
    world.prepare(refitting()).await;
    let done = world.reaches(world.start_workflow().await, WorkflowState::Succeeded).await;
    // Versions 1 and 2 exist before, 3 is evaluated, 4 is its refit.
    assert_eq!((done.from_version, done.to_version, done.refit_run.is_some()), (Some(1), Some(4), true));
    assert!(states(&done).contains(&WorkflowState::Refitting));
    world.settled(4, RolloutOutcome::Completed).await;
    assert_eq!([AliasName::champion(), AliasName::challenger()].map(|name| world.alias(&name)), [Some(4); 2]);
    let state = world.peers.state();
    let [train, evaluate, refit, check] = state.jobs.as_slice() else { panic!("{:?}", state.jobs) };
    let (Work::Train(first), Work::Train(second)) = (&train.work, &refit.work) else { panic!("two trainings") };
    assert!(first.until.is_some() && first.search.lookbacks);
    assert!(second.until.is_none() && !second.search.is_needed());
    assert_eq!(second.recipe.lookback, Some(FOUND_LOOKBACK), "the recipe that the search found");
    let (Work::Evaluate(gate), Work::Evaluate(check)) = (&evaluate.work, &check.work) else {
        panic!("two evaluations")
    };
    assert_eq!((gate.requirement, check.requirement), (Requirement::Better, Requirement::Consistent));
    assert_eq!((check.champion, check.from), (gate.challenger, gate.from));
    let review = &state.versions[&4].review;
    assert_eq!(review.approval, Approval::Approved);
    assert!(review.why.starts_with("version 4 is version 3, trained on all rows"), "{review:?}");
    assert!(review.evidence.contains_key("verdict") && review.evidence.contains_key("refit"), "{review:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refit_that_does_not_agree_leaves_the_challenger_as_it_was_evaluated() {
    let world = World::on_sqlite().await;
    world.peers.state().refit_check = Verdict::Reject;
    world.prepare(refitting()).await;
    let done = world.reaches(world.start_workflow().await, WorkflowState::Succeeded).await;
    assert_eq!(done.to_version, Some(3));
    let rolling_out = done.steps.iter().find(|step| step.state == WorkflowState::RollingOut).expect("a step");
    assert!(rolling_out.reason.contains("version 3 stays"), "{}", rolling_out.reason);
    assert_eq!(world.peers.state().versions[&4].review.approval, Approval::Rejected);
    world.settled(3, RolloutOutcome::Completed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refit_that_fails_does_not_fail_the_workflow() {
    for step in ["refit", "check-refit"] {
        let world = World::on_sqlite().await;
        world.peers.state().failing = Some(step);
        world.prepare(refitting()).await;
        let done = world.reaches(world.start_workflow().await, WorkflowState::Succeeded).await;
        assert_eq!(done.to_version, Some(3), "{step}");
        let rolling_out = done.steps.iter().find(|step| step.state == WorkflowState::RollingOut).expect("a step");
        let state = world.peers.state();
        let run = state.jobs.iter().rfind(|job| job.tags["step"] == step).expect("submitted").id;
        assert!(state.cancelled.contains(&run), "a lost run may still be resumed");
        assert!(
            rolling_out.reason.contains("the refit failed") && rolling_out.reason.contains("attempt 3 of 3"),
            "{}",
            rolling_out.reason
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refit_that_takes_too_long_leaves_time_for_the_rollout() {
    let world = World::on_sqlite().await;
    world.peers.state().hold = Some("refit");
    world.prepare(Policy { deadline: Duration::from_secs(16), ..refitting() }).await;
    let done = world.reaches(world.start_workflow().await, WorkflowState::Succeeded).await;
    assert_eq!(done.to_version, Some(3));
    assert_eq!(world.peers.state().cancelled.len(), 1, "the refit");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_approves_the_version_that_will_serve() {
    let world = World::on_sqlite().await;
    world.prepare(Policy { require_approval: true, ..refitting() }).await;
    let id = world.start_workflow().await;
    let waiting = world.reaches(id, WorkflowState::AwaitingApproval).await;
    assert_eq!(waiting.to_version, Some(4));
    world.client_of("ada").decide_workflow(id, Decision::Approve, "good").await.expect("accepted");
    world.reaches(id, WorkflowState::Succeeded).await;
    let review = world.peers.state().versions[&4].review.clone();
    assert_eq!(review.by, "ada");
    assert!(review.evidence.contains_key("verdict") && review.evidence.contains_key("refit"), "{review:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_interrupted_while_it_refits_continues_and_refits_once() {
    let mut world = World::on_sqlite().await;
    world.prepare(refitting()).await;
    for held in ["refit", "check-refit"] {
        world.peers.state().hold = Some(held);
        if held == "refit" {
            world.start_workflow().await;
        } else {
            world.start().await;
        }
        world.submitted(held).await;
        world.kill().await;
        world.peers.release().await;
    }
    world.start().await;
    world.settled(4, RolloutOutcome::Completed).await;
    let state = world.peers.state();
    assert_eq!((state.versions.len(), state.runs.len()), (4, 4));
}
