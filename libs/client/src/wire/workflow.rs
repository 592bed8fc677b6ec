//! Retraining workflows.

use rekindle_domain::{
    Trigger, WorkflowState,
    validation::Violations,
    workflow::{Decision, WorkflowStatus, WorkflowStep},
};
use rekindle_proto::{json, orchestrator as wire};
use serde_json::Value;

use super::{
    field::{each, enumeration, optional_time, parse, parse_optional, required_time},
    time,
};

/// A workflow as a message.
pub fn to_wire(workflow: &WorkflowStatus) -> wire::Workflow {
    let text = |id: Option<String>| id.unwrap_or_default();
    wire::Workflow {
        id: workflow.id.to_string(),
        model: workflow.model.to_string(),
        trigger: trigger_to_wire(workflow.trigger).into(),
        cause: workflow.cause.clone(),
        state: state_to_wire(workflow.state).into(),
        paused: workflow.paused,
        reason: workflow.reason.clone(),
        from_version: workflow.from_version.unwrap_or_default(),
        to_version: workflow.to_version.unwrap_or_default(),
        dataset_version: workflow.dataset_version.clone(),
        train_run_id: text(workflow.train_run.map(|id| id.to_string())),
        evaluate_run_id: text(workflow.evaluate_run.map(|id| id.to_string())),
        refit_run_id: text(workflow.refit_run.map(|id| id.to_string())),
        steps: workflow.steps.iter().map(step_to_wire).collect(),
        window_closed_at: workflow.window_closed_at.map(time::to_wire),
        queued_at: Some(time::to_wire(workflow.queued_at)),
        serving_everywhere_at: workflow.serving_everywhere_at.map(time::to_wire),
        ended_at: workflow.ended_at.map(time::to_wire),
        epoch: workflow.epoch,
        evaluation_digest: text(workflow.evaluation.map(|digest| digest.to_string())),
    }
}

/// The workflow in proto3 JSON.
pub fn to_json(workflow: &WorkflowStatus) -> Value {
    json::to_value(&to_wire(workflow))
}

/// The workflow that a message holds.
pub fn from_wire(given: wire::Workflow) -> Result<WorkflowStatus, Violations> {
    let number = |version: u32| (version != 0).then_some(version);
    Ok(WorkflowStatus {
        id: parse("id", &given.id)?,
        model: parse("model", &given.model)?,
        trigger: trigger_from_wire("trigger", given.trigger)?,
        cause: given.cause,
        state: state_from_wire("state", given.state)?,
        paused: given.paused,
        reason: given.reason,
        from_version: number(given.from_version),
        to_version: number(given.to_version),
        dataset_version: given.dataset_version,
        train_run: parse_optional("train_run_id", &given.train_run_id)?,
        evaluate_run: parse_optional("evaluate_run_id", &given.evaluate_run_id)?,
        refit_run: parse_optional("refit_run_id", &given.refit_run_id)?,
        steps: each("steps", given.steps, step_from_wire)?,
        window_closed_at: optional_time("window_closed_at", given.window_closed_at)?,
        queued_at: required_time("queued_at", given.queued_at)?,
        serving_everywhere_at: optional_time("serving_everywhere_at", given.serving_everywhere_at)?,
        ended_at: optional_time("ended_at", given.ended_at)?,
        epoch: given.epoch,
        evaluation: parse_optional("evaluation_digest", &given.evaluation_digest)?,
    })
}

fn step_to_wire(step: &WorkflowStep) -> wire::WorkflowStep {
    wire::WorkflowStep {
        state: state_to_wire(step.state).into(),
        entered_at: Some(time::to_wire(step.entered_at)),
        reason: step.reason.clone(),
    }
}

fn step_from_wire(given: wire::WorkflowStep) -> Result<WorkflowStep, Violations> {
    Ok(WorkflowStep {
        state: state_from_wire("state", given.state)?,
        entered_at: required_time("entered_at", given.entered_at)?,
        reason: given.reason,
    })
}

/// A trigger as its enumeration.
pub fn trigger_to_wire(trigger: Trigger) -> wire::Trigger {
    match trigger {
        Trigger::Drift => wire::Trigger::Drift,
        Trigger::Degradation => wire::Trigger::Degradation,
        Trigger::Manual => wire::Trigger::Manual,
        Trigger::Schedule => wire::Trigger::Schedule,
        Trigger::DatasetVersion => wire::Trigger::DatasetVersion,
        Trigger::Window => wire::Trigger::Window,
    }
}

/// The trigger that a field holds.
pub fn trigger_from_wire(field: impl Into<String>, given: i32) -> Result<Trigger, Violations> {
    let expected =
        "TRIGGER_DRIFT, TRIGGER_DEGRADATION, TRIGGER_MANUAL, TRIGGER_SCHEDULE, TRIGGER_DATASET_VERSION, TRIGGER_WINDOW";
    enumeration(field, given, expected, |trigger| match trigger {
        wire::Trigger::Unspecified => None,
        wire::Trigger::Drift => Some(Trigger::Drift),
        wire::Trigger::Degradation => Some(Trigger::Degradation),
        wire::Trigger::Manual => Some(Trigger::Manual),
        wire::Trigger::Schedule => Some(Trigger::Schedule),
        wire::Trigger::DatasetVersion => Some(Trigger::DatasetVersion),
        wire::Trigger::Window => Some(Trigger::Window),
    })
}

/// A state as its enumeration.
pub fn state_to_wire(state: WorkflowState) -> wire::WorkflowState {
    match state {
        WorkflowState::Queued => wire::WorkflowState::Queued,
        WorkflowState::Assembling => wire::WorkflowState::Assembling,
        WorkflowState::Training => wire::WorkflowState::Training,
        WorkflowState::Evaluating => wire::WorkflowState::Evaluating,
        WorkflowState::Refitting => wire::WorkflowState::Refitting,
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

/// The state that a field holds.
pub fn state_from_wire(field: &str, given: i32) -> Result<WorkflowState, Violations> {
    let of = |state: wire::WorkflowState| WorkflowState::ALL.into_iter().find(|&own| state_to_wire(own) == state);
    enumeration(field, given, "WORKFLOW_STATE_QUEUED to WORKFLOW_STATE_REFITTING", of)
}

/// A decision as its enumeration.
pub fn decision_to_wire(decision: Decision) -> wire::Decision {
    match decision {
        Decision::Approve => wire::Decision::Approve,
        Decision::Decline => wire::Decision::Decline,
    }
}

/// The decision that a field holds.
pub fn decision_from_wire(field: &str, given: i32) -> Result<Decision, Violations> {
    enumeration(field, given, "DECISION_APPROVE, DECISION_DECLINE", |decision| match decision {
        wire::Decision::Unspecified => None,
        wire::Decision::Approve => Some(Decision::Approve),
        wire::Decision::Decline => Some(Decision::Decline),
    })
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    #[test]
    fn every_state_trigger_and_decision_survives() {
        for state in WorkflowState::ALL {
            assert_eq!(state_from_wire("state", state_to_wire(state).into()), Ok(state));
        }
        for trigger in Trigger::ALL {
            assert_eq!(trigger_from_wire("trigger", trigger_to_wire(trigger).into()), Ok(trigger));
        }
        for decision in [Decision::Approve, Decision::Decline] {
            assert_eq!(decision_from_wire("decision", decision_to_wire(decision).into()), Ok(decision));
        }
        for given in [0, 99, -1] {
            assert!(state_from_wire("state", given).is_err() && trigger_from_wire("trigger", given).is_err());
        }
    }

    #[test]
    fn workflows_survive() {
        let id = "0193b3a0-0000-7000-8000-000000000000";
        let step = WorkflowStep {
            state: WorkflowState::Queued,
            entered_at: DateTime::UNIX_EPOCH,
            reason: "started manually".into(),
        };
        let workflow = WorkflowStatus {
            id: id.parse().expect("an id"),
            model: "m".parse().expect("a name"),
            trigger: Trigger::Drift,
            cause: "drift".into(),
            state: WorkflowState::Training,
            paused: true,
            reason: "assembled".into(),
            from_version: Some(1),
            to_version: None,
            dataset_version: "d/2".into(),
            train_run: Some(id.parse().expect("an id")),
            evaluate_run: None,
            refit_run: Some(id.parse().expect("an id")),
            steps: vec![step],
            window_closed_at: Some(DateTime::UNIX_EPOCH),
            queued_at: DateTime::UNIX_EPOCH,
            serving_everywhere_at: None,
            ended_at: None,
            epoch: 3,
            evaluation: None,
        };
        let json = to_json(&workflow);
        assert_eq!((&json["state"], &json["epoch"]), (&"WORKFLOW_STATE_TRAINING".into(), &"3".into()));
        assert_eq!(from_wire(to_wire(&workflow)), Ok(workflow));
    }
}
