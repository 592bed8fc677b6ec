//! Workflows that are disturbed at random: two instances on one database, of which either is killed or suspended at any time, jobs that
//! fail or are lost, challengers that the gate rejects or that fail in serving, pauses and cancellations. Each workflow ends once, in a legal way.
//!
//! `REKINDLE_RANDOM_WORKFLOWS=200` for more of them, and `REKINDLE_RANDOM_SEED` for others.

use std::{collections::BTreeMap, sync::atomic::Ordering, time::Duration};

use chrono::TimeDelta;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rekindle_client::orchestrator::WorkflowChange;
use rekindle_domain::{
    AliasName, Policy, RunId, WorkflowEvent, WorkflowId, WorkflowState,
    deployment_status::{DeploymentPhase, DeploymentStatus},
    run::RunStatus,
    workflow::WorkflowStatus,
};
use rekindle_testkit::eventually;

use crate::{
    alerts::{drift, started},
    peers::Verdict,
    world::{World, model, policy},
};

/// As many in the tests.
const WORKFLOWS: u64 = 25;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// How the peers and the replicas behave during one workflow.
fn draw_behaviour(world: &World, random: &mut ChaCha8Rng) {
    let next = {
        let mut state = world.peers.state();
        state.gate = if random.random_bool(0.7) { Verdict::Pass } else { Verdict::Reject };
        state.failures = if random.random_bool(0.3) { random.random_range(1..4) } else { 0 };
        let held = ["train", "evaluate", "refit", "check-refit"];
        state.hold = random.random_bool(0.6).then(|| held[random.random_range(0..held.len())]);
        state.versions.keys().max().copied().unwrap_or(0) + 1
    };
    world.failing.store(random.random_bool(0.1), Ordering::Relaxed);
    let mut refused = world.refused.lock().expect("not poisoned");
    refused.clear();
    refused.extend(random.random_bool(0.1).then_some(next));
}

async fn disturb(world: &mut World, random: &mut ChaCha8Rng, id: WorkflowId) {
    tokio::time::sleep(Duration::from_millis(random.random_range(0..120))).await;
    match random.random_range(0..9) {
        0 | 1 => {
            world.kill().await;
            world.start().await;
        }
        2 => {
            world.kill_other().await;
            world.start_other().await;
        }
        3 => {
            // One that has ended refuses both.
            let _ = world.change(id, WorkflowChange::Pause).await;
            tokio::time::sleep(Duration::from_millis(random.random_range(0..50))).await;
            let _ = world.change(id, WorkflowChange::Resume).await;
        }
        4 if random.random_bool(0.3) => {
            let _ = world.change(id, WorkflowChange::Cancel).await;
        }
        5 => lose_a_run(world),
        6 => suspend(world, random).await,
        _ => world.peers.release().await,
    }
}

/// Suspends an instance, up to twice as long as its lease: the other one takes over, and it continues with a lease that it has lost.
async fn suspend(world: &World, random: &mut ChaCha8Rng) {
    let is_first = random.random();
    let suspended = if is_first { world.suspend().await } else { world.suspend_other().await };
    let client = if is_first { world.client() } else { world.client_of_other() };
    let span = Duration::from_millis(random.random_range(0..2_000));
    let answer = tokio::time::timeout(span, client.deployment(&model())).await;
    assert!(answer.is_err(), "a suspended instance does not answer: {answer:?}");
    drop(suspended);
}

/// The worker of a job that is in progress is lost.
fn lose_a_run(world: &World) {
    let running = {
        let state = world.peers.state();
        let running = state.runs.values().filter(|run| run.status == RunStatus::Running);
        running.map(|run| run.id).next()
    };
    if let Some(run) = running {
        world.peers.lose(run);
    }
}

async fn ended(world: &World, id: WorkflowId) -> WorkflowStatus {
    eventually("the workflow to end", async || {
        world.peers.release().await;
        let workflow = world.workflow(id).await;
        if workflow.state.is_terminal() { Ok(workflow) } else { Err(format!("{workflow:?}")) }
    })
    .await
}

async fn settled(world: &World) -> DeploymentStatus {
    eventually("the deployment to settle", async || {
        let deployment = world.client().deployment(&model()).await.map_err(|error| format!("{error:?}"))?;
        if deployment.phase == DeploymentPhase::Stable { Ok(deployment) } else { Err(format!("{deployment:?}")) }
    })
    .await
}

/// Each state follows from the one before by one event, and none is entered twice.
fn is_legal(workflow: &WorkflowStatus) -> bool {
    let states: Vec<WorkflowState> = workflow.steps.iter().map(|step| step.state).collect();
    let follows = |pair: &[WorkflowState]| WorkflowEvent::ALL.iter().any(|event| pair[0].after(*event) == Ok(pair[1]));
    states.first() == Some(&WorkflowState::Queued)
        && states.last() == Some(&workflow.state)
        && states.windows(2).all(follows)
}

/// The finished runs of each step of a workflow: one at most, however often it was attempted.
fn finished(world: &World, id: WorkflowId) -> BTreeMap<String, Vec<RunId>> {
    let mut finished: BTreeMap<String, Vec<RunId>> = BTreeMap::new();
    let state = world.peers.state();
    let of_workflow = |tags: &BTreeMap<String, String>| tags.get("workflow") == Some(&id.to_string());
    for run in state.runs.values().filter(|run| of_workflow(&run.tags) && run.status == RunStatus::Finished) {
        // A lost run is cancelled before its step is attempted again: what its worker makes of it is its own affair.
        if !state.cancelled.contains(&run.id) {
            finished.entry(run.tags["step"].clone()).or_default().push(run.id);
        }
    }
    finished
}

#[tokio::test(flavor = "multi_thread")]
async fn workflows_that_are_disturbed_at_random_end_once_and_in_a_legal_way() {
    let seed = setting("REKINDLE_RANDOM_SEED", 1);
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut world = World::on_sqlite().await;
    world.start_other().await;
    let policy =
        Policy { cooldown: Duration::ZERO, backoff_after: 0, max_trainings_per_day: 1_000, refit: true, ..policy() };
    world.prepare(policy).await;
    let mut ends: BTreeMap<&str, u32> = BTreeMap::new();
    for number in 0..setting("REKINDLE_RANDOM_WORKFLOWS", WORKFLOWS) {
        draw_behaviour(&world, &mut random);
        let stable = settled(&world).await.stable.version;
        let id = if random.random() {
            let id = drift(&world, TimeDelta::hours(i64::try_from(number).expect("few")), stable).await;
            started(&world, id).await;
            id
        } else {
            world.client().start_workflow(&model(), "random", format!("{number}")).await.expect("started").id
        };
        for _ in 0..random.random_range(0..6) {
            disturb(&mut world, &mut random, id).await;
        }
        let ended = ended(&world, id).await;
        *ends.entry(ended.state.name()).or_default() += 1;
        assert!(is_legal(&ended), "seed {seed}, workflow {number}: {ended:?}");
        world.failing.store(false, Ordering::Relaxed);
        let deployment = settled(&world).await;
        let expected = if ended.state == WorkflowState::Succeeded { ended.to_version } else { Some(stable) };
        assert_eq!(Some(deployment.stable.version), expected, "seed {seed}, workflow {number}: {ended:?}");
        world.champion_is(deployment.stable.version).await;
        world.every_replica_serves(deployment.stable.version).await;
        for (step, runs) in finished(&world, id) {
            assert!(runs.len() <= 1, "seed {seed}, workflow {number}: {step} finished {} times", runs.len());
        }
    }
    println!("{ends:?}");
    assert!(ends.contains_key("SUCCEEDED") && ends.contains_key("REJECTED"), "{ends:?}");
    assert_eq!(world.peers.state().submitted_beside_lost, 0, "of two attempts one can register a version");
    assert_eq!(world.alias(&AliasName::champion()), Some(settled(&world).await.stable.version));
    let verified = world.audit().verify().await.expect("an answer");
    assert!(verified.faults.is_empty() && verified.entries > 0, "{verified:?}");
}
