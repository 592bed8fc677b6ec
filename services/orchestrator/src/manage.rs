//! What callers may do with workflows: start, pause, resume, cancel, approve.

use chrono::{DateTime, Utc};
use rekindle_domain::{Trigger, WorkflowId, WorkflowState};
use rekindle_proto::orchestrator::{
    ApproveWorkflowRequest, ChangeWorkflowRequest, StartWorkflowRequest, Workflow as WireWorkflow,
};
use rekindle_store::in_transaction;
use sea_orm::DatabaseTransaction;
use uuid::Uuid;

use crate::{
    Error,
    core::Core,
    intent::Intent,
    store::{deployments, policies, workflows},
    wire::{model_from_wire, workflow_to_wire},
    workflow::{self, Cause, Ending, EndingKind, Workflow, progress::Decision},
};

/// A workflow by its id as text.
pub(crate) async fn get(core: &Core, id: &str) -> Result<Workflow, Error> {
    let id = parse(id)?;
    workflows::get(&core.db, id).await?.ok_or_else(|| Error::not_found("workflow", id))
}

/// Starts a workflow by hand; neither triggers nor cooldown are asked.
pub(crate) async fn start(
    core: &Core,
    request: StartWorkflowRequest,
    id: Uuid,
    now: DateTime<Utc>,
) -> Result<WireWorkflow, Error> {
    let intent = Intent::of("StartWorkflow", &request.idempotency_key, &request)?;
    let workflow = in_transaction(&core.db, async move |txn| begin(txn, &intent, &request, id, now).await).await?;
    core.wake();
    Ok(workflow)
}

async fn begin(
    txn: &DatabaseTransaction,
    intent: &Intent,
    request: &StartWorkflowRequest,
    id: Uuid,
    now: DateTime<Utc>,
) -> Result<WireWorkflow, Error> {
    if let Some(earlier) = intent.earlier(txn).await? {
        return Ok(earlier);
    }
    let model = model_from_wire("model", &request.model)?;
    let policy = policies::get(txn, &model).await?.ok_or_else(|| Error::not_found("policy of", &model))?;
    if deployments::get(txn, &model).await?.is_none() {
        return Err(refused("NOT_DEPLOYED", format!("{model} is not deployed: deploy a version first"), vec![]));
    }
    if let Some(active) = workflows::active_of(txn, &model).await? {
        let message = format!("workflow {} of {model} has not ended: wait for it, or cancel it", active.id);
        return Err(refused("WORKFLOW_ACTIVE", message, vec![("workflow_id", active.id.to_string())]));
    }
    let words = if request.why.is_empty() { "started by hand".to_owned() } else { request.why.clone() };
    let cause = Cause {
        id: WorkflowId::new(id),
        first: None,
        trigger: Trigger::Manual,
        words,
        causation_id: String::new(),
        window_until: None,
        window_closed_at: None,
    };
    let workflow = Workflow::queued(cause, policy.policy, now);
    workflow::add(txn, &workflow).await?;
    let answer = workflow_to_wire(&workflow, &workflows::steps(txn, workflow.id).await?);
    intent.remember(txn, &answer, now).await?;
    Ok(answer)
}

/// Keeps a workflow from starting its next step. What was started goes on.
pub(crate) async fn pause(core: &Core, request: ChangeWorkflowRequest, now: DateTime<Utc>) -> Result<Workflow, Error> {
    set_paused(core, &request, Pause::On, now).await
}

/// Lets a paused workflow go on.
pub(crate) async fn resume(core: &Core, request: ChangeWorkflowRequest, now: DateTime<Utc>) -> Result<Workflow, Error> {
    set_paused(core, &request, Pause::Off, now).await
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Pause {
    On,
    Off,
}

async fn set_paused(
    core: &Core,
    request: &ChangeWorkflowRequest,
    pause: Pause,
    now: DateTime<Utc>,
) -> Result<Workflow, Error> {
    let paused = pause == Pause::On;
    let verb = if paused { "paused" } else { "resumed" };
    core.decide_workflow(parse(&request.id)?, now, |workflow| {
        must_be_active(workflow)?;
        if workflow.paused == paused {
            return Ok(workflow.clone());
        }
        Ok(Workflow { paused, reason: words(verb, &request.by, &request.why), ..workflow.clone() })
    })
    .await
}

/// Ends a workflow; while replicas are being moved, once they are back. Asking again changes nothing.
pub(crate) async fn cancel(core: &Core, request: ChangeWorkflowRequest, now: DateTime<Utc>) -> Result<Workflow, Error> {
    core.decide_workflow(parse(&request.id)?, now, |workflow| {
        if workflow.state == WorkflowState::Cancelled || workflow.ending.is_some() {
            return Ok(workflow.clone());
        }
        must_be_active(workflow)?;
        let ending = Ending { kind: EndingKind::Cancel, reason: words("cancelled", &request.by, &request.why) };
        Ok(Workflow { ending: Some(ending), ..workflow.clone() })
    })
    .await
}

/// Records what a person says of a challenger that the gate let through.
pub(crate) async fn approve(
    core: &Core,
    request: ApproveWorkflowRequest,
    now: DateTime<Utc>,
) -> Result<Workflow, Error> {
    if request.by.is_empty() {
        return Err(Error::invalid("by", "must say who approves or declines"));
    }
    let decision = Decision { approve: request.approve, by: request.by, why: request.why };
    core.decide_workflow(parse(&request.id)?, now, |workflow| match &workflow.progress.decision {
        Some(made) if *made == decision => Ok(workflow.clone()),
        Some(made) => {
            let message = format!("{} has decided already: {}", made.by, made.why);
            Err(refused("ALREADY_DECIDED", message, vec![("by", made.by.clone())]))
        }
        None if workflow.state != WorkflowState::AwaitingApproval => {
            let state = workflow.state.name();
            let message =
                format!("workflow {} is {state}: only one that is AWAITING_APPROVAL can be decided on", workflow.id);
            Err(refused("NOT_AWAITING_APPROVAL", message, vec![("state", state.to_owned())]))
        }
        None => {
            let mut decided = workflow.clone();
            decided.progress.decision = Some(decision.clone());
            Ok(decided)
        }
    })
    .await
}

fn must_be_active(workflow: &Workflow) -> Result<(), Error> {
    if !workflow.state.is_terminal() {
        return Ok(());
    }
    let state = workflow.state.name();
    let message = format!("workflow {} is {state}: it has ended and cannot be changed", workflow.id);
    Err(refused("WORKFLOW_ENDED", message, vec![("state", state.to_owned())]))
}

fn words(verb: &str, by: &str, why: &str) -> String {
    let by = if by.is_empty() { "a caller" } else { by };
    if why.is_empty() { format!("{verb} by {by}") } else { format!("{verb} by {by}: {why}") }
}

fn parse(id: &str) -> Result<WorkflowId, Error> {
    id.parse().map_err(|error| Error::invalid("id", error))
}

fn refused(reason: &'static str, message: String, facts: Vec<(&'static str, String)>) -> Error {
    Error::Refused { reason, message, facts }
}
