use std::{collections::BTreeSet, time::Duration};

use rekindle_domain::{
    Digest, Policy, Recipe, event::FeatureCause, schedule::Schedule, search::Search, trigger::IgnoredReason,
};

use super::{alert::explanation, *};
use crate::workflow::progress::{Progress, Reviewed};

fn at(hour: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000 + 3600 * hour, 0).expect("in range")
}

fn policy() -> Policy {
    let (model, dataset) = ("flight-delay".parse().expect("name"), "flights".parse().expect("name"));
    let recipe = Recipe::for_target("late");
    Policy {
        triggers: BTreeSet::from([Trigger::Drift]),
        cooldown: Duration::from_secs(10 * 3600),
        ..Policy::new(model, dataset, recipe)
    }
}

fn cause(trigger: Trigger) -> Cause {
    Cause {
        id: WorkflowId::new(Uuid::nil()),
        first: None,
        trigger,
        words: String::new(),
        causation_id: String::new(),
        window_until: None,
        window_closed_at: None,
        dataset: None,
    }
}

fn alert(trigger: Trigger, hour: i64) -> Request {
    Request {
        model: "flight-delay".parse().expect("name"),
        about: About::Window { version: 3, has_data_fault: false, is_degraded: false },
        cause: Cause { window_until: Some(at(hour)), window_closed_at: Some(at(hour)), ..cause(trigger) },
    }
}

/// The reason why a request is ignored.
fn reason(decided: Result<&Policy, Ignored>) -> IgnoredReason {
    match decided {
        Err(Ignored::Because(reason, _)) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_alert_about_the_deployed_version_starts_a_workflow_if_the_policy_has_the_trigger() {
    let policy = policy();
    let situation = Situation { policy: Some(&policy), stable: Some(3), ..Situation::default() };
    let drift = alert(Trigger::Drift, 0);
    assert_eq!(decide(&drift, &situation), Ok(&policy));
    let faulty =
        Request { about: About::Window { version: 3, has_data_fault: true, is_degraded: false }, ..drift.clone() };
    assert_eq!(reason(decide(&faulty, &situation)), IgnoredReason::DataFault);
    assert_eq!(decide(&alert(Trigger::Degradation, 0), &situation), Err(Ignored::Disabled));
    assert_eq!(decide(&drift, &Situation { policy: None, ..situation }), Err(Ignored::Disabled));
    let mut stored = policy.clone();
    stored.gate.confidence = 0.5;
    let invalid = Situation { policy: Some(&stored), ..situation };
    assert_eq!(reason(decide(&drift, &invalid)), IgnoredReason::InvalidPolicy);
    assert_eq!(reason(decide(&drift, &Situation { is_active: true, ..situation })), IgnoredReason::Active);
    for stable in [Some(4), None] {
        assert_eq!(reason(decide(&drift, &Situation { stable, ..situation })), IgnoredReason::OtherVersion);
    }
}

#[test]
fn a_schedule_and_a_dataset_version_start_a_workflow_of_any_deployed_version_whatever_the_cooldown() {
    let policy = Policy {
        triggers: BTreeSet::from([Trigger::DatasetVersion]),
        schedule: Some(Schedule::new("0 3 * * 1")),
        ..policy()
    };
    let situation =
        Situation { policy: Some(&policy), stable: Some(9), last_window: Some(at(0)), ..Situation::default() };
    for (trigger, about) in [(Trigger::Schedule, About::Schedule), (Trigger::DatasetVersion, About::Dataset)] {
        let request = Request { about, cause: cause(trigger), ..alert(trigger, 0) };
        assert_eq!(decide(&request, &situation), Ok(&policy));
        let active = Situation { is_active: true, ..situation };
        assert_eq!(reason(decide(&request, &active)), IgnoredReason::Active);
        let undeployed = Situation { stable: None, ..situation };
        assert_eq!(reason(decide(&request, &undeployed)), IgnoredReason::OtherVersion);
        let other = Policy { triggers: BTreeSet::new(), schedule: None, ..policy.clone() };
        let without = Situation { policy: Some(&other), ..situation };
        assert_eq!(decide(&request, &without), Err(Ignored::Disabled));
    }
}

#[test]
fn the_cooldown_counts_event_time_between_windows() {
    let policy = policy();
    let situation =
        Situation { policy: Some(&policy), stable: Some(3), last_window: Some(at(0)), ..Situation::default() };
    assert_eq!(reason(decide(&alert(Trigger::Drift, 9), &situation)), IgnoredReason::CoolingDown);
    assert_eq!(decide(&alert(Trigger::Drift, 10), &situation), Ok(&policy));
}

#[test]
fn drift_waits_longer_after_challengers_that_did_not_help_and_degradation_does_not() {
    let policy = Policy { triggers: BTreeSet::from([Trigger::Drift, Trigger::Degradation]), ..policy() };
    let situation = |rejected| Situation {
        policy: Some(&policy),
        stable: Some(3),
        last_window: Some(at(0)),
        rejected,
        ..Situation::default()
    };
    assert_eq!(decide(&alert(Trigger::Drift, 10), &situation(1)), Ok(&policy));
    let Err(Ignored::Because(IgnoredReason::BackingOff, why)) = decide(&alert(Trigger::Drift, 39), &situation(3))
    else {
        panic!("10 hours, doubled twice")
    };
    assert!(why.starts_with("the last 3 retrainings did not help") && why.contains("1day 16h"), "{why}");
    assert_eq!(decide(&alert(Trigger::Drift, 40), &situation(3)), Ok(&policy));
    assert_eq!(decide(&alert(Trigger::Degradation, 10), &situation(3)), Ok(&policy));
}

#[test]
fn a_window_starts_a_workflow_without_a_finding_and_leaves_its_degradation_to_the_event_of_it() {
    let only = Policy { triggers: BTreeSet::from([Trigger::Window]), ..policy() };
    let both = Policy { triggers: BTreeSet::from([Trigger::Window, Trigger::Degradation]), ..policy() };
    let situation = |policy, rejected| Situation {
        policy: Some(policy),
        stable: Some(3),
        last_window: Some(at(0)),
        rejected,
        ..Situation::default()
    };
    let window = alert(Trigger::Window, 10);
    assert_eq!(decide(&window, &situation(&both, 0)), Ok(&both));
    let about = About::Window { version: 3, has_data_fault: false, is_degraded: true };
    let degraded = Request { about, ..window.clone() };
    assert_eq!(decide(&degraded, &situation(&both, 0)), Err(Ignored::Repeated));
    assert_eq!(decide(&degraded, &situation(&only, 0)), Ok(&only));
    let disabled = policy();
    assert_eq!(decide(&window, &situation(&disabled, 0)), Err(Ignored::Disabled));
    assert_eq!(reason(decide(&alert(Trigger::Window, 9), &situation(&only, 0))), IgnoredReason::CoolingDown);
    assert_eq!(reason(decide(&window, &situation(&only, 2))), IgnoredReason::BackingOff);
}

#[test]
fn the_trainings_of_a_day_are_bounded() {
    let policy = Policy { max_trainings_per_day: 2, ..policy() };
    let situation = |trainings| Situation { policy: Some(&policy), stable: Some(3), trainings, ..Situation::default() };
    assert_eq!(decide(&alert(Trigger::Drift, 0), &situation(1)), Ok(&policy));
    assert_eq!(reason(decide(&alert(Trigger::Drift, 0), &situation(2))), IgnoredReason::Budget);
}

/// A workflow that has ended in this state, with a verdict of the gate.
fn ended(state: WorkflowState) -> Workflow {
    let progress = Progress { verdict: Some(Digest::of(b"verdict")), is_compared: true, ..Progress::default() };
    Workflow { state, progress, ..Workflow::queued(cause(Trigger::Drift), policy(), at(0)) }
}

#[test]
fn challengers_that_the_gate_rejected_count_until_a_champion_or_another_recipe() {
    let rejected = ended(WorkflowState::Rejected);
    let count = |latest: &[Workflow]| rejected_in_a_row(&policy(), latest);
    let mut too_few_rows = rejected.clone();
    too_few_rows.progress.is_compared = false;
    let mut declined = rejected.clone();
    declined.progress.decision = Some(Reviewed { approve: false, by: "ada".to_owned(), why: String::new() });
    let (failed, cancelled) = (ended(WorkflowState::Failed), ended(WorkflowState::Cancelled));
    let row = [failed, rejected.clone(), too_few_rows, cancelled, declined, rejected.clone()];
    assert_eq!(count(&row), 2);
    for end in [ended(WorkflowState::Succeeded), ended(WorkflowState::RolledBack)] {
        assert_eq!(count(&[rejected.clone(), end, rejected.clone()]), 1);
    }
    let search = Search { trials: 7, ..policy().search };
    let searched = Workflow { policy: Policy { search, ..policy() }, ..rejected.clone() };
    assert_eq!(count(&[rejected, searched]), 1);
}

#[test]
fn the_cause_names_the_window_and_the_drifted_features() {
    let feature = |name: &str, cause_share| FeatureCause {
        name: name.into(),
        psi: 1.0,
        cause_share,
        cause: None,
        reason: String::new(),
    };
    let text = explanation(
        Trigger::Drift,
        at(0),
        &[feature("dep_delay", 0.61), feature("carrier", 0.2), feature("hour", 0.0)],
    );
    assert_eq!(text, "drift in the window until 2023-11-14T22:13:20Z: dep_delay 61%, carrier 20%");
    assert_eq!(explanation(Trigger::Degradation, at(0), &[]), "degradation in the window until 2023-11-14T22:13:20Z");
}

#[test]
fn an_alert_is_redelivered_after_transient_failures_and_only_a_malformed_one_is_dead_lettered() {
    assert_eq!(listener().max_deliveries, u64::MAX);
    let transient = Error::Database(sea_orm::DbErr::ConnectionAcquire(sea_orm::ConnAcquireErr::Timeout));
    assert!(matches!(failed(&transient), Disposition::Nak(_)));
    let unreadable = Error::Database(sea_orm::DbErr::Json("schema 9 of a policy".to_owned()));
    assert!(matches!(failed(&unreadable), Disposition::DeadLetter(_)));
    assert!(matches!(failed(&Error::invalid("window.until", "is missing")), Disposition::DeadLetter(_)));
}
