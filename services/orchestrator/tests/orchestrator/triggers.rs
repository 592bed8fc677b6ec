//! What starts a workflow besides alerts, and what keeps one from starting.

use std::{collections::BTreeSet, time::Duration};

use chrono::{TimeDelta, Utc};
use futures::{StreamExt as _, stream};
use rekindle_client::{PageRequest, wire};
use rekindle_domain::{
    Policy, Trigger, WorkflowId, WorkflowState,
    dataset::DatasetVersion,
    job::Work,
    schedule::{QuietHours, Schedule},
    trigger::{IgnoredReason, IgnoredTrigger},
};
use rekindle_testkit::eventually;
use uuid::Uuid;

use crate::{
    alerts::{drift, publish, report, workflows},
    peers::{Verdict, at, base},
    world::{World, model, policy},
};

const DAY: TimeDelta = TimeDelta::days(1);

/// The ignored triggers, once they are as many as that.
async fn ignored(world: &World, count: u64) -> Vec<IgnoredTrigger> {
    eventually("the ignored triggers", async || {
        let found = world.client().ignored_triggers(&model()).await.map_err(|error| format!("{error:?}"))?;
        let sum: u64 = found.iter().map(|ignored| ignored.count).sum();
        if sum == count { Ok(found) } else { Err(format!("{found:?}")) }
    })
    .await
}

async fn only_ignored(world: &World) -> IgnoredTrigger {
    let [ignored] = <[_; 1]>::try_from(ignored(world, 1).await).expect("one reason");
    ignored
}

/// Publishes drift of windows that end at these seconds, several at once.
async fn storm(world: &World, ends: std::ops::Range<i64>) {
    let alerts = stream::iter(ends).map(|second| drift(world, TimeDelta::seconds(second), 1));
    alerts.buffer_unordered(64).count().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_alerts_and_two_kills_make_one_workflow_and_one_training() {
    const ALERTS: i64 = 10_000;
    let mut world = World::on_sqlite().await;
    world.prepare(policy()).await;
    let started = tokio::time::Instant::now();
    storm(&world, 0..ALERTS / 2).await;
    world.kill().await;
    world.start().await;
    storm(&world, ALERTS / 2..ALERTS).await;
    world.kill().await;
    world.start().await;
    let [workflow] = <[_; 1]>::try_from(workflows(&world, 1).await).expect("one");
    world.reaches(workflow.id, WorkflowState::Succeeded).await;
    let ignored = eventually_within(Duration::from_secs(120), &world, ALERTS.unsigned_abs() - 1).await;
    println!("{ALERTS} alerts in {:.1} s: {ignored:?}", started.elapsed().as_secs_f64());
    assert_eq!(workflows(&world, 1).await[0].id, workflow.id);
    let is_training = |job: &&rekindle_domain::job::Job| matches!(job.work, Work::Train(_));
    assert_eq!(world.peers.state().jobs.iter().filter(is_training).count(), 1);
}

/// As [`ignored`], with more patience.
async fn eventually_within(patience: Duration, world: &World, count: u64) -> Vec<IgnoredTrigger> {
    let deadline = tokio::time::Instant::now() + patience;
    loop {
        let found = world.client().ignored_triggers(&model()).await.expect("a list");
        let sum: u64 = found.iter().map(|ignored| ignored.count).sum();
        if sum >= count || tokio::time::Instant::now() > deadline {
            assert_eq!(sum, count, "every alert is counted once: {found:?}");
            return found;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A schedule that is set now is due within a minute. Its last time is put back, as if no orchestrator had been there since.
async fn miss_times(world: &World) {
    world.execute("UPDATE policies SET schedule_from = '2020-01-01T00:00:00+00:00'").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_starts_a_workflow_once_and_catches_up_if_it_is_to() {
    let world = World::on_sqlite().await;
    // Once a year, and not now.
    let other_month = if Utc::now().format("%m").to_string() == "01" { 7 } else { 1 };
    let schedule = Schedule { catch_up: true, ..Schedule::new(format!("0 3 1 {other_month} *")) };
    world.prepare(Policy { schedule: Some(schedule), ..policy() }).await;
    miss_times(&world).await;
    let [workflow] = <[_; 1]>::try_from(workflows(&world, 1).await).expect("one");
    assert_eq!(workflow.trigger, Trigger::Schedule);
    assert!(workflow.cause.starts_with("scheduled for ") && workflow.cause.ends_with("*, UTC)"), "{}", workflow.cause);
    world.reaches(workflow.id, WorkflowState::Succeeded).await;
    assert_eq!(workflows(&world, 1).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_of_a_schedule_that_was_missed_is_recorded() {
    let world = World::on_sqlite().await;
    let other_month = if Utc::now().format("%m").to_string() == "01" { 7 } else { 1 };
    world.prepare(Policy { schedule: Some(Schedule::new(format!("0 3 1 {other_month} *"))), ..policy() }).await;
    miss_times(&world).await;
    let missed = only_ignored(&world).await;
    assert_eq!((missed.trigger, missed.reason), (Trigger::Schedule, IgnoredReason::Missed), "{missed:?}");
    assert!(world.client().workflows(None, PageRequest::default()).await.expect("a list").items.is_empty());
}

/// Registers the next version of the dataset, with rows until so many seconds after 1970, on behalf of `correlation`.
async fn register(world: &World, until: i64, correlation: WorkflowId) {
    let version = {
        let mut state = world.peers.state();
        let version = u32::try_from(state.datasets.len()).expect("few") + 1;
        let time_range = Some((at(0), at(until)));
        let dataset = DatasetVersion { version, rows: 2_000, time_range, ..base() };
        state.datasets.insert(format!("by hand {version}"), dataset.clone());
        dataset
    };
    publish(world, wire::event::dataset_version_registered(&version), correlation).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dataset_version_that_no_workflow_registered_is_trained_on() {
    let world = World::on_sqlite().await;
    world.prepare(Policy { triggers: BTreeSet::from([Trigger::DatasetVersion]), ..policy() }).await;
    register(&world, 5_000, WorkflowId::new(Uuid::now_v7())).await;
    let [workflow] = <[_; 1]>::try_from(workflows(&world, 1).await).expect("one");
    let done = world.reaches(workflow.id, WorkflowState::Succeeded).await;
    assert_eq!((done.trigger, done.dataset_version.as_str()), (Trigger::DatasetVersion, "flights/2"));
    assert_eq!(done.cause, "dataset flights/2 was registered");
    {
        let state = world.peers.state();
        assert_eq!(state.datasets.len(), 2, "the workflow registers none");
        let Work::Train(train) = &state.jobs[0].work else { panic!("{:?}", state.jobs[0]) };
        // A quarter of the time after the rows of the champion, which end at 1,000 s.
        assert_eq!((train.until, state.jobs[0].dataset.version), (Some(at(4_000)), Some(2)));
    }
    // One that the workflow registered is part of it.
    register(&world, 6_000, done.id).await;
    register(&world, 900, WorkflowId::new(Uuid::now_v7())).await;
    let second = workflows(&world, 2).await.swap_remove(0);
    let declined = world.reaches(second.id, WorkflowState::Rejected).await;
    assert!(declined.reason.contains("has no rows after 1970-01-01 00:16:40 UTC"), "{}", declined.reason);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_waits_in_the_queue_for_the_end_of_quiet_hours_and_a_caller_does_not() {
    let world = World::on_sqlite().await;
    let now = Utc::now().time();
    let (from, until) = (now - TimeDelta::hours(1), now + TimeDelta::hours(1));
    let quiet_hours = Some(QuietHours { from, until, time_zone: "UTC".to_owned() });
    world.prepare(Policy { quiet_hours, ..policy() }).await;
    let waiting = drift(&world, TimeDelta::zero(), 1).await;
    let [queued] = <[_; 1]>::try_from(workflows(&world, 1).await).expect("one");
    assert_eq!((queued.id, queued.state), (waiting, WorkflowState::Queued));
    assert!(queued.reason.contains("it waits for the end of the quiet hours at "), "{}", queued.reason);
    // A deployment completes meanwhile, so the reconcilers have had many turns.
    world.deploy("second", 2).await.expect("deployed");
    world.settled(2, rekindle_domain::deployment_status::RolloutOutcome::Completed).await;
    assert_eq!(world.workflow(waiting).await.state, WorkflowState::Queued);
    world.change(waiting, rekindle_client::orchestrator::WorkflowChange::Cancel).await.expect("cancelled");
    world.reaches(waiting, WorkflowState::Cancelled).await;
    world.reaches(world.start_workflow().await, WorkflowState::Succeeded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn drift_backs_off_after_rejected_challengers_and_says_so() {
    let world = World::on_sqlite().await;
    world.peers.state().gate = Verdict::Reject;
    world.prepare(policy()).await;
    for week in 0..2 {
        let id = drift(&world, DAY * 7 * week, 1).await;
        crate::alerts::started(&world, id).await;
        world.reaches(id, WorkflowState::Rejected).await;
    }
    drift(&world, DAY * 14, 1).await;
    let backing_off = only_ignored(&world).await;
    assert_eq!((backing_off.trigger, backing_off.reason), (Trigger::Drift, IgnoredReason::BackingOff));
    assert!(backing_off.explanation.contains("the last 2 retrainings did not help"), "{backing_off:?}");
    let late = drift(&world, DAY * 21, 1).await;
    crate::alerts::started(&world, late).await;
    assert_eq!(ignored(&world, 0).await, [], "forgotten with the next workflow");
    world.reaches(late, WorkflowState::Rejected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trainings_of_a_day_are_a_budget() {
    let world = World::on_sqlite().await;
    let policy = Policy { max_trainings_per_day: 1, cooldown: Duration::ZERO, backoff_after: 0, ..policy() };
    world.prepare(policy).await;
    let first = drift(&world, TimeDelta::zero(), 1).await;
    crate::alerts::started(&world, first).await;
    world.reaches(first, WorkflowState::Succeeded).await;
    drift(&world, DAY, 3).await;
    assert_eq!(only_ignored(&world).await.reason, IgnoredReason::Budget);
    // The report of a window of another version is none of these.
    publish(&world, wire::event::drift_detected(&report(DAY * 2, 1)), WorkflowId::new(Uuid::now_v7())).await;
    let reasons: Vec<IgnoredReason> = ignored(&world, 2).await.into_iter().map(|ignored| ignored.reason).collect();
    assert_eq!(reasons, [IgnoredReason::Budget, IgnoredReason::OtherVersion]);
}
