//! Retraining policies.

use std::{collections::BTreeSet, time::Duration};

use chrono::NaiveTime;
use rekindle_domain::{
    DatasetName, ModelName, Policy, Recipe,
    rollout::{CanaryStep, Strategy},
    schedule::{QuietHours, Schedule},
    validation::{Checks, Violations},
};
use rekindle_proto::{json, orchestrator as wire};
use serde_json::Value;

use super::{
    field::{each, optional_span, span_or},
    gate, job, recipe, search,
    time::span_to_wire,
    watch, workflow,
};

/// A policy as a message, every default filled in.
pub fn to_wire(policy: &Policy, revision: u64) -> wire::Policy {
    wire::Policy {
        model: policy.model.to_string(),
        triggers: policy.triggers.iter().map(|&trigger| workflow::trigger_to_wire(trigger).into()).collect(),
        dataset: policy.dataset.to_string(),
        recipe: Some(recipe::to_wire(&policy.recipe)),
        gate: Some(gate::to_wire(&policy.gate)),
        holdout_share: Some(policy.holdout_share),
        rollout: Some(strategy_to_wire(&policy.rollout)),
        cooldown: Some(span_to_wire(policy.cooldown)),
        require_approval: policy.require_approval,
        deadline: Some(span_to_wire(policy.deadline)),
        watch: policy.watch.as_ref().map(|settings| watch::settings_to_wire(&policy.model, settings)),
        revision,
        min_new_rows: Some(policy.min_new_rows),
        search: Some(search::to_wire(&policy.search)),
        refit: Some(policy.refit),
        schedule: policy.schedule.as_ref().map(schedule_to_wire),
        quiet_hours: policy.quiet_hours.as_ref().map(quiet_to_wire),
        external: policy.external.as_ref().map(job::external_to_wire),
        backoff_after: Some(policy.backoff_after),
        max_trainings_per_day: Some(policy.max_trainings_per_day),
    }
}

/// The policy in proto3 JSON.
pub fn to_json(policy: &Policy, revision: u64) -> Value {
    json::to_value(&to_wire(policy, revision))
}

/// Reads a policy and its revision from proto3 JSON; unset fields take their defaults.
pub fn from_json(text: &[u8]) -> Result<(Policy, u64), Violations> {
    from_wire(json::from_slice(text).map_err(|error| Violations::of("policy", error))?)
}

/// The policy that a message holds, and its revision; unset fields take their defaults.
pub fn from_wire(given: wire::Policy) -> Result<(Policy, u64), Violations> {
    let revision = given.revision;
    let mut checks = Checks::new();
    let policy = convert(given, &mut checks);
    checks.taken_here(policy.validate());
    checks.finish().map(|()| (policy, revision))
}

/// A stored policy and its revision. Its bounds were those of the release that stored it, so they are not checked again: a policy that is no
/// longer valid can be shown and corrected.
pub fn recorded(given: wire::Policy) -> Result<(Policy, u64), Violations> {
    let revision = given.revision;
    let mut checks = Checks::new();
    let policy = convert(given, &mut checks);
    checks.finish().map(|()| (policy, revision))
}

/// Converts each field. What cannot be converted is reported to `checks`.
fn convert(given: wire::Policy, checks: &mut Checks) -> Policy {
    let model = checks.parsed::<ModelName, _>("model", given.model.parse());
    let dataset = checks.parsed::<DatasetName, _>("dataset", given.dataset.parse());
    let recipe = checks.taken("recipe", recipe::recorded(given.recipe.unwrap_or_default()));
    let search = checks.taken("search", given.search.map(search::recorded).transpose()).flatten();
    let rollout = checks.taken("rollout", strategy_from_wire(given.rollout.unwrap_or_default()));
    let schedule = checks.taken("schedule", given.schedule.map(schedule_from_wire).transpose());
    let quiet_hours = checks.taken("quiet_hours", given.quiet_hours.map(quiet_from_wire).transpose());
    let external = checks.taken("external", given.external.map(job::external_from_wire).transpose());
    let watch = given.watch.map(watch::recorded).transpose();
    let watch = checks.taken("watch", watch);
    let triggers = given.triggers.iter().enumerate();
    let triggers = triggers.map(|(index, &trigger)| workflow::trigger_from_wire(format!("triggers[{index}]"), trigger));
    let triggers = checks.taken_here(triggers.collect::<Result<BTreeSet<_>, _>>());
    let base = Policy::new(
        model.unwrap_or_else(placeholder),
        dataset.unwrap_or_else(placeholder),
        recipe.unwrap_or_else(|| Recipe::for_target("-")),
    );
    let cooldown = checks.taken_here(span_or("cooldown", given.cooldown, base.cooldown));
    let deadline = checks.taken_here(span_or("deadline", given.deadline, base.deadline));
    Policy {
        triggers: triggers.unwrap_or_default(),
        gate: gate::recorded(given.gate.unwrap_or_default()),
        holdout_share: given.holdout_share.unwrap_or(base.holdout_share),
        rollout: rollout.unwrap_or_default(),
        cooldown: cooldown.unwrap_or(base.cooldown),
        require_approval: given.require_approval,
        deadline: deadline.unwrap_or(base.deadline),
        watch: watch.unwrap_or_default(),
        min_new_rows: given.min_new_rows.unwrap_or(base.min_new_rows),
        search: search.unwrap_or(base.search),
        refit: given.refit.unwrap_or(base.refit),
        schedule: schedule.flatten(),
        external: external.flatten(),
        quiet_hours: quiet_hours.flatten(),
        backoff_after: given.backoff_after.unwrap_or(base.backoff_after),
        max_trainings_per_day: given.max_trainings_per_day.unwrap_or(base.max_trainings_per_day),
        ..base
    }
}

/// Stands for a name that is not valid, so that the other fields are checked too; it never leaves this function's caller.
fn placeholder<T: std::str::FromStr>() -> T
where
    T::Err: std::fmt::Debug,
{
    "placeholder".parse().expect("a valid name")
}

fn strategy_to_wire(strategy: &Strategy) -> wire::RolloutStrategy {
    wire::RolloutStrategy {
        replica_deadline: Some(span_to_wire(strategy.replica_deadline)),
        bake: Some(span_to_wire(strategy.bake)),
        observe: Some(span_to_wire(strategy.observe)),
        max_error_rate: Some(strategy.max_error_rate),
        max_latency: strategy.max_latency.map(span_to_wire),
        max_guardrail_rate: strategy.max_guardrail_rate,
        canary: strategy.canary.iter().map(step_to_wire).collect(),
    }
}

fn step_to_wire(step: &CanaryStep) -> wire::CanaryStep {
    wire::CanaryStep { weight: step.weight, duration: Some(span_to_wire(step.duration)) }
}

fn step_from_wire(given: wire::CanaryStep) -> Result<CanaryStep, Violations> {
    let duration = given.duration.ok_or_else(|| Violations::of("duration", "is missing: expected e.g. 600s"))?;
    Ok(CanaryStep { weight: given.weight, duration: span_or("duration", Some(duration), Duration::ZERO)? })
}

fn schedule_to_wire(schedule: &Schedule) -> wire::Schedule {
    wire::Schedule {
        cron: schedule.cron.clone(),
        time_zone: schedule.time_zone.clone(),
        jitter: Some(span_to_wire(schedule.jitter)),
        catch_up: schedule.catch_up,
    }
}

fn schedule_from_wire(given: wire::Schedule) -> Result<Schedule, Violations> {
    let base = Schedule::new(given.cron);
    Ok(Schedule {
        time_zone: Some(given.time_zone).filter(|zone| !zone.is_empty()).unwrap_or(base.time_zone),
        jitter: span_or("jitter", given.jitter, base.jitter)?,
        catch_up: given.catch_up,
        cron: base.cron,
    })
}

fn quiet_to_wire(quiet: &QuietHours) -> wire::QuietHours {
    wire::QuietHours {
        from: quiet.from.to_string(),
        until: quiet.until.to_string(),
        time_zone: quiet.time_zone.clone(),
    }
}

fn quiet_from_wire(given: wire::QuietHours) -> Result<QuietHours, Violations> {
    let time = |field: &str, text: &str| {
        let parsed = text.parse::<NaiveTime>().or_else(|_| NaiveTime::parse_from_str(text, "%H:%M"));
        parsed.map_err(|_| Violations::of(field, format!("is {text:?}: expected a time of the day, e.g. 22:00")))
    };
    let zone = if given.time_zone.is_empty() { "UTC".to_owned() } else { given.time_zone };
    Ok(QuietHours { from: time("from", &given.from)?, until: time("until", &given.until)?, time_zone: zone })
}

fn strategy_from_wire(given: wire::RolloutStrategy) -> Result<Strategy, Violations> {
    let base = Strategy::default();
    Ok(Strategy {
        replica_deadline: span_or("replica_deadline", given.replica_deadline, base.replica_deadline)?,
        bake: span_or("bake", given.bake, base.bake)?,
        observe: span_or("observe", given.observe, base.observe)?,
        max_error_rate: given.max_error_rate.unwrap_or(base.max_error_rate),
        max_latency: optional_span("max_latency", given.max_latency)?,
        max_guardrail_rate: given.max_guardrail_rate,
        canary: each("canary", given.canary, step_from_wire)?,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rekindle_domain::{Gate, Trigger, WatchSettings, job::External};
    use rekindle_proto::trainer;

    use super::*;

    fn policy() -> Policy {
        let base = Policy::new("m".parse().expect("a name"), "d".parse().expect("a name"), Recipe::for_target("late"));
        Policy {
            triggers: BTreeSet::from([Trigger::Drift, Trigger::Degradation]),
            gate: Gate { margin: 0.01, ..Gate::default() },
            watch: Some(WatchSettings::default()),
            require_approval: true,
            rollout: Strategy {
                max_latency: Some(Duration::from_millis(20)),
                canary: vec![CanaryStep { weight: 500, duration: Duration::from_secs(60) }],
                ..Strategy::default()
            },
            schedule: Some(Schedule { jitter: Duration::from_secs(9), catch_up: true, ..Schedule::new("0 3 * * 1") }),
            quiet_hours: Some(QuietHours {
                from: "22:00:00".parse().expect("a time"),
                until: "06:00:00".parse().expect("a time"),
                time_zone: "Europe/Berlin".to_owned(),
            }),
            external: Some(External {
                pool: "python".to_owned(),
                parameters: BTreeMap::from([("trees".to_owned(), "300".to_owned())]),
            }),
            backoff_after: 0,
            max_trainings_per_day: 3,
            ..base
        }
    }

    #[test]
    fn policies_survive() {
        assert_eq!(from_wire(to_wire(&policy(), 7)), Ok((policy(), 7)));
        let json = to_json(&policy(), 7);
        assert_eq!(json["triggers"], serde_json::json!(["TRIGGER_DRIFT", "TRIGGER_DEGRADATION"]));
        assert_eq!(from_json(json.to_string().as_bytes()), Ok((policy(), 7)));
        assert!(from_json(br#"{"recipe_json": "{}"}"#).is_err(), "an unknown field");
    }

    #[test]
    fn quiet_hours_may_omit_seconds_and_zone() {
        let given = wire::QuietHours { from: "22:00".into(), until: "6:05".into(), time_zone: String::new() };
        let quiet = quiet_from_wire(given).expect("valid");
        assert_eq!((quiet.until.to_string().as_str(), quiet.time_zone.as_str()), ("06:05:00", "UTC"));
        let given = wire::QuietHours { from: "25:00".into(), ..wire::QuietHours::default() };
        assert!(quiet_from_wire(given).expect_err("no time").to_string().starts_with("from: is \"25:00\""));
    }

    #[test]
    fn a_gate_that_every_second_challenger_passes_by_chance_is_refused() {
        let gate = trainer::Gate { confidence: Some(0.5), ..Default::default() };
        let given = wire::Policy { gate: Some(gate), ..to_wire(&policy(), 0) };
        let fields: Vec<_> = from_wire(given).expect_err("0.5").into_iter().map(|violation| violation.field).collect();
        assert_eq!(fields, ["gate.confidence"]);
    }

    #[test]
    fn a_stored_policy_that_is_no_longer_valid_can_be_read() {
        let gate = trainer::Gate { confidence: Some(0.5), ..Default::default() };
        let stored = wire::Policy { gate: Some(gate), ..to_wire(&policy(), 3) };
        let (read, revision) = recorded(stored).expect("readable");
        assert_eq!((read.gate.confidence, revision), (0.5, 3));
    }

    #[test]
    fn every_violation_is_reported() {
        let given = wire::Policy {
            model: "Not A Name".into(),
            dataset: String::new(),
            triggers: vec![wire::Trigger::Manual.into()],
            holdout_share: Some(0.0),
            cooldown: Some(prost_types::Duration { seconds: -1, nanos: 0 }),
            ..Default::default()
        };
        let violations = from_wire(given).expect_err("many");
        let fields: Vec<_> = violations.iter().map(|violation| violation.field.as_str()).collect();
        assert_eq!(fields, ["model", "dataset", "cooldown", "triggers", "recipe.target", "holdout_share"]);
    }
}
