//! What callers do with workflows: start, pause, resume, cancel, and decide on a challenger.

use rekindle_domain::{IdPrefix, ModelName, Trigger, WorkflowId, WorkflowState, workflow::Decision};
use rekindle_service::{Call, Intent, only};
use rekindle_store::in_transaction;
use sea_orm::DatabaseTransaction;
use serde::Deserialize;

use crate::{
    Error,
    core::Core,
    store::{deployments, policies, workflows},
    workflow::{self, Cause, Ending, EndingKind, Workflow, progress::Reviewed},
};

/// A workflow by its id.
pub(crate) async fn get(core: &Core, id: WorkflowId) -> Result<Workflow, Error> {
    workflows::get(&core.db, id).await?.ok_or_else(|| Error::not_found("workflow", id))
}

/// The one workflow whose id begins so.
pub(crate) async fn find(core: &Core, prefix: &IdPrefix) -> Result<Workflow, Error> {
    let mut found = workflows::beginning_with(&core.db, prefix, 2).await?;
    let ids: Vec<WorkflowId> = found.iter().map(|workflow| workflow.id).collect();
    only("workflow", prefix, &ids)?;
    Ok(found.remove(0))
}

/// Starts a workflow manually, once per intent. Triggers and cooldown do not apply.
pub(crate) async fn start(
    core: &Core,
    call: &Call,
    intent: Intent,
    model: ModelName,
    why: String,
) -> Result<Workflow, Error> {
    let call = call.clone();
    let id = in_transaction(&core.db, async move |txn| begin(txn, &call, &intent, &model, &why).await).await?;
    core.wake();
    get(core, id).await
}

/// The recorded result of a key: the id of the workflow. Release 0.1.0 recorded the response.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Started {
    Id(WorkflowId),
    Response { id: WorkflowId },
}

async fn begin(
    txn: &DatabaseTransaction,
    call: &Call,
    intent: &Intent,
    model: &ModelName,
    why: &str,
) -> Result<WorkflowId, Error> {
    if let Some(Started::Id(id) | Started::Response { id }) = intent.earlier::<Started, Error>(txn).await? {
        return Ok(id);
    }
    let policy = policies::get(txn, model).await?.ok_or_else(|| Error::not_found("policy of", model))?;
    // A policy that an earlier release stored may be out of bounds: the trainer would refuse its jobs.
    policy.policy.validate().map_err(|violations| violations.within("policy"))?;
    if deployments::get(txn, model).await?.is_none() {
        return Err(Error::refused("NOT_DEPLOYED", format!("{model} is not deployed: deploy a version first"), []));
    }
    if let Some(active) = workflows::active_of(txn, model).await? {
        let message = format!("workflow {} of {model} has not ended: wait for its end, or cancel it", active.id);
        return Err(Error::refused("WORKFLOW_ACTIVE", message, [("workflow_id", active.id.to_string())]));
    }
    let cause = Cause {
        id: WorkflowId::new(call.id),
        first: None,
        trigger: Trigger::Manual,
        words: words("started", call, why),
        causation_id: String::new(),
        window_until: None,
        window_closed_at: None,
        dataset: None,
    };
    let workflow = Workflow::queued(cause, policy.policy, call.now);
    workflow::add(txn, &workflow).await?;
    intent.record(txn, &workflow.id, call.now).await?;
    Ok(workflow.id)
}

/// Keeps a workflow from starting its next step. A step in progress continues.
pub(crate) async fn pause(core: &Core, call: &Call, id: WorkflowId, why: &str) -> Result<Workflow, Error> {
    set_paused(core, call, id, why, Pause::On).await
}

/// Lets a paused workflow continue.
pub(crate) async fn resume(core: &Core, call: &Call, id: WorkflowId, why: &str) -> Result<Workflow, Error> {
    set_paused(core, call, id, why, Pause::Off).await
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Pause {
    On,
    Off,
}

async fn set_paused(core: &Core, call: &Call, id: WorkflowId, why: &str, pause: Pause) -> Result<Workflow, Error> {
    let paused = pause == Pause::On;
    let (verb, action) = if paused { ("paused", "workflow.paused") } else { ("resumed", "workflow.resumed") };
    core.decide_workflow(id, call, (action, why), |workflow| {
        must_be_active(workflow)?;
        if workflow.paused == paused {
            return Ok(workflow.clone());
        }
        Ok(Workflow { paused, reason: words(verb, call, why), ..workflow.clone() })
    })
    .await
}

/// Ends a workflow, after the return of every replica that serves the challenger. Repeating it has no effect.
pub(crate) async fn cancel(core: &Core, call: &Call, id: WorkflowId, why: &str) -> Result<Workflow, Error> {
    core.decide_workflow(id, call, ("workflow.cancelled", why), |workflow| {
        if workflow.state == WorkflowState::Cancelled || workflow.ending.is_some() {
            return Ok(workflow.clone());
        }
        must_be_active(workflow)?;
        let ending = Ending { kind: EndingKind::Cancel, reason: words("cancelled", call, why) };
        Ok(Workflow { ending: Some(ending), ..workflow.clone() })
    })
    .await
}

/// Records the decision of a person on a challenger that passed the gate.
pub(crate) async fn decide(
    core: &Core,
    call: &Call,
    id: WorkflowId,
    decision: Decision,
    why: String,
) -> Result<Workflow, Error> {
    let approve = decision == Decision::Approve;
    let action = if approve { "workflow.approved" } else { "workflow.rejected" };
    let reviewed = Reviewed { approve, by: call.principal.to_string(), why };
    core.decide_workflow(id, call, (action, &reviewed.why), |workflow| match &workflow.progress.decision {
        Some(made) if *made == reviewed => Ok(workflow.clone()),
        Some(made) => {
            let message = format!("{} has already decided: {}", made.by, made.why);
            Err(Error::refused("ALREADY_DECIDED", message, [("by", made.by.clone())]))
        }
        None if workflow.state != WorkflowState::AwaitingApproval => {
            let state = workflow.state.name();
            let message =
                format!("workflow {} is {state}: a decision requires the state AWAITING_APPROVAL", workflow.id);
            Err(Error::refused("NOT_AWAITING_APPROVAL", message, [("state", state.to_owned())]))
        }
        None => {
            let mut decided = workflow.clone();
            decided.progress.decision = Some(reviewed.clone());
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
    Err(Error::refused("WORKFLOW_ENDED", message, [("state", state.to_owned())]))
}

fn words(verb: &str, call: &Call, why: &str) -> String {
    let by = &call.principal;
    if why.is_empty() { format!("{verb} by {by}") } else { format!("{verb} by {by}: {why}") }
}
