//! Between the wire's messages and the domain's types: reading may fail and names the field, writing cannot.

use std::time::Duration;

use chrono::TimeDelta;
use rekindle_domain::{
    ModelName, Policy, Recipe, ReplicaState, Trigger, VersionRef, WorkflowState,
    policy::{Gate, Watch},
    rollout::{Movement, Strategy},
};
use rekindle_proto::{
    monitor, orchestrator as wire,
    time::{span_from_wire, span_to_wire, to_wire},
    trainer,
};

use crate::{
    Error,
    deployment::{self, Record},
    store::policies::Revised,
    workflow::{Step, Workflow},
};

/// A policy as it arrived, its defaults filled in and its bounds checked.
pub(crate) fn policy_from_wire(given: wire::Policy) -> Result<Policy, Error> {
    let field = |name: &str| format!("policy.{name}");
    let recipe: Recipe = serde_json::from_str(&given.recipe_json)
        .map_err(|error| Error::invalid(field("recipe_json"), format!("not a recipe: {error}")))?;
    let model = given.model.parse().map_err(|error| Error::invalid(field("model"), error))?;
    let dataset = given.dataset.parse().map_err(|error| Error::invalid(field("dataset"), error))?;
    let base = Policy::new(model, dataset, recipe);
    let policy = Policy {
        on_drift: given.on_drift,
        on_degradation: given.on_degradation,
        gate: given.gate.map_or_else(Gate::default, gate_from_wire),
        holdout_share: or(given.holdout_share, base.holdout_share),
        rollout: given.rollout.map_or_else(|| Ok(Strategy::default()), strategy_from_wire)?,
        cooldown: span("cooldown", given.cooldown, base.cooldown)?,
        require_approval: given.require_approval,
        deadline: span("deadline", given.deadline, base.deadline)?,
        watch: given.watch.map(watch_from_wire).transpose()?,
        min_new_rows: if given.min_new_rows == 0 { base.min_new_rows } else { given.min_new_rows },
        ..base
    };
    policy.validate().map_err(|error| match &error {
        rekindle_domain::policy::InvalidPolicy::Field { field: name, .. } => Error::invalid(field(name), error),
        rekindle_domain::policy::InvalidPolicy::Recipe(_) => Error::invalid(field("recipe_json"), error),
    })?;
    Ok(policy)
}

/// A policy as it travels.
pub(crate) fn policy_to_wire(revised: &Revised) -> wire::Policy {
    let policy = &revised.policy;
    wire::Policy {
        model: policy.model.to_string(),
        on_drift: policy.on_drift,
        on_degradation: policy.on_degradation,
        dataset: policy.dataset.to_string(),
        recipe_json: serde_json::to_string(&policy.recipe).unwrap_or_default(),
        gate: Some(gate_to_wire(&policy.gate)),
        holdout_share: policy.holdout_share,
        rollout: Some(strategy_to_wire(&policy.rollout)),
        cooldown: Some(duration(policy.cooldown)),
        require_approval: policy.require_approval,
        deadline: Some(duration(policy.deadline)),
        watch: policy.watch.as_ref().map(|watch| watch_to_wire(&policy.model, watch)),
        revision: revised.revision,
        min_new_rows: policy.min_new_rows,
    }
}

/// A gate as it travels.
pub(crate) fn gate_to_wire(gate: &Gate) -> trainer::Gate {
    trainer::Gate {
        margin: gate.margin,
        confidence: gate.confidence,
        min_rows: gate.min_rows,
        slices: gate.slices.clone(),
    }
}

fn gate_from_wire(given: trainer::Gate) -> Gate {
    let base = Gate::default();
    Gate {
        margin: given.margin,
        confidence: or(given.confidence, base.confidence),
        min_rows: if given.min_rows == 0 { base.min_rows } else { given.min_rows },
        slices: given.slices,
    }
}

fn strategy_to_wire(strategy: &Strategy) -> wire::RolloutStrategy {
    wire::RolloutStrategy {
        replica_deadline: Some(duration(strategy.replica_deadline)),
        bake: Some(duration(strategy.bake)),
        observe: Some(duration(strategy.observe)),
        max_error_rate: strategy.max_error_rate,
    }
}

fn strategy_from_wire(given: wire::RolloutStrategy) -> Result<Strategy, Error> {
    let base = Strategy::default();
    Ok(Strategy {
        replica_deadline: span("rollout.replica_deadline", given.replica_deadline, base.replica_deadline)?,
        bake: span("rollout.bake", given.bake, base.bake)?,
        observe: span("rollout.observe", given.observe, base.observe)?,
        max_error_rate: given.max_error_rate,
    })
}

/// A watch as it travels; its revision is the monitor's.
pub(crate) fn watch_to_wire(model: &ModelName, watch: &Watch) -> monitor::Watch {
    monitor::Watch {
        model: model.to_string(),
        window: Some(duration(watch.window)),
        window_offset: Some(duration(watch.window_offset)),
        lateness: Some(duration(watch.lateness)),
        label_wait: Some(duration(watch.label_wait)),
        min_rows: watch.min_rows,
        drift_margin: watch.drift_margin,
        degradation_margin: watch.degradation_margin,
        false_alarm_rate: watch.false_alarm_rate,
        revision: 0,
    }
}

fn watch_from_wire(given: monitor::Watch) -> Result<Watch, Error> {
    let base = Watch::default();
    Ok(Watch {
        window: span("watch.window", given.window, base.window)?,
        window_offset: span("watch.window_offset", given.window_offset, base.window_offset)?,
        lateness: span("watch.lateness", given.lateness, base.lateness)?,
        label_wait: span("watch.label_wait", given.label_wait, base.label_wait)?,
        min_rows: if given.min_rows == 0 { base.min_rows } else { given.min_rows },
        drift_margin: or(given.drift_margin, base.drift_margin),
        degradation_margin: or(given.degradation_margin, base.degradation_margin),
        false_alarm_rate: or(given.false_alarm_rate, base.false_alarm_rate),
    })
}

/// A workflow as it travels.
pub(crate) fn workflow_to_wire(workflow: &Workflow, steps: &[Step]) -> wire::Workflow {
    let progress = &workflow.progress;
    let text = |value: Option<String>| value.unwrap_or_default();
    wire::Workflow {
        id: workflow.id.to_string(),
        model: workflow.model.to_string(),
        trigger: trigger(workflow.trigger).into(),
        cause: workflow.cause.clone(),
        state: state(workflow.state).into(),
        paused: workflow.paused,
        reason: workflow.reason.clone(),
        from_version: progress.version_before(),
        to_version: progress.to_version(),
        dataset_version: text(progress.dataset.as_ref().map(|dataset| format!("{}/{}", dataset.name, dataset.version))),
        train_run_id: text(progress.training.run.map(|run| run.to_string())),
        evaluate_run_id: text(progress.evaluation.run.map(|run| run.to_string())),
        steps: steps.iter().map(step_to_wire).collect(),
        window_closed_at: workflow.window_closed_at.map(to_wire),
        queued_at: Some(to_wire(workflow.queued_at)),
        serving_everywhere_at: progress.serving_everywhere_at.map(to_wire),
        ended_at: workflow.ended_at.map(to_wire),
        epoch: workflow.epoch,
        evaluation_digest: text(progress.verdict.map(|digest| digest.to_string())),
    }
}

fn step_to_wire(step: &Step) -> wire::WorkflowStep {
    wire::WorkflowStep {
        state: state(step.state).into(),
        entered_at: Some(to_wire(step.entered_at)),
        reason: step.reason.clone(),
    }
}

fn trigger(trigger: Trigger) -> wire::Trigger {
    match trigger {
        Trigger::Drift => wire::Trigger::Drift,
        Trigger::Degradation => wire::Trigger::Degradation,
        Trigger::Manual => wire::Trigger::Manual,
    }
}

fn state(state: WorkflowState) -> wire::WorkflowState {
    match state {
        WorkflowState::Queued => wire::WorkflowState::Queued,
        WorkflowState::Assembling => wire::WorkflowState::Assembling,
        WorkflowState::Training => wire::WorkflowState::Training,
        WorkflowState::Evaluating => wire::WorkflowState::Evaluating,
        WorkflowState::AwaitingApproval => wire::WorkflowState::AwaitingApproval,
        WorkflowState::RollingOut => wire::WorkflowState::RollingOut,
        WorkflowState::Observing => wire::WorkflowState::Observing,
        WorkflowState::Succeeded => wire::WorkflowState::Succeeded,
        WorkflowState::Rejected => wire::WorkflowState::Rejected,
        WorkflowState::RolledBack => wire::WorkflowState::RolledBack,
        WorkflowState::Failed => wire::WorkflowState::Failed,
        WorkflowState::Cancelled => wire::WorkflowState::Cancelled,
    }
}

/// A deployment as it travels.
pub(crate) fn deployment_to_wire(record: &Record) -> wire::Deployment {
    let deployment = &record.deployment;
    let forward = deployment.forward();
    wire::Deployment {
        model: deployment.model.to_string(),
        generation: deployment.generation,
        phase: phase(&deployment.movement).into(),
        stable: Some(version(deployment.stable)),
        target: forward.map(|forward| version(forward.target)),
        moved: forward.map_or_else(Vec::new, |forward| forward.moved.keys().map(ToString::to_string).collect()),
        reason: deployment.reason.clone(),
        revision: record.revision,
        changed_at: Some(to_wire(deployment.changed_at)),
        last_outcome: deployment::outcome(deployment.outcome).to_owned(),
    }
}

fn phase(movement: &Movement) -> wire::DeploymentPhase {
    match movement {
        Movement::Settled => wire::DeploymentPhase::Stable,
        Movement::First { .. } => wire::DeploymentPhase::Observing,
        Movement::Forward(forward) if forward.observing_since.is_some() => wire::DeploymentPhase::Observing,
        Movement::Forward(_) => wire::DeploymentPhase::RollingOut,
        Movement::Returning { .. } => wire::DeploymentPhase::Returning,
    }
}

fn version(version: VersionRef) -> wire::DeployedVersion {
    wire::DeployedVersion { version: version.version, bundle_digest: version.bundle.to_string() }
}

/// A replica as it travels.
pub(crate) fn replica_to_wire(replica: &ReplicaState) -> wire::Replica {
    let models = replica.models.iter().map(|(model, served)| wire::ReplicaModel {
        model: model.to_string(),
        serving: served.serving.map(version),
        generation: served.generation,
        failure: served.failure.clone().unwrap_or_default(),
        answered: served.answered,
        failed: served.failed,
        in_flight: served.in_flight,
    });
    wire::Replica {
        id: replica.replica.to_string(),
        address: replica.address.clone(),
        reported_at: Some(to_wire(replica.reported_at)),
        models: models.collect(),
    }
}

/// A number, or its default where it was left out.
fn or(given: f64, default: f64) -> f64 {
    if given == 0.0 { default } else { given }
}

/// A span as it arrived, or its default where it was left out.
fn span(field: &str, given: Option<prost_types::Duration>, default: Duration) -> Result<Duration, Error> {
    let Some(given) = given else { return Ok(default) };
    let span = span_from_wire(given).and_then(|span| span.to_std().ok());
    span.ok_or_else(|| Error::invalid(format!("policy.{field}"), "must not be negative"))
}

fn duration(span: Duration) -> prost_types::Duration {
    span_to_wire(TimeDelta::from_std(span).unwrap_or(TimeDelta::MAX))
}

/// A model's name as it arrived in `field`.
pub(crate) fn model_from_wire(field: &str, text: &str) -> Result<ModelName, Error> {
    text.parse().map_err(|error| Error::invalid(field, error))
}
