//! Whether a trigger starts a workflow: a pure function of the policy and of the state of the model.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use humantime_serde::re::humantime::format_duration;
use rekindle_domain::{ModelName, Policy, Trigger, WorkflowState, trigger::IgnoredReason};

use crate::workflow::{Cause, Workflow};

/// A request for a retraining.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Request {
    pub model: ModelName,
    pub cause: Cause,
    pub about: About,
}

/// What a request is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum About {
    /// A window of rows that a version answered.
    Window {
        version: u32,
        /// A column of the window is probably faulty.
        has_data_fault: bool,
        /// Its quality has degraded, which is an event of its own.
        is_degraded: bool,
    },
    /// A time of the schedule.
    Schedule,
    /// A dataset version.
    Dataset,
}

/// Why a request starts nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ignored {
    /// It is a redelivery, its window has a workflow that is active or has succeeded, or its degradation follows.
    Repeated,
    /// The policy does not have this trigger, or the model has no policy.
    Disabled,
    /// It is recorded with an explanation.
    Because(IgnoredReason, String),
}

impl Ignored {
    fn because(reason: IgnoredReason, explanation: impl Into<String>) -> Self {
        Self::Because(reason, explanation.into())
    }

    /// The name in logs and metrics.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Repeated => "repeated".to_owned(),
            Self::Disabled => "disabled".to_owned(),
            Self::Because(reason, _) => reason.name().to_lowercase(),
        }
    }
}

/// The state of the model when a request arrives.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Situation<'a> {
    pub policy: Option<&'a Policy>,
    /// The version that is deployed.
    pub stable: Option<u32>,
    /// Whether a workflow of the model has not ended.
    pub is_active: bool,
    /// End of the window, in event time, that led to the last training.
    pub last_window: Option<DateTime<Utc>>,
    /// Challengers in a row that the gate rejected.
    pub rejected: u32,
    /// Trainings that began within the last 24 hours.
    pub trainings: u64,
}

/// Decides whether a request starts a workflow.
pub(super) fn decide<'a>(request: &Request, situation: &Situation<'a>) -> Result<&'a Policy, Ignored> {
    use IgnoredReason as Reason;
    let policy = situation.policy.ok_or(Ignored::Disabled)?;
    let is_enabled = match request.about {
        About::Schedule => policy.schedule.is_some(),
        About::Window { .. } | About::Dataset => policy.triggers.contains(&request.cause.trigger),
    };
    if !is_enabled {
        return Err(Ignored::Disabled);
    }
    let follows = matches!(request.about, About::Window { is_degraded: true, .. });
    if request.cause.trigger == Trigger::Window && follows && policy.triggers.contains(&Trigger::Degradation) {
        return Err(Ignored::Repeated);
    }
    if let Err(violations) = policy.validate() {
        return Err(Ignored::because(Reason::InvalidPolicy, format!("the policy is not valid: {violations}")));
    }
    let stable = situation.stable;
    match request.about {
        About::Window { has_data_fault: true, .. } => {
            let why = "a column is probably faulty, and a model that is trained on its rows learns the fault";
            return Err(Ignored::because(Reason::DataFault, why));
        }
        _ if situation.is_active => {
            return Err(Ignored::because(Reason::Active, "a workflow of the model has not ended"));
        }
        About::Window { version, .. } if stable != Some(version) => {
            let deployed = stable.map_or_else(|| "none".to_owned(), |stable| format!("version {stable}"));
            let why = format!("it is about version {version}, and {deployed} is deployed");
            return Err(Ignored::because(Reason::OtherVersion, why));
        }
        About::Schedule | About::Dataset if stable.is_none() => {
            return Err(Ignored::because(Reason::OtherVersion, "no version is deployed"));
        }
        _ => {}
    }
    check_cooldown(request, policy, situation)?;
    let most = u64::from(policy.max_trainings_per_day);
    if situation.trainings >= most {
        let why = format!("{most} trainings began within the last 24 hours, which is max_trainings_per_day");
        return Err(Ignored::because(Reason::Budget, why));
    }
    Ok(policy)
}

/// The cooldown counts event time between windows. It is longer for drift and for windows without a finding after challengers that did not
/// help; degradation is evidence of its own.
fn check_cooldown(request: &Request, policy: &Policy, situation: &Situation<'_>) -> Result<(), Ignored> {
    let Some((until, last)) = request.cause.window_until.zip(situation.last_window) else { return Ok(()) };
    let since = until - last;
    let is_within = |cooldown: Duration| since < TimeDelta::from_std(cooldown).unwrap_or(TimeDelta::MAX);
    if is_within(policy.cooldown) {
        let why = format!(
            "the cooldown of {} since the window of the last training has not passed",
            format_duration(policy.cooldown)
        );
        return Err(Ignored::because(IgnoredReason::CoolingDown, why));
    }
    let rejected = situation.rejected;
    let longer = policy.cooldown_after(rejected);
    if matches!(request.cause.trigger, Trigger::Drift | Trigger::Window) && is_within(longer) {
        let what = if request.cause.trigger == Trigger::Drift { "drift" } else { "a window" };
        let why = format!(
            "the last {rejected} retrainings did not help, so {what} alone starts the next one after {} of event time; degradation, a new dataset version, a new recipe or a call does earlier",
            format_duration(longer)
        );
        return Err(Ignored::because(IgnoredReason::BackingOff, why));
    }
    Ok(())
}

/// The challengers in a row that the gate rejected, since the latest new champion or the latest change of what is trained. `latest` are
/// workflows of the model, the newest first.
pub(super) fn rejected_in_a_row(policy: &Policy, latest: &[Workflow]) -> u32 {
    let mut rejected = 0;
    for workflow in latest {
        let trained = |policy: &Policy| (policy.recipe.clone(), policy.search.clone(), policy.external.clone());
        let is_other = trained(&workflow.policy) != trained(policy);
        match workflow.state {
            WorkflowState::Succeeded | WorkflowState::RolledBack => break,
            _ if is_other => break,
            // Too few rows are no comparison, and a person may have reasons of another kind.
            WorkflowState::Rejected if workflow.progress.is_compared && workflow.progress.decision.is_none() => {
                rejected += 1;
            }
            _ => {}
        }
    }
    rejected
}
