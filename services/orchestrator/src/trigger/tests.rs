use std::{collections::BTreeSet, time::Duration};

use rekindle_domain::Recipe;

use super::*;

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

fn alert(trigger: Trigger, hour: i64) -> Alert {
    Alert {
        model: "flight-delay".parse().expect("name"),
        model_version: 3,
        has_data_fault: false,
        cause: Cause {
            id: WorkflowId::new(Uuid::nil()),
            first: None,
            trigger,
            words: String::new(),
            causation_id: String::new(),
            window_until: Some(at(hour)),
            window_closed_at: Some(at(hour)),
        },
    }
}

#[test]
fn an_alert_about_the_deployed_version_starts_a_workflow_if_the_policy_has_the_trigger() {
    let policy = policy();
    let situation = Situation { policy: Some(&policy), stable: Some(3), ..Situation::default() };
    let drift = alert(Trigger::Drift, 0);
    assert_eq!(decide(&drift, &situation), Ok(&policy));
    assert_eq!(decide(&Alert { has_data_fault: true, ..drift.clone() }, &situation), Err(Ignored::DataFault));
    assert_eq!(decide(&alert(Trigger::Degradation, 0), &situation), Err(Ignored::Disabled));
    assert_eq!(decide(&drift, &Situation { policy: None, ..situation }), Err(Ignored::NoPolicy));
    let mut stored = policy.clone();
    stored.gate.confidence = 0.5;
    assert_eq!(decide(&drift, &Situation { policy: Some(&stored), ..situation }), Err(Ignored::InvalidPolicy));
    assert_eq!(decide(&drift, &Situation { active: true, ..situation }), Err(Ignored::Active));
    assert_eq!(decide(&drift, &Situation { stable: Some(4), ..situation }), Err(Ignored::OtherVersion));
    assert_eq!(decide(&drift, &Situation { stable: None, ..situation }), Err(Ignored::OtherVersion));
}

#[test]
fn the_cooldown_counts_event_time_between_windows() {
    let policy = policy();
    let situation =
        Situation { policy: Some(&policy), stable: Some(3), last_window: Some(at(0)), ..Situation::default() };
    assert_eq!(decide(&alert(Trigger::Drift, 9), &situation), Err(Ignored::CoolingDown));
    assert_eq!(decide(&alert(Trigger::Drift, 10), &situation), Ok(&policy));
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
